// Causal attention of the rows of one segment on tensor cores: heads of 256 values,
// pages of fp16 or bfloat16.
#include "rh/args_attention.cuh"
#include "rh/attention.cuh"
#include "rh/ptx.cuh"

namespace {

constexpr uint32_t kTile = 64;                           // queries, and positions of a block: a page
constexpr uint32_t kTileBytes = kTile * rh::kTensorRow;  // 32 KB
constexpr uint32_t kThreads = 128;                       // a warp has 16 queries

// copy begins the copy of a tile's rows below live; the others become zeros: what
// lies there may be no number, and no number times a weight of 0 is none.
__device__ void copy(unsigned char *tile, const uint16_t *from, uint64_t stride, uint32_t live) {
    const uint32_t chunk = threadIdx.x % 32;
    for (uint32_t row = threadIdx.x / 32; row < kTile; row += kThreads / 32) {
        const bool there = row < live;
        rh::ptx::copy_async_or_zero(tile + rh::chunk_of(row, chunk), from + (there ? row : 0) * stride + chunk * 8, there);
    }
}

// scores are 16 queries times 64 keys: c[i] holds columns 8i to 8i+7, as an mma does.
template <class T> __device__ __forceinline__ void scores(float c[8][4], const unsigned char *q, const unsigned char *k, uint32_t lane) {
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) c[i][j] = 0.0f;
#pragma unroll
    for (uint32_t step = 0; step < rh::kTensorDim / 16; step++) {
        uint32_t a[4];
        rh::ptx::ldmatrix_x4(a, q + rh::columns(rh::down(lane), step));
#pragma unroll
        for (uint32_t i = 0; i < 8; i += 2) {
            uint32_t b[4];
            rh::ptx::ldmatrix_x4(b, k + 8 * i * rh::kTensorRow + rh::columns(rh::across(lane), step));
            T::mma(c[i], a, b);
            T::mma(c[i + 1], a, b + 2);
        }
    }
}

// add is sums += weights times 64 values: sums[i] holds dimensions 8i to 8i+7.
template <class T> __device__ __forceinline__ void add(float sums[32][4], const float weight[8][4], const unsigned char *v, uint32_t lane) {
#pragma unroll
    for (uint32_t step = 0; step < kTile / 16; step++) {
        const float *low = weight[2 * step], *high = weight[2 * step + 1];
        const uint32_t a[4] = {T::pair(low[0], low[1]), T::pair(low[2], low[3]), T::pair(high[0], high[1]), T::pair(high[2], high[3])};
#pragma unroll
        for (uint32_t i = 0; i < 32; i += 2) {
            uint32_t b[4];
            rh::ptx::ldmatrix_x4_trans(b, v + 16 * step * rh::kTensorRow + rh::columns(rh::down(lane), i / 2));
            T::mma(sums[i], a, b);
            T::mma(sums[i + 1], a, b + 2);
        }
    }
}

// weigh turns scores into weights, powers of two relative to the largest score so
// far, and fades what was summed before: rows g (half 0) and g+8 (half 1) of the warp.
__device__ __forceinline__ void weigh(float c[8][4], float sums[32][4], float top[2], float total[2], float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float high = top[half];
#pragma unroll
        for (int i = 0; i < 8; i++) high = fmaxf(high, fmaxf(c[i][2 * half], c[i][2 * half + 1]));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
        const float fade = exp2f((top[half] - high) * scale), base = high * scale;
        top[half] = high;
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 2 * half; j < 2 * half + 2; j++) {
                c[i][j] = exp2f(fmaf(c[i][j], scale, -base));
                sum += c[i][j];
            }
        total[half] = total[half] * fade + sum;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            sums[i][2 * half] *= fade;
            sums[i][2 * half + 1] *= fade;
        }
    }
}

template <class T> __device__ void attend(const rh::AttentionPrefillArgs &a, unsigned char *q) {
    unsigned char *k = q + kTileBytes, *v = k + kTileBytes;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const uint32_t head = blockIdx.y, kv = head / (a.heads / a.kv_heads);
    const uint32_t first = (gridDim.x - 1 - blockIdx.x) * kTile;  // the last rows, which take longest, come first
    const uint32_t rows = min(a.rows - first, kTile);
    const uint32_t start = a.row[first].position, end = start + rows;
    const int32_t *table = a.pages + a.row[first].page;
    const uint64_t stride = uint64_t(a.heads) * rh::kTensorDim;
    const uint64_t out = first * stride + head * rh::kTensorDim;
    const auto page = [&](uint32_t from) { return rh::page_of(table, from, kv, a.kv_heads, rh::kTensorDim); };

    copy(q, a.q + out, stride, rows);
    uint64_t at = page(0);
    copy(k, a.keys + at, rh::kTensorDim, end);
    rh::ptx::copies_close();
    copy(v, a.values + at, rh::kTensorDim, end);
    rh::ptx::copies_close();

    float sums[32][4] = {}, top[2] = {-INFINITY, -INFINITY}, total[2] = {};
    const uint32_t position = start + 16 * warp + g;  // of row g; row g+8 is eight further on
    for (uint32_t from = 0; from < end; from += kTile) {
        const uint32_t next = from + kTile;
        if (next < end) at = page(next);
        rh::ptx::copies_wait<1>();
        __syncthreads();
        float c[8][4];
        scores<T>(c, q + warp * 16 * rh::kTensorRow, k, lane);
        __syncthreads();
        if (next < end) copy(k, a.keys + at, rh::kTensorDim, end - next);
        rh::ptx::copies_close();
        if (next > start + 16 * warp) {
#pragma unroll
            for (uint32_t i = 0; i < 8; i++)
#pragma unroll
                for (uint32_t j = 0; j < 4; j++)
                    if (from + 8 * i + 2 * t + j % 2 > position + j / 2 * 8) c[i][j] = -INFINITY;
        }
        weigh(c, sums, top, total, a.scale);
        rh::ptx::copies_wait<1>();
        __syncthreads();
        add<T>(sums, c, v, lane);
        __syncthreads();
        if (next < end) copy(v, a.values + at, rh::kTensorDim, end - next);
        rh::ptx::copies_close();
    }

#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t row = 16 * warp + g + 8 * half;
        float all = total[half] + __shfl_xor_sync(0xffffffffu, total[half], 1);
        all += __shfl_xor_sync(0xffffffffu, all, 2);
        if (row >= rows) continue;
        const float scale = 1.0f / all;
        const float *gate = a.gate ? rh::gate_of(a, first + row, head) : nullptr;
#pragma unroll
        for (uint32_t i = 0; i < 32; i++) {
            const uint32_t column = 8 * i + 2 * t;
            const uint64_t to = out + row * stride + column;
            float2 o = make_float2(sums[i][2 * half] * scale, sums[i][2 * half + 1] * scale);
            if (gate) {
                const float2 by = *reinterpret_cast<const float2 *>(gate + column);
                o = make_float2(o.x * rh::sigmoid(by.x), o.y * rh::sigmoid(by.y));
            }
            *reinterpret_cast<float2 *>(a.out + to) = o;
            if (a.half_out) *reinterpret_cast<uint32_t *>(a.half_out + to) = rh::to_half(o.x) | uint32_t(rh::to_half(o.y)) << 16;
        }
    }
}

}  // namespace

// Grid: blocks of 64 rows, heads. Shared memory: three tiles.
RH_KERNEL(rh_attention_prefill, rh::AttentionPrefillArgs, 80, 128) {
    extern __shared__ __align__(128) unsigned char shared[];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (a.type == rh::kF16) attend<rh::F16>(a, shared);
    else attend<rh::BF16>(a, shared);
}
