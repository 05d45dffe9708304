// Arguments of the loader's kernels; args_repack.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

enum : uint32_t { kRepackCopy, kRepackWiden, kRepackGPTQ, kRepackAWQ, kRepackScales, kRepackDense };
enum : uint32_t { kRepackPlain, kRepackGate, kRepackUp };

struct RepackPiece {
    uint8_t *dst;
    uint32_t source, kind, type, bits;
    uint32_t k, n, first, count;
    uint32_t stride, side, tensor, pad;
};

struct RepackArgs {
    const uint8_t *staging;
    const RepackPiece *pieces;  // [count]
    uint32_t *overflow;
    uint32_t count, pad;
};

enum : uint32_t { kRandomWords, kRandomValues, kRandomScales, kRandomDense };

struct RandomPiece {
    uint8_t *dst;
    uint64_t seed, count;
    uint32_t kind, type, n, stride, side, signs;
    float centre, spread;
};

struct RandomArgs {
    const RandomPiece *pieces;  // [count]
    uint32_t count, pad;
};

}  // namespace rh

#include "rh/check_repack.cuh"
