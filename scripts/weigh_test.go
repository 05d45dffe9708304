package scripts

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// What a script keeps between its calls is seen, wherever it keeps it.
func TestWeighing(t *testing.T) {
	for name, body := range map[string]string{
		"buffers":            `const kept = []; for (let i = 0; i < 8; i++) kept.push(new Uint8Array(1 << 20)); return { logits() { kept; } };`,
		"texts":              `let s = "ab"; while (s.length < 1 << 23) s += s;  return { logits() { return s && undefined; } };`,
		"texts of two bytes": `let s = "äb"; while (s.length < 1 << 22) s += s; return { logits() { return s && undefined; } };`,
		"objects":            `const kept = new Map(); for (let i = 0; i < 30000; i++) kept.set(i, { i }); return { logits() { kept; } };`,
		"globals":            `globalThis.kept = new Float64Array(1 << 19); globalThis.more = new Float64Array(1 << 19); return { logits() {} };`,
		"nothing":            `return { logits() {} };`,
	} {
		s := load(t, NewHost(Options{}), wrapped(body))
		i, err := s.Start(Env{Model: model})
		if err != nil {
			t.Fatal(err)
		}
		chainOf(t, i)
		w := weighing{seen: map[unsafe.Pointer]struct{}{}, most: 1 << 30}
		w.reach(reflect.ValueOf(i.vm.rt))
		for _, o := range i.vm.scale.roots {
			w.reach(reflect.ValueOf(o))
		}
		w.run()
		if big := w.bytes > 5<<20; big != (name != "nothing") {
			t.Errorf("%s: %d bytes in %d things", name, w.bytes, len(w.seen))
		}
		t.Log(name, w.bytes, len(w.seen))
	}
}

// chainOf starts an instance, without limits of time.
func chainOf(t *testing.T, i *Instance) *hook.Chain {
	t.Helper()
	c, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail}, i)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
