// JSON that is mostly margin.
// stopped by: bad_value, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let o = [];
			for (let i = 0; i < 90; i++) o = [o];
			const list = [];
			for (let i = 0; i < 2000; i++) list.push(o);
			JSON.stringify(list, null, 10);
		} };
	},
});
