// Kernels that a smoke test understands at a glance: any grid, any block.
#include "rh/args_smoke.cuh"
#include "rh/ptx.cuh"

namespace {

__device__ __forceinline__ uint64_t first() { return uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ uint64_t stride() { return uint64_t(gridDim.x) * blockDim.x; }

}  // namespace

RH_KERNEL(rh_smoke_fill, rh::FillArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    for (uint64_t i = first(); i < a.n; i += stride()) a.dst[i] = a.value;
}

RH_KERNEL(rh_smoke_copy, rh::CopyArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    for (uint64_t i = first(); i < a.n; i += stride()) a.dst[i] = a.src[i];
}

// Every member as the device read it, then the step block's two words.
RH_KERNEL(rh_smoke_echo, rh::EchoArgs, 80, 32) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (first() != 0) return;
    a.out[0] = uint32_t(a.wide);
    a.out[1] = uint32_t(a.wide >> 32);
    a.out[2] = a.word;
    a.out[3] = __float_as_uint(a.real);
    a.out[4] = a.half;
    a.out[5] = uint32_t(a.byte) << 8 | a.last;
    a.out[6] = a.step[0];
    a.out[7] = a.step[1];
}
