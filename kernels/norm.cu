// Zero-centred RMSNorm in fp32: any width, any number of rows.
#include "rh/args_norm.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

// Grid: any number of blocks, which share the rows out among themselves. Block:
// whole warps. A row is read twice; the second time it comes from the L1 cache.
RH_KERNEL(rh_rmsnorm_generic, rh::RMSNormArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    for (uint32_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const float *x = a.x + uint64_t(row) * a.x_stride;
        float *out = a.out + uint64_t(row) * a.out_stride;
        float sum = 0.0f;
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) sum += x[i] * x[i];
        const float scale = 1.0f / sqrtf(rh::block_sum(sum) / float(a.n) + a.eps);
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) out[i] = x[i] * scale * (1.0f + a.w[i]);
    }
}
