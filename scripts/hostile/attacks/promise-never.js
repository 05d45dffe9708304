// Returns a promise that never settles.
// stopped by: misuse
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { async logits() { await new Promise(() => {}); } };
	},
});
