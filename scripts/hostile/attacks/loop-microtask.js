// Promises that make promises, for ever.
// stopped by: over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const again = () => Promise.resolve().then(again);
			again();
		} };
	},
});
