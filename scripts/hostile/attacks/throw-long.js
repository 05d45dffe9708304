// Throws a text of a million characters.
// stopped by: exception
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			throw new Error("x".repeat(1 << 20));
		} };
	},
});
