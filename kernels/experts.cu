// Experts in slabs for some rows: a decode step's. Two kernels a layer, bound by the
// bytes of the chosen experts, which each row reads for itself: every lane asks for
// all it can of its slab at once.
#include "rh/args_experts.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/slab.cuh"
#include "rh/steer.cuh"

namespace {

constexpr uint32_t kHeld = 8;    // blocks of a slab that a warp has on their way
constexpr uint32_t kWarps = 4;   // that share K of a slab of gates and ups
constexpr uint32_t kShared = 2;  // that share K of a slab of the shared expert's down: it has 8 bits
constexpr uint32_t kMaxChosen = 16;

// Strip is a warp's part of a slab: the spans first, first + step, ... of k, which
// have a scale each, at most kSpans of them at a time.
template <int bits>
struct Strip {
    static constexpr uint32_t kSpan = bits == 16 ? 64 : rh::slab::kGroup;  // values of k
    static constexpr uint32_t kBlocks = kSpan / rh::slab::values<bits>();
    static constexpr uint32_t kSpans = kHeld / kBlocks;

    uint4 part[kSpans][kBlocks];
    uint16_t scale[kSpans][2];

    __device__ __forceinline__ void load(const uint8_t *slab, uint32_t spans, uint32_t first, uint32_t step) {
        const uint32_t lane = threadIdx.x % 32;
        const uint16_t *scales = reinterpret_cast<const uint16_t *>(slab + spans * kBlocks * rh::slab::kBlock) + lane / 4;
#pragma unroll
        for (uint32_t i = 0; i < kSpans; ++i) {
            const uint32_t span = first + i * step;
            if (span >= spans) break;
#pragma unroll
            for (uint32_t j = 0; j < kBlocks; ++j) {
                part[i][j] = rh::ptx::load_once(slab + (span * kBlocks + j) * rh::slab::kBlock + lane * 16);
            }
            if constexpr (bits < 16) {
                scale[i][0] = scales[span * rh::slab::kRows];
                scale[i][1] = scales[span * rh::slab::kRows + 8];
            }
        }
    }

    // add adds to the sums of the outputs lane/4 and lane/4 + 8. The activations
    // stand in every column of the other operand: all columns of the product agree.
    __device__ __forceinline__ void add(float sum[2], const uint16_t *x, uint32_t spans, uint32_t first, uint32_t step) {
        constexpr uint32_t kOwn = rh::slab::values<bits>() / 4;  // neighbouring k of a lane
        x += threadIdx.x % 4 * kOwn;
#pragma unroll
        for (uint32_t i = 0; i < kSpans; ++i) {
            const uint32_t span = first + i * step;
            if (span >= spans) break;
            float c[4] = {};
#pragma unroll
            for (uint32_t j = 0; j < kBlocks; ++j) {
                const uint16_t *at = x + span * kSpan + j * rh::slab::values<bits>();
#pragma unroll
                for (uint32_t s = 0; s < rh::slab::steps<bits>(); ++s) {
                    uint32_t a[4];
                    rh::slab::operand<bits>(a, part[i][j], s);
                    const uint2 four = *reinterpret_cast<const uint2 *>(at + 4 * s);
                    const uint32_t b[2] = {four.x, four.y};
                    rh::ptx::mma_f16(c, a, b);
                }
            }
            sum[0] += bits < 16 ? rh::ptx::half_value(scale[i][0]) * c[0] : c[0];
            sum[1] += bits < 16 ? rh::ptx::half_value(scale[i][1]) * c[2] : c[2];
        }
    }

    // walk finishes a strip whose first spans were loaded.
    __device__ __forceinline__ void walk(float sum[2], const uint8_t *slab, const uint16_t *x, uint32_t spans, uint32_t first, uint32_t step) {
        for (;;) {
            add(sum, x, spans, first, step);
            first += kSpans * step;
            if (first >= spans) break;
            load(slab, spans, first, step);
        }
        sum[0] *= 1.0f / rh::kHalfScale;
        sum[1] *= 1.0f / rh::kHalfScale;
    }
};

// stage copies n half activations, a multiple of eight, into shared memory.
__device__ __forceinline__ void stage(uint16_t *to, const uint16_t *from, uint32_t n, uint32_t thread, uint32_t threads) {
    for (uint32_t i = thread; i < n / 8; i += threads) {
        reinterpret_cast<uint4 *>(to)[i] = reinterpret_cast<const uint4 *>(from)[i];
    }
}

extern __shared__ __align__(16) uint16_t shared_halves[];

// gate_up makes eight activations of a row's expert. The shared expert's weights do
// not wait for the choice.
template <int bits>
__device__ void gate_up(const rh::ExpertsArgs &a, uint32_t rank, uint32_t index) {
    __shared__ float parts[kWarps][rh::slab::kRows];
    const uint32_t row = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t spans = a.hidden / Strip<bits>::kSpan;
    Strip<bits> strip;
    const uint8_t *slab = a.shared_gate_up + uint64_t(index) * a.shared_gate_up_stride;
    bool live = a.row[row].slot >= 0;  // in the step block, which is there before all kernels
    if (rank == a.k && live) strip.load(slab, spans, warp, kWarps);
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (rank < a.k) {
        const int32_t id = live ? a.chosen[uint64_t(row) * a.k + rank] : -1;
        live = id >= 0;
        slab = a.gate_up + uint64_t(live ? id : 0) * a.gate_up_bytes + uint64_t(index) * a.gate_up_stride;
        if (live) strip.load(slab, spans, warp, kWarps);
    }
    if (!live) return;
    stage(shared_halves, a.x + uint64_t(row) * a.hidden, a.hidden, threadIdx.x, kWarps * 32);
    __syncthreads();
    float sum[2] = {};
    if (warp < spans) strip.walk(sum, slab, shared_halves, spans, warp, kWarps);
    if (lane % 4 == 0) {
        parts[warp][lane / 4] = sum[0];
        parts[warp][lane / 4 + 8] = sum[1];
    }
    __syncthreads();
    if (threadIdx.x >= 8) return;
    float gate = 0.0f, up = 0.0f;
    for (uint32_t i = 0; i < kWarps; ++i) {
        gate += parts[i][threadIdx.x];
        up += parts[i][threadIdx.x + 8];
    }
    const uint64_t to = (uint64_t(row) * (a.k + 1) + rank) * a.width + index * 8 + threadIdx.x;
    a.h[to] = rh::to_half(gate / (1.0f + expf(-gate)) * up);
}

// down gives a warp sixteen outputs of its rank's expert, or of its part of the
// shared one, times the expert's weight.
template <int bits>
__device__ void down(const rh::ExpertsArgs &a, const rh::Steered &steered, const uint8_t *slab, uint32_t width, float *parts, bool live) {
    const uint32_t row = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32, rank = min(warp, a.k);
    const uint32_t spans = width / Strip<bits>::kSpan, first = warp - rank, step = rank < a.k ? 1 : kShared;
    Strip<bits> strip;
    live = live && first < spans;
    if (live) strip.load(slab, spans, first, step);
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    float sum[2] = {};
    if (live) {
        uint16_t *h = shared_halves + warp * a.width;
        stage(h, a.h + (uint64_t(row) * (a.k + 1) + rank) * a.width, width, lane, 32);
        __syncwarp();
        float factor;
        if (rank < a.k) {
            factor = a.stage == 1 ? 0.0f : a.weights[uint64_t(row) * a.k + rank];
        } else {
            const float gate = 1.0f / (1.0f + expf(-a.gate[row])) * (1.0f + steered.head.gate);
            factor = a.stage == 1 ? 1.0f : a.stage == 2 ? 0.0f : gate;
        }
        strip.walk(sum, slab, h, spans, first, step);
        sum[0] *= factor;
        sum[1] *= factor;
    }
    if (lane % 4 == 0) {
        parts[lane / 4] = sum[0];
        parts[lane / 4 + 8] = sum[1];
    }
}

}  // namespace

// Grid: slabs of the shared expert and of k experts, rows. Shared memory: a row.
RH_KERNEL(rh_experts_gate_up, rh::ExpertsArgs, 80, 128) {
    uint32_t rank = a.k, index = blockIdx.x, bits = a.shared_gate_up_bits;
    if (index >= a.shared_count) {
        rank = (index - a.shared_count) / a.count;
        index = (index - a.shared_count) % a.count;
        bits = a.gate_up_bits;
    }
    if (bits == 4) {
        gate_up<4>(a, rank, index);
    } else if (bits == 8) {
        gate_up<8>(a, rank, index);
    } else {
        gate_up<16>(a, rank, index);
    }
}

// Grid: slabs of a down, rows. Block: a warp for each rank, and kShared for the shared
// expert. Shared memory: a row of activations for each. The choice is read ahead of
// grid_wait: the kernel before began by waiting for the one that made it.
RH_KERNEL(rh_experts_down, rh::ExpertsArgs, 80, 576) {
    __shared__ float parts[kMaxChosen + kShared][rh::slab::kRows];
    const uint32_t row = blockIdx.y, warp = threadIdx.x / 32;
    uint32_t bits = a.shared_down_bits, width = a.shared_inner;
    const uint8_t *slab = a.shared_down + uint64_t(blockIdx.x) * a.shared_down_stride;
    const bool filled = a.row[row].slot >= 0;
    bool live = filled;
    const uint32_t n = blockIdx.x * rh::slab::kRows + threadIdx.x;
    // Steering lies where nothing else of the step has been: it comes while others run.
    const rh::Steered steered(a.steer, a.steer_stride, a.row[row].steer);
    if (steered.bias && threadIdx.x == 0) rh::ptx::prefetch(steered.bias + 2 * a.experts + n);
    if (warp < a.k) {
        const int32_t id = filled ? __ldcg(a.chosen + uint64_t(row) * a.k + warp) : -1;
        live = id >= 0;
        bits = a.down_bits;
        width = a.inner;
        slab = a.down + uint64_t(live ? id : 0) * a.down_bytes + uint64_t(blockIdx.x) * a.down_stride;
    }
    if (bits == 4) {
        down<4>(a, steered, slab, width, parts[warp], live);
    } else if (bits == 8) {
        down<8>(a, steered, slab, width, parts[warp], live);
    } else {
        down<16>(a, steered, slab, width, parts[warp], live);
    }
    __syncthreads();
    if (!filled || threadIdx.x >= rh::slab::kRows || n >= a.hidden) return;
    float sum = 0.0f;
    for (uint32_t i = 0; i < a.k + kShared; ++i) sum += parts[i][threadIdx.x];
    float &out = a.out[uint64_t(row) * a.hidden + n];
    if (a.stage > 0) {
        out = sum;
        return;
    }
    float x = out + sum;
    if (steered.head.flags & rh::kSteerVector) x += steered.head.strength * steered.bias[2 * a.experts + n];
    out = x;
}
