// Zero-centred RMSNorm in fp32: any width, any number of rows.
#include "rh/args_norm.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

namespace {

// Values of a row that a thread of rh_rmsnorm_half keeps, four at a time.
constexpr int kQuads = 8;

__device__ __forceinline__ float4 times(const float4 &v, float scale, const float4 &w) {
    return make_float4(v.x * scale * (1.0f + w.x), v.y * scale * (1.0f + w.y), v.z * scale * (1.0f + w.z),
                       v.w * scale * (1.0f + w.w));
}

}  // namespace

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

// Grid: a block a row. Block: whole warps, with n a multiple of 4 and at most
// 32 * blockDim.x; strides are multiples of 4. A row is read once, and half always
// written.
RH_KERNEL(rh_rmsnorm_half, rh::RMSNormArgs, 80, 512) {
    const uint32_t quads = a.n / 4;
    float4 v[kQuads], w[kQuads];
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        const uint32_t i = threadIdx.x + j * blockDim.x;
        if (i < quads) w[j] = reinterpret_cast<const float4 *>(a.w)[i];
    }
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const float4 *x = reinterpret_cast<const float4 *>(a.x + uint64_t(blockIdx.x) * a.x_stride);
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        const uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= quads) continue;
        v[j] = x[i];
        sum += v[j].x * v[j].x + v[j].y * v[j].y + v[j].z * v[j].z + v[j].w * v[j].w;
    }
    const float scale = 1.0f / sqrtf(rh::block_sum(sum) / float(a.n) + a.eps);
    const uint64_t out = uint64_t(blockIdx.x) * a.out_stride;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        const uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= quads) continue;
        const float4 y = times(v[j], scale, w[j]);
        const ushort4 h = make_ushort4(rh::to_half(y.x), rh::to_half(y.y), rh::to_half(y.z), rh::to_half(y.w));
        if (a.out) reinterpret_cast<float4 *>(a.out + out)[i] = y;
        reinterpret_cast<ushort4 *>(a.half + out)[i] = h;
        if (a.low) {
            reinterpret_cast<ushort4 *>(a.low + out)[i] =
                make_ushort4(rh::to_low(y.x, h.x), rh::to_low(y.y, h.y), rh::to_low(y.z, h.z), rh::to_low(y.w, h.w));
        }
    }
}
