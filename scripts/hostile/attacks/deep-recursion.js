// A function that calls itself.
// stopped by: exception
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const f = () => f() + 1;
			f();
		} };
	},
});
