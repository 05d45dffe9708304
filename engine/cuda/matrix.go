package cuda

import (
	"fmt"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// matrix is a placed weight: as raw words, which generic kernels read, or as
// slabs, which fast ones read; as both only where an embedding table is the head too.
type matrix struct {
	*ops.Matrix
	raw   raw
	slabs slabs
}

// raw is a weight as its checkpoint has it, tensor by tensor (see ops.Layout).
type raw struct {
	words, scales, zeros, groupOf driver.Ptr // zeros and groupOf are 0 where there are none
}

// slabs is a weight repacked for tensor cores. A slab is 16 outputs by all of K:
// blocks of 512 bytes, then scales fp16 [K/128][16], padded to a multiple of
// 128 bytes. A block covers 64, 32 or 16 values of k (4, 8, 16 bits); lane l of a
// warp owns its bytes 16*l to 16*l+15, four words that are A operands of
// mma.m16n8k16 for the rows g = l/4 and g+8. With t = l%4 the words hold
//
//	 4 bits, word s: k = 64*block + 16*t + 4*s + {0,1,2,3}; nibbles from low to
//	         high: (g,k0) (g+8,k0) (g,k2) (g+8,k2) (g,k1) (g+8,k1) (g,k3) (g+8,k3)
//	 8 bits, k = 32*block + 8*t + 4*s + {0,1,2,3}: word 2*s bytes k0..k3 of row g,
//	         word 2*s+1 of row g+8
//	16 bits, fp16, k = 16*block + 4*t + {0,1,2,3}: (g,k0,k1) (g+8,k0,k1)
//	         (g,k2,k3) (g+8,k2,k3)
//
// The sum over k may run in any order as long as both operands agree, so a lane's
// k are neighbours and activations are read as they lie. Codes are as stored, with
// the zero in the middle: w = scale * (code - 2^(bits-1)). Rows from N on have
// scale 0 (16 bits: value 0).
type slabs struct {
	data   driver.Ptr // of the first slab; 0 for none
	bits   int        // 4, 8 or 16
	count  int        // (N+15)/16
	stride int        // bytes from one slab to the next
}

// Slab geometry.
const (
	slabRows  = 16
	slabBlock = 512 // bytes
	slabGroup = 128 // values of k that share a scale
)

// slabBytes returns the stride of slabs of a weight with k inputs.
func slabBytes(k, bits int) int {
	codes := slabRows * k * bits / 8
	if bits < 16 {
		codes += k / slabGroup * slabRows * 2
	}
	return (codes + 127) &^ 127
}

// slabBits is the predicate of the fast kernels: with how many bits a weight can be
// kept in slabs, or 0 and why it cannot.
func slabBits(m *ops.Matrix) (bits int, why string) {
	switch {
	case m.Layout == ops.Dense && m.K%64 != 0:
		return 0, fmt.Sprintf("%d inputs are no multiple of 64", m.K)
	case m.Layout == ops.Dense:
		return 16, ""
	case m.Bits != 4 && m.Bits != 8:
		return 0, fmt.Sprintf("%d bits", m.Bits)
	case m.Zeros != ops.Symmetric:
		return 0, "zeros are " + m.Zeros.String()
	case m.Group != slabGroup:
		return 0, fmt.Sprintf("groups of %d", m.Group)
	case m.K%slabGroup != 0:
		return 0, fmt.Sprintf("%d inputs are no multiple of %d", m.K, slabGroup)
	case len(m.GroupOf.Data) > 0:
		return 0, "inputs are out of order (g_idx)"
	}
	return m.Bits, ""
}

// mixture is the experts of one layer.
type mixture struct {
	experts, shared expertSlabs // data 0: generic
	// weights is a table kernels.Weight [experts+1][3] for generic kernels: gate,
	// up, down of each; the shared expert is the last. 0 where slabs are used.
	weights driver.Ptr
	hidden  int
	width   int // of an expert
	inner   int // of the shared expert
	count   int // experts, without the shared one
}

// expertSlabs are experts of one shape, one after another. A slab of gateUp holds
// eight gate rows above the eight up rows of the same index: row g < 8 of slab s is
// gate output 8*s+g, row g+8 up output 8*s+g.
type expertSlabs struct {
	gateUp, down           slabs // of the first expert
	gateUpBytes, downBytes int64 // from one expert to the next
}
