// What the kernels of attention share.
#pragma once

#include "rh/abi.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"

namespace rh {

// Types of pages, as ops.Type numbers them; fp16 saturates. On tensor cores queries
// and weights are rounded to the same.
enum : uint32_t { kF32 = 0, kF16 = 1, kBF16 = 2 };

struct F32 {
    using Stored = float;
    static __device__ __forceinline__ float widen(float v) { return v; }
    static __device__ __forceinline__ float narrow(float v) { return v; }
};

struct F16 {
    using Stored = uint16_t;
    static __device__ __forceinline__ float widen(uint16_t v) { return ptx::half_value(v); }
    static __device__ __forceinline__ uint16_t narrow(float v) { return ptx::half_bits(fabsf(v) > 65504.0f ? copysignf(65504.0f, v) : v); }
    static __device__ __forceinline__ uint32_t pair(float low, float high) { return ptx::half2_bits(low, high); }
    static __device__ __forceinline__ void mma(float c[4], const uint32_t a[4], const uint32_t b[2]) { ptx::mma_f16(c, a, b); }
};

struct BF16 {
    using Stored = uint16_t;
    static __device__ __forceinline__ float widen(uint16_t v) { return __uint_as_float(uint32_t(v) << 16); }
    static __device__ __forceinline__ uint16_t narrow(float v) { return uint16_t(ptx::bfloat2_bits(v, 0.0f)); }
    static __device__ __forceinline__ uint32_t pair(float low, float high) { return ptx::bfloat2_bits(low, high); }
    static __device__ __forceinline__ void mma(float c[4], const uint32_t a[4], const uint32_t b[2]) { ptx::mma_bf16(c, a, b); }
};

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

// Tiles of queries, keys and values for tensor cores: rows of 256 16-bit values, 512
// bytes, whose chunks of 16 bytes are swapped by row, so that ldmatrix meets every
// bank once.
constexpr uint32_t kTensorDim = 256;
constexpr uint32_t kTensorRow = 2 * kTensorDim;  // bytes

__device__ __forceinline__ uint32_t chunk_of(uint32_t row, uint32_t chunk) { return row * kTensorRow + ((chunk ^ row % 8) << 4); }

// Where a lane's row lies for an ldmatrix_x4 of 16 rows and 16 columns, whose second
// matrix lies below the first (down) or right of it (across); columns moves it to the
// 16 columns of a step.
__device__ __forceinline__ uint32_t down(uint32_t lane) { return chunk_of(lane % 16, lane / 16); }
__device__ __forceinline__ uint32_t across(uint32_t lane) { return chunk_of(lane / 16 * 8 + lane % 8, lane / 8 % 2); }
__device__ __forceinline__ uint32_t columns(uint32_t offset, uint32_t step) { return (offset ^ step % 4 << 5) + step / 4 * 128; }

// A decode row's positions are cut into splits of so many: at most kMaxSplits, all
// but the last of the same size.
constexpr uint32_t kMaxSplits = 64, kSplitUnit = 32;

__device__ __forceinline__ uint32_t split_size(uint32_t length) {
    return (length + kMaxSplits * kSplitUnit - 1) / (kMaxSplits * kSplitUnit) * kSplitUnit;
}

}  // namespace rh
