// Repeats of repeats.
// stopped by: nothing, exception, bad_value, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			new RegExp("((a{1,1000}){1,1000}){1,1000}").test("aaaa");
		} };
	},
});
