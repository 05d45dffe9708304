// A getter of a result that never returns.
// stopped by: over_budget, start
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			return { get id() { for (;;); } }.id;
		} };
	},
});
