// Calls methods on objects that are no handles.
// stopped by: nothing
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (const o of [{}, null, 1, [], steer, tokens, { ...l }]) {
				for (const f of [l.entropy, l.ban, steer.layer(0).ban]) {
					try { f.call(o, 1); emit("breach", "a forged handle works"); } catch (e) { if (e.kind !== "misuse") emit("breach", String(e)); }
				}
			}
		} };
	},
});
