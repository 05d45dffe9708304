// Buffers without end.
// stopped by: out_of_memory, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			const a = [];
			for (;;) a.push(new ArrayBuffer(4 << 20));
		} };
	},
});
