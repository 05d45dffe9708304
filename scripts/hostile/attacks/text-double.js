// A text that doubles until memory is full.
// stopped by: over_budget, abandoned
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let s = "ab";
			for (;;) s += s;
		} };
	},
});
