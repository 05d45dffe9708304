// Rows of the embedding table, widened.
#include "rh/args_embed.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/slab.cuh"

// Grid: a block a row. Block: any.
RH_KERNEL(rh_embed_generic, rh::EmbedArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::Row &row = a.row[blockIdx.x];
    int32_t id = a.by_source ? row.source : row.id;
    if (id < 0 && a.drawn) id = a.drawn[~id];
    float *out = a.out + uint64_t(blockIdx.x) * a.out_stride;
    const bool known = id >= 0 && uint32_t(id) < a.count;
    for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        float v = 0.0f;
        if (known && a.slab) v = rh::ptx::half_value(rh::slab::value16(a.table, a.slab, id, i));
        if (known && !a.slab) v = rh::stored(a.table, a.type, uint64_t(id) * a.n + i);
        out[i] = v;
    }
}
