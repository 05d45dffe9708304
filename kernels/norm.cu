// Zero-centred RMSNorm in fp32: any width, any number of rows.
#include "rh/args_norm.cuh"
#include "rh/norm.cuh"
#include "rh/ptx.cuh"

// Grid: any number of blocks, which share the rows out among themselves. Block:
// whole warps. A row is read twice; the second time it comes from the L1 cache.
RH_KERNEL(rh_rmsnorm_generic, rh::RMSNormArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    for (uint32_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const float *x = a.x + uint64_t(row) * a.x_stride;
        const uint64_t out = uint64_t(row) * a.out_stride;
        float sum = 0.0f;
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) sum += x[i] * x[i];
        const float scale = 1.0f / sqrtf(rh::block_sum(sum) / float(a.n) + a.eps);
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
            const float y = x[i] * scale * (1.0f + a.w[i]);
            const uint16_t h = rh::to_half(y);
            if (a.out) a.out[out + i] = y;
            if (a.half) a.half[out + i] = h;
            if (a.low) a.low[out + i] = rh::to_low(y, h);
        }
    }
}

// Grid: a block a row. Block: kNormThreads. n and strides are multiples of 4, and half
// is always written. The second time a row comes from the L1 cache.
RH_KERNEL(rh_rmsnorm_half, rh::RMSNormArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const float *x = a.x + uint64_t(blockIdx.x) * a.x_stride;
    const uint64_t out = uint64_t(blockIdx.x) * a.out_stride;
    float scale[1];
    rh::rms_scales<1>(scale, x, 0, 1, a.n, a.eps);
    for (uint32_t i = threadIdx.x; i < a.n / 4; i += rh::kNormThreads) {
        const float4 w = reinterpret_cast<const float4 *>(a.w)[i];
        const float4 y = rh::normed(reinterpret_cast<const float4 *>(x)[i], scale[0], w);
        const ushort4 h = rh::halves(y);
        if (a.out) reinterpret_cast<float4 *>(a.out + out)[i] = y;
        reinterpret_cast<ushort4 *>(a.half + out)[i] = h;
        if (a.low) reinterpret_cast<ushort4 *>(a.low + out)[i] = rh::lows(y, h);
    }
}
