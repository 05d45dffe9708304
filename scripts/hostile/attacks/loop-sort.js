// A comparison that never ends.
// stopped by: over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			[3, 1, 2].sort(() => { for (;;); });
		} };
	},
});
