// Zero-centred RMSNorm by a block of kNormThreads threads, wherever it happens: one
// order of additions, so that a row has the same bits from every kernel.
#pragma once

#include <cstdint>

#include "rh/half.cuh"
#include "rh/reduce.cuh"

namespace rh {

constexpr uint32_t kNormThreads = 256, kNormWarps = kNormThreads / 32;

// rms_scales finds 1 / rms of up to `most` rows of n values, a multiple of 4, that lie
// stride apart. Every thread gets all of them.
template <int most>
__device__ __forceinline__ void rms_scales(float scale[most], const float *x, uint64_t stride, uint32_t rows, uint32_t n,
                                           float eps) {
    __shared__ float partial[most][kNormWarps];
    float sum[most] = {};
#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < n / 4; i += kNormThreads) {
#pragma unroll
        for (int r = 0; r < most; ++r) {
            if (r >= rows) break;
            const float4 v = reinterpret_cast<const float4 *>(x + r * stride)[i];
            sum[r] = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum[r]))));
        }
    }
#pragma unroll
    for (int r = 0; r < most; ++r) {
        if (r >= rows) break;
        const float all = warp_sum(sum[r]);
        if (threadIdx.x % 32 == 0) partial[r][threadIdx.x / 32] = all;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < most; ++r) {
        if (r >= rows) break;
        float all = partial[r][0];
        for (uint32_t w = 1; w < kNormWarps; ++w) all += partial[r][w];
        scale[r] = 1.0f / sqrtf(all / float(n) + eps);
    }
}

__device__ __forceinline__ float4 normed(const float4 &v, float scale, const float4 &w) {
    return make_float4(v.x * scale * (1.0f + w.x), v.y * scale * (1.0f + w.y), v.z * scale * (1.0f + w.z),
                       v.w * scale * (1.0f + w.w));
}

// halves are four values as half activations, lows what those lost.
__device__ __forceinline__ ushort4 halves(const float4 &y) {
    return make_ushort4(to_half(y.x), to_half(y.y), to_half(y.z), to_half(y.w));
}

__device__ __forceinline__ ushort4 lows(const float4 &y, const ushort4 &h) {
    return make_ushort4(to_low(y.x, h.x), to_low(y.y, h.y), to_low(y.z, h.z), to_low(y.w, h.w));
}

}  // namespace rh
