// Products of the prefill class: slabs times the half activations of a tile of
// tokens, on tensor cores. Weights are the A operand, read from global memory and
// dequantised in registers; tokens are the B operand, in shared memory.
//
// A token's sum takes k in one order, whatever tile it lies in and whoever lies
// beside it: its bits depend on its own activations and the weights alone.
#pragma once

#include "rh/abi.cuh"
#include "rh/slab.cuh"

namespace rh::gemm {

constexpr uint32_t kTokens = 64;  // of a tile
constexpr uint32_t kStep = 64;    // values of k that a stage holds of each token
constexpr uint32_t kStages = 4;
constexpr uint32_t kSlabs = 2;  // that a warp multiplies
constexpr uint32_t kRowBytes = kStep * 2;
constexpr uint32_t kStageBytes = kTokens * kRowBytes;

// Input is a tile of tokens. Its memory is shared: kStages stages, then from.
struct Input {
    const uint16_t *x;    // half[][stride]
    const uint16_t *low;  // what x lost to rounding, multiplied behind x; or null
    uint32_t stride, k;   // elements; k a multiple of kStep
    uint32_t tokens;      // 1 to kTokens
    uint8_t *stages;
    int32_t *from;  // [kTokens] rows of x

    __device__ Input(uint4 *shared) {
        stages = reinterpret_cast<uint8_t *>(shared);
        from = reinterpret_cast<int32_t *>(stages + kStages * kStageBytes);
    }

    // swizzle moves the 16-byte chunks of a token, so that the eight lanes (four for
    // 16 bits: sixteen) that shared memory serves at a time find theirs in different
    // banks: two neighbouring tokens' chunks 0, 2, 4, 6 (4 bits) or 0 to 3 (8 bits),
    // four tokens' chunks 0 and 1 (16 bits).
    __device__ static uint32_t swizzle(uint32_t token) { return (token & 1) * 5 ^ (token & 2); }

    // total is the steps of both planes; within is a step's place in its own.
    __device__ uint32_t total() const { return k / kStep * (low ? 2 : 1); }
    __device__ uint32_t within(uint32_t step) const { return step < k / kStep ? step : step - k / kStep; }

    // fetch begins to copy a step into its stage. All threads share the work.
    __device__ void fetch(uint32_t step) const {
        uint8_t *stage = stages + step % kStages * kStageBytes;
        const uint16_t *plane = step < k / kStep ? x : low;
        const uint32_t first = within(step) * kStep;
        for (uint32_t i = threadIdx.x; i < tokens * 8; i += blockDim.x) {
            const uint32_t token = i / 8, chunk = i % 8;
            ptx::copy_async(stage + token * kRowBytes + (chunk ^ swizzle(token)) * 16,
                            plane + uint64_t(from[token]) * stride + first + chunk * 8);
        }
    }

    // operands are the B operands of a lane for two mma steps, of which a step of k
    // has two pairs: .x, .y and .z, .w.
    template <int bits>
    __device__ uint4 operands(uint32_t step, uint32_t token, uint32_t pair) const {
        const uint8_t *row = stages + step % kStages * kStageBytes + token * kRowBytes;
        const uint32_t t = threadIdx.x % 4, moved = swizzle(token);
        if constexpr (bits == 16) {
            const uint32_t chunk = pair * 4 + t / 2, within = t % 2 * 8;
            const uint2 low = *reinterpret_cast<const uint2 *>(row + (chunk ^ moved) * 16 + within);
            const uint2 high = *reinterpret_cast<const uint2 *>(row + ((chunk + 2) ^ moved) * 16 + within);
            return make_uint4(low.x, low.y, high.x, high.y);
        }
        const uint32_t chunk = bits == 4 ? t * 2 + pair : pair * 4 + t;
        return *reinterpret_cast<const uint4 *>(row + (chunk ^ moved) * 16);
    }
};

// Weights are the slabs of one matrix.
struct Weights {
    const uint8_t *slabs;
    uint32_t count, bytes;  // bytes from one slab to the next
};

// Part is what a lane holds of a slab's step of k, with the scales of its two rows.
template <int bits>
struct Part {
    uint4 words[bits / 4];
    uint32_t scale[2];  // half2, twice the same

    __device__ void load(const uint8_t *slab, uint32_t k, uint32_t step) {
        const uint32_t lane = threadIdx.x % 32;
        const uint8_t *at = slab + step * (kStep * slab::kRows * bits / 8) + lane * 16;
        for (int i = 0; i < bits / 4; ++i) words[i] = ptx::load_once(at + i * slab::kBlock);
        if constexpr (bits < 16) {
            const uint16_t *scales = reinterpret_cast<const uint16_t *>(slab + uint64_t(k) * slab::kRows * bits / 8) +
                                     step * kStep / slab::kGroup * slab::kRows + lane / 4;
            scale[0] = scales[0] * 0x10001u;
            scale[1] = scales[8] * 0x10001u;
        }
    }

    // operand is the A operand of one of the four mma steps.
    __device__ void operand(uint32_t a[4], uint32_t i) const {
        constexpr uint32_t steps = slab::steps<bits>();
        slab::operand<bits>(a, words[i / steps], i % steps);
        if constexpr (bits < 16) {
            for (int j = 0; j < 4; ++j) a[j] = ptx::mul_half2(a[j], scale[j % 2]);
        }
    }
};

// accumulate adds the products of a step of k. Four sums are under way at a time: an
// mma waits for the last one of its own sum.
template <int bits, int tiles>
__device__ __forceinline__ void accumulate(float (&sums)[kSlabs][tiles][4], const Part<bits> (&part)[kSlabs], const Input &in,
                                           uint32_t step) {
    const uint32_t g = threadIdx.x % 32 / 4;
#pragma unroll
    for (uint32_t pair = 0; pair < 2; ++pair) {
        uint32_t a[kSlabs][2][4];
#pragma unroll
        for (uint32_t s = 0; s < kSlabs; ++s) {
            part[s].operand(a[s][0], 2 * pair);
            part[s].operand(a[s][1], 2 * pair + 1);
        }
#pragma unroll
        for (int j = 0; j < tiles; j += 2) {
            const uint4 b0 = in.operands<bits>(step, j * 8 + g, pair), b1 = in.operands<bits>(step, j * 8 + 8 + g, pair);
            const uint32_t b[2][2][2] = {{{b0.x, b0.y}, {b1.x, b1.y}}, {{b0.z, b0.w}, {b1.z, b1.w}}};
#pragma unroll
            for (int i = 0; i < 2; ++i) {
#pragma unroll
                for (uint32_t s = 0; s < kSlabs; ++s) {
                    ptx::mma_f16(sums[s][j], a[s][i], b[i][0]);
                    ptx::mma_f16(sums[s][j + 1], a[s][i], b[i][1]);
                }
            }
        }
    }
}

// multiply is the product of a warp's slabs, first and the next, with 8 * tiles
// tokens: put(slab, token, low, high) gets the sums of rows g and g+8 of a slab, g =
// lane/4, in units of activation / kHalfScale.
template <int bits, int tiles, class Put>
__device__ __forceinline__ void multiply(const Input &in, const Weights &w, uint32_t first, Put put) {
    const uint8_t *slabs[kSlabs];
    for (uint32_t s = 0; s < kSlabs; ++s) slabs[s] = w.slabs + uint64_t(min(first + s, w.count - 1)) * w.bytes;

    const uint32_t total = in.total();
    for (uint32_t i = 0; i + 1 < kStages; ++i) {
        if (i < total) in.fetch(i);
        ptx::copies_close();
    }
    // Weights are loaded so many steps ahead: few tokens hide the memory's latency less,
    // and leave registers for more.
    constexpr uint32_t ahead = bits == 16 || tiles == 8 ? 1 : 2;
    Part<bits> next[ahead][kSlabs];
    auto load = [&](uint32_t i, uint32_t step) {
        for (uint32_t s = 0; s < kSlabs && step < total; ++s) next[i][s].load(slabs[s], in.k, in.within(step));
    };
#pragma unroll
    for (uint32_t i = 0; i < ahead; ++i) load(i, i);

    float sums[kSlabs][tiles][4] = {};
    for (uint32_t step = 0; step < total; ++step) {
        ptx::copies_wait<kStages - 2>();
        __syncthreads();  // the step has arrived, and nobody reads the stage of the one before
        if (step + kStages - 1 < total) in.fetch(step + kStages - 1);
        ptx::copies_close();
        Part<bits> part[kSlabs];
#pragma unroll
        for (uint32_t s = 0; s < kSlabs; ++s) {
            part[s] = next[0][s];
#pragma unroll
            for (uint32_t i = 1; i < ahead; ++i) next[i - 1][s] = next[i][s];
        }
        load(ahead - 1, step + ahead);
        accumulate(sums, part, in, step);
    }
#pragma unroll
    for (uint32_t s = 0; s < kSlabs; ++s) {
        if (first + s >= w.count) break;
#pragma unroll
        for (int j = 0; j < tiles; ++j) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const uint32_t token = j * 8 + threadIdx.x % 4 * 2 + i;
                if (token < in.tokens) put(first + s, token, sums[s][j][i], sums[s][j][i + 2]);
            }
        }
    }
}

// Tiles is a number of tiles of eight tokens that is known to the compiler.
template <int n>
struct Tiles {
    static constexpr int value = n;
};

// product is multiply for any number of tokens and any of the three widths.
template <class Put>
__device__ __forceinline__ void product(const Input &in, const Weights &w, uint32_t bits, uint32_t first, Put put) {
    auto sized = [&](auto tiles) {
        constexpr int n = decltype(tiles)::value;
        if (bits == 4) {
            multiply<4, n>(in, w, first, put);
        } else if (bits == 8) {
            multiply<8, n>(in, w, first, put);
        } else {
            multiply<16, n>(in, w, first, put);
        }
    };
    if (in.tokens <= 16) {
        sized(Tiles<2>());
    } else if (in.tokens <= 32) {
        sized(Tiles<4>());
    } else if (in.tokens <= 48) {
        sized(Tiles<6>());
    } else {
        sized(Tiles<8>());
    }
}

}  // namespace rh::gemm
