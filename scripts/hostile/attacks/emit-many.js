// Emits a hundred thousand times a token.
// stopped by: nothing, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (let i = 0; i < 1000; i++) emit("x", i);
		} };
	},
});
