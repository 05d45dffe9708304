// A hundred thousand edits of one token.
// stopped by: bad_value, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (let i = 0; i < 1e5; i++) l.bias(1, 1);
		} };
	},
});
