// Arguments of the embedding; args_embed.go describes every member.
#pragma once

#include "rh/abi.cuh"

namespace rh {

struct EmbedArgs {
    const Row *row;        // [rows]
    const int32_t *drawn;  // ids of rows whose id is below 0
    const void *table;     // [count][n], or slabs
    float *out;            // [rows][out_stride]
    uint32_t rows;
    uint32_t n;
    uint32_t count;
    uint32_t type;
    uint32_t slab;
    uint32_t by_source;
    uint32_t out_stride;
    uint32_t pad;
};

}  // namespace rh

#include "rh/check_embed.cuh"
