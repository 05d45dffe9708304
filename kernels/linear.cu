// Linear maps by any weight that a checkpoint may hold, in fp32: any shape, layout
// and grouping (engine/ops/matrix.go), any number of rows.
#include "rh/args_linear.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

namespace {

using rh::LinearGenericArgs;

constexpr int kRows = 8;    // of a block, so that a weight is unpacked once for all of them
constexpr int kWarps = 8;   // of a block
constexpr int kDense = 4;   // outputs of a warp, where they are dense
enum Layout { kDenseLayout, kGPTQ, kAWQ };
enum Zeros { kSymmetric, kStored, kStoredMinusOne };

// awq_shift is where column n of an octet lies in its word.
__device__ __forceinline__ uint32_t awq_shift(uint32_t n) { return 4 * ((n & 1) * 4 + (n % 8) / 2); }

// code is the field of input k, output n.
__device__ __forceinline__ uint32_t code(const LinearGenericArgs &a, uint32_t k, uint32_t n) {
    if (a.layout == kAWQ) return a.words[uint64_t(k) * (a.n / 8) + n / 8] >> awq_shift(n) & 15;
    if (a.bits != 3) {
        const uint32_t per = 32 / a.bits;
        return a.words[uint64_t(k / per) * a.n + n] >> (k % per * a.bits) & ((1u << a.bits) - 1);
    }
    const uint32_t bit = k % 32 * 3;
    const uint64_t at = uint64_t(k / 32 * 3 + bit / 32) * a.n + n;
    uint64_t v = a.words[at];
    if (bit / 32 < 2) v |= uint64_t(a.words[at + a.n]) << 32;
    return uint32_t(v >> (bit % 32)) & 7;
}

// zero is the zero point of group g, output n.
__device__ __forceinline__ float zero(const LinearGenericArgs &a, uint32_t g, uint32_t n) {
    if (a.zero_kind == kSymmetric) return float(1u << (a.bits - 1));
    uint32_t field;
    if (a.layout == kAWQ) {
        field = a.zeros[uint64_t(g) * (a.n / 8) + n / 8] >> awq_shift(n) & 15;
    } else {
        const uint32_t width = a.n * a.bits / 32, word = n * a.bits / 32;
        const uint32_t *row = a.zeros + uint64_t(g) * width;
        uint64_t v = row[word];
        if (word + 1 < width) v |= uint64_t(row[word + 1]) << 32;
        field = uint32_t(v >> (n * a.bits % 32)) & ((1u << a.bits) - 1);
    }
    return float(field + (a.zero_kind == kStoredMinusOne));
}

// Rows are where the rows of a block come from and go to.
struct Rows {
    const float *x[kRows];
    float *out[kRows];  // null: nowhere
};

__device__ __forceinline__ Rows rows_of(const LinearGenericArgs &a) {
    Rows rows;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const uint32_t i = blockIdx.y * kRows + r;
        int64_t from = i < a.rows ? i : 0, to = i < a.rows ? i : -1;
        if (a.wanted && to >= 0) {
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
__device__ void dense(const LinearGenericArgs &a) {
    const Rows rows = rows_of(a);
    const uint32_t lane = threadIdx.x % 32, first = (blockIdx.x * kWarps + threadIdx.x / 32) * kDense;
    for (uint32_t n = first; n < min(first + kDense, a.n); ++n) {
        float sum[kRows] = {};
        for (uint32_t k = lane; k < a.k; k += 32) {
            const float w = rh::stored(a.words, a.type, uint64_t(n) * a.k + k);
#pragma unroll
            for (int r = 0; r < kRows; ++r) sum[r] = fmaf(w, rows.x[r][k], sum[r]);
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const float all = rh::warp_sum(sum[r]);
            if (lane == 0) store(a, rows.out[r], n, all);
        }
    }
}

// packed: a block takes 32 outputs, a lane each; its warps share K in equal parts,
// whose sums are joined in order.
__device__ void packed(const LinearGenericArgs &a) {
    __shared__ float part[kWarps][kRows][32];
    const Rows rows = rows_of(a);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = blockIdx.x * 32 + lane;
    const uint32_t share = (a.k + kWarps - 1) / kWarps, last = min(a.k, (warp + 1) * share);
    float sum[kRows] = {};
    uint32_t group = ~0u;
    float scale = 0.0f, middle = 0.0f;
    for (uint32_t k = warp * share; k < last && n < a.n; ++k) {
        const uint32_t g = a.group_of ? a.group_of[k] : k / a.group;
        if (g != group) {
            group = g;
            scale = rh::ptx::half_value(a.scales[uint64_t(g) * a.n + n]);
            middle = zero(a, g, n);
        }
        const float w = scale * (float(code(a, k, n)) - middle);
#pragma unroll
        for (int r = 0; r < kRows; ++r) sum[r] = fmaf(w, rows.x[r][k], sum[r]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) part[warp][r][lane] = sum[r];
    __syncthreads();
    float all = 0.0f;
    for (int i = 0; i < kWarps; ++i) all += part[i][warp][lane];
    float *out = nullptr;
#pragma unroll
    for (int r = 0; r < kRows; ++r) out = warp == r ? rows.out[r] : out;
    if (n < a.n) store(a, out, n, all);
}

}  // namespace

// Grid: blocks of outputs (32 of them: of packed weights 32, of dense ones
// kWarps * kDense), blocks of kRows rows. Block: kWarps warps.
RH_KERNEL(rh_linear_generic, rh::LinearGenericArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (a.layout == kDenseLayout) {
        dense(a);
    } else {
        packed(a);
    }
}
