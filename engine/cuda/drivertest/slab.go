package drivertest

import (
	"encoding/binary"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// slabs views a weight in slabs: outputs by 16, codes in the order of tensor cores.
// The layout stands with `slabs` in engine/cuda/matrix.go.
type slabs struct {
	data    []byte
	stride  int // bytes from one slab to the next
	k, bits int
}

// Of a slab.
const (
	slabOutputs = 16
	slabBlock   = 512 // bytes of a block
	slabGroup   = 128 // values of k that share a scale
)

// viewSlabs views count slabs at an address.
func viewSlabs(m Memory, at uint64, count, stride, k, bits int) (slabs, error) {
	data, err := Slice[byte](m, at, count*stride)
	return slabs{data, stride, k, bits}, err
}

// place returns the byte where the code of output n, input k begins, and its first
// bit there.
func (s slabs) place(n, k int) (at int, shift uint) {
	per := 256 / s.bits // values of k of a block
	quad := per / 4     // of a lane
	lane := n%8*4 + k%per/quad
	step, j, low := k%quad/4, k%4, n%slabOutputs/8
	at = n/slabOutputs*s.stride + k/per*slabBlock + lane*16
	switch s.bits {
	case 4:
		nibble := [4]int{0, 4, 2, 6}[j] + low
		return at + 4*step + nibble/2, uint(nibble % 2 * 4)
	case 8:
		return at + 4*(2*step+low) + j, 0
	}
	return at + 4*(j/2*2+low) + j%2*2, 0
}

// value returns a code with its zero taken off, or of 16 bits the value.
func (s slabs) value(n, k int) float32 {
	at, shift := s.place(n, k)
	switch s.bits {
	case 4:
		return float32(int(s.data[at]>>shift&15) - 8)
	case 8:
		return float32(int(s.data[at]) - 128)
	}
	return ops.Half(binary.LittleEndian.Uint16(s.data[at:]))
}

// scaleAt is where the fp16 scale of output n, input k lies; not of 16 bits.
func (s slabs) scaleAt(n, k int) int {
	codes := slabOutputs * s.k * s.bits / 8
	return n/slabOutputs*s.stride + codes + (k/slabGroup*slabOutputs+n%slabOutputs)*2
}

// scale returns the scale of output n, input k.
func (s slabs) scale(n, k int) float32 {
	if s.bits == 16 {
		return 1
	}
	return ops.Half(binary.LittleEndian.Uint16(s.data[s.scaleAt(n, k):]))
}

// product is row n times x, the sum over K as the kernels have it: parts of whole
// groups, each summed by itself.
func (s slabs) product(n int, x []float32) float32 {
	const parts = 8
	units := (s.k + slabGroup - 1) / slabGroup
	total := float32(0)
	for part := range parts {
		sum := float32(0)
		for unit := part * units / parts; unit < (part+1)*units/parts; unit++ {
			group := 0.0
			for k := unit * slabGroup; k < min((unit+1)*slabGroup, s.k); k++ {
				group += float64(s.value(n, k)) * float64(x[k])
			}
			sum += s.scale(n, unit*slabGroup) * float32(group)
		}
		total += sum
	}
	return total
}
