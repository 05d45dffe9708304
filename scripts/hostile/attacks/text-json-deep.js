// JSON nested a hundred thousand deep.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			JSON.parse("[".repeat(1e5) + "]".repeat(1e5));
		} };
	},
});
