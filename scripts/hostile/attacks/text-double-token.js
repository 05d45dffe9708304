// A text that doubles at every token.
// stopped by: out_of_memory, bad_value, over_budget, abandoned
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		let s = "0123456789".repeat(1000);
return { logits() { if (s.length < 1 << 28) s += s; } };
	},
});
