// Calls methods on objects that are no handles.
// stopped by: nothing
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (const o of [{}, null, [], steer, tokens, Object.create(l), new Proxy(l, {})]) {
				for (const f of [l.entropy, l.ban, steer.layer(0).ban]) {
					try { f.call(o, 1); if (!(o instanceof Object && Object.getPrototypeOf(o) === l)) emit("breach", "a forged handle works"); } catch (e) { if (e.kind !== "misuse") emit("breach", String(e)); }
				}
			}
		} };
	},
});
