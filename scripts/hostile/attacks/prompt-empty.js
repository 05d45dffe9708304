// Takes the prompt away.
// stopped by: nothing_left
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { prompt(p) { p.ids = []; } };
	},
});
