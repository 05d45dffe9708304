// Reading slabs: a weight repacked for tensor cores, 16 outputs by all of K. The
// layout stands with `slabs` in engine/cuda/matrix.go; in short, a block is 512
// bytes, lane l owns its bytes 16*l to 16*l+15, and with g = l/4 and t = l%4 its
// values belong to the outputs g and g+8 and to neighbouring k:
//
//  bits  k of a block  k of a lane       mma steps a block
//     4            64  16*t to 16*t+15   4
//     8            32   8*t to  8*t+7    2
//    16            16   4*t to  4*t+3    1
//
// Each mma step takes four of the lane's k, in order, so its B operand is four
// neighbouring halves of the activations.
#pragma once

#include <cstdint>

#include "rh/ptx.cuh"

namespace rh::slab {

constexpr uint32_t kRows = 16;    // outputs
constexpr uint32_t kBlock = 512;  // bytes
constexpr uint32_t kGroup = 128;  // values of k that share a scale

// values is how many k a block covers; steps how many mma it makes.
template <int bits>
__host__ __device__ constexpr uint32_t values() {
    return 256 / bits;
}
template <int bits>
__host__ __device__ constexpr uint32_t steps() {
    return 16 / bits;
}

// four makes the A operand of one word of eight 4-bit codes: code - 8, exactly.
// A code under the bits of 1024 is the half 1024 + code; of one that lies four bits
// higher it is 1024 + 16 * code, and one fma brings both back.
__device__ __forceinline__ void four(uint32_t a[4], uint32_t word) {
    constexpr uint32_t k1024 = 0x64006400, k1032 = 0x64086408, k16th = 0x2c002c00, kMinus72 = 0xd480d480;
    a[0] = ptx::sub_half2((word & 0x000f000f) | k1024, k1032);
    a[1] = ptx::fma_half2((word & 0x00f000f0) | k1024, k16th, kMinus72);
    word >>= 8;
    a[2] = ptx::sub_half2((word & 0x000f000f) | k1024, k1032);
    a[3] = ptx::fma_half2((word & 0x00f000f0) | k1024, k16th, kMinus72);
}

// eight makes the A operand of the words of rows g and g+8: code - 128, exactly.
__device__ __forceinline__ void eight(uint32_t a[4], uint32_t row, uint32_t row8) {
    constexpr uint32_t k1024 = 0x64646464, k1152 = 0x64806480;
    a[0] = ptx::sub_half2(__byte_perm(row, k1024, 0x4140), k1152);
    a[1] = ptx::sub_half2(__byte_perm(row8, k1024, 0x4140), k1152);
    a[2] = ptx::sub_half2(__byte_perm(row, k1024, 0x4342), k1152);
    a[3] = ptx::sub_half2(__byte_perm(row8, k1024, 0x4342), k1152);
}

// operand makes the A operand of step s of a lane's part of a block.
template <int bits>
__device__ __forceinline__ void operand(uint32_t a[4], const uint4 &part, int s) {
    const uint32_t word[4] = {part.x, part.y, part.z, part.w};
    if constexpr (bits == 4) {
        four(a, word[s]);
    } else if constexpr (bits == 8) {
        eight(a, word[2 * s], word[2 * s + 1]);
    } else {
        for (int i = 0; i < 4; ++i) a[i] = word[i];
    }
}

// value16 is weight [n][k] of 16-bit slabs that lie stride bytes apart, as fp16.
__device__ __forceinline__ uint16_t value16(const void *slabs, uint32_t stride, uint32_t n, uint32_t k) {
    const uint8_t *slab = static_cast<const uint8_t *>(slabs) + uint64_t(n / kRows) * stride;
    const uint32_t lane = n % 8 * 4 + k % 16 / 4, word = k % 4 / 2 * 2 + n % kRows / 8;
    return reinterpret_cast<const uint16_t *>(slab + k / 16 * kBlock + lane * 16 + word * 4)[k % 2];
}

}  // namespace rh::slab
