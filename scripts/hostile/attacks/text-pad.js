// Pads to 1e9 characters.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			"x".padStart(1e9, "ab");
		} };
	},
});
