// Uses handles after they were returned.
// stopped by: nothing
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		let kept;
		return { logits(l) {
			for (const f of kept ?? []) {
				try { f(); emit("breach", "a handle outlives its call"); } catch (e) { if (e.kind !== "misuse") emit("breach", String(e)); }
			}
			kept = [() => l.ban(1), () => l.entropy(), () => l.model.top(1), () => l.temperature(1)];
		} };
	},
});
