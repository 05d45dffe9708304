// Linear maps by any weight that a checkpoint may hold, in fp32: any shape, layout
// and grouping (engine/ops/matrix.go), any number of rows.
#include "rh/args_linear.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"
#include "rh/weight.cuh"

namespace {

using rh::LinearGenericArgs;

constexpr int kRows = 8;   // of a block, so that a weight is unpacked once for all of them
constexpr int kWarps = 8;  // of a block
constexpr int kDense = 4;  // outputs of a warp, where they are dense

// Rows are where the rows of a block come from and go to.
template <int count>
struct Rows {
    const float *x[count];
    float *out[count];  // null: nowhere
};

template <int count>
__device__ __forceinline__ Rows<count> rows_of(const LinearGenericArgs &a) {
    Rows<count> rows;
#pragma unroll
    for (int r = 0; r < count; ++r) {
        const uint32_t i = blockIdx.y * kRows + r;
        int64_t from = 0, to = -1;
        if (i < a.rows) from = to = i;
        if (a.wanted && i < a.rows) {
            to = a.wanted[i].to;
            from = to >= 0 ? a.wanted[i].row : 0;
        }
        rows.x[r] = a.x + from * a.x_stride;
        rows.out[r] = to >= 0 ? a.out + to * a.out_stride : nullptr;
    }
    return rows;
}

__device__ __forceinline__ void store(const LinearGenericArgs &a, float *out, uint32_t n, float sum) {
    if (out) out[n] = a.add ? out[n] + sum : sum;
}

// dense: a warp takes kDense outputs one by one, its lanes share K.
template <int count>
__device__ void dense(const LinearGenericArgs &a) {
    const Rows<count> rows = rows_of<count>(a);
    const uint32_t lane = threadIdx.x % 32, first = (blockIdx.x * kWarps + threadIdx.x / 32) * kDense;
    for (uint32_t n = first; n < min(first + kDense, a.n); ++n) {
        float sum[count] = {};
        for (uint32_t k = lane; k < a.k; k += 32) {
            const float w = rh::stored(a.words, a.type, uint64_t(n) * a.k + k);
#pragma unroll
            for (int r = 0; r < count; ++r) sum[r] = fmaf(w, rows.x[r][k], sum[r]);
        }
#pragma unroll
        for (int r = 0; r < count; ++r) {
            const float all = rh::warp_sum(sum[r]);
            if (lane == 0) store(a, rows.out[r], n, all);
        }
    }
}

// packed: a block takes 32 outputs, a lane each; its warps share K in equal parts,
// whose sums are joined in order.
template <int count>
__device__ void packed(const LinearGenericArgs &a) {
    __shared__ float part[kWarps][count][32];
    const Rows<count> rows = rows_of<count>(a);
    const rh::Weight w{a.words, a.scales, a.zeros, a.group_of, a.k, a.n, a.bits, a.group, a.layout, a.zero_kind, a.type, 0};
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = blockIdx.x * 32 + lane;
    const uint32_t share = (a.k + kWarps - 1) / kWarps, last = min(a.k, (warp + 1) * share);
    float sum[count] = {};
    uint32_t group = ~0u;
    float scale = 0.0f, middle = 0.0f;
    for (uint32_t k = warp * share; k < last && n < a.n; ++k) {
        const uint32_t g = a.group_of ? a.group_of[k] : k / a.group;
        if (g != group) {
            group = g;
            scale = rh::ptx::half_value(a.scales[uint64_t(g) * a.n + n]);
            middle = float(rh::weight::zero(w, g, n));
        }
        const float v = scale * (float(rh::weight::code(w, k, n)) - middle);
#pragma unroll
        for (int r = 0; r < count; ++r) sum[r] = fmaf(v, rows.x[r][k], sum[r]);
    }
#pragma unroll
    for (int r = 0; r < count; ++r) part[warp][r][lane] = sum[r];
    __syncthreads();
#pragma unroll
    for (int r = 0; r < count; ++r) {
        if (warp != r || n >= a.n) continue;
        float all = part[0][r][lane];
        for (int i = 1; i < kWarps; ++i) all += part[i][r][lane];
        store(a, rows.out[r], n, all);
    }
}

template <int count>
__device__ __forceinline__ void multiply(const LinearGenericArgs &a) {
    if (a.layout == rh::weight::kDense) {
        dense<count>(a);
    } else {
        packed<count>(a);
    }
}

}  // namespace

// Grid: blocks of 32 outputs (of dense weights: kWarps * kDense, as many), blocks of
// kRows rows. Block: kWarps warps.
RH_KERNEL(rh_linear_generic, rh::LinearGenericArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (a.rows == 1) {
        multiply<1>(a);
    } else {
        multiply<kRows>(a);
    }
}
