// An endless for loop that works.
// stopped by: over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (let i = 0; ; i++) Math.sqrt(i);
		} };
	},
});
