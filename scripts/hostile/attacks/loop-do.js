// An endless do loop with a try around it that swallows all.
// stopped by: over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			do { try { throw 1; } catch {} finally { continue; } } while (true);
		} };
	},
});
