// Run in every machine before its script. It takes away what compiles text or has no
// bounds, and puts loops that can be interrupted in the place of built-ins that go
// through whatever an iterator or a length says.
(function(most) {
	"use strict";
	const { apply, getPrototypeOf, defineProperty } = Reflect;
	const define = (o, name, value) => defineProperty(o, name, { value, writable: true, enumerable: false, configurable: true });
	const none = [];

	const refuse = function() { throw new TypeError("text is not compiled into code here"); };
	for (const f of [function() {}, function*() {}, async function() {}, async () => {}]) {
		defineProperty(getPrototypeOf(f), "constructor", { value: refuse, writable: false, configurable: false });
	}
	globalThis.Function = refuse;
	for (const name of ["eval", "BigInt", "BigInt64Array", "BigUint64Array", "SharedArrayBuffer", "Atomics"]) delete globalThis[name];
	for (const name of ["getBigInt64", "getBigUint64", "setBigInt64", "setBigUint64"]) delete DataView.prototype[name];
	delete Array.prototype.toLocaleString;
	delete getPrototypeOf(Int8Array).prototype.toLocaleString;
	delete RegExp.prototype.compile;

	define(Array, "from", function from(items, map, self) {
		if (map !== undefined && typeof map !== "function") throw new TypeError("Array.from: the second argument is no function");
		if (items === null || items === undefined) throw new TypeError("Array.from of " + items);
		const out = [], method = items[Symbol.iterator];
		if (method !== undefined && method !== null) {
			for (const item of { [Symbol.iterator]: () => apply(method, items, none) }) {
				out[out.length] = map ? apply(map, self, [item, out.length]) : item;
				most("elements", out.length);
			}
			return out;
		}
		const n = most("elements", +items.length || 0);
		for (let i = 0; i < n; i++) out[i] = map ? apply(map, self, [items[i], i]) : items[i];
		return out;
	});

	define(String, "raw", function raw(strings, ...values) {
		const parts = strings.raw, n = most("elements", +parts.length || 0);
		let text = "";
		for (let i = 0; i < n; i++) {
			text += `${parts[i]}${i + 1 < n && i < values.length ? values[i] : ""}`;
			most("characters", text.length);
		}
		return text;
	});

	return { prototype: getPrototypeOf([][Symbol.iterator]()), nothing() {} };
})
