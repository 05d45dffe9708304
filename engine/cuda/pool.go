package cuda

import (
	"errors"
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// pool is device memory of the backend's lifetime that grows while programs are
// recorded: half activations, scratch, step blocks. It implements ops.Arena, but
// gives nothing back before Close.
type pool struct {
	b      *Backend
	blocks []driver.Ptr
	next   driver.Ptr // free from here
	left   int64
	used   int64
	shares []Share // of used, by name
}

// Alloc implements ops.Arena.
func (p *pool) Alloc(what string, t ops.Type, n int64) (ops.Buf, error) {
	bytes := (n*t.Size() + alignment - 1) &^ (alignment - 1)
	if n <= 0 {
		return ops.Buf{}, fmt.Errorf("cuda: %d elements asked for %s", n, what)
	}
	if bytes > p.left {
		size := max(bytes, granule)
		block, err := p.b.driver.Alloc(size)
		if err != nil {
			return ops.Buf{}, fmt.Errorf("%s: %w", what, err)
		}
		p.blocks = append(p.blocks, block)
		p.next, p.left = block, size
		if err := p.b.zero(block, size); err != nil {
			return ops.Buf{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	buf := ops.Buf{Addr: uintptr(p.next), Len: n, Type: t}
	p.next, p.left, p.used = p.next+driver.Ptr(bytes), p.left-bytes, p.used+bytes
	p.shares = addShare(p.shares, what, bytes)
	return buf, nil
}

// Mark implements ops.Arena.
func (p *pool) Mark() int64 { return p.used }

// Release implements ops.Arena: it keeps everything.
func (p *pool) Release(int64) {}

// Used implements ops.Arena.
func (p *pool) Used() int64 { return p.used }

// Close implements ops.Arena.
func (p *pool) Close() error {
	var errs []error
	for _, block := range p.blocks {
		errs = append(errs, p.b.driver.Free(block))
	}
	p.blocks, p.left = nil, 0
	return errors.Join(errs...)
}
