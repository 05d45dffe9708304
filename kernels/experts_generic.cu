// Experts of any shape and packing in fp32. A sum over k is eight warps' parts,
// added in their order; what a warp sums depends on the matrix alone.
#include "rh/args_experts.cuh"
#include "rh/ptx.cuh"
#include "rh/steer.cuh"
#include "rh/weight.cuh"

namespace {

constexpr uint32_t kWarps = 8, kColumns = 32;  // outputs of a block

// part is this warp's share of column n.
__device__ __forceinline__ float part(const rh::Weight &w, const float *x, uint32_t n) {
    const uint32_t share = (w.k + 32 * kWarps - 1) / (32 * kWarps) * 32, k0 = threadIdx.x / 32 * share;
    return n < w.n && k0 < w.k ? rh::weight::dot(w, x, n, k0, min(k0 + share, w.k)) : 0.0f;
}

// whole adds the parts of a column.
__device__ __forceinline__ float whole(const float parts[kWarps][kColumns], uint32_t column) {
    float sum = parts[0][column];
    for (uint32_t warp = 1; warp < kWarps; ++warp) sum += parts[warp][column];
    return sum;
}

}  // namespace

// Grid: rows * (k+1), blocks of 32 outputs. The last rank is the shared expert.
RH_KERNEL(rh_experts_gate_up_generic, rh::ExpertsGenericArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    __shared__ float gates[kWarps][kColumns], ups[kWarps][kColumns];
    const uint32_t row = blockIdx.x / (a.k + 1), rank = blockIdx.x % (a.k + 1);
    if (a.row[row].slot < 0) return;
    const int32_t id = rank == a.k ? int32_t(a.experts) : a.chosen[uint64_t(row) * a.k + rank];
    if (id < 0) return;
    const rh::Weight &gate = a.table[uint64_t(id) * 3], &up = a.table[uint64_t(id) * 3 + 1];
    const float *x = a.x + uint64_t(row) * a.hidden;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = blockIdx.y * kColumns + lane;
    gates[warp][lane] = part(gate, x, n);
    ups[warp][lane] = part(up, x, n);
    __syncthreads();
    if (warp > 0 || n >= gate.n) return;
    const float g = whole(gates, lane), u = whole(ups, lane);
    a.h[uint64_t(blockIdx.x) * a.width + n] = g / (1.0f + expf(-g)) * u;
}

// Grid: rows, blocks of 32 outputs.
RH_KERNEL(rh_experts_down_generic, rh::ExpertsGenericArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    __shared__ float parts[kWarps][kColumns];
    const uint32_t row = blockIdx.x;
    if (a.row[row].slot < 0) return;
    const rh::Steered steered(a.steer, a.steer_stride, a.row[row].steer);
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = blockIdx.y * kColumns + lane;
    float sum = 0.0f;
    for (uint32_t rank = 0; rank <= a.k; ++rank) {
        const int32_t id = rank == a.k ? int32_t(a.experts) : a.chosen[uint64_t(row) * a.k + rank];
        if (id < 0) continue;
        const float *h = a.h + (uint64_t(row) * (a.k + 1) + rank) * a.width;
        parts[warp][lane] = part(a.table[uint64_t(id) * 3 + 2], h, n);
        __syncthreads();
        const float out = whole(parts, lane);
        __syncthreads();
        if (rank < a.k) {
            sum += a.weights[uint64_t(row) * a.k + rank] * out;
        } else if (a.stage == 1) {
            sum = out;
        } else if (a.stage != 2) {
            sum += 1.0f / (1.0f + expf(-a.gate[row])) * (1.0f + steered.head.gate) * out;
        }
    }
    if (warp > 0 || n >= a.hidden) return;
    float &out = a.out[uint64_t(row) * a.hidden + n];
    if (a.stage > 0) {
        out = sum;
        return;
    }
    float x = out + sum;
    if (steered.head.flags & rh::kSteerVector) x += steered.head.strength * steered.bias[2 * a.experts + n];
    out = x;
}
