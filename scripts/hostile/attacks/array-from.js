// Makes an array of 5e7 elements out of a length.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			Array.from({ length: 5e7 }, () => 0);
		} };
	},
});
