// Replaces every character by the whole text.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const s = "a".repeat(1 << 16);
			s.replaceAll("a", "$`$`$`$`");
		} };
	},
});
