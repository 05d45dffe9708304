// What crosses from host to device: one plain struct a kernel, in the args_*.cuh
// of its family, mirrored in args_*.go. Members lie at their natural borders and
// padding is spelled out as a member; check_*.cuh, written from the Go side,
// proves every offset. Here stands what all families share.
#pragma once

#include <cstddef>
#include <cstdint>

// RH_KERNEL opens the definition of a kernel and is all that the build reads of
// it: the symbol, its argument struct, the lowest architecture on which its body
// does its work (80, 90, ...) and the largest block.
#define RH_KERNEL(name, Args, arch, threads)                                     \
    static_assert((arch) >= 80 && (threads) % 32 == 0 && (threads) <= 1024, ""); \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Args a)

namespace rh {

// Row is where one token row of a pass belongs. The step block has one for every
// row of the grid; a row that holds nothing has slot -1.
struct Row {
    int32_t id;        // token; below 0: drawn[~id], which the last draw wrote
    int32_t position;  // in its sequence
    int32_t slot;      // of the recurrent state and the steering table; -1: no row
    int32_t page;      // where its sequence's page table starts in the pass's pages
    int32_t steer;     // steering table, -1 for none
    int32_t segment;   // index of its Segment
    int32_t offset;    // in its segment
    int32_t source;    // row of the step
};

// Segment is a run of rows of one sequence, read in order. One that holds nothing
// has len 0.
struct Segment {
    int32_t slot;
    int32_t start;  // position of the first row
    int32_t first;  // its row
    int32_t len;    // rows
    int32_t page;   // where its page table starts in the pass's pages
    int32_t pad0, pad1, pad2;
};

// Wanted is a row whose logits are asked for.
struct Wanted {
    int32_t row;  // of the pass
    int32_t to;   // row of the logits buffer; -1: none
};

// A page of keys or values holds so many positions.
constexpr int kPageTokens = 64;

// Half activations are stored as value * kHalfScale, saturated: fp16 keeps 11 bits
// of every value up to 65504 / kHalfScale = 1,048,064 in magnitude, and down to
// 1e-3 at full precision.
constexpr float kHalfScale = 1.0f / 16.0f;

}  // namespace rh

#include "rh/check_abi.cuh"
