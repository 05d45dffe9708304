// Arguments of the experts of prefill passes; args_moe.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

struct MoeTile {
    int32_t expert, first, count, pad;
};

struct MoePlanArgs {
    const int32_t *chosen;  // [rows][k]
    int32_t *place;         // [rows][k]
    int32_t *source;        // [rows * (k + 1)]
    MoeTile *tiles;
    uint32_t *count;
    uint32_t rows, k, experts, pad;
};

struct MoeArgs {
    const uint16_t *x;      // [][x_stride]
    const int32_t *source;  // [places] or null
    void *out;              // [places][out_stride]
    const MoeTile *tiles;
    const uint32_t *count;
    const uint8_t *slabs;
    uint64_t stride;
    const uint8_t *shared;
    uint32_t slab_count, shared_count;
    uint32_t bits, shared_bits;
    uint32_t bytes, shared_bytes;
    uint32_t k, shared_k;
    uint32_t experts, x_stride, out_stride, pad;
};

struct MoeCombineArgs {
    const float *y;        // [places][columns]
    const int32_t *place;  // [rows][k]
    const float *weights;  // [rows][k]
    const float *gate;     // [rows]
    const Row *row;        // [rows]
    const float *steer;
    float *out;  // [rows][hidden]
    uint32_t rows, k, hidden, experts;
    uint32_t column, columns;
    uint32_t stage, steer_stride;
};

}  // namespace rh

#include "rh/check_moe.cuh"
