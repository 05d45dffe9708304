// Bans every token, and every expert.
// stopped by: nothing_left
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			try { steer.all.ban([0, 1, 2, 3, 4, 5, 6, 7]); emit("breach", "no expert is left"); } catch {}
			l.ban([0, 1, 2, 3, 4, 5, 6, 7]);
		} };
	},
});
