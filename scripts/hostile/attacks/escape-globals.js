// Looks for a way out.
// stopped by: nothing
import { script } from "roundhouse";
export default script({
	api: 1,
	hooks({ steer, tokens, state, random, log, emit, stop, inject, snapshot }) {
		return { logits(l, at) {
			for (const name of ["require", "process", "fetch", "Deno", "Bun", "XMLHttpRequest", "WebSocket", "importScripts", "console", "setTimeout", "load", "read", "print", "quit", "std", "os", "WebAssembly"]) {
				if (name in globalThis) emit("breach", name);
			}
		} };
	},
});
