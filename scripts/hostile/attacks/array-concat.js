// Concatenates what says that it can be spread.
// stopped by: nothing, bad_value
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			[].concat({ [Symbol.isConcatSpreadable]: true, length: 2 ** 53 - 1 });
		} };
	},
});
