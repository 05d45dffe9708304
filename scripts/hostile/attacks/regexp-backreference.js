// A regular expression with references back that takes exponential time.
// stopped by: abandoned, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const found = /^(a*)*\1b$/.exec("a".repeat(34));
			emit("breach", "the answer was seen: " + found);
		} };
	},
});
