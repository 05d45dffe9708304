// Recursion by way of built-ins.
// stopped by: exception, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const f = () => [1].map(f);
			f();
		} };
	},
});
