// Spreads a long text into an object.
// stopped by: over_budget, out_of_memory, bad_value, abandoned
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let s = "ab";
			while (s.length < 1 << 21) s += s;
			for (;;) ({ ...s });
		} };
	},
});
