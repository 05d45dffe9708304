// Makes a set of an array that grows after its iterator was made.
// stopped by: over_budget, out_of_memory
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [1], i = a.values();
			a.length = 2 ** 32 - 1;
			new Set(i);
		} };
	},
});
