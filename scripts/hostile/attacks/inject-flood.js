// Injects more tokens than it may.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { sample() { inject(new Int32Array(1e5)); } };
	},
});
