// Changes prototypes for whoever comes next.
// stopped by: nothing
import { script } from "roundhouse";
const before = {}.polluted || [].polluted || "".polluted;
Object.prototype.polluted = Array.prototype.polluted = String.prototype.polluted = true;
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			if (before) emit("breach", "another request is seen");
		} };
	},
});
