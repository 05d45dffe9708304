// Keeps state that is no plain data.
// stopped by: start
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		const o = {};
		o.o = o;
		state(() => o);
		return {};
	},
});
