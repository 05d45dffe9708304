// A pattern that comes in through match, as an object with two faces.
// stopped by: bad_value, exception
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let n = 0;
			"abc".match({ toString() { return "(".repeat(n++ ? 1e5 : 3000); } });
		} };
	},
});
