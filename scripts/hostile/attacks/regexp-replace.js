// The same in a replacement.
// stopped by: abandoned, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const text = ("a".repeat(40) + "!").replace(/(?=(a+)+$)(a+)+$/, "x");
			emit("breach", "the answer was seen: " + text);
		} };
	},
});
