// A length that grows when it is read again.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let n = 0;
			Array.prototype.fill.call({ get length() { return n++ ? 2 ** 53 : 1; } }, 0);
		} };
	},
});
