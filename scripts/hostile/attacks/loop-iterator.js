// A native iterator of a list that says it has 2^53 elements.
// stopped by: over_budget, out_of_memory
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			[...Array.prototype.values.call({ length: 2 ** 53 - 1 })];
		} };
	},
});
