// Emits a million characters.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			emit("x", { a: "y".repeat(1 << 19) });
		} };
	},
});
