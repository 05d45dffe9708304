// A regular expression over a text of a million characters.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			/(?=x)y/.test("a".repeat(1 << 20));
		} };
	},
});
