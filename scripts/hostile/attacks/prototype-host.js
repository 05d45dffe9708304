// Takes over what the host calls: it does not call it.
// stopped by: nothing, exception
import { script } from "roundhouse";
for (const o of [Object.prototype, Array.prototype]) Object.defineProperty(o, "toJSON", { value() { globalThis.taken = 1; return this; } });
JSON.stringify = () => { throw new Error("mine"); };
globalThis.Int32Array = globalThis.Error = function() { throw 1; };
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			l.bias(1, 0.5);
			log({ a: 1 });
			if (at.position > 3) emit("seen", { taken });
		} };
	},
});
