// Makes a prompt of a million tokens.
// stopped by: bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { prompt(p) { p.ids = new Array(1e6).fill(1); } };
	},
});
