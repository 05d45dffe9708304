package cuda

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// arena is device memory of one lifetime: one allocation, handed out from its
// start. It implements ops.Arena.
type arena struct {
	b        *Backend
	name     string
	base     driver.Ptr
	capacity int64
	used     int64
}

// alignment of what an arena hands out: what cuMemAlloc gives at least, so that
// any vector load is aligned.
const alignment = 256

// arenaSlack is what an arena has beyond what is asked for: as much as 64 allocations
// of odd sizes may lose.
const arenaSlack = 64 * alignment

// Alloc implements ops.Arena.
func (a *arena) Alloc(what string, t ops.Type, n int64) (ops.Buf, error) {
	bytes := (n*t.Size() + alignment - 1) &^ (alignment - 1)
	if n < 0 || bytes > a.capacity-a.used {
		return ops.Buf{}, fmt.Errorf("cuda: %s needs %d bytes of %s, %d of %d are left", what, bytes, a.name, a.capacity-a.used, a.capacity)
	}
	at := a.base + driver.Ptr(a.used)
	a.used += bytes
	return ops.Buf{Addr: uintptr(at), Len: n, Type: t}, nil
}

// Mark implements ops.Arena.
func (a *arena) Mark() int64 { return a.used }

// Release implements ops.Arena.
func (a *arena) Release(mark int64) { a.used = mark }

// Used implements ops.Arena.
func (a *arena) Used() int64 { return a.used }

// NewArena implements ops.Backend.
func (b *Backend) NewArena(name string, capacity int64) (ops.Arena, error) {
	a, err := b.newArena(name, capacity)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// newArena makes an arena of at least so many bytes, for up to 64 allocations of odd
// sizes. All of it is zero.
func (b *Backend) newArena(name string, capacity int64) (*arena, error) {
	a := &arena{b: b, name: name, capacity: (capacity + arenaSlack) &^ (alignment - 1)}
	err := b.on(func() (err error) {
		if a.base, err = b.driver.Alloc(a.capacity); err != nil {
			return fmt.Errorf("cuda: %d bytes for %s: %w", a.capacity, name, err)
		}
		if err := errors.Join(b.zero(a.base, a.capacity), b.driver.Synchronise(b.stream)); err != nil {
			return errors.Join(err, b.driver.Synchronise(b.stream), b.driver.Free(a.base))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Close implements ops.Arena. Nothing that was submitted may need the memory any more.
func (a *arena) Close() error {
	if a.base == 0 {
		return nil
	}
	return a.b.release(func() error {
		base := a.base
		a.base = 0
		return a.b.driver.Free(base)
	})
}

// release runs work that frees things, with the context current if that can be: on a
// lost device every call says so, and lets go all the same.
func (b *Backend) release(work func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return errors.Join(b.driver.SetCurrent(b.context), work())
}
