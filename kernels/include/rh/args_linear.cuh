// Arguments of the linear maps; args_linear.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

struct LinearArgs {
    const uint16_t *x;     // half[rows][k]
    const uint16_t *low;   // half[rows][k] or null
    const Wanted *wanted;  // [rows] or null
    float *out;            // [rows][stride]
    const uint8_t *slabs0, *slabs1, *slabs2;
    uint32_t count0, count1, count2;
    uint32_t bits0, bits1, bits2;
    uint32_t bytes0, bytes1, bytes2;
    uint32_t n0, n1, n2;
    uint32_t column0, column1, column2;
    uint32_t k, rows, stride, add, pad;
    float *out1;            // [rows][n1] or null
    const float *residual;  // [rows][k] or null
    const float *norm;      // [k]
    float *normed;          // [rows][k] or null
    uint16_t *normed_half;  // [rows][k] or null
    float eps;
    uint32_t pad1;
};

struct Weight {
    const uint32_t *words;
    const uint16_t *scales;    // half [groups][n]
    const uint32_t *zeros;     // or null
    const int32_t *group_of;   // [k] or null
    uint32_t k, n, bits, group;
    uint32_t layout, zero_kind, type, pad;
};

struct LinearGenericArgs {
    const float *x;        // [rows][x_stride]
    const Wanted *wanted;  // [rows] or null
    float *out;            // [rows][out_stride]
    const uint32_t *words;
    const uint16_t *scales;
    const uint32_t *zeros;
    const int32_t *group_of;
    uint32_t k, n, bits, group;
    uint32_t layout, zero_kind, type;
    uint32_t rows, x_stride, out_stride, add;
    uint32_t pad;
};

}  // namespace rh

#include "rh/check_linear.cuh"
