// Spreads an array that holds nothing and is 2^32 - 1 long.
// stopped by: over_budget, out_of_memory
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [];
			a.length = 2 ** 32 - 1;
			[...a];
		} };
	},
});
