// The choice of experts: the k largest router logits of a row, and their softmax.
#include "rh/args_experts.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"
#include "rh/steer.cuh"

namespace {

constexpr uint32_t kAll = 0xffffffffu;

// key orders logits as numbers, a NaN below all of them, and has 0 for what may not
// be chosen. A bias of minus infinity bans; one of plus infinity comes before all
// finite logits, whatever the logit is.
__device__ __forceinline__ uint32_t key(float logit, float bias) {
    if (bias == -INFINITY) return 0;
    const float v = bias == INFINITY ? bias : logit + bias;  // which makes -0 a 0
    if (v != v) return 1;
    const uint32_t bits = __float_as_uint(v);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// choose waits for the logits and gives lane j the expert of rank j, -1 where there is
// none. Each lane holds every 32nd expert, so many of them. What steering says was there
// before all kernels, and is brought along while the router still runs: it lies in memory
// that nothing else of the step has touched, 0.8 us away. scales gets that of each expert.
template <int held>
__device__ int32_t choose(const rh::SelectArgs &a, const float *logits, const rh::Steered &steered, uint32_t k, float *scales) {
    const uint32_t lane = threadIdx.x;
    float bias[held] = {};
    if (steered.head.flags & rh::kSteerExperts) {
#pragma unroll
        for (int i = 0; i < held; ++i) {
            const uint32_t id = i * 32 + lane;
            if (id < a.experts) {
                bias[i] = steered.bias[id];
                scales[id] = steered.bias[a.experts + id];
            }
        }
        __syncwarp();
    }
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    uint32_t keys[held];
#pragma unroll
    for (int i = 0; i < held; ++i) {
        const uint32_t id = i * 32 + lane;
        keys[i] = id < a.experts ? key(logits[id], bias[i]) : 0;
    }
    int32_t mine = -1;
    for (uint32_t rank = 0; rank < k; ++rank) {
        uint32_t best = 0, at = 0;
#pragma unroll
        for (int i = 0; i < held; ++i) best = max(best, keys[i]);
#pragma unroll
        for (int i = held - 1; i >= 0; --i) at = keys[i] == best ? i : at;
        const uint32_t top = __reduce_max_sync(kAll, best);
        if (top == 0) break;
        const uint32_t id = __reduce_min_sync(kAll, best == top ? at * 32 + lane : kAll);
        if (lane == rank) mine = int32_t(id);
#pragma unroll
        for (int i = 0; i < held; ++i) {
            if (id == i * 32 + lane) keys[i] = 0;
        }
    }
    return mine;
}

__device__ __forceinline__ float warp_max(float v) {
    for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(kAll, v, offset));
    return v;
}

}  // namespace

// Grid: rows. Block: one warp. At most 1024 experts, and 32 to choose.
RH_KERNEL(rh_select_topk, rh::SelectArgs, 80, 32) {
    __shared__ float scales[1024];
    const uint32_t row = blockIdx.x, lane = threadIdx.x;
    const float *logits = a.logits + uint64_t(row) * a.experts;
    const rh::Steered steered(a.steer, a.steer_stride, a.row[row].steer);
    const uint32_t k = steered.head.k ? min(steered.head.k, a.k) : a.k;
    const int32_t id = a.experts <= 512 ? choose<16>(a, logits, steered, k, scales) : choose<32>(a, logits, steered, k, scales);

    const float logit = id >= 0 ? logits[id] : -INFINITY;
    float best = logit;
    if (!a.renormalise) {
        for (uint32_t i = lane; i < a.experts; i += 32) best = fmaxf(best, logits[i]);
    }
    best = warp_max(best);
    float weight = id >= 0 ? expf(logit - best) : 0.0f;
    float sum = weight;
    if (!a.renormalise) {
        sum = 0.0f;
        for (uint32_t i = lane; i < a.experts; i += 32) sum += expf(logits[i] - best);
    }
    sum = rh::warp_sum(sum);
    if (id >= 0) weight /= sum;
    if (id >= 0 && steered.head.flags & rh::kSteerExperts) weight *= scales[id];

    if (lane >= a.k) return;
    const uint64_t at = uint64_t(row) * a.k + lane;
    a.chosen[at] = id;
    a.weights[at] = weight;
    if (a.names) a.names[at] = float(id);
    if (a.route_chosen) {
        const uint64_t to = uint64_t(row) * a.route_stride + lane;
        a.route_chosen[to] = uint16_t(id);  // -1 is no expert
        a.route_weights[to] = weight;
    }
}
