// A generator that never ends, spread into an array.
// stopped by: over_budget, out_of_memory
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			function* numbers() { for (let i = 0; ; i++) yield i; }
			[...numbers()];
		} };
	},
});
