// An array in itself, as a text.
// stopped by: bad_value, exception, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [];
			a.push(a, a);
			a.flat(Infinity);
			"" + a;
		} };
	},
});
