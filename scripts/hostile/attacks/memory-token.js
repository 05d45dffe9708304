// Keeps another megabyte at every token.
// stopped by: out_of_memory
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		const kept = [];
return { logits() { kept.push(new Uint8Array(1 << 20)); } };
	},
});
