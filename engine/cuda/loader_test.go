package cuda

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// small has buffers of one unit or little more, so that every tensor is cut.
var small = loading{buffer: 1, buffers: 3, readers: 2}

// placeBy is Place with other buffers.
func (b *Backend) placeBy(ctx context.Context, o loading, w ops.Weights, report func(done, total int64)) error {
	return b.place(w, func(l *layout) error { return b.load(ctx, l, o, report) })
}

// some are weights of every kind.
func (w *twin) some() ops.Weights {
	mixture := ops.Mixture{Shared: w.expert("shared", 128, 128, 8, 128)}
	for i := range 2 {
		mixture.Experts = append(mixture.Experts, w.expert(fmt.Sprint("expert ", i), 128, 128, 4, 128))
	}
	all := mixtureWeights(mixture)
	odd := ops.Mixture{Experts: []ops.Expert{w.expert("odd", 64, 96, 4, 32)}, Shared: w.expert("odd shared", 64, 32, 4, 32)}
	all.Mixtures, all.Matrices = append(all.Mixtures, odd), append(all.Matrices, mixtureWeights(odd).Matrices...)
	all.Matrices = append(all.Matrices, w.samples()...)
	all.Embed = w.dense("embed", 64, 100)
	all.Head = all.Embed
	all.Matrices = append(all.Matrices, all.Embed)
	for i, t := range []ops.Type{ops.F32, ops.F16, ops.BF16} {
		v := &ops.Vector{Name: t.String(), N: 1001 + i, Type: t}
		v.Source.Data = make([]byte, int64(v.N)*t.Size())
		for j := range v.N {
			binary.LittleEndian.PutUint16(v.Source.Data[j*int(t.Size()):], uint16(j))
		}
		all.Vectors = append(all.Vectors, v)
	}
	// A file in the opposite order of the list: what is read first is not placed first.
	for i, m := range all.Matrices {
		m.Weight.File, m.Weight.Offset = "a", int64(1000-i)
		m.Scales.File, m.Scales.Offset = "b", int64(1000-i)
	}
	return all
}

// sameRaw compares a raw matrix with its extents.
func sameRaw(t *testing.T, b *Backend, m *ops.Matrix, r raw) {
	t.Helper()
	for _, part := range []struct {
		at   driver.Ptr
		want []byte
	}{{r.words, m.Weight.Data}, {r.scales, m.Scales.Data}, {r.zeros, m.QZeros.Data}, {r.groupOf, m.GroupOf.Data}} {
		if (part.at == 0) != (len(part.want) == 0) || part.at%16 != 0 {
			t.Fatalf("%s: %d bytes at %#x", m.Name, len(part.want), uint64(part.at))
		}
		if part.at != 0 && string(fetch(t, b, part.at, len(part.want))) != string(part.want) {
			t.Fatalf("%s is not what the checkpoint has", m.Name)
		}
	}
}

// sameVectors compares vectors with their values.
func sameVectors(t *testing.T, b *Backend, vectors []*ops.Vector) {
	t.Helper()
	for _, v := range vectors {
		want := make([]float32, v.N)
		v.Values(want)
		if string(fetch(t, b, b.vectors[v], 4*v.N)) != string(bytesOf(want)) {
			t.Errorf("vector %s is not what the checkpoint has", v.Name)
		}
	}
}

func TestTensorsLargerThanBuffers(t *testing.T) {
	for _, o := range []loading{small, {buffer: 20_000, buffers: 2, readers: 8}, {buffer: 3000, buffers: 1, readers: 1}, standardLoading} {
		w := newTwin(t, Options{})
		all := w.some()
		var last, total int64
		err := w.device.placeBy(context.Background(), o, all, func(done, of int64) {
			if done < last || of < done {
				t.Errorf("%d of %d bytes after %d", done, of, last)
			}
			last, total = done, of
		})
		if err != nil {
			t.Fatal(err)
		}
		if last != total || total == 0 {
			t.Errorf("%d of %d bytes in the end", last, total)
		}
		sameVectors(t, w.device, all.Vectors)
		for _, m := range all.Matrices {
			placed, ok := w.device.matrices[m]
			if !ok {
				continue // an expert in slabs
			}
			if placed.slabs.data == 0 || m == all.Embed {
				sameRaw(t, w.device, m, placed.raw)
			}
			if placed.slabs.data != 0 {
				sameSlabs(t, w.device, placed.slabs, func(slab, g int) (*ops.Matrix, int) { return m, slab*slabRows + g })
			}
		}
		for _, e := range all.Mixtures[0].Experts[1:] {
			s := w.device.mixtures[all.Mixtures[0].Experts[0].Gate].experts
			s.gateUp.data += driver.Ptr(s.gateUpBytes)
			sameSlabs(t, w.device, s.gateUp, func(slab, g int) (*ops.Matrix, int) {
				return []*ops.Matrix{e.Gate, e.Up}[g/8], slab*8 + g%8
			})
		}
	}
}

func TestExactKeepsEverythingRaw(t *testing.T) {
	w := newTwin(t, Options{Numerics: Exact})
	all := w.some()
	if err := w.device.placeBy(context.Background(), small, all, nil); err != nil {
		t.Fatal(err)
	}
	for _, m := range all.Matrices {
		if placed := w.device.matrices[m]; placed.slabs != (slabs{}) {
			t.Errorf("%s is kept in slabs", m.Name)
		} else {
			sameRaw(t, w.device, m, placed.raw)
		}
	}
	for _, mixture := range all.Mixtures {
		placed := w.device.mixtures[mixture.Experts[0].Gate]
		var want []byte
		for _, e := range append(append([]ops.Expert{}, mixture.Experts...), mixture.Shared) {
			for _, m := range []*ops.Matrix{e.Gate, e.Up, e.Down} {
				weight := w.device.matrices[m].weight()
				want = append(want, kernels.Bytes(&weight)...)
			}
		}
		if string(fetch(t, w.device, placed.weights, len(want))) != string(want) {
			t.Error("the table of experts differs")
		}
	}
}

// failing opens a backend on a fake driver and places the weights, which must fail;
// afterwards nothing may be left.
func failing(t *testing.T, place func(fake *drivertest.Fake, b *Backend) error) error {
	t.Helper()
	fake, err := drivertest.New(drivertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(fake, Options{})
	if err != nil {
		t.Fatal(err)
	}
	failed := place(fake, b)
	if failed != nil && (len(b.weights) > 0 || len(b.matrices) > 0 || len(b.vectors) > 0) {
		t.Error("weights are there after an error:", failed)
	}
	closed := b.Close() // fails on a lost device, and releases all the same
	for _, problem := range fake.Problems() {
		t.Errorf("%s, after %v, %v", problem, failed, closed)
	}
	return failed
}

func TestCancelAtEveryBuffer(t *testing.T) {
	all := newTwin(t, Options{}).some()
	for stop := 0; ; stop++ {
		ctx, cancel := context.WithCancel(context.Background())
		reports := 0
		err := failing(t, func(_ *drivertest.Fake, b *Backend) error {
			if stop == 0 {
				cancel()
			}
			return b.placeBy(ctx, small, all, func(done, total int64) {
				if reports++; reports == stop && done < total {
					cancel()
				}
			})
		})
		cancel()
		if err == nil {
			if stop < 10 {
				t.Errorf("%d reports: the weights go through more buffers", stop)
			}
			return
		}
		if !errors.Is(err, context.Canceled) || reports != stop {
			t.Fatalf("cancelled at report %d of %d: %v", stop, reports, err)
		}
	}
}

func TestEveryDriverCallMayFail(t *testing.T) {
	all := newTwin(t, Options{}).some()
	all.Matrices, all.Mixtures, all.Vectors = all.Matrices[:9], all.Mixtures[:1], all.Vectors[:1] // the first mixture
	for _, code := range []driver.Code{driver.OutOfMemory, driver.IllegalAddress} {
		for n := 1; ; n++ {
			reached := true
			err := failing(t, func(fake *drivertest.Fake, b *Backend) error {
				before := fake.Calls()
				fake.Fail(n, code)
				err := b.placeBy(context.Background(), small, all, nil)
				reached = fake.Calls()-before >= n
				fake.Fail(0, 0)
				return err
			})
			if !reached {
				if err != nil {
					t.Error(err)
				}
				break
			}
			var failure *driver.Error
			if !errors.As(err, &failure) || failure.Code != code {
				t.Fatalf("call %d failed with %v, the error is: %v", n, code, err)
			}
		}
	}
}

func TestWhatCannotBePlaced(t *testing.T) {
	dense := func(name string, value uint32) *ops.Matrix {
		m := &ops.Matrix{Name: name, K: 64, N: 20, Layout: ops.Dense, Type: ops.F32, Bits: 32}
		m.Weight.Data, m.Weight.File = make([]byte, 4*m.K*m.N), name+".safetensors"
		binary.LittleEndian.PutUint32(m.Weight.Data[4*777:], value)
		return m
	}
	short := dense("short", 0)
	short.Weight.Data = short.Weight.Data[4:]
	huge := dense("huge", 0)
	huge.N = 1 << 40
	for _, c := range []struct {
		m    *ops.Matrix
		want []string
	}{
		{dense("large", math.Float32bits(65520)), []string{"large", "fp16", "--kernels generic"}},
		{dense("endless", math.Float32bits(float32(math.Inf(-1)))), []string{"endless", "fp16"}},
		{dense("no-number", 0x7fc00000), []string{"no-number", "fp16"}},
		{short, []string{"short", "5116 bytes", "5120"}},
		{huge, []string{"weights", "out of device memory"}},
	} {
		err := failing(t, func(_ *drivertest.Fake, b *Backend) error {
			return b.Place(context.Background(), ops.Weights{Matrices: []*ops.Matrix{dense("fine", math.Float32bits(65519)), c.m}}, nil)
		})
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", c.m.Name, err, want)
			}
		}
	}
}

func TestFileCutShortWhileLoading(t *testing.T) {
	name := filepath.Join(t.TempDir(), "model.safetensors")
	const size = 1 << 20
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(data); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Truncate(name, size/2); err != nil {
		t.Fatal(err)
	}
	v := &ops.Vector{Name: "norm", N: size / 4, Type: ops.F32, Source: ops.Extent{File: "model.safetensors", Data: data}}
	err = failing(t, func(_ *drivertest.Fake, b *Backend) error {
		return b.Place(context.Background(), ops.Weights{Vectors: []*ops.Vector{v}}, nil)
	})
	if err == nil || !strings.Contains(err.Error(), "norm cannot be read") {
		t.Errorf("the error is: %v", err)
	}
}
