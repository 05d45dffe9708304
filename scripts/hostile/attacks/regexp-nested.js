// A pattern of nested groups that a parser would follow down.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			new RegExp("(".repeat(2000) + ")".repeat(2000));
		} };
	},
});
