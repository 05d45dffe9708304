package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// Geometry of products of the prefill class, see gemm.cuh.
const (
	gemmTokens = 64 // of a tile
	gemmSlabs  = 2  // of a warp
	gemmWarps  = 6  // of a block, at most: two blocks fill a multiprocessor's registers
	gemmShared = 4*gemmTokens*64*2 + 2*4*gemmTokens
)

// prefillLinear multiplies any number of rows of half activations with slabs.
type prefillLinear struct {
	kernel kernel[kernels.LinearArgs]
	blocks uint32 // that keep the device busy
}

func newPrefillLinear(r *recorder) prefillLinear {
	return prefillLinear{
		kernel: find[kernels.LinearArgs](r, "rh_linear_prefill", gemmShared),
		blocks: uint32(2 * r.b.properties.SMs),
	}
}

// launch multiplies the rows of args. A block's size, and so how much of the
// weights it reads, changes no bit: wide blocks read the rows less often, narrow
// ones spread a small product over the device.
func (l prefillLinear) launch(p *pass, args kernels.LinearArgs) error {
	if args.Rows == 0 {
		return nil
	}
	grid := driver.Dim{(args.Rows + gemmTokens - 1) / gemmTokens, 0, 1}
	warps := uint32(gemmWarps)
	for ; ; warps -= 2 {
		slabs := warps * gemmSlabs
		grid[1] = 0
		for _, count := range []uint32{args.Count0, args.Count1, args.Count2} {
			grid[1] += (count + slabs - 1) / slabs
		}
		if warps == 2 || grid[0]*grid[1] >= l.blocks {
			break
		}
	}
	return l.kernel.launch(p, grid, driver.Dim{32 * warps, 1, 1}, gemmShared, args)
}
