// What crosses from host to device: one plain struct a kernel, mirrored in
// args.go. Members lie at their natural borders and padding is spelled out as
// a member; abi_check.cuh, written from args.go, proves every offset.
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

// RMSNormArgs: out = x * rsqrt(mean(x^2) + eps) * (1 + w), a block a row.
struct RMSNormArgs {
    const float *x;  // [rows][x_stride]
    const float *w;  // [n], zero-centred
    float *out;      // [rows][out_stride]; may be x itself
    uint32_t rows;
    uint32_t n;
    uint32_t x_stride;  // elements
    uint32_t out_stride;
    float eps;
    uint32_t pad;
};

}  // namespace rh

#include "rh/abi_check.cuh"
