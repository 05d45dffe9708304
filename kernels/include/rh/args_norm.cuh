// Arguments of the norms.
#pragma once

#include "rh/abi.cuh"

namespace rh {

// RMSNormArgs: out = x * rsqrt(mean(x^2) + eps) * (1 + w), a block a row.
struct RMSNormArgs {
    const float *x;  // [rows][x_stride]
    const float *w;  // [n], zero-centred
    float *out;      // [rows][out_stride]; may be x itself
    uint16_t *half;  // [rows][out_stride]: out * kHalfScale
    uint16_t *low;   // [rows][out_stride]: what half lost to rounding
    uint32_t rows;
    uint32_t n;
    uint32_t x_stride;  // elements
    uint32_t out_stride;
    float eps;
    uint32_t pad;
};

}  // namespace rh

#include "rh/check_norm.cuh"
