// Half activations, stored values and how fp32 becomes one and the other.
#pragma once

#include "rh/abi.cuh"
#include "rh/ptx.cuh"

namespace rh {

// to_half makes v a half activation: scaled, saturated; a NaN stays one.
__device__ __forceinline__ uint16_t to_half(float v) {
    v *= kHalfScale;
    v = v > 65504.0f ? 65504.0f : v;
    return ptx::half_bits(v < -65504.0f ? -65504.0f : v);
}

// to_low is what to_half's h lost of v, as a half activation.
__device__ __forceinline__ uint16_t to_low(float v, uint16_t h) {
    return to_half(v - ptx::half_value(h) * (1.0f / kHalfScale));
}

// stored is element i of a tensor of an ops.Type: F32, F16 or BF16.
__device__ __forceinline__ float stored(const void *data, uint32_t type, uint64_t i) {
    if (type == 0) return static_cast<const float *>(data)[i];
    const uint16_t h = static_cast<const uint16_t *>(data)[i];
    return type == 1 ? ptx::half_value(h) : __uint_as_float(uint32_t(h) << 16);
}

}  // namespace rh
