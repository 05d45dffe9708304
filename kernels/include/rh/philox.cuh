// The random numbers of a draw, as ops.Uniform has them: counter-based, so neither
// order nor batching plays a part.
#pragma once

#include <cstdint>

namespace rh {

// philox returns the first word of Philox4x32 with ten rounds (Salmon et al., SC 2011).
__device__ __forceinline__ uint32_t philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t hi0 = __umulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
        const uint32_t hi1 = __umulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c0;
}

// unit makes a word a number in (0, 1): ops.MaxUniform stands in for 1.
__device__ __forceinline__ float unit(uint32_t word) {
    const float u = __fmul_rn(__fadd_rn(float(word >> 8), 0.5f), 1.0f / 16777216.0f);
    return fminf(u, 1.0f - 1.0f / 16777216.0f);
}

}  // namespace rh
