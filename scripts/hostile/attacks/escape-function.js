// Compiles text into code.
// stopped by: nothing
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (const f of [() => eval("1"), () => new Function("return 1")(), () => (() => {}).constructor("return 1")(), () => (function*() {}).constructor("yield 1"), () => Reflect.construct((() => {}).constructor, ["return 1"])()]) {
				try { f(); emit("breach", "code out of a text: " + f); } catch {}
			}
		} };
	},
});
