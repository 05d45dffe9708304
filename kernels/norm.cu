// Zero-centred RMSNorm in fp32: any width, any number of rows.
#include "rh/args_norm.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

// Grid: any number of blocks, which share the rows out among themselves. Block:
// whole warps. A row is read twice; the second time it comes from the L1 cache.
RH_KERNEL(rh_rmsnorm_generic, rh::RMSNormArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    for (uint32_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const float *x = a.x + uint64_t(row) * a.x_stride;
        float *out = a.out + uint64_t(row) * a.out_stride;
        float sum = 0.0f;
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) sum += x[i] * x[i];
        const float scale = 1.0f / sqrtf(rh::block_sum(sum) / float(a.n) + a.eps);
        for (uint32_t i = threadIdx.x; i < a.n; i += blockDim.x) out[i] = x[i] * scale * (1.0f + a.w[i]);
    }
}

namespace {

// Values of a row that a thread keeps, four at a time.
constexpr int kQuads = 8;

}  // namespace

// Grid: a block a row. Block: whole warps, with n a multiple of 4 and at most
// 32 * blockDim.x; strides are multiples of 4. A row is read once.
RH_KERNEL(rh_rmsnorm_half, rh::RMSNormArgs, 80, 512) {
    const uint32_t quads = a.n / 4;
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint64_t row = blockIdx.x;
    const float4 *x = reinterpret_cast<const float4 *>(a.x + row * a.x_stride);
    float4 v[kQuads];
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        const uint32_t i = threadIdx.x + j * blockDim.x;
        v[j] = i < quads ? x[i] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        sum += v[j].x * v[j].x + v[j].y * v[j].y + v[j].z * v[j].z + v[j].w * v[j].w;
    }
    const float scale = 1.0f / sqrtf(rh::block_sum(sum) / float(a.n) + a.eps);
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        const uint32_t i = threadIdx.x + j * blockDim.x;
        if (i >= quads) break;
        const float4 w = reinterpret_cast<const float4 *>(a.w)[i];
        const float4 y = make_float4(v[j].x * scale * (1.0f + w.x), v[j].y * scale * (1.0f + w.y),
                                     v[j].z * scale * (1.0f + w.z), v[j].w * scale * (1.0f + w.w));
        const ushort4 h = make_ushort4(rh::to_half(y.x), rh::to_half(y.y), rh::to_half(y.z), rh::to_half(y.w));
        if (a.out) reinterpret_cast<float4 *>(a.out + row * a.out_stride)[i] = y;
        reinterpret_cast<ushort4 *>(a.half + row * a.n)[i] = h;
        if (a.low) {
            reinterpret_cast<ushort4 *>(a.low + row * a.n)[i] =
                make_ushort4(rh::to_low(y.x, h.x), rh::to_low(y.y, h.y), rh::to_low(y.z, h.z), rh::to_low(y.w, h.w));
        }
    }
}
