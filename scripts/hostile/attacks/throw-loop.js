// Throws what takes for ever to say.
// stopped by: over_budget, exception
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			throw { toString() { for (;;); } };
		} };
	},
});
