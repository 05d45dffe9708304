// Arguments of the smoke kernels.
#pragma once

#include "rh/abi.cuh"

namespace rh {

// Smoke kernels: they prove launches, arguments and replay, nothing else.
struct FillArgs {
    uint32_t *dst;   // [n]
    uint64_t n;      // words
    uint32_t value;
    uint32_t pad;
};

struct CopyArgs {
    uint32_t *dst;        // [n]
    const uint32_t *src;  // [n], apart from dst
    uint64_t n;           // words
};

// EchoArgs has a member of every width, so that a device can say where it found
// each of them.
struct EchoArgs {
    uint32_t *out;         // [8]
    const uint32_t *step;  // [2]: what changes between replays
    uint64_t wide;
    uint32_t word;
    float real;
    uint16_t half;
    uint8_t byte;
    uint8_t last;
    uint32_t pad;
};

}  // namespace rh

#include "rh/check_smoke.cuh"
