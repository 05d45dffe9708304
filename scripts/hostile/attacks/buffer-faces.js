// A list whose length is small when it is looked at.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let n = 0;
			new Float64Array({ get length() { return n++ ? 1e9 : 1e9; } });
		} };
	},
});
