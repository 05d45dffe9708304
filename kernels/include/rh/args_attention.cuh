// Arguments of attention; args_attention.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

struct AttentionRotateArgs {
    const float *in;  // [rows][2 * heads * head_dim + 2 * kv_heads * head_dim]
    const float *q_norm, *k_norm;
    const float *inv_freq;  // [half]
    const Row *row;
    const int32_t *pages;
    void *keys, *values;  // [page][kv_heads][64][head_dim] of type
    float *q;             // [rows][heads][head_dim] or null
    void *half_q;         // the same of type, or null
    float *k;             // [rows][kv_heads][head_dim] or null
    uint32_t heads, kv_heads, head_dim, half, type;
    float scale, eps;
    uint32_t pad;
};

struct AttentionGenericArgs {
    float *out;          // [rows][heads][head_dim]
    uint16_t *half_out;  // or null
    const float *gate;   // or null
    const Row *row;
    const int32_t *pages;
    const void *keys, *values;
    uint32_t heads, kv_heads, head_dim, type;
    float scale;
    uint32_t pad;
};

struct AttentionGateArgs {
    float *out;          // [rows][heads][head_dim]
    uint16_t *half_out;  // or null
    const float *gate;
    const Row *row;
    uint32_t heads, kv_heads, head_dim, pad;
};

struct AttentionDecodeArgs {
    const uint16_t *q;  // [rows][heads][256] of type
    const Row *row;
    const int32_t *pages;
    const uint16_t *keys, *values;
    float *sums;     // [rows][kv_heads][splits][8][256]
    float *weights;  // [rows][kv_heads][splits][8][2]
    uint32_t heads, kv_heads, splits, type;
    float scale;
    uint32_t pad;
};

struct AttentionMergeArgs {
    float *out;          // [rows][heads][256]
    uint16_t *half_out;  // or null
    const float *gate;   // or null
    const Row *row;
    const float *sums, *weights;
    uint32_t heads, kv_heads, head_dim, splits;
};

struct AttentionPrefillArgs {
    float *out;          // [rows][heads][256]
    const uint16_t *q;   // [rows][heads][256] of type
    uint16_t *half_out;  // or null
    const float *gate;   // or null
    const Row *row;
    const int32_t *pages;
    const uint16_t *keys, *values;
    uint32_t heads, kv_heads, head_dim, rows, type;
    float scale;
};

}  // namespace rh

#include "rh/check_attention.cuh"
