package drivertest

import (
	"fmt"
	"math"
	"sort"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// memory is an address space. Addresses are never given out twice, and a gap
// lies behind each allocation, so that a stray one is always found out.
type memory struct {
	limit, used int64
	last        driver.Ptr
	device      *hostDevice // nil: blocks lie in the Go heap
	blocks      []*block    // by address, freed ones too
}

type block struct {
	base driver.Ptr
	size int64
	data []byte // nil once it is freed
	host bool
}

// firstAddress is far from what a small number or a host address looks like.
const firstAddress driver.Ptr = 0x7f00_0000_0000

// alignment is what cuMemAlloc gives, or better.
const alignment = 512

// add makes a block of host or device memory.
func (m *memory) add(size int64, host bool) (*block, error) {
	if m.device != nil {
		return m.addGuarded(size, host)
	}
	words := make([]uint64, (size+7)/8) // so that every number in it lies at its border
	base := max(m.last, firstAddress)
	m.last = base + driver.Ptr((size+2*alignment-1)/alignment*alignment)
	b := &block{base: base, size: size, host: host, data: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size)}
	m.blocks = append(m.blocks, b)
	if !host {
		m.used += size
	}
	return b, nil
}

// addGuarded makes a block that ends with its last page, as far as alignment
// lets it: the page behind has no access for kernels.
func (m *memory) addGuarded(size int64, host bool) (*block, error) {
	base := max(m.last, hostAddress)
	whole := (size + alignment - 1) / alignment * alignment
	end := base + driver.Ptr((whole+pageSize-1)/pageSize*pageSize)
	b := &block{base: end - driver.Ptr(whole), size: size, host: host}
	if err := m.device.alloc(b); err != nil {
		return nil, err
	}
	m.last = end + pageSize
	m.blocks = append(m.blocks, b)
	if !host {
		m.used += size
	}
	return b, nil
}

// find is the block that holds an address, or the last one below it.
func (m *memory) find(p driver.Ptr) *block {
	at := sort.Search(len(m.blocks), func(i int) bool { return m.blocks[i].base > p })
	if at == 0 {
		return nil
	}
	return m.blocks[at-1]
}

// bytes are n bytes at an address; an error says what lies there instead.
func (m *memory) bytes(p driver.Ptr, n int64) ([]byte, error) {
	b := m.find(p)
	switch {
	case b == nil || p >= b.base+driver.Ptr(b.size) && n > 0:
		return nil, fmt.Errorf("nothing is allocated at %#x", uint64(p))
	case b.data == nil:
		return nil, fmt.Errorf("the memory at %#x was freed", uint64(p))
	case n < 0 || n > b.size || p > b.base+driver.Ptr(b.size-n):
		return nil, fmt.Errorf("%d bytes at %#x reach past an allocation of %d bytes at %#x", n, uint64(p), b.size, uint64(b.base))
	}
	at := p - b.base
	return b.data[at : at+driver.Ptr(n) : at+driver.Ptr(n)], nil
}

// held lists what was not freed.
func (m *memory) held() []string {
	var held []string
	for _, b := range m.blocks {
		if b.data != nil {
			held = append(held, fmt.Sprintf("%d bytes held at %#x, host memory %t", b.size, uint64(b.base), b.host))
		}
	}
	return held
}

// Alloc implements driver.Driver.
func (f *Fake) Alloc(bytes int64) (driver.Ptr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuMemAlloc_v2", quiet); err != nil {
		return 0, err
	}
	if bytes <= 0 {
		return 0, &driver.Error{Code: driver.InvalidValue, Call: "cuMemAlloc_v2", Detail: fmt.Sprintf("%d bytes asked", bytes)}
	}
	if free := f.memory.limit - f.memory.used; bytes > free {
		return 0, &driver.Error{Code: driver.OutOfMemory, Call: "cuMemAlloc_v2", Detail: fmt.Sprintf("%d bytes asked, %d of %d free", bytes, free, f.memory.limit)}
	}
	b, err := f.memory.add(bytes, false)
	if err != nil {
		return 0, &driver.Error{Code: driver.OutOfMemory, Call: "cuMemAlloc_v2", Detail: err.Error()}
	}
	return b.base, nil
}

// Free implements driver.Driver.
func (f *Fake) Free(p driver.Ptr) error { return f.free("cuMemFree_v2", p, false) }

// AllocHost implements driver.Driver.
func (f *Fake) AllocHost(bytes int) (driver.Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("cuMemHostAlloc", quiet); err != nil {
		return driver.Host{}, err
	}
	if bytes <= 0 {
		return driver.Host{}, &driver.Error{Code: driver.InvalidValue, Call: "cuMemHostAlloc", Detail: fmt.Sprintf("%d bytes asked", bytes)}
	}
	b, err := f.memory.add(int64(bytes), true)
	if err != nil {
		return driver.Host{}, &driver.Error{Code: driver.OutOfMemory, Call: "cuMemHostAlloc", Detail: err.Error()}
	}
	return driver.HostMemory(b.data, b.base), nil
}

// FreeHost implements driver.Driver.
func (f *Fake) FreeHost(h driver.Host) error { return f.free("cuMemFreeHost", h.Ptr(), true) }

func (f *Fake) free(call string, p driver.Ptr, host bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter(call, quiet)
	b := f.memory.find(p)
	if b == nil || b.base != p || b.host != host || b.data == nil {
		return f.wrong(call, driver.InvalidValue, "%#x is no allocation, or was freed before", uint64(p))
	}
	b.data = nil
	if f.memory.device != nil {
		if written := f.memory.device.free(b); written != nil {
			f.misuse = append(f.misuse, call+": "+written.Error())
		}
	}
	if !host {
		f.memory.used -= b.size
	}
	return err
}

// Memory is what a kernel's arithmetic sees of the device.
type Memory struct{ space *memory }

// Slice is n values at an address of the device, or of mapped host memory.
func Slice[T any](m Memory, p uint64, n int) ([]T, error) {
	var zero T
	size := int64(unsafe.Sizeof(zero))
	if n < 0 || int64(n) > math.MaxInt64/size {
		return nil, fmt.Errorf("%d values at %#x", n, p)
	}
	if p%uint64(unsafe.Alignof(zero)) != 0 {
		return nil, fmt.Errorf("%#x is not at a border of %d bytes", p, unsafe.Alignof(zero))
	}
	data, err := m.space.bytes(driver.Ptr(p), int64(n)*size)
	if err != nil || n == 0 {
		return nil, err
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), n), nil
}
