// A chain of ten thousand proxies.
// stopped by: nothing, exception, over_budget
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			let p = {};
			for (let i = 0; i < 1e4; i++) p = new Proxy(p, {});
			p.x;
		} };
	},
});
