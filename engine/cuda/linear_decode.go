package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// decodeLinear multiplies up to decodeRows rows of half activations with slabs. Its
// kernels give a row the same bits.
type decodeLinear struct {
	kernels [4]kernel[kernels.LinearArgs] // by rows: decodeTiles
	sms     uint32
}

// decodeTiles are the rows that each kernel takes; decodeBlocks is how many blocks
// of it share a multiprocessor, by their registers; decodeAhead is the blocks of
// weights that each warp has on their way.
var (
	decodeTiles  = [4]int{8, 16, 32, decodeRows}
	decodeBlocks = [4]uint32{3, 2, 2, 1}
	decodeAhead  = [4]int{8, 4, 4, 4}
)

// Geometry of the decode kernels: threads of a block, bytes of a block of weights with
// scales, and what the smallest kernel adds to a row that it stages in shared memory.
const decodeThreads, decodeSlot, decodePad = 256, slabBlock + 2*slabRows, 8

// decodeShared is the most dynamic shared memory of the smallest: what a device of
// compute capability 8.6 has for a block, 99 KB, less 5 KB of its own.
const decodeShared = 94 << 10

// ringShared is asked for the others: with the 32 KB of sums of the largest their
// rings take more than the 48 KB that a block has unasked.
const ringShared = 56 << 10

func (r *recorder) decodeLinear() (d decodeLinear) {
	d.sms = uint32(r.b.properties.SMs)
	for i, name := range [4]string{"rh_linear_decode8", "rh_linear_decode16", "rh_linear_decode32", "rh_linear_decode64"} {
		shared := ringShared
		if i == 0 {
			shared = decodeShared
		}
		d.kernels[i] = find[kernels.LinearArgs](r, name, shared)
	}
	return d
}

func (d decodeLinear) launch(p *pass, args kernels.LinearArgs) error {
	planes := 1
	if args.Low != 0 {
		planes = 2
	}
	i, shared := 0, decodeStaged(int(args.Rows), planes, int(args.K))
	for decodeTiles[i] < int(args.Rows) || i == 0 && shared > decodeShared {
		i++
		shared = decodeRings(i)
	}
	slabs := args.Count0 + args.Count1 + args.Count2
	grid := driver.Dim{min(slabs, decodeBlocks[i]*d.sms), 1, 1}
	return d.kernels[i].launch(p, grid, driver.Dim{decodeThreads, 1, 1}, shared, args)
}

// decodeRings is the shared memory of the weights on their way.
func decodeRings(i int) int { return decodeThreads / 32 * decodeAhead[i] * decodeSlot }

// decodeStaged is the shared memory of the smallest kernel, for rows of both planes or
// one.
func decodeStaged(rows, planes, k int) int { return decodeRings(0) + rows*planes*2*(k+decodePad) }
