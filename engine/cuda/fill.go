package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// zero fills bytes (a multiple of four) at an address with zeros.
func (b *Backend) zero(to driver.Ptr, bytes int64) error {
	args := kernels.FillArgs{Dst: uint64(to), N: uint64(bytes / 4)}
	const name, threads = "rh_smoke_fill", 256
	function, err := b.images.function(name, len(kernels.Bytes(&args)), 0)
	if err != nil {
		return err
	}
	blocks := min((args.N+threads-1)/threads, uint64(8*b.properties.SMs))
	return b.driver.Launch(&driver.Launch{Function: function, Grid: driver.Dim{uint32(max(blocks, 1)), 1, 1},
		Block: driver.Dim{threads, 1, 1}, Stream: b.stream, Args: kernels.Bytes(&args)})
}
