// Attention in fp32: any heads, head dimension up to 512, pages of any type.
#include "rh/args_attention.cuh"
#include "rh/attention.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

namespace {

constexpr uint32_t kMaxHeadDim = 512;

// turn gives cosine and sine of position * f. The angle is an fp32 product, as in
// the references; half turns are counted in fp64, which at 262,144 radians leaves
// the rest good to fp32.
__device__ void turn(int32_t position, float f, float &cosine, float &sine) {
    const double turns = double(float(position) * f) * 0.15915494309189535;
    const float rest = float(2.0 * (turns - rint(turns)));
    cosine = cospif(rest);
    sine = sinpif(rest);
}

// normed_turned is a head after norm and rotation, in shared memory x[head_dim].
__device__ void normed_turned(const rh::AttentionRotateArgs &a, const float *from, const float *norm, int32_t position, float *x) {
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.head_dim; i += blockDim.x) sum += from[i] * from[i];
    const float scale = 1.0f / sqrtf(rh::block_sum(sum) / float(a.head_dim) + a.eps);
    for (uint32_t i = threadIdx.x; i < a.head_dim; i += blockDim.x) x[i] = from[i] * scale * (1.0f + norm[i]);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < a.half; i += blockDim.x) {
        float cosine, sine;
        turn(position, a.inv_freq[i], cosine, sine);
        cosine *= a.scale;
        sine *= a.scale;
        const float low = x[i], high = x[i + a.half];
        x[i] = low * cosine - high * sine;
        x[i + a.half] = high * cosine + low * sine;
    }
    __syncthreads();
}

template <class T> __device__ void rotate(const rh::AttentionRotateArgs &a, const rh::Row &row) {
    using Stored = typename T::Stored;
    __shared__ float x[kMaxHeadDim];
    const uint32_t at = blockIdx.x, item = blockIdx.y;
    const float *in = a.in + at * rh::in_width(a);
    if (item < a.heads) {
        normed_turned(a, in + 2 * uint64_t(item) * a.head_dim, a.q_norm, row.position, x);
        const uint64_t to = (uint64_t(at) * a.heads + item) * a.head_dim;
        for (uint32_t i = threadIdx.x; i < a.head_dim; i += blockDim.x) {
            if (a.q) a.q[to + i] = x[i];
            if (a.half_q) static_cast<Stored *>(a.half_q)[to + i] = T::narrow(x[i]);
        }
        return;
    }
    const uint32_t head = item - a.heads;
    const float *key = in + (2 * uint64_t(a.heads) + head) * a.head_dim, *value = key + uint64_t(a.kv_heads) * a.head_dim;
    normed_turned(a, key, a.k_norm, row.position, x);
    const uint64_t to = rh::page_of(a.pages + row.page, row.position, head, a.kv_heads, a.head_dim);
    for (uint32_t i = threadIdx.x; i < a.head_dim; i += blockDim.x) {
        static_cast<Stored *>(a.keys)[to + i] = T::narrow(x[i]);
        static_cast<Stored *>(a.values)[to + i] = T::narrow(value[i]);
        if (a.k) a.k[(uint64_t(at) * a.kv_heads + head) * a.head_dim + i] = x[i];
    }
}

constexpr uint32_t kWarps = 8, kEach = rh::kPageTokens / kWarps;  // positions of a page that a warp scores

// attend runs over the pages of a row: 64 scores, then their weights relative to the
// largest so far, then the weighted values, each thread for two dimensions 256 apart.
// The order of sums is fixed by positions alone.
template <class T> __device__ void attend(const rh::AttentionGenericArgs &a, const rh::Row &row) {
    using Stored = typename T::Stored;
    __shared__ float q[kMaxHeadDim], score[rh::kPageTokens], weight[rh::kPageTokens];
    const uint32_t at = blockIdx.x, head = blockIdx.y, kv = head / (a.heads / a.kv_heads);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t length = row.position + 1;
    const uint64_t to = (uint64_t(at) * a.heads + head) * a.head_dim;
    for (uint32_t i = threadIdx.x; i < a.head_dim; i += blockDim.x) q[i] = a.out[to + i];
    __syncthreads();

    float top = -INFINITY, total = 0.0f, sum[2] = {0.0f, 0.0f};
    for (uint32_t from = 0; from < length; from += rh::kPageTokens) {
        const uint32_t n = min(length - from, uint32_t(rh::kPageTokens));
        const uint64_t page = rh::page_of(a.pages + row.page, from, kv, a.kv_heads, a.head_dim);
        const Stored *keys = static_cast<const Stored *>(a.keys) + page, *values = static_cast<const Stored *>(a.values) + page;
        float part[kEach] = {};
        for (uint32_t i = lane; i < a.head_dim; i += 32) {
#pragma unroll
            for (uint32_t m = 0; m < kEach; m++) {
                const uint32_t j = warp + m * kWarps;
                if (j < n) part[m] = fmaf(q[i], T::widen(keys[j * a.head_dim + i]), part[m]);
            }
        }
#pragma unroll
        for (uint32_t m = 0; m < kEach; m++) {
            const uint32_t j = warp + m * kWarps;
            const float whole = rh::warp_sum(part[m]);
            if (lane == 0) score[j] = j < n ? whole * a.scale : -INFINITY;
        }
        __syncthreads();
        const float low = score[lane], high = score[lane + 32];  // every warp for itself
        float largest = fmaxf(low, high);
        for (int across = 16; across > 0; across /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, across));
        largest = fmaxf(largest, top);
        const float fade = expf(top - largest), w0 = expf(low - largest), w1 = expf(high - largest);
        top = largest;
        total = total * fade + rh::warp_sum(w0 + w1);
        if (warp == 0) {
            weight[lane] = w0;
            weight[lane + 32] = w1;
        }
        __syncthreads();
#pragma unroll
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t i = threadIdx.x + half * blockDim.x;
            if (i >= a.head_dim) continue;
            float s = 0.0f;  // by pages: a sum of 262,144 values one by one is 2e-5 off
#pragma unroll 16
            for (uint32_t j = 0; j < n; j++) s = fmaf(weight[j], T::widen(values[j * a.head_dim + i]), s);
            sum[half] = fmaf(sum[half], fade, s);
        }
    }
#pragma unroll
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t i = threadIdx.x + half * blockDim.x;
        if (i >= a.head_dim) continue;
        float out = sum[half] * (1.0f / total);
        if (a.gate) out *= rh::sigmoid(rh::gate_of(a, at, head)[i]);
        a.out[to + i] = out;
        if (a.half_out) a.half_out[to + i] = rh::to_half(out);
    }
}

}  // namespace

// Grid: rows, heads + kv_heads.
RH_KERNEL(rh_attention_rotate, rh::AttentionRotateArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::Row row = a.row[blockIdx.x];
    if (row.slot < 0) return;
    if (a.type == rh::kF32) rotate<rh::F32>(a, row);
    else if (a.type == rh::kF16) rotate<rh::F16>(a, row);
    else rotate<rh::BF16>(a, row);
}

// Grid: rows, heads; block: 256.
RH_KERNEL(rh_attention_generic, rh::AttentionGenericArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::Row row = a.row[blockIdx.x];
    if (row.slot < 0) return;
    if (a.type == rh::kF32) attend<rh::F32>(a, row);
    else if (a.type == rh::kF16) attend<rh::F16>(a, row);
    else attend<rh::BF16>(a, row);
}

// Grid: rows, heads.
RH_KERNEL(rh_attention_gate, rh::AttentionGateArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (a.row[blockIdx.x].slot < 0) return;
    const uint64_t to = (uint64_t(blockIdx.x) * a.heads + blockIdx.y) * a.head_dim;
    const float *gate = rh::gate_of(a, blockIdx.x, blockIdx.y);
    for (uint32_t i = threadIdx.x; i < a.head_dim; i += blockDim.x) {
        const float out = a.out[to + i] * rh::sigmoid(gate[i]);
        a.out[to + i] = out;
        if (a.half_out) a.half_out[to + i] = rh::to_half(out);
    }
}
