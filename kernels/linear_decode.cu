// Linear maps of a few rows by weights in slabs: what decode spends most of its
// time in, bound by how fast weights arrive. A weight is read once, whatever the
// number of rows, and each lane keeps kAhead loads of 16 bytes in flight, begun
// before the kernel before this one has ended.
//
// The sum over K has one order for all kernels here: kParts equal parts of whole
// scale groups, each summed from its start, joined from the first to the last.
#include "rh/args_linear.cuh"
#include "rh/half.cuh"
#include "rh/ptx.cuh"
#include "rh/slab.cuh"

namespace {

using namespace rh::slab;
using rh::LinearArgs;

constexpr uint32_t kParts = 8;  // warps of a block
constexpr int kAhead = 8;
constexpr uint32_t kColumns = 8;  // rows of activations that an mma takes: a tile
constexpr uint32_t kPad = 8;      // halves between staged rows, so that they start in other banks

// Slab is the 16 outputs of a block.
struct Slab {
    const uint8_t *data;
    uint32_t bits;
    uint32_t column;   // of out, of the first output
    uint32_t outputs;  // that exist
};

// find_slab is slab i of the matrices side by side.
__device__ __forceinline__ Slab find_slab(const LinearArgs &a, uint32_t i) {
    const uint8_t *data = a.slabs0;
    uint32_t bits = a.bits0, bytes = a.bytes0, n = a.n0, column = a.column0;
    if (i >= a.count0 + a.count1) {
        i -= a.count0 + a.count1;
        data = a.slabs2, bits = a.bits2, bytes = a.bytes2, n = a.n2, column = a.column2;
    } else if (i >= a.count0) {
        i -= a.count0;
        data = a.slabs1, bits = a.bits1, bytes = a.bytes1, n = a.n1, column = a.column1;
    }
    return {data + uint64_t(i) * bytes, bits, column + i * kRows, min(kRows, n - i * kRows)};
}

// Places are where row i of a launch comes from and goes to.
__device__ __forceinline__ rh::Wanted place(const LinearArgs &a, uint32_t i) {
    if (!a.wanted) return {int32_t(i), int32_t(i)};
    const rh::Wanted w = a.wanted[i];
    return w.to < 0 ? rh::Wanted{0, -1} : w;
}

// Activations are a lane's column of each tile: where it begins, and how far away
// the plane of what was lost to rounding is, in halves.
template <int tiles>
struct Activations {
    const uint16_t *x[tiles];
    int64_t low;
    bool has_low;
};

// load_operand reads the B operands of a lane for one block: of each step four
// neighbouring halves.
template <int bits>
__device__ __forceinline__ void load_operand(uint32_t b[values<bits>() / 8], const uint16_t *x) {
    if constexpr (bits == 16) {
        const uint2 v = *reinterpret_cast<const uint2 *>(x);
        b[0] = v.x, b[1] = v.y;
    } else {
#pragma unroll
        for (uint32_t i = 0; i < values<bits>() / 32; ++i) {
            const uint4 v = reinterpret_cast<const uint4 *>(x)[i];
            b[4 * i] = v.x, b[4 * i + 1] = v.y, b[4 * i + 2] = v.z, b[4 * i + 3] = v.w;
        }
    }
}

// Stream is a lane's share of the weights of one part of K, of which the first
// blocks are on their way.
template <int bits>
struct Stream {
    static constexpr uint32_t kUnit = kGroup / values<bits>();  // blocks of a scale group
    const uint8_t *data;
    const uint16_t *scales;
    uint32_t first, count;  // blocks
    uint4 ring[kAhead];
    uint32_t scale[kAhead / kUnit];  // of the outputs g and g+8

    __device__ __forceinline__ Stream(const uint8_t *slab, uint32_t k, uint32_t part) {
        const uint32_t units = (k + kGroup - 1) / kGroup, blocks = k / values<bits>();
        first = part * units / kParts * kUnit;
        count = min((part + 1) * units / kParts * kUnit, blocks) - first;
        data = slab + uint64_t(first) * kBlock + threadIdx.x % 32 * 16;
        scales = reinterpret_cast<const uint16_t *>(slab + uint64_t(blocks) * kBlock) + first / kUnit * kRows +
                 threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < kAhead; ++i) load(i, i);
    }

    // load begins loading a block, and the scales of its group, where there is one.
    __device__ __forceinline__ void load(uint32_t slot, uint32_t block) {
        if (block >= count) return;
        ring[slot] = rh::ptx::load_once(data + uint64_t(block) * kBlock);
        if (bits < 16 && slot % kUnit == 0) {
            const uint16_t *at = scales + block / kUnit * kRows;
            scale[slot / kUnit] = at[0] | uint32_t(at[8]) << 16;
        }
    }

    // multiply sums the part: c of each tile as mma has it. The activations begin
    // with the first k of the matrix.
    template <int tiles>
    __device__ __forceinline__ void multiply(float sum[tiles][4], const Activations<tiles> &act) {
        float group[tiles][4] = {};
#pragma unroll
        for (int j = 0; j < tiles; ++j)
            for (int i = 0; i < 4; ++i) sum[j][i] = 0.0f;
        for (uint32_t base = 0; base < count; base += kAhead) {
#pragma unroll
            for (int slot = 0; slot < kAhead; ++slot) {
                const uint32_t block = base + slot;
                if (block >= count) break;
                uint32_t a[steps<bits>()][4];
#pragma unroll
                for (int s = 0; s < int(steps<bits>()); ++s) operand<bits>(a[s], ring[slot], s);
                const float scale0 = rh::ptx::half_value(uint16_t(scale[slot / kUnit]));
                const float scale8 = rh::ptx::half_value(uint16_t(scale[slot / kUnit] >> 16));
                load(slot, block + kAhead);
                const uint32_t k = (first + block) * values<bits>();
#pragma unroll
                for (int j = 0; j < tiles; ++j) {
                    float *c = bits < 16 ? group[j] : sum[j];
                    one(c, a, act.x[j] + k);
                    if (act.has_low) one(c, a, act.x[j] + act.low + k);
                    if (bits < 16 && slot % kUnit == kUnit - 1) {
                        sum[j][0] = fmaf(scale0, c[0], sum[j][0]);
                        sum[j][1] = fmaf(scale0, c[1], sum[j][1]);
                        sum[j][2] = fmaf(scale8, c[2], sum[j][2]);
                        sum[j][3] = fmaf(scale8, c[3], sum[j][3]);
                        for (int i = 0; i < 4; ++i) c[i] = 0.0f;
                    }
                }
            }
        }
    }

    // one adds a block's products with one tile.
    __device__ __forceinline__ void one(float c[4], const uint32_t a[steps<bits>()][4], const uint16_t *x) {
        uint32_t b[values<bits>() / 8];
        load_operand<bits>(b, x);
#pragma unroll
        for (int s = 0; s < int(steps<bits>()); ++s) rh::ptx::mma_f16(c, a[s], b + 2 * s);
    }
};

// stage copies the rows of a launch, and of the low plane behind them, to shared
// memory.
__device__ __forceinline__ void stage(uint16_t *to, const LinearArgs &a) {
    const uint32_t quads = a.k / 8, planes = a.low ? 2 : 1;
    for (uint32_t r = 0; r < planes * a.rows; ++r) {
        const uint16_t *x = r < a.rows ? a.x : a.low;
        const uint4 *row = reinterpret_cast<const uint4 *>(x + uint64_t(place(a, r % a.rows).row) * a.k);
        uint4 *copy = reinterpret_cast<uint4 *>(to + r * (a.k + kPad));
        for (uint32_t i = threadIdx.x; i < quads; i += blockDim.x) copy[i] = row[i];
    }
    __syncthreads();
}

// columns finds a lane's columns; those beyond the rows of a launch are the last
// row's, and go nowhere. staged: null where rows are read as they lie.
template <int bits, int tiles>
__device__ __forceinline__ Activations<tiles> columns(const LinearArgs &a, const uint16_t *staged) {
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    Activations<tiles> act;
#pragma unroll
    for (int j = 0; j < tiles; ++j) {
        const uint32_t i = min(j * kColumns + g, a.rows - 1);
        act.x[j] = (staged ? staged + i * (a.k + kPad) : a.x + uint64_t(place(a, i).row) * a.k) + t * (values<bits>() / 4);
    }
    act.low = staged ? int64_t(a.rows) * (a.k + kPad) : a.low - a.x;
    act.has_low = a.low != nullptr;
    return act;
}

// part multiplies with a warp's part of a slab.
template <int bits, int tiles>
__device__ __forceinline__ void part(float sum[tiles][4], const LinearArgs &a, const Slab &slab, uint16_t *staged) {
    Stream<bits> weights(slab.data, a.k, threadIdx.x / 32);
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    if (tiles == 1) stage(staged, a);
    weights.template multiply<tiles>(sum, columns<bits, tiles>(a, tiles == 1 ? staged : nullptr));
}

// decode is a block's work: one slab, up to tiles * kColumns rows.
template <int tiles>
__device__ __forceinline__ void decode(const LinearArgs &a) {
    extern __shared__ uint4 staged[];
    __shared__ float sums[kParts][tiles * kColumns][kRows];
    const Slab slab = find_slab(a, blockIdx.x);
    uint16_t *rows = reinterpret_cast<uint16_t *>(staged);
    float sum[tiles][4];
    if (slab.bits == 4) {
        part<4, tiles>(sum, a, slab, rows);
    } else if (slab.bits == 8) {
        part<8, tiles>(sum, a, slab, rows);
    } else {
        part<16, tiles>(sum, a, slab, rows);
    }
    const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < tiles; ++j)
        for (int i = 0; i < 4; ++i) sums[warp][j * kColumns + 2 * t + i % 2][g + i / 2 * 8] = sum[j][i];
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < a.rows * kRows; i += blockDim.x) {
        const uint32_t r = i / kRows, n = i % kRows;
        const int32_t to = place(a, r).to;
        if (to < 0 || n >= slab.outputs) continue;
        float total = sums[0][r][n];
        for (uint32_t w = 1; w < kParts; ++w) total += sums[w][r][n];
        total *= 1.0f / rh::kHalfScale;
        float *out = a.out + uint64_t(to) * a.stride + slab.column + n;
        *out = a.add ? *out + total : total;
    }
}

}  // namespace

// Grid: a block a slab. Block: kParts warps. Up to 8 rows, which are staged in
// dynamic shared memory: halves [planes][rows][k + kPad].
RH_KERNEL(rh_linear_decode8, rh::LinearArgs, 80, 256) {
    decode<1>(a);
}

// The same for up to 16, 32 and 64 rows, which are read where they lie.
RH_KERNEL(rh_linear_decode16, rh::LinearArgs, 80, 256) {
    decode<2>(a);
}
RH_KERNEL(rh_linear_decode32, rh::LinearArgs, 80, 256) {
    decode<4>(a);
}
RH_KERNEL(rh_linear_decode64, rh::LinearArgs, 80, 256) {
    decode<8>(a);
}
