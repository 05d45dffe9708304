// Searches one long text in another.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const s = "ä".repeat(1 << 19);
			s.indexOf("ä".repeat(1 << 18) + "x");
		} };
	},
});
