// What the kernels of attention share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "rh/abi.cuh"

namespace rh {

// Types of pages, as ops.Type numbers them.
enum : uint32_t { kF32 = 0, kF16 = 1, kBF16 = 2 };

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ float widen(__half v) { return __half2float(v); }
__device__ __forceinline__ float widen(__nv_bfloat16 v) { return __bfloat162float(v); }

// narrow rounds to a page's type; fp16 saturates.
template <class T> __device__ __forceinline__ T narrow(float v);
template <> __device__ __forceinline__ float narrow<float>(float v) { return v; }
template <> __device__ __forceinline__ __half narrow<__half>(float v) {
    return __float2half_rn(fminf(fmaxf(v, -65504.0f), 65504.0f));
}
template <> __device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float v) { return __float2bfloat16_rn(v); }

// page_of is the offset, in elements, of a position of one KV head in its pool.
__device__ __forceinline__ uint64_t page_of(const int32_t *table, uint32_t position, uint32_t head, uint32_t kv_heads, uint32_t head_dim) {
    const uint64_t page = uint64_t(table[position / kPageTokens]) * kv_heads + head;
    return (page * kPageTokens + position % kPageTokens) * head_dim;
}

// in_width is the width of a row of queries, gates, keys and values.
template <class Args> __device__ __forceinline__ uint64_t in_width(const Args &a) {
    return 2 * uint64_t(a.heads + a.kv_heads) * a.head_dim;
}

// gate_of is where the gate of a head of a row begins.
template <class Args> __device__ __forceinline__ const float *gate_of(const Args &a, uint32_t row, uint32_t head) {
    return a.gate + row * in_width(a) + (2 * uint64_t(head) + 1) * a.head_dim;
}

__device__ __forceinline__ float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

// half_activation is how fast kernels take their inputs: see kHalfScale.
__device__ __forceinline__ uint16_t half_activation(float v) {
    return __half_as_ushort(narrow<__half>(v * kHalfScale));
}

}  // namespace rh
