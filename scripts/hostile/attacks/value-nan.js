// No numbers, as numbers.
// stopped by: not_a_number
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			l.bias(1, NaN);
		} };
	},
});
