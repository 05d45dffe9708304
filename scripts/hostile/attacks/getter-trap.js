// Traps in the getters of what it returns.
// stopped by: start
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { get logits() { throw { toString() { for (;;); } }; } };
	},
});
