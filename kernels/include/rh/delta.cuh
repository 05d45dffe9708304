// What the kernels of the gated delta net share: where things lie in a row, and
// the scalar functions.
#pragma once

#include "rh/args_delta.cuh"
#include "rh/half.cuh"

namespace rh::delta {

// Layout is the geometry of a row of in. The file groups q, k, v and z by key head
// and then, behind all groups, b and a; the convolution's channels are all q, all
// k, all v.
struct Layout {
    uint32_t share;     // value heads of one key head
    uint32_t group;     // columns of one key head
    uint32_t keys;      // channels of all q
    uint32_t channels;  // q, k and v
    uint32_t width;     // of a row of in
    uint32_t wide;      // of a row of out

    __device__ explicit Layout(const DeltaArgs &a)
        : share(a.value_heads / a.key_heads),
          group(2 * a.key_dim + 2 * share * a.value_dim),
          keys(a.key_heads * a.key_dim),
          channels(2 * keys + a.value_heads * a.value_dim),
          width(a.key_heads * group + 2 * a.value_heads),
          wide(a.value_heads * a.value_dim) {}

    // column of in that a channel of the convolution reads.
    __device__ uint32_t column(const DeltaArgs &a, uint32_t channel) const {
        if (channel < 2 * keys) {
            const uint32_t part = channel / keys, i = channel % keys;
            return i / a.key_dim * group + part * a.key_dim + i % a.key_dim;
        }
        const uint32_t i = channel - 2 * keys, head = i / a.value_dim;
        return head / share * group + 2 * a.key_dim + head % share * a.value_dim + i % a.value_dim;
    }

    // z is the first column of a value head's z.
    __device__ uint32_t z(const DeltaArgs &a, uint32_t head) const {
        return head / share * group + 2 * a.key_dim + (share + head % share) * a.value_dim;
    }

    // b is the column of a value head's b; its a lies share columns behind it.
    __device__ uint32_t b(const DeltaArgs &a, uint32_t head) const {
        return a.key_heads * group + head / share * 2 * share + head % share;
    }
};

// piece is the part of a segment that this launch runs: len 0 or below for none.
// Its first row counts from where in lies.
__device__ __forceinline__ Segment piece(const DeltaArgs &a, uint32_t index) {
    Segment s = a.segments[index];
    s.start += int32_t(a.from);
    s.len = min(s.len - int32_t(a.from), int32_t(a.rows));
    return s;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

// softplus is log(1 + e^x); above 20 the difference to x is below fp32.
__device__ __forceinline__ float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// log_decay is g, at most 0.
__device__ __forceinline__ float log_decay(float a_log, float a, float bias) { return -expf(a_log) * softplus(a + bias); }

// unit is the factor that makes an L2 norm 1; eps is inside the root.
__device__ __forceinline__ float unit(float squares) { return 1.0f / sqrtf(squares + 1e-6f); }

// gated is one value of out, from the rule's o, its head's factor 1/rms, the norm's
// weight (plain, not zero-centred) and z: first the norm, then the gate.
__device__ __forceinline__ float gated(float o, float rms, float w, float z) { return o * rms * w * silu(z); }

// put writes one value of out.
__device__ __forceinline__ void put(const DeltaArgs &a, uint64_t at, float y) {
    a.out[at] = y;
    if (a.half != nullptr) a.half[at] = to_half(y);
}

}  // namespace rh::delta
