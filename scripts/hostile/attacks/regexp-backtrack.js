// A regular expression that backtracks for ever: the false answer is never seen.
// stopped by: abandoned, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const found = /^(?=(a+)+$)(a+)+$(?!x)/.test("a".repeat(40) + "!");
			emit("breach", "the answer was seen: " + found);
		} };
	},
});
