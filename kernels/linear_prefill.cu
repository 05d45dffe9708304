// Linear maps of the prefill class: any number of rows times up to three matrices
// in slabs.
#include "rh/args_linear.cuh"
#include "rh/gemm.cuh"

namespace {

// Part is one of the up to three matrices.
struct Part {
    rh::gemm::Weights weights;
    uint32_t bits, n, column;
};

// choose finds the matrix and the first slab of a tile of so many slabs; tiles do
// not cross from one matrix to the next.
__device__ Part choose(const rh::LinearArgs &a, uint32_t tile, uint32_t slabs, uint32_t *first) {
    const uint32_t tiles0 = (a.count0 + slabs - 1) / slabs, tiles1 = (a.count1 + slabs - 1) / slabs;
    if (tile < tiles0) {
        *first = tile * slabs;
        return {{a.slabs0, a.count0, a.bytes0}, a.bits0, a.n0, a.column0};
    }
    if (tile - tiles0 < tiles1) {
        *first = (tile - tiles0) * slabs;
        return {{a.slabs1, a.count1, a.bytes1}, a.bits1, a.n1, a.column1};
    }
    *first = (tile - tiles0 - tiles1) * slabs;
    return {{a.slabs2, a.count2, a.bytes2}, a.bits2, a.n2, a.column2};
}

}  // namespace

// Grid: tiles of 64 rows, which share weights, by tiles of two slabs a warp. Block:
// 1 to 12 warps; with at most 168 registers 12 fit a multiprocessor. Shared memory:
// Input, then to [64]: rows of the output, below 0 for none.
RH_KERNEL(rh_linear_prefill, rh::LinearArgs, 80, 384) {
    extern __shared__ uint4 shared[];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint32_t top = blockIdx.x * rh::gemm::kTokens;
    uint32_t first;
    const Part part = choose(a, blockIdx.y, blockDim.x / 32 * rh::gemm::kSlabs, &first);
    if (top >= a.rows || first >= part.weights.count) return;

    rh::gemm::Input in(shared);
    in.x = a.x, in.low = a.low, in.stride = a.k, in.k = a.k;
    int32_t *to = in.from + rh::gemm::kTokens;
    in.tokens = min(a.rows - top, rh::gemm::kTokens);
    for (uint32_t i = threadIdx.x; i < in.tokens; i += blockDim.x) {
        const int32_t row = top + i;
        const rh::Wanted wanted = a.wanted ? a.wanted[row] : rh::Wanted{row, row};
        in.from[i] = wanted.to < 0 ? 0 : wanted.row;
        to[i] = wanted.to;
    }
    __syncthreads();
    const uint32_t g = threadIdx.x % 32 / 4;
    rh::gemm::product(in, part.weights, part.bits, first + threadIdx.x / 32 * rh::gemm::kSlabs,
                      [&](uint32_t slab, uint32_t token, float low, float high) {
                          if (to[token] < 0) return;
                          float *out = a.out + uint64_t(to[token]) * a.stride + part.column;
                          const uint32_t n = slab * rh::slab::kRows + g;
                          const float sums[2] = {low / rh::kHalfScale, high / rh::kHalfScale};
                          for (uint32_t i = 0; i < 2; ++i) {
                              if (n + i * 8 >= part.n) continue;
                              float *at = out + n + i * 8;
                              *at = a.add ? *at + sums[i] : sums[i];
                          }
                      });
}
