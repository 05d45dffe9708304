// Calls a function with 1e9 arguments.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			Math.max.apply(null, { length: 1e9 });
		} };
	},
});
