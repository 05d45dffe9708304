// Ids that are none.
// stopped by: bad_id
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (const id of [-1, 1e9, 2 ** 31, 0.5, NaN, Infinity]) {
				try { l.ban(id); emit("breach", "ban of " + id); } catch (e) { if (e.kind !== "bad_id") emit("breach", String(e)); }
			}
			l.ban(1e9);
		} };
	},
});
