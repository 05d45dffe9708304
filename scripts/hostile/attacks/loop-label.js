// An endless loop out of labels.
// stopped by: over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			outer: for (;;) { for (;;) continue outer; }
		} };
	},
});
