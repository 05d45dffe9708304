// Flash decoding on tensor cores: heads of 256 values, up to eight to a KV head,
// pages of fp16 or bfloat16. Keys are the rows of an mma and the heads its eight
// columns, so none of it is padding; likewise the dimensions of values.
#include "rh/args_attention.cuh"
#include "rh/attention.cuh"
#include "rh/ptx.cuh"

namespace {

constexpr uint32_t kGroup = 8;                           // heads of a KV head
constexpr uint32_t kWarps = 4;
constexpr uint32_t kTile = 16;                           // positions that a warp reads at a time
constexpr uint32_t kTileBytes = kTile * rh::kTensorRow;  // 8 KB
constexpr uint32_t kRing = 3;                            // tiles of a warp: one in use, two on their way
constexpr uint32_t kPadded = rh::kTensorDim + 4;         // so that a warp's columns meet every bank once

// stream is what a warp reads of a split: keys and values of every fourth tile, by
// way of its ring.
struct stream {
    const rh::AttentionDecodeArgs &a;
    const int32_t *table;
    unsigned char *ring;
    uint32_t kv, lane;
    uint32_t from, to;  // of the warp's first tile, and the split's end

    __device__ uint32_t tiles() const { return from < to ? (to - from + kTile * kWarps - 1) / (kTile * kWarps) : 0; }
    __device__ uint32_t position(uint32_t tile) const { return from + tile * kTile * kWarps; }
    __device__ unsigned char *slot(uint32_t item) const { return ring + item % kRing * kTileBytes; }

    // begin starts the copy of an item: 2i are the keys of tile i, 2i+1 its values.
    // Positions behind the end become zeros: a weight of 0 would not silence a NaN.
    __device__ void begin(uint32_t item) const {
        if (item < 2 * tiles()) {
            const uint32_t first = position(item / 2);
            const uint16_t *src = (item % 2 ? a.values : a.keys) + rh::page_of(table, first, kv, a.kv_heads, rh::kTensorDim) + lane * 8;
            unsigned char *dst = slot(item);
#pragma unroll
            for (uint32_t row = 0; row < kTile; row++)
                rh::ptx::copy_async_or_zero(dst + rh::chunk_of(row, lane), src + row * rh::kTensorDim, first + row < to);
        }
        rh::ptx::copies_close();
    }
};

// share is what a warp knows of its heads 2t and 2t+1: the sums of dimensions 16i+g
// (c0, c1) and 16i+g+8 (c2, c3), the largest score, and this lane's part of the sum of
// weights.
struct share {
    float sums[16][4], top[2], total[2];
};

template <class T> __device__ __forceinline__ void scores(float c[4], const uint32_t q[16][2], const unsigned char *keys, uint32_t lane) {
    float parts[4][4] = {};  // four chains hide the latency of an mma
#pragma unroll
    for (uint32_t step = 0; step < 16; step++) {
        uint32_t k[4];
        rh::ptx::ldmatrix_x4(k, keys + rh::columns(rh::down(lane), step));
        T::mma(parts[step % 4], k, q[step]);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) c[j] = (parts[0][j] + parts[1][j]) + (parts[2][j] + parts[3][j]);
}

// weigh turns the scores of positions g (c0, c1) and g+8 (c2, c3) into weights, powers
// of two relative to the largest so far, and fades what was summed before.
__device__ __forceinline__ void weigh(float c[4], share &s, float scale, uint32_t live, uint32_t lane) {
    float fade[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float low = lane / 4 < live ? c[h] * scale : -INFINITY, high = lane / 4 + 8 < live ? c[2 + h] * scale : -INFINITY;
        float top = fmaxf(low, high);
#pragma unroll
        for (int across = 4; across < 32; across *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, across));
        top = fmaxf(top, s.top[h]);
        fade[h] = exp2f(s.top[h] - top);
        s.top[h] = top;
        c[h] = exp2f(low - top);
        c[2 + h] = exp2f(high - top);
        s.total[h] = s.total[h] * fade[h] + (c[h] + c[2 + h]);
    }
    if (!__any_sync(0xffffffffu, fade[0] != 1.0f || fade[1] != 1.0f)) return;
#pragma unroll
    for (int i = 0; i < 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) s.sums[i][j] *= fade[j % 2];
}

template <class T> __device__ __forceinline__ void add(share &s, const float weight[4], const unsigned char *values, uint32_t lane) {
    const uint32_t w[2] = {rh::ptx::movmatrix_trans(T::pair(weight[0], weight[1])), rh::ptx::movmatrix_trans(T::pair(weight[2], weight[3]))};
#pragma unroll
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t v[4];
        rh::ptx::ldmatrix_x4_trans(v, values + rh::columns(rh::across(lane), i));
        T::mma(s.sums[i], v, w);
    }
}

// join adds the warps' shares in their order and writes them as a split's.
__device__ void join(const rh::AttentionDecodeArgs &a, const share &s, unsigned char *shared, uint64_t split, uint32_t group) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    float *sums = reinterpret_cast<float *>(shared);      // [warp][head][kPadded]
    float *tops = sums + kWarps * kGroup * kPadded;       // [warp][head]
    float *totals = tops + kWarps * kGroup;               // [warp][head]
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float total = s.total[h];
#pragma unroll
        for (int across = 4; across < 32; across *= 2) total += __shfl_xor_sync(0xffffffffu, total, across);
        if (g == 0) {
            tops[warp * kGroup + 2 * t + h] = s.top[h];
            totals[warp * kGroup + 2 * t + h] = total;
        }
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t head = 2 * t + h;
        float top = tops[head];
#pragma unroll
        for (uint32_t w = 1; w < kWarps; w++) top = fmaxf(top, tops[w * kGroup + head]);
        const float fade = exp2f(s.top[h] - top);
        float *to = sums + (warp * kGroup + head) * kPadded + g;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            to[16 * i] = s.sums[i][h] * fade;
            to[16 * i + 8] = s.sums[i][2 + h] * fade;
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < group * rh::kTensorDim; i += blockDim.x) {
        const float *from = sums + i / rh::kTensorDim * kPadded + i % rh::kTensorDim;
        float sum = from[0];
#pragma unroll
        for (uint32_t w = 1; w < kWarps; w++) sum += from[w * kGroup * kPadded];
        a.sums[split * kGroup * rh::kTensorDim + i] = sum;
    }
    if (threadIdx.x < group) {
        float top = tops[threadIdx.x], total = 0.0f;
        for (uint32_t w = 1; w < kWarps; w++) top = fmaxf(top, tops[w * kGroup + threadIdx.x]);
        for (uint32_t w = 0; w < kWarps; w++) total += totals[w * kGroup + threadIdx.x] * exp2f(tops[w * kGroup + threadIdx.x] - top);
        float *to = a.weights + (split * kGroup + threadIdx.x) * 2;
        to[0] = top;
        to[1] = total;
    }
    __syncthreads();  // the ring is free again
}

template <class T> __device__ void decode(const rh::AttentionDecodeArgs &a, unsigned char *shared) {
    const uint32_t at = blockIdx.z, kv = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const rh::Row row = a.row[at];
    const uint32_t length = row.slot < 0 ? 0 : row.position + 1, size = rh::split_size(length), group = a.heads / a.kv_heads;
    const auto open = [&](uint32_t split) {
        return stream{a, a.pages + row.page, shared + warp * kRing * kTileBytes, kv, lane, split * size + warp * kTile, min(length, (split + 1) * size)};
    };
    // What lies before the pass's rows was written long ago: its copies need not wait
    // for the kernel before this one.
    stream in = open(blockIdx.x);
    const bool early = in.from + kTile <= uint32_t(row.position - row.offset);
    if (early) {
        in.begin(0);
        in.begin(1);
    }
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (blockIdx.x * size >= length) return;
    if (!early) {
        in.begin(0);
        in.begin(1);
    }
    uint32_t q[16][2];  // columns of an mma: head g, dimensions 16 i + {2t, 2t+1} and + 8
#pragma unroll
    for (uint32_t i = 0; i < 16; i++)
#pragma unroll
        for (uint32_t j = 0; j < 2; j++) {
            const uint16_t *from = a.q + (uint64_t(at) * a.heads + kv * group + lane / 4) * rh::kTensorDim + 16 * i + 8 * j + lane % 4 * 2;
            q[i][j] = lane / 4 < group ? *reinterpret_cast<const uint32_t *>(from) : 0;
        }
    for (uint32_t split = blockIdx.x;;) {
        share s = {{}, {-INFINITY, -INFINITY}, {}};
        for (uint32_t tile = 0; tile < in.tiles(); tile++) {
            float c[4];
            in.begin(2 * tile + 2);
            rh::ptx::copies_wait<2>();
            __syncwarp();
            scores<T>(c, q, in.slot(2 * tile), lane);
            weigh(c, s, a.scale, in.to - in.position(tile), lane);
            __syncwarp();  // the keys were read
            in.begin(2 * tile + 3);
            rh::ptx::copies_wait<2>();
            __syncwarp();
            add<T>(s, c, in.slot(2 * tile + 1), lane);
            __syncwarp();
        }
        rh::ptx::copies_wait<0>();
        __syncthreads();
        join(a, s, shared, (uint64_t(at) * a.kv_heads + kv) * a.splits + split, group);
        split += gridDim.x;
        if (split * size >= length) return;
        in.from = split * size + warp * kTile;
        in.to = min(length, (split + 1) * size);
        in.begin(0);
        in.begin(1);
    }
}

}  // namespace

// Grid: splits that run at a time, KV heads, rows; block: 128. Shared memory: the
// warps' rings.
RH_KERNEL(rh_attention_decode, rh::AttentionDecodeArgs, 80, 128) {
    extern __shared__ __align__(128) unsigned char shared[];
    if (a.type == rh::kF16) decode<rh::F16>(a, shared);
    else decode<rh::BF16>(a, shared);
}

// Grid: rows, heads; block: 256, of which each quarter sums every fourth split, four
// dimensions a thread.
RH_KERNEL(rh_attention_merge, rh::AttentionMergeArgs, 80, 256) {
    constexpr uint32_t kParts = rh::kMaxSplits / 4;
    __shared__ float2 weights[rh::kMaxSplits];
    __shared__ float4 quarters[4][64];
    __shared__ float totals[4];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::Row row = a.row[blockIdx.x];
    if (row.slot < 0) return;
    const uint32_t head = blockIdx.y, group = a.heads / a.kv_heads;
    const uint32_t length = row.position + 1, size = rh::split_size(length), splits = (length + size - 1) / size;
    const uint64_t first = (uint64_t(blockIdx.x) * a.kv_heads + head / group) * a.splits * kGroup + head % group;
    const uint32_t quarter = threadIdx.x / 64, column = threadIdx.x % 64 * 4;

    float4 part[kParts];  // all on their way before the first is needed
#pragma unroll
    for (uint32_t n = 0; n < kParts; n++) {
        const uint32_t i = 4 * n + quarter;
        const float *from = a.sums + (first + i * kGroup) * rh::kTensorDim + column;
        part[n] = i < splits ? *reinterpret_cast<const float4 *>(from) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    if (threadIdx.x < rh::kMaxSplits) {
        const float *from = a.weights + (first + threadIdx.x * kGroup) * 2;
        weights[threadIdx.x] = threadIdx.x < splits ? *reinterpret_cast<const float2 *>(from) : make_float2(-INFINITY, 0.0f);
    }
    __syncthreads();
    float top = -INFINITY;
#pragma unroll
    for (uint32_t i = 0; i < rh::kMaxSplits; i++) top = fmaxf(top, weights[i].x);
    float total = 0.0f;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (uint32_t n = 0; n < kParts; n++) {
        const float2 weight = weights[4 * n + quarter];
        const float fade = exp2f(weight.x - top);
        total = fmaf(fade, weight.y, total);
        sum.x = fmaf(fade, part[n].x, sum.x);
        sum.y = fmaf(fade, part[n].y, sum.y);
        sum.z = fmaf(fade, part[n].z, sum.z);
        sum.w = fmaf(fade, part[n].w, sum.w);
    }
    quarters[quarter][threadIdx.x % 64] = sum;
    if (column == 0) totals[quarter] = total;
    __syncthreads();
    const float *all = reinterpret_cast<const float *>(quarters);
    const uint32_t i = threadIdx.x;
    total = (totals[0] + totals[1]) + (totals[2] + totals[3]);
    float out = ((all[i] + all[256 + i]) + (all[512 + i] + all[768 + i])) * (1.0f / total);
    if (a.gate) out *= rh::sigmoid(rh::gate_of(a, blockIdx.x, head)[i]);
    const uint64_t to = (uint64_t(blockIdx.x) * a.heads + head) * rh::kTensorDim + i;
    a.out[to] = out;
    if (a.half_out) a.half_out[to] = rh::to_half(out);
}
