// Emits an object that throws when it is read.
// stopped by: exception
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			emit("x", { get a() { throw new Error("trap"); } });
		} };
	},
});
