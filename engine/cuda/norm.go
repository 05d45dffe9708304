package cuda

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// norm is a zero-centred RMSNorm of rows, recorded for replay.
type norm struct {
	generic, half kernel[kernels.RMSNormArgs]
	w             driver.Ptr
	n             int
	eps           float32
}

func (r *recorder) norm(w *ops.Vector, eps float32) norm {
	return norm{
		generic: find[kernels.RMSNormArgs](r, "rh_rmsnorm_generic", 0),
		half:    find[kernels.RMSNormArgs](r, "rh_rmsnorm_half", 0),
		w:       r.vector(w), n: w.N, eps: eps,
	}
}

// normed is where the rows of a norm go: fp32, half activations, and what those
// lost to rounding; 0 where it is not wanted.
type normed struct{ out, half, low driver.Ptr }

// normThreads is the block of the norms.
const normThreads = 256

// run norms the rows at x. Rows of x and of all that is written lie stride values
// apart.
func (n norm) run(p *pass, x driver.Ptr, stride int, to normed) error {
	args := kernels.RMSNormArgs{X: uint64(x), W: uint64(n.w), Out: uint64(to.out), Half: uint64(to.half), Low: uint64(to.low),
		Rows: uint32(p.rows), N: uint32(n.n), XStride: uint32(stride), OutStride: uint32(stride), Eps: n.eps}
	k := n.generic
	if to.half != 0 && n.n%4 == 0 && stride%4 == 0 {
		k = n.half
	}
	return k.launch(p, driver.Dim{uint32(p.rows), 1, 1}, driver.Dim{normThreads, 1, 1}, 0, args)
}
