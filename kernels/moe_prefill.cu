// Experts of prefill passes: a plan of who works for which rows, two grouped
// products, and the sum of each row's experts in the order of its choice.
#include "rh/args_moe.cuh"
#include "rh/gemm.cuh"
#include "rh/half.cuh"
#include "rh/steer.cuh"

namespace {

constexpr uint32_t kFull = 0xffffffff;

// scan gives each thread of 32 warps the sum over the threads before it; *all is
// the sum over the block. All threads call it.
__device__ uint32_t scan(uint32_t v, uint32_t *all) {
    __shared__ uint32_t sums[32];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    auto upto = [&](uint32_t v) {  // the sum over the lanes up to this one
        for (uint32_t by = 1; by < 32; by *= 2) {
            const uint32_t below = __shfl_up_sync(kFull, v, by);
            if (lane >= by) v += below;
        }
        return v;
    };
    const uint32_t own = upto(v);
    __syncthreads();  // the call before may still be read
    if (lane == 31) sums[warp] = own;
    __syncthreads();
    const uint32_t warps = upto(sums[lane]);
    *all = __shfl_sync(kFull, warps, 31);
    const uint32_t before = __shfl_sync(kFull, warps, warp == 0 ? 0 : warp - 1);
    return own - v + (warp == 0 ? 0 : before);
}

// Plan is a counting sort by one block. Each of 32 warps goes through a run of
// assignments, 32 at a time, and counts those of each expert; what an expert's count
// was when an assignment came, added to the counts of the warps before and of the
// experts before, is the assignment's place. So no place depends on who was faster.
struct Plan {
    const rh::MoePlanArgs &a;
    uint16_t *counts;  // [32][experts], then what the warps before counted
    int32_t *starts;   // [experts]: the first place of each
    uint32_t total, first, end;

    __device__ Plan(const rh::MoePlanArgs &a, uint4 *shared) : a(a) {
        starts = reinterpret_cast<int32_t *>(shared);
        counts = reinterpret_cast<uint16_t *>(starts + a.experts);
        total = a.rows * a.k;
        const uint32_t run = (total + 1023) / 1024 * 32;
        first = min(threadIdx.x / 32 * run, total), end = min(first + run, total);
    }

    __device__ uint16_t *own() const { return counts + threadIdx.x / 32 * a.experts; }

    // id is the expert of an assignment, or -1.
    __device__ int32_t id(uint32_t i) const {
        const int32_t id = i < end ? a.chosen[i] : -1;
        return uint32_t(id) < a.experts ? id : -1;
    }

    // count notes with each assignment how many of its expert came before in the run.
    __device__ void count() const {
        const uint32_t lane = threadIdx.x % 32;
        for (uint32_t e = lane; e < a.experts; e += 32) own()[e] = 0;
        __syncwarp();
        for (uint32_t i = first + lane; i - lane < end; i += 32) {
            const int32_t expert = id(i);
            const uint32_t same = __match_any_sync(kFull, expert), before = same & ((1u << lane) - 1);
            const uint32_t counted = expert < 0 ? 0 : own()[expert];
            __syncwarp();
            if (expert >= 0 && before == 0) own()[expert] = counted + __popc(same);
            __syncwarp();
            if (i < end) a.place[i] = expert < 0 ? -1 : int32_t(counted + __popc(before));
        }
    }

    // share gives experts their places and tiles.
    __device__ void share() const {
        const uint32_t e = threadIdx.x;
        uint32_t sum = 0;
        for (uint32_t warp = 0; e < a.experts && warp < 32; ++warp) {
            uint16_t &at = counts[warp * a.experts + e];
            const uint32_t own = at;
            at = sum;
            sum += own;
        }
        const uint32_t shared = (a.rows + rh::gemm::kTokens - 1) / rh::gemm::kTokens;
        uint32_t all, tiles;
        const uint32_t start = scan(sum, &all);
        const uint32_t tile = scan((sum + rh::gemm::kTokens - 1) / rh::gemm::kTokens, &tiles) + shared;
        if (e < a.experts) {
            starts[e] = start;
            put(tile, e, start, sum);
        }
        for (uint32_t i = threadIdx.x; i < shared; i += blockDim.x) {
            const uint32_t top = i * rh::gemm::kTokens;
            put(i, a.experts, total + top, min(a.rows - top, rh::gemm::kTokens));
        }
        if (threadIdx.x == 0) *a.count = shared + tiles;
    }

    // put writes the tiles of an expert.
    __device__ void put(uint32_t tile, uint32_t expert, uint32_t first, uint32_t count) const {
        for (uint32_t i = 0; i < count; i += rh::gemm::kTokens) {
            a.tiles[tile++] = {int32_t(expert), int32_t(first + i), int32_t(min(count - i, rh::gemm::kTokens)), 0};
        }
    }

    // place turns counts into places.
    __device__ void place() const {
        for (uint32_t i = first + threadIdx.x % 32; i < end; i += 32) {
            const int32_t expert = id(i);
            if (expert < 0) continue;
            const int32_t place = a.place[i] + own()[expert] + starts[expert];
            a.place[i] = place;
            a.source[place] = i / a.k;
        }
        for (uint32_t row = threadIdx.x; row < a.rows; row += blockDim.x) a.source[total + row] = row;
    }
};

// grouped is the product of a tile of places with its expert's slabs.
template <class Put>
__device__ __forceinline__ void grouped(const rh::MoeArgs &a, uint4 *shared, Put put) {
    if (blockIdx.y >= *a.count) return;
    const rh::MoeTile tile = a.tiles[blockIdx.y];
    const bool own = tile.expert < int32_t(a.experts);
    const rh::gemm::Weights weights{own ? a.slabs + uint64_t(tile.expert) * a.stride : a.shared,
                                    own ? a.slab_count : a.shared_count, own ? a.bytes : a.shared_bytes};
    const uint32_t first = blockIdx.x * (blockDim.x / 32) * rh::gemm::kSlabs;
    if (first >= weights.count) return;

    rh::gemm::Input in(shared);
    in.x = a.x, in.low = nullptr, in.stride = a.x_stride, in.k = own ? a.k : a.shared_k;
    in.tokens = tile.count;
    for (uint32_t i = threadIdx.x; i < in.tokens; i += blockDim.x) {
        in.from[i] = a.source ? a.source[tile.first + i] : tile.first + i;
    }
    __syncthreads();
    rh::gemm::product(in, weights, own ? a.bits : a.shared_bits, first + threadIdx.x / 32 * rh::gemm::kSlabs,
                      [&](uint32_t slab, uint32_t token, float low, float high) {
                          put(slab, uint64_t(tile.first + token) * a.out_stride, low / rh::kHalfScale, high / rh::kHalfScale);
                      });
}

}  // namespace

// Grid: one block of 1024 threads, at least as many as experts. Shared memory:
// 4 + 64 bytes for each expert.
RH_KERNEL(rh_moe_plan, rh::MoePlanArgs, 80, 1024) {
    extern __shared__ uint4 shared[];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const Plan plan(a, shared);
    plan.count();
    __syncthreads();
    plan.share();
    __syncthreads();
    plan.place();
}

// Grid: slabs, two a warp, by the most tiles there can be. Block and shared memory
// as of rh_linear_prefill. A slab holds eight gates above their ups.
RH_KERNEL(rh_moe_gate_up, rh::MoeArgs, 80, 384) {
    extern __shared__ uint4 shared[];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    uint16_t *h = static_cast<uint16_t *>(a.out) + threadIdx.x % 32 / 4;
    grouped(a, shared, [&](uint32_t slab, uint64_t row, float gate, float up) {
        h[row + slab * 8] = rh::to_half(gate / (1.0f + expf(-gate)) * up);
    });
}

// Grid, block and shared memory likewise.
RH_KERNEL(rh_moe_down, rh::MoeArgs, 80, 384) {
    extern __shared__ uint4 shared[];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    float *y = static_cast<float *>(a.out) + threadIdx.x % 32 / 4;
    grouped(a, shared, [&](uint32_t slab, uint64_t row, float low, float high) {
        y[row + slab * 16] = low;
        y[row + slab * 16 + 8] = high;
    });
}

// Grid: rows. Block: any; a thread takes four columns at a time.
RH_KERNEL(rh_moe_combine, rh::MoeCombineArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint32_t row = blockIdx.x;
    if (row >= a.rows) return;
    const rh::Steered steered(a.steer, a.steer_stride, a.row[row].steer);
    const float gate = 1.0f / (1.0f + expf(-a.gate[row])) * (1.0f + steered.head.gate);
    const int32_t *places = a.place + uint64_t(row) * a.k;
    for (uint32_t i = threadIdx.x * 4; i < a.columns; i += blockDim.x * 4) {
        float sum[4] = {};
        auto add = [&](float weight, uint32_t place) {
            const float4 y = *reinterpret_cast<const float4 *>(a.y + uint64_t(place) * a.columns + i);
            sum[0] += weight * y.x, sum[1] += weight * y.y, sum[2] += weight * y.z, sum[3] += weight * y.w;
        };
        for (uint32_t rank = 0; a.stage != 1 && rank < a.k; ++rank) {
            if (places[rank] >= 0) add(a.weights[uint64_t(row) * a.k + rank], places[rank]);
        }
        if (a.stage != 2) add(a.stage == 1 ? 1.0f : gate, a.rows * a.k + row);
        float *out = a.out + uint64_t(row) * a.hidden + a.column + i;
        for (uint32_t j = 0; j < 4; ++j) {
            float x = a.stage == 0 ? out[j] + sum[j] : sum[j];
            if (a.stage == 0 && steered.head.flags & rh::kSteerVector) {
                x += steered.head.strength * steered.bias[2 * a.experts + a.column + i + j];
            }
            out[j] = x;
        }
    }
}
