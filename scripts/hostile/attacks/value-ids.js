// Lists of ids without end.
// stopped by: bad_value, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const ids = new Int32Array(1 << 19);
			for (;;) l.bias(ids, 1);
		} };
	},
});
