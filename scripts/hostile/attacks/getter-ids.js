// An array of ids that changes while it is read.
// stopped by: bad_id, bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const ids = [1, 2, 3];
			Object.defineProperty(ids, 1, { get() { ids.length = 0; return 2 ** 31; } });
			l.ban(ids);
		} };
	},
});
