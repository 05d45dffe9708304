package cuda

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

func TestKernelNames(t *testing.T) {
	packed := func(bits, group int) *ops.Matrix {
		return &ops.Matrix{K: 256, N: 32, Layout: ops.GPTQ, Bits: bits, Group: group}
	}
	dense := func(k int) *ops.Matrix { return &ops.Matrix{K: k, N: 32, Layout: ops.Dense, Type: ops.BF16, Bits: 16} }
	stored, shuffled := packed(4, 128), packed(4, 128)
	stored.Zeros = ops.Stored
	shuffled.GroupOf.Data = make([]byte, 4*shuffled.K)
	expert := func(bits int) ops.Expert {
		return ops.Expert{Gate: packed(bits, 128), Up: packed(bits, 128), Down: &ops.Matrix{K: 32, N: 256, Layout: ops.GPTQ, Bits: bits, Group: 128}}
	}
	even := func(bits int) ops.Expert { // of a width that slabs can have
		e := expert(bits)
		e.Gate.N, e.Up.N, e.Down.K = 128, 128, 128
		return e
	}
	alike := ops.Mixture{Experts: []ops.Expert{even(4), even(4)}, Shared: even(8)}
	mixed := ops.Mixture{Experts: []ops.Expert{even(4), even(8)}, Shared: even(8)}
	narrow := ops.Mixture{Experts: []ops.Expert{expert(4)}}
	embed, head := dense(256), dense(256)
	w := ops.Weights{Embed: embed, Head: head, Mixtures: []ops.Mixture{alike, mixed, narrow}}
	all := []struct {
		m    *ops.Matrix
		want string
	}{
		{embed, "BF16 lookup"}, {head, "F16 tensor cores"}, {packed(4, 128), "W4 tensor cores"}, {packed(8, 128), "W8 tensor cores"},
		{packed(3, 128), "W3 generic: 3 bits"}, {packed(4, 64), "W4 generic: groups of 64"}, {stored, "W4 generic: zeros are stored"},
		{shuffled, "W4 generic: inputs are out of order (g_idx)"}, {dense(100), "BF16 generic: 100 inputs are no multiple of 64"},
		{alike.Experts[1].Down, "W4 tensor cores"}, {alike.Shared.Up, "W8 tensor cores"},
		{mixed.Experts[0].Gate, "W4 generic: other experts of the layer are stored otherwise"}, {mixed.Shared.Gate, "W8 generic: other experts of the layer are stored otherwise"},
		{narrow.Experts[0].Down, "W4 generic: 32 inputs are no multiple of 128"},
	}
	for _, c := range all {
		w.Matrices = append(w.Matrices, c.m)
	}
	name, err := KernelNames(w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if got := name(c.m); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for want, o := range map[string]Options{"W8 generic: asked for": {Kernels: "generic"}, "W8 generic: exact numerics": {Numerics: Exact}} {
		if name, err = KernelNames(w, o); err != nil || name(all[3].m) != want {
			t.Errorf("%q, %v, want %q", name(all[3].m), err, want)
		}
	}
	if _, err := KernelNames(w, Options{Kernels: "avx2"}); err == nil {
		t.Error("kernels of a CPU are named")
	}
}
