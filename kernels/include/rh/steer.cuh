// Steering tables. A state slot has one: for each layer a block of words, a header
// of four, then bias[experts], scale[experts], vector[hidden], padded to a multiple
// of four (see engine/cuda/steer.go). Zeros change nothing.
#pragma once

#include "rh/abi.cuh"

namespace rh {

// Steer is the header of a block.
struct Steer {
    float gate;  // factor of the shared expert's gate, less one
    uint32_t k;  // experts to choose; 0 for the model's
    uint32_t flags;
    float strength;  // of the vector
};

constexpr uint32_t kSteerExperts = 1;  // bias and scale are there
constexpr uint32_t kSteerVector = 2;   // the vector is

// Steered is a row's block of one layer; without one, it reads as zeros.
struct Steered {
    Steer head;
    const float *bias;  // [experts]; scale and vector follow

    // steer is the tables' block of the layer in the first table.
    __device__ Steered(const float *steer, uint32_t stride, int32_t table) : head{}, bias(nullptr) {
        if (table < 0) return;
        const float *block = steer + uint64_t(table) * stride;
        head = *reinterpret_cast<const Steer *>(block);
        bias = block + 4;
    }
};

}  // namespace rh
