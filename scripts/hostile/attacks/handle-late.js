// Uses a handle from a promise, after the handler.
// stopped by: nothing, misuse
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			Promise.resolve().then(() => l.ban(1)).catch(() => {});
		} };
	},
});
