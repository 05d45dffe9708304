package cuda

import (
	"fmt"

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
	a := &arena{b: b, name: name, capacity: (capacity + 64*alignment) &^ (alignment - 1)}
	err := b.on(func() (err error) {
		if a.base, err = b.driver.Alloc(a.capacity); err == nil {
			err = b.zero(a.base, a.capacity)
		}
		return err
	})
	return a, err
}

// Close implements ops.Arena.
func (a *arena) Close() error { return a.b.on(func() error { return a.b.driver.Free(a.base) }) }
