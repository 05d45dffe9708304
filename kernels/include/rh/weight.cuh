// Weights of any packing, as their checkpoint has them: plain fp32 arithmetic.
#pragma once

#include "rh/args_linear.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"

namespace rh::weight {

constexpr uint32_t kDense = 0, kAWQ = 2;                 // ops.Layout
constexpr uint32_t kSymmetric = 0, kStoredMinusOne = 2;  // ops.Zeros

__device__ __forceinline__ uint32_t awq_shift(uint32_t n) { return (n % 2) * 16 + n % 8 / 2 * 4; }

// code is the field of row k, column n.
__device__ __forceinline__ uint32_t code(const Weight &w, uint32_t k, uint32_t n) {
    if (w.layout == kAWQ) return w.words[uint64_t(k) * (w.n / 8) + n / 8] >> awq_shift(n) & 15;
    if (w.bits == 3) {  // 32 codes of a column are one stream over three words
        const uint32_t bit = k % 32 * 3, word = bit / 32;
        const uint32_t *at = w.words + uint64_t(k / 32 * 3 + word) * w.n + n;
        const uint64_t pair = at[0] | (word < 2 ? uint64_t(at[w.n]) << 32 : 0);
        return uint32_t(pair >> bit % 32) & 7;
    }
    const uint32_t per = 32 / w.bits;
    return w.words[uint64_t(k / per) * w.n + n] >> k % per * w.bits & ((1u << w.bits) - 1);
}

// zero is the zero point of group g, column n.
__device__ __forceinline__ uint32_t zero(const Weight &w, uint32_t g, uint32_t n) {
    if (w.zero_kind == kSymmetric) return 1u << (w.bits - 1);
    uint32_t field;
    if (w.layout == kAWQ) {
        field = w.zeros[uint64_t(g) * (w.n / 8) + n / 8] >> awq_shift(n) & 15;
    } else {
        const uint32_t width = w.n * w.bits / 32, bit = n * w.bits;
        const uint32_t *at = w.zeros + uint64_t(g) * width + bit / 32;
        const uint64_t pair = at[0] | (bit / 32 + 1 < width ? uint64_t(at[1]) << 32 : 0);
        field = uint32_t(pair >> bit % 32) & ((1u << w.bits) - 1);
    }
    return w.zero_kind == kStoredMinusOne ? field + 1 : field;
}

// dot is the sum over k0 <= k < k1 of W[k][n] * x[k], in that order.
__device__ inline float dot(const Weight &w, const float *x, uint32_t n, uint32_t k0, uint32_t k1) {
    float sum = 0.0f;
    if (w.layout == kDense) {
        for (uint32_t k = k0; k < k1; ++k) sum += stored(w.words, w.type, uint64_t(n) * w.k + k) * x[k];
        return sum;
    }
    uint32_t group = 0xffffffffu, border = k0;  // of the group at hand: where it ends
    float scale = 0.0f, offset = 0.0f;
    for (uint32_t k = k0; k < k1; ++k) {
        if (w.group_of || k == border) {
            const uint32_t g = w.group_of ? uint32_t(w.group_of[k]) : k / w.group;
            border = (g + 1) * w.group;
            if (g != group) {
                group = g;
                scale = ptx::half_value(w.scales[uint64_t(g) * w.n + n]);
                offset = float(zero(w, g, n));
            }
        }
        sum += scale * (float(code(w, k, n)) - offset) * x[k];
    }
    return sum;
}

}  // namespace rh::weight
