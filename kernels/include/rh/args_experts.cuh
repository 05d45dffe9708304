// Arguments of the choice of experts and of the experts; args_experts.go describes
// every member.
#pragma once

#include "rh/abi.cuh"
#include "rh/args_linear.cuh"

namespace rh {

struct SelectArgs {
    const float *logits;  // [rows][experts]
    int32_t *chosen;        // [rows][k]
    float *weights;       // [rows][k]
    const Row *row;       // [rows]
    const float *steer;
    uint16_t *route_chosen;  // [rows][route_stride] or null
    float *route_weights;
    float *names;  // [rows][k] or null
    uint32_t experts, k, renormalise, route_stride;
    uint32_t steer_stride, pad;
};

struct ExpertsGenericArgs {
    const float *x;        // [rows][hidden]
    const int32_t *chosen;   // [rows][k]
    const float *weights;  // [rows][k]
    const float *gate;     // [rows]
    const Row *row;        // [rows]
    const float *steer;
    const Weight *table;  // [experts+1][3]
    float *h;             // [rows][k+1][width]
    float *out;           // [rows][hidden]
    uint32_t experts, k, hidden, width;
    uint32_t stage, steer_stride;
};

struct ExpertsArgs {
    const uint16_t *x;     // half[rows][hidden]
    const int32_t *chosen;   // [rows][k]
    const float *weights;  // [rows][k]
    const float *gate;     // [rows]
    const Row *row;        // [rows]
    const float *steer;
    uint16_t *h;  // half[rows][k+1][width]
    float *out;   // [rows][hidden]
    const uint8_t *gate_up, *down;
    uint64_t gate_up_bytes, down_bytes;
    const uint8_t *shared_gate_up, *shared_down;
    uint32_t gate_up_bits, down_bits, shared_gate_up_bits, shared_down_bits;
    uint32_t gate_up_stride, down_stride, shared_gate_up_stride, shared_down_stride;
    uint32_t count, shared_count;
    uint32_t inner, shared_inner;
    uint32_t experts, k, hidden, width;
    uint32_t stage, steer_stride;
};

}  // namespace rh

#include "rh/check_experts.cuh"
