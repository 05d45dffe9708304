// Takes nearly all of its budget at every token: no more than it may.
// stopped by: nothing, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const end = performanceless(5e3);
			function performanceless(n) { let x = 0; for (let i = 0; i < n; i++) x += i; return x; }
		} };
	},
});
