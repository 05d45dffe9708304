package inspect

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

const (
	sampled = 16      // modules of a kind whose scales are read without Verify
	piece   = 4 << 20 // bytes between looks at the context
)

// values counts what a run of floats holds.
type values struct {
	count, negative, zeros, subnormals, nan, inf int64
	min, max                                     float32
	at                                           int64 // element of the first NaN or Inf
	touched                                      byte  // keeps the reads of integers from being left out
}

func newValues() values {
	return values{min: float32(math.Inf(1)), max: float32(math.Inf(-1)), at: -1}
}

func (v *values) add(o values) {
	if v.at < 0 && o.at >= 0 {
		v.at = v.count + o.at
	}
	v.count += o.count
	v.negative += o.negative
	v.zeros += o.zeros
	v.subnormals += o.subnormals
	v.nan += o.nan
	v.inf += o.inf
	v.min, v.max = min(v.min, o.min), max(v.max, o.max)
	v.touched ^= o.touched
}

// scan counts the floats in data; integers are only read.
func scan(data []byte, t safetensors.DType) values {
	v := newValues()
	switch t {
	case safetensors.F16:
		for ; len(data) >= 2; data = data[2:] {
			h := binary.LittleEndian.Uint16(data)
			v.one(uint32(h&0x7FFF), 0x7C00, 0x0400, h&0x8000 != 0, ops.Half(h))
		}
	case safetensors.BF16:
		for ; len(data) >= 2; data = data[2:] {
			h := binary.LittleEndian.Uint16(data)
			v.one(uint32(h&0x7FFF), 0x7F80, 0x0080, h&0x8000 != 0, ops.BFloat16(h))
		}
	case safetensors.F32:
		for ; len(data) >= 4; data = data[4:] {
			u := binary.LittleEndian.Uint32(data)
			v.one(u&0x7FFFFFFF, 0x7F800000, 0x00800000, u>>31 != 0, math.Float32frombits(u))
		}
	default: // integers: any bits are valid, but all must be readable
		for i := 0; i < len(data); i += 4096 {
			v.touched ^= data[i]
		}
	}
	return v
}

// one counts a value of the given magnitude bits; infinity and normal are the
// least magnitudes that are not finite and not subnormal.
func (v *values) one(magnitude, infinity, normal uint32, negative bool, value float32) {
	v.count++
	if magnitude >= infinity {
		if v.at < 0 {
			v.at = v.count - 1
		}
		if magnitude == infinity {
			v.inf++
		} else {
			v.nan++
		}
		return
	}
	if negative {
		v.negative++
	}
	if magnitude == 0 {
		v.zeros++
	} else if magnitude < normal {
		v.subnormals++
	}
	v.min, v.max = min(v.min, value), max(v.max, value)
}

// tally is what was read of a kind.
type tally struct {
	mu     sync.Mutex
	scales values
	nan    int64
	inf    int64
	// words of symmetric zeros by what they hold
	minusOne, asIs, other int64
}

// data reads scales and stored zeros of a few modules of each kind, or, to
// verify, all tensors.
func (x *inspection) data(ctx context.Context, opts Options) error {
	x.r.Verified = opts.Verify
	var total int64
	for _, k := range x.kinds {
		total += k.Bytes
	}
	v := &verification{x: x, total: total, progress: opts.Progress}
	if !opts.Verify || v.progress == nil {
		v.progress = func(int64, int64) {}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	tallies := make([]tally, len(x.kinds))
	for i, k := range x.kinds {
		tallies[i].scales = newValues()
		step := 1
		if !opts.Verify {
			step = (len(k.modules) + sampled - 1) / sampled
		}
		for j := 0; j < len(k.modules); j += step {
			m := k.modules[j]
			group.Go(func() error { return v.module(ctx, m, &tallies[i], opts.Verify) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, k := range x.kinds {
		k.take(&tallies[i])
	}
	v.report()
	return nil
}

// take puts what was read into the report's row.
func (k *kind) take(t *tally) {
	k.NaN, k.Inf = t.nan, t.inf
	switch {
	case t.minusOne > 0 && t.asIs == 0 && t.other == 0:
		k.StoredZeros = "minus one"
	case t.asIs > 0 && t.minusOne == 0 && t.other == 0:
		k.StoredZeros = "as they are"
	case t.other > 0 && t.asIs == 0 && t.minusOne == 0:
		k.StoredZeros = "other"
	case t.other+t.asIs+t.minusOne > 0:
		k.StoredZeros = "mixed"
	}
	s := t.scales
	if s.count == 0 {
		return
	}
	k.Scales = &Scales{Count: s.count, Negative: float64(s.negative) / float64(s.count), Zeros: s.zeros, Subnormals: s.subnormals}
	if s.nan+s.inf < s.count {
		k.Scales.Min, k.Scales.Max = s.min, s.max
	}
}

// verification is shared by the goroutines of one data.
type verification struct {
	x        *inspection
	total    int64
	progress func(done, total int64)

	mu       sync.Mutex
	done     int64
	findings map[string]string // by tensor
}

func (v *verification) module(ctx context.Context, m *module, t *tally, all bool) error {
	for _, tensor := range m.tensors {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, role := moduleOf(tensor.Name)
		symmetric := role == ".qzeros" && m.matrix != nil && m.matrix.Zeros == ops.Symmetric
		if symmetric {
			if err := v.read(tensor, func() { t.zeros(tensor, m.matrix) }); err != nil {
				v.find(tensor, err.Error())
				continue
			}
		}
		if !all && role != ".scales" {
			continue
		}
		found, err := v.scan(ctx, tensor)
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.nan += found.nan
		t.inf += found.inf
		if role == ".scales" {
			t.scales.add(found)
		}
		t.mu.Unlock()
		if found.nan+found.inf > 0 {
			v.find(tensor, fmt.Sprintf("%d NaN and %d Inf among %d values, the first at element %d", found.nan, found.inf, found.count, found.at))
		}
	}
	return nil
}

// scan reads one tensor piece by piece.
func (v *verification) scan(ctx context.Context, t *safetensors.Tensor) (values, error) {
	all := newValues()
	for at := int64(0); at < t.Bytes; at += piece {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		n := min(piece, t.Bytes-at)
		if err := v.read(t, func() { all.add(scan(t.Data()[at:at+n], t.DType)) }); err != nil {
			v.find(t, err.Error())
			return all, nil
		}
		v.mu.Lock()
		v.done += n
		v.progress(v.done, v.total)
		v.mu.Unlock()
	}
	return all, nil
}

// read runs f on mapped data. A disk that cannot deliver a page, or a file cut
// off while it is mapped, faults; that is a finding, not the program's end.
func (v *verification) read(t *safetensors.Tensor, f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if _, ok := fault.(interface{ Addr() uintptr }); !ok {
				panic(fault)
			}
			err = fmt.Errorf("cannot be read from the disk (%d bytes from offset %d)", t.Bytes, t.Offset)
		}
	}()
	f()
	return nil
}

func (v *verification) find(t *safetensors.Tensor, what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.findings == nil {
		v.findings = map[string]string{}
	}
	v.findings[t.Name] = safetensors.Finding{File: t.File, Tensor: t.Name, Offset: t.Offset, What: what}.Error()
}

// report adds the findings in the order of files and tensors.
func (v *verification) report() {
	count := 0
	for _, f := range v.x.checkpoint.Files {
		for i := range f.Tensors {
			if text, ok := v.findings[f.Tensors[i].Name]; ok {
				if count++; count <= maxAlike {
					v.x.finding("%s", text)
				}
			}
		}
	}
	if count > maxAlike {
		v.x.finding("and %d more tensors with NaN or Inf or that cannot be read", count-maxAlike)
	}
}

// zeros compares the words of a symmetric matrix's stored zeros with the two
// constants that writers put there.
func (t *tally) zeros(tensor *safetensors.Tensor, m *ops.Matrix) {
	var minusOne, asIs [3]uint32 // 3 bits repeat after three words, others after one
	for word := range minusOne {
		minusOne[word] = constant(1<<(m.Bits-1)-1, m.Bits, word)
		asIs[word] = constant(1<<(m.Bits-1), m.Bits, word)
	}
	columns := len(tensor.Data()) / 4
	if len(tensor.Shape) == 2 {
		columns = int(tensor.Shape[1])
	}
	counts := [3]int64{}
	data := tensor.Data()
	for i := 0; i+4 <= len(data); i += 4 {
		phase := i / 4 % max(columns, 1) % 3
		switch binary.LittleEndian.Uint32(data[i:]) {
		case minusOne[phase]:
			counts[0]++
		case asIs[phase]:
			counts[1]++
		default:
			counts[2]++
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.minusOne += counts[0]
	t.asIs += counts[1]
	t.other += counts[2]
}

// constant returns a word of a stream of fields that all hold value.
func constant(value, bits, word int) (w uint32) {
	for i := range 32 {
		w |= uint32(value>>((32*word+i)%bits)&1) << i
	}
	return w
}
