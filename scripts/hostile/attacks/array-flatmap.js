// Flattens arrays that hold nothing and are long.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [];
			a.length = 2 ** 32 - 1;
			[1, 2].flatMap(() => a);
		} };
	},
});
