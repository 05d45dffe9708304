// Keeps thousands of small things at every token.
// stopped by: out_of_memory, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		const kept = new Map();
return { logits() { for (let i = 0; i < 3000; i++) kept.set({}, [i]); } };
	},
});
