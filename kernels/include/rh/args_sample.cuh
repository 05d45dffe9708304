// Arguments of the draws; args_sample.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

struct SampleRow {
    uint64_t seed;
    uint32_t choice, position, attempt;
    float repetition, presence, frequency;
    float temperature, scale;
    float top_p, min_p;
    int32_t top_k, window, watch;
    int32_t edited;
    uint32_t seen, seen_count;
    uint32_t bias, bias_count;
    uint32_t mask, mask_words;
    uint32_t masked, sum, top_p_on, wide, draws;
    uint32_t pad;
};

struct SampleSeen {
    int32_t id;
    uint32_t output;
};

struct SampleBias {
    int32_t id;
    float value;
};

struct SamplePartial {
    double sum, row_sum;
    float max, row_max;
};

struct SampleRunner {
    double time, value, sum;
    int32_t id, pad;
};

struct SampleRace {
    uint64_t floor;
    double time, value, sum;
    float first;
    int32_t first_id, id;
    uint32_t active;
};

struct SampleResult {
    float log_sum_exp, watched;
    int32_t candidates;
    int32_t id;
    float logit, chosen, window_sum_exp;
    int32_t window;
};

struct SamplePick {
    int32_t id;
    float logit;
};

struct SampleArgs {
    const float *logits;      // [rows][vocabulary]
    const uint8_t *block;     // SampleRow[rows], then their lists
    float *edited;            // [copies][tokens]
    SamplePartial *partials;  // [rows][blocks]
    uint32_t *peaks;          // [rows][2][groups]
    SampleRace *races;        // [rows]
    SampleRunner *runners;    // [rows][blocks]
    uint8_t *results;         // [rows][kSampleResultBytes]
    int32_t *drawn;           // [rows]
    uint32_t rows, vocabulary, tokens, blocks, groups, pad;
};

constexpr int kSampleTop = 256, kSampleSpan = 2048, kSampleGroup = 64;
constexpr int kSampleResultBytes = sizeof(SampleResult) + kSampleTop * (2 * sizeof(SamplePick) + sizeof(float));

}  // namespace rh

#include "rh/check_sample.cuh"
