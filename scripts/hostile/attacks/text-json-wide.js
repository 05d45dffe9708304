// JSON of a list with 2^32 - 1 elements.
// stopped by: bad_value, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [];
			a.length = 2 ** 32 - 1;
			JSON.stringify(a);
		} };
	},
});
