// Linear maps of a few rows by weights in slabs: what decode spends most of its
// time in, bound by how fast weights arrive. A weight is read once, whatever the
// number of rows. Blocks stay and take slab after slab, and each lane keeps loads of
// 16 bytes in flight all the while: the first before the kernel ahead has ended,
// those of the next slab while this one is summed.
//
// The sum over K has one order for all kernels here: kParts equal parts of whole
// scale groups, each summed from its start, joined from the first to the last.
#include "rh/args_linear.cuh"
#include "rh/norm.cuh"
#include "rh/ptx.cuh"
#include "rh/slab.cuh"

namespace {

using namespace rh::slab;
using rh::LinearArgs;

constexpr uint32_t kParts = 8;    // warps of a block
constexpr uint32_t kColumns = 8;  // rows of activations that an mma takes: a tile
constexpr uint32_t kPad = 8;      // halves between staged rows, so that they start in other banks

// Matrix is one of those side by side.
struct Matrix {
    const uint8_t *slabs;
    uint32_t count, bits, bytes, n;
    float *out;  // of the first row
    uint32_t stride;
};

__device__ __forceinline__ Matrix matrix(const LinearArgs &a, int i) {
    if (i == 0) return {a.slabs0, a.count0, a.bits0, a.bytes0, a.n0, a.out + a.column0, a.stride};
    if (i == 2) return {a.slabs2, a.count2, a.bits2, a.bytes2, a.n2, a.out + a.column2, a.stride};
    if (a.out1) return {a.slabs1, a.count1, a.bits1, a.bytes1, a.n1, a.out1, a.n1};
    return {a.slabs1, a.count1, a.bits1, a.bytes1, a.n1, a.out + a.column1, a.stride};
}

// place is where row i of a launch comes from and goes to.
__device__ __forceinline__ rh::Wanted place(const LinearArgs &a, uint32_t i) {
    if (!a.wanted) return {int32_t(i), int32_t(i)};
    const rh::Wanted w = a.wanted[i];
    return w.to < 0 ? rh::Wanted{0, -1} : w;
}

// Activations are a lane's column of each tile, and what they lost to rounding.
template <int tiles>
struct Activations {
    const uint16_t *x, *low;
    uint32_t at[tiles];
};

// Stream is a lane's share of the weights of one part of K, of which `ahead` blocks
// are on their way.
template <int bits, int ahead>
struct Stream {
    static constexpr uint32_t kUnit = kGroup / values<bits>();  // blocks of a scale group
    const uint8_t *slab;     // where the lane's bytes of the part begin
    uint32_t count;          // blocks of the part
    uint32_t scales;         // from slab to its first scale
    uint4 ring[ahead];
    uint32_t scale[(ahead + kUnit - 1) / kUnit];  // of the outputs g and g+8

    __device__ __forceinline__ Stream(const uint8_t *from, uint32_t k, uint32_t &first) {
        const uint32_t part = threadIdx.x / 32, lane = threadIdx.x % 32;
        const uint32_t units = (k + kGroup - 1) / kGroup, blocks = k / values<bits>();
        first = part * units / kParts * kUnit;
        count = min((part + 1) * units / kParts * kUnit, blocks) - first;
        slab = from + first * kBlock + lane * 16;
        scales = (blocks - first) * kBlock + (first / kUnit * kRows + lane / 4) * 2 - lane * 16;
#pragma unroll
        for (uint32_t i = 0; i < ahead; ++i) {
            ring[i] = make_uint4(0, 0, 0, 0);  // else the compiler keeps what other streams left there
            scale[i / kUnit] = 0;
            if (i < count) load(slab, slab + scales, i);
        }
    }

    // load begins loading a block, and with the last of a group its scales.
    __device__ __forceinline__ void load(const uint8_t *blocks, const uint8_t *groups, uint32_t slot) {
        ring[slot] = rh::ptx::load_once(blocks + slot * kBlock);
        if (bits < 16 && slot % kUnit == kUnit - 1) {
            const uint16_t *at = reinterpret_cast<const uint16_t *>(groups + slot / kUnit * kRows * 2);
            scale[slot / kUnit] = at[0] | uint32_t(at[8]) << 16;
        }
    }

    // multiply sums the part: c of each tile as mma has it; act begins with its first
    // k. The freed places take the first blocks of the slab that follows, `step` bytes
    // on, where one does.
    template <int tiles>
    __device__ __forceinline__ void multiply(float sum[tiles][4], const Activations<tiles> &act, bool more, uint64_t step) {
        float group[tiles][4] = {};
#pragma unroll
        for (int j = 0; j < tiles; ++j)
            for (int i = 0; i < 4; ++i) sum[j][i] = 0.0f;
#pragma unroll 1
        for (uint32_t base = 0; base < count; base += ahead) {
            const uint32_t left = count - base;
            const bool last = left <= ahead;
            const uint8_t *from = last ? slab + step : slab + (base + ahead) * kBlock;
            const uint8_t *groups = (last ? slab + step : slab + (base + ahead) / kUnit * kRows * 2) + scales;
            const uint32_t free = last ? (more ? count : 0) : left - ahead;
#pragma unroll
            for (uint32_t slot = 0; slot < ahead; ++slot) {
                if (slot < left) {
                    block<tiles>(sum, group, act, slot, base * values<bits>());
                }
                if (slot < free) load(from, groups, slot);
            }
        }
        slab += step;
    }

    // block multiplies with the block at a place of the ring.
    template <int tiles>
    __device__ __forceinline__ void block(float sum[tiles][4], float group[tiles][4], const Activations<tiles> &act,
                                          uint32_t slot, uint32_t k) {
        uint32_t a[steps<bits>()][4];
#pragma unroll
        for (int s = 0; s < int(steps<bits>()); ++s) operand<bits>(a[s], ring[slot], s);
#pragma unroll
        for (int j = 0; j < tiles; ++j) {
            float *c = bits < 16 ? group[j] : sum[j];
            const uint32_t at = act.at[j] + k;
            one(c, a, act.x + at + slot * values<bits>());
            if (act.low) one(c, a, act.low + at + slot * values<bits>());
            if (bits < 16 && slot % kUnit == kUnit - 1) {
                scaled(sum[j], c, scale[slot / kUnit]);
                for (int i = 0; i < 4; ++i) c[i] = 0.0f;
            }
        }
    }

    // one adds a block's products with one tile: of each step four neighbouring halves.
    __device__ __forceinline__ void one(float c[4], const uint32_t a[steps<bits>()][4], const uint16_t *x) {
        if constexpr (bits == 16) {
            const uint2 v = *reinterpret_cast<const uint2 *>(x);
            const uint32_t b[2] = {v.x, v.y};
            rh::ptx::mma_f16(c, a[0], b);
        } else {
#pragma unroll
            for (int s = 0; s < int(steps<bits>()); s += 2) {
                const uint4 v = *reinterpret_cast<const uint4 *>(x + 4 * s);
                const uint32_t b[4] = {v.x, v.y, v.z, v.w};
                rh::ptx::mma_f16(c, a[s], b);
                rh::ptx::mma_f16(c, a[s + 1], b + 2);
            }
        }
    }

    __device__ __forceinline__ void scaled(float sum[4], const float c[4], uint32_t both) {
        const float scale0 = rh::ptx::half_value(uint16_t(both)), scale8 = rh::ptx::half_value(uint16_t(both >> 16));
        sum[0] = fmaf(scale0, c[0], sum[0]);
        sum[1] = fmaf(scale0, c[1], sum[1]);
        sum[2] = fmaf(scale8, c[2], sum[2]);
        sum[3] = fmaf(scale8, c[3], sum[3]);
    }
};

// stage copies the rows of a launch, and their low plane behind them, to shared
// memory.
__device__ __forceinline__ void stage(uint16_t *to, const LinearArgs &a) {
    const uint32_t quads = a.k / 8, planes = a.low ? 2 : 1;
    for (uint32_t r = 0; r < planes * a.rows; ++r) {
        const uint16_t *x = r < a.rows ? a.x : a.low;
        const uint4 *row = reinterpret_cast<const uint4 *>(x + uint64_t(place(a, r % a.rows).row) * a.k);
        uint4 *copy = reinterpret_cast<uint4 *>(to + r * (a.k + kPad));
        for (uint32_t i = threadIdx.x; i < quads; i += blockDim.x) rh::ptx::copy_async(copy + i, row + i);
    }
    rh::ptx::copies_close();
    rh::ptx::copies_wait<0>();
    __syncthreads();
}

// stage_normed puts the normed rows of the residual there; the first block writes
// them out too.
__device__ __forceinline__ void stage_normed(uint16_t *to, const LinearArgs &a) {
    const uint32_t pitch = a.k + kPad;
    float scale[kColumns];
    rh::rms_scales<kColumns>(scale, a.residual, a.k, a.rows, a.k, a.eps);
    for (uint32_t i = threadIdx.x; i < a.k / 4; i += rh::kNormThreads) {
        const float4 w = reinterpret_cast<const float4 *>(a.norm)[i];
#pragma unroll
        for (uint32_t r = 0; r < kColumns; ++r) {
            if (r >= a.rows) break;
            const uint64_t row = uint64_t(r) * a.k;
            const float4 y = rh::normed(reinterpret_cast<const float4 *>(a.residual + row)[i], scale[r], w);
            const ushort4 h = rh::halves(y);
            reinterpret_cast<ushort4 *>(to + r * pitch)[i] = h;
            if (a.low) reinterpret_cast<ushort4 *>(to + (a.rows + r) * pitch)[i] = rh::lows(y, h);
            if (blockIdx.x != 0) continue;
            if (a.normed) reinterpret_cast<float4 *>(a.normed + row)[i] = y;
            if (a.normed_half) reinterpret_cast<ushort4 *>(a.normed_half + row)[i] = h;
        }
    }
    __syncthreads();
}

// Block is what a block of threads has at hand while it goes from slab to slab.
template <int tiles>
struct Block {
    const LinearArgs &a;
    uint16_t *staged;
    float (*sums)[tiles * kColumns][kRows];  // of kParts
    bool begun;

    // begin waits for the kernel ahead, once.
    __device__ __forceinline__ void begin() {
        if (begun) return;
        begun = true;
        if (tiles == 1 && a.residual) {  // weights too: into the L2 cache, a line a thread
            for (uint32_t i = threadIdx.x * 32; i < a.k; i += blockDim.x * 32) rh::ptx::load_once(a.norm + i);
        }
        rh::ptx::grid_release();
        rh::ptx::grid_wait();
        if (tiles > 1) return;
        if (a.residual) {
            stage_normed(staged, a);
        } else {
            stage(staged, a);
        }
    }

    // columns finds a lane's columns; those beyond the rows of a launch are the last
    // row's, and go nowhere. They begin with input k.
    template <int bits>
    __device__ __forceinline__ Activations<tiles> columns(uint32_t k) const {
        const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, pitch = a.k + kPad;
        Activations<tiles> act;
        act.x = tiles == 1 ? staged : a.x;
        act.low = tiles == 1 && a.low ? staged + a.rows * pitch : a.low;
#pragma unroll
        for (int j = 0; j < tiles; ++j) {
            const uint32_t i = min(j * kColumns + g, a.rows - 1);
            act.at[j] = (tiles == 1 ? i * pitch : place(a, i).row * a.k) + t * (values<bits>() / 4) + k;
        }
        return act;
    }

    // join adds up the parts of a slab, whose first output is n, and stores them.
    __device__ __forceinline__ void join(const Matrix &m, uint32_t n, const float sum[tiles][4]) {
        const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        __syncthreads();  // the slab before may still be read
#pragma unroll
        for (int j = 0; j < tiles; ++j)
            for (int i = 0; i < 4; ++i) sums[warp][j * kColumns + 2 * t + i % 2][g + i / 2 * 8] = sum[j][i];
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < a.rows * kRows; i += blockDim.x) {
            const uint32_t r = i / kRows, o = i % kRows;
            const int32_t to = place(a, r).to;
            if (to < 0 || n + o >= m.n) continue;
            float total = sums[0][r][o];
            for (uint32_t w = 1; w < kParts; ++w) total += sums[w][r][o];
            total *= 1.0f / rh::kHalfScale;
            float *out = m.out + uint64_t(to) * m.stride + n + o;
            *out = a.add ? *out + total : total;
        }
    }

    // run takes slabs i, i + blocks of the grid, ... of a matrix.
    template <int bits>
    __device__ __forceinline__ void run(const Matrix &m, uint32_t i) {
        constexpr int ahead = tiles == 1 ? 8 : 4;
        uint32_t first;  // block of the warp's part
        Stream<bits, ahead> weights(m.slabs + uint64_t(i) * m.bytes, a.k, first);
        begin();
        const Activations<tiles> act = columns<bits>(first * values<bits>());
        for (; i < m.count; i += gridDim.x) {
            float sum[tiles][4];
            weights.template multiply<tiles>(sum, act, i + gridDim.x < m.count, uint64_t(gridDim.x) * m.bytes);
            join(m, i * kRows, sum);
        }
    }
};

template <int tiles>
__device__ __forceinline__ void decode(const LinearArgs &a) {
    extern __shared__ uint4 staged[];
    __shared__ float sums[kParts][tiles * kColumns][kRows];
    Block<tiles> block{a, reinterpret_cast<uint16_t *>(staged), sums, false};
    uint32_t i = blockIdx.x;
#pragma unroll 1
    for (int w = 0; w < 3; ++w) {
        const Matrix m = matrix(a, w);
        if (i < m.count) {
            if (m.bits == 4) {
                block.template run<4>(m, i);
            } else if (m.bits == 8) {
                block.template run<8>(m, i);
            } else {
                block.template run<16>(m, i);
            }
            i += (m.count - i + gridDim.x - 1) / gridDim.x * gridDim.x;
        }
        i -= m.count;
    }
    block.begin();
}

}  // namespace

// Grid: any number of blocks, which share the slabs out among themselves. Block:
// kParts warps, half of the threads declared: so that the compiler leaves registers
// for two blocks. Up to 8 rows, which are staged in dynamic shared memory: halves
// [planes][rows][k + kPad].
RH_KERNEL(rh_linear_decode8, rh::LinearArgs, 80, 512) {
    decode<1>(a);
}

// The same for up to 16, 32 and 64 rows, which are read where they lie.
RH_KERNEL(rh_linear_decode16, rh::LinearArgs, 80, 512) {
    decode<2>(a);
}
RH_KERNEL(rh_linear_decode32, rh::LinearArgs, 80, 512) {
    decode<4>(a);
}
RH_KERNEL(rh_linear_decode64, rh::LinearArgs, 80, 256) {
    decode<8>(a);
}
