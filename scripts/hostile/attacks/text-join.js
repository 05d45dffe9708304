// Joins a million times a long text.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			new Array(1e6).join("x".repeat(1e5));
		} };
	},
});
