// Pushes for ever.
// stopped by: over_budget, out_of_memory
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [];
			for (;;) a.push({ a: 1, b: [2] });
		} };
	},
});
