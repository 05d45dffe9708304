// Rows of the embedding table, widened.
#include "rh/args_embed.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"

// Grid: a block a row. Block: any.
RH_KERNEL(rh_embed_generic, rh::EmbedArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint64_t row = blockIdx.x;
    int32_t id = a.row[row].id;
    if (id < 0) id = a.drawn[~id];
    float *out = a.out + row * a.out_stride;
    const bool known = id >= 0 && uint32_t(id) < a.vocab;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        out[i] = known ? rh::stored(a.table, a.type, uint64_t(id) * a.n + i) : 0.0f;
    }
}
