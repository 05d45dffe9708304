// Changes prototypes for whoever comes next.
// stopped by: nothing
import { script } from "roundhouse";
Object.prototype.polluted = Array.prototype.polluted = String.prototype.polluted = true;
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			if (Object.prototype.polluted || [].polluted || "".polluted) emit("breach", "another request is seen");
		} };
	},
});
