// Arguments of the gated delta net; args_delta.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

struct DeltaArgs {
    const float *in;            // [rows][qkvz + ba]
    const float *conv;          // [channels][kernel]
    const float *a_log;         // [value_heads]
    const float *dt_bias;       // [value_heads]
    const float *norm;          // [value_dim]
    float *state;               // [slots][value_heads][key_dim][value_dim]
    float *window;              // [slots][channels][kernel-1]
    const Segment *segments;
    const Row *table;           // [rows]
    float *out;                 // [rows][value_heads*value_dim]
    uint16_t *half;             // likewise, or null
    float *mixed;               // [rows][channels]
    float *heads;               // [rows][value_heads*value_dim]
    float *beta, *decay;        // [rows][value_heads]
    float *change, *carry;      // [rows][value_heads][128]
    float *pairs;               // [rows][value_heads][64]
    uint32_t key_heads, value_heads;
    uint32_t key_dim, value_dim;
    uint32_t kernel;
    uint32_t from, rows;
    uint32_t tile;
    float eps;
    uint32_t pad;
};

struct ColumnsArgs {
    float *dst;        // [rows][width]
    const float *src;  // [rows][stride]
    uint32_t rows, width, stride, pad;
};

}  // namespace rh

#include "rh/check_delta.cuh"
