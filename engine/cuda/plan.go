package cuda

import (
	"errors"
	"fmt"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// Share is a part of the device's memory.
type Share struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Sizes are what a memory plan decides.
type Sizes struct {
	Context int      `json:"context"` // tokens of a sequence
	Slots   int      `json:"slots"`   // sequences at a time
	Chunk   int      `json:"chunk"`   // rows of a prompt in a step
	KV      ops.Type `json:"-"`       // of keys and values
}

// Fixed says which sizes are not for the plan to change.
type Fixed struct{ Context, Slots, Chunk bool }

// Bounds of what a plan shrinks to by itself.
const (
	leastChunk   = 512
	contextSteps = 1024 // tokens
)

// Plan is what lies on a device after load.
type Plan struct {
	Sizes
	Wished Sizes   `json:"wished"`
	Shares []Share `json:"shares"`
	Free   int64   `json:"free"` // bytes, before anything of it is allocated
}

// MakePlan finds sizes that fit in the free bytes, the wished ones first. It halves
// the chunk down to 512, then takes slots away down to one, then context down to
// 1,024 tokens, always leaving alone what is fixed. need says what some sizes take,
// with what the driver and the graphs want for themselves; it must grow with each of
// them. Where nothing fits the error matches driver.ErrOutOfMemory, shows the
// smallest plan and says what to lower.
func MakePlan(need func(Sizes) ([]Share, error), wish Sizes, fixed Fixed, free int64) (*Plan, error) {
	p := &Plan{Sizes: wish, Wished: wish, Free: free}
	fits := func() (ok bool, err error) {
		p.Shares, err = need(p.Sizes)
		return p.Need() <= free, err
	}
	ok, err := fits()
	for !fixed.Chunk && !ok && err == nil && p.Chunk > leastChunk {
		p.Chunk = max(p.Chunk/2, leastChunk)
		ok, err = fits()
	}
	for !fixed.Slots && !ok && err == nil && p.Slots > 1 {
		p.Slots--
		ok, err = fits()
	}
	if !fixed.Context && !ok && err == nil {
		low, high := 1, (wish.Context+contextSteps-1)/contextSteps // the largest that fits is in [low, high), or nothing fits
		for low < high-1 && err == nil {
			p.Context = (low + high) / 2 * contextSteps
			if ok, err = fits(); ok {
				low = p.Context / contextSteps
			} else {
				high = p.Context / contextSteps
			}
		}
		if err == nil {
			p.Context = min(low*contextSteps, wish.Context)
			ok, err = fits()
		}
	}
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, p.refuse(fixed)
	}
	return p, nil
}

// Need is the bytes of all shares.
func (p *Plan) Need() (total int64) {
	for _, s := range p.Shares {
		total += s.Bytes
	}
	return total
}

// refuse says that not even this plan fits.
func (p *Plan) refuse(fixed Fixed) error {
	var lower []string
	for _, option := range []struct {
		fixed bool
		name  string
	}{{fixed.Context, "--ctx"}, {fixed.Slots, "--slots"}, {fixed.Chunk, "--chunk"}, {p.KV == ops.F32, "--kv-dtype f32 to f16"}} {
		if option.fixed {
			lower = append(lower, option.name)
		}
	}
	advice := "free memory on the device, or take one with more"
	if len(lower) > 0 {
		advice = "lower " + strings.Join(lower, ", ") + ", or " + advice
	}
	return fmt.Errorf("cuda: the model does not fit: %w\n%v%s", noRoom, p, advice)
}

// noRoom matches driver.ErrOutOfMemory without the advice of a failed call.
var noRoom error = outOfRoom{errors.New("out of device memory")}

type outOfRoom struct{ error }

func (outOfRoom) Is(target error) bool { return target == driver.ErrOutOfMemory }

// String is the plan as a table, in GB of 10^9 bytes.
func (p *Plan) String() string {
	var b strings.Builder
	line := func(name string, bytes int64) { fmt.Fprintf(&b, "  %-28s %9.3f GB\n", name, float64(bytes)/1e9) }
	fmt.Fprintf(&b, "device memory for %d tokens of context, %d slots, chunks of %d, keys and values in %v:\n", p.Context, p.Slots, p.Chunk, p.KV)
	for _, s := range p.Shares {
		line(s.Name, s.Bytes)
	}
	line("in all", p.Need())
	line("free", p.Free)
	for _, change := range []struct {
		name     string
		from, to int
	}{{"chunk", p.Wished.Chunk, p.Chunk}, {"slots", p.Wished.Slots, p.Slots}, {"context", p.Wished.Context, p.Context}} {
		if change.from != change.to {
			fmt.Fprintf(&b, "  %s lowered from %d to %d\n", change.name, change.from, change.to)
		}
	}
	return b.String()
}
