// Linear maps of a few rows by weights in slabs: what decode spends most of its
// time in, bound by how fast weights arrive. A weight is read once, whatever the
// number of rows. Blocks stay and take slab after slab, and each lane keeps copies of
// 16 bytes to shared memory in flight all the while: the first before the kernel ahead
// has ended, those of the next slab while this one is summed.
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
constexpr uint32_t kSlot = kBlock + kRows * 2;  // bytes of a block on its way, and of its group's scales

// ahead is how many blocks a warp has on their way.
template <int tiles>
__host__ __device__ constexpr uint32_t ahead() {
    return tiles == 1 ? 8 : 4;
}

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

// Stream is the weights of one part of K of slab after slab, on their way through a
// ring of shared memory. A lane copies what it multiplies; the scales that the lanes
// share are copied by the first two, with the last block of their group.
template <int bits, int tiles>
struct Stream {
    static constexpr uint32_t kUnit = kGroup / values<bits>();              // blocks of a scale group
    static constexpr uint32_t kTurn = bits < 16 ? kUnit : kUnit / 2;        // blocks of a turn of the loop
    uint8_t *ring;           // of the warp
    uint32_t lane, slot;     // of the ring, the next to be multiplied
    uint32_t first, count;   // blocks of the part
    const uint8_t *from;     // the lane's bytes of the next block to copy
    const uint8_t *scales;   // the lane's 16 bytes of those of its group
    uint32_t left, slabs;    // blocks and slabs that are still to be copied, this one included
    uint64_t step;           // bytes from one slab to the next of this block of threads

    __device__ __forceinline__ Stream(uint8_t *rings, const uint8_t *slab, uint32_t k, uint32_t slabs, uint64_t step)
        : slot(0), slabs(slabs), step(step) {
        const uint32_t part = threadIdx.x / 32, units = (k + kGroup - 1) / kGroup, blocks = k / values<bits>();
        lane = threadIdx.x % 32;
        ring = rings + part * ahead<tiles>() * kSlot;
        first = part * units / kParts * kUnit;
        left = count = min((part + 1) * units / kParts * kUnit, blocks) - first;
        from = slab + first * kBlock + lane * 16;
        scales = slab + blocks * kBlock + first / kUnit * kRows * 2 + lane * 16;
        if (count == 0) return;
#pragma unroll
        for (uint32_t i = 0; i < ahead<tiles>(); ++i) feed(i, i % kUnit == kUnit - 1);
    }

    // feed begins to copy the next block, where there is one. Either way it is one
    // group of copies, so that counting groups is counting blocks.
    __device__ __forceinline__ void feed(uint32_t to, bool last_of_group) {
        if (slabs > 0) {
            uint8_t *place = ring + to * kSlot;
            rh::ptx::copy_async(place + lane * 16, from);
            from += kBlock;
            if (bits < 16 && last_of_group) {
                if (lane < 2) rh::ptx::copy_async(place + kBlock + lane * 16, scales);
                scales += kRows * 2;
            }
            if (--left == 0) {
                --slabs;
                left = count;
                from += step - count * kBlock;
                scales += step - count / kUnit * kRows * 2;
            }
        }
        rh::ptx::copies_close();
    }

    // multiply sums the part of one slab: c of each tile as mma has it; act begins with
    // its first k.
    __device__ __forceinline__ void multiply(float sum[tiles][4], const Activations<tiles> &act) {
#pragma unroll
        for (int j = 0; j < tiles; ++j)
            for (int i = 0; i < 4; ++i) sum[j][i] = 0.0f;
#pragma unroll 1
        for (uint32_t block = 0; block < count; block += kTurn) {
            float group[tiles][4] = {};
#pragma unroll
            for (uint32_t i = 0; i < kTurn; ++i) {
                rh::ptx::copies_wait<ahead<tiles>() - 1>();
                const uint8_t *place = ring + slot * kSlot;
                const uint4 part = *reinterpret_cast<const uint4 *>(place + lane * 16);
                uint32_t a[steps<bits>()][4];
#pragma unroll
                for (int s = 0; s < int(steps<bits>()); ++s) operand<bits>(a[s], part, s);
                if (bits < 16 && i == kUnit - 1) {
                    __syncwarp();  // the first lanes' copies have arrived
                    block_end(sum, group, a, act, (block + i) * values<bits>(), place + kBlock);
                    __syncwarp();  // all have read the scales
                } else {
                    products(bits < 16 ? group : sum, a, act, (block + i) * values<bits>());
                }
                feed(slot, i == kUnit - 1);
                slot = (slot + 1) % ahead<tiles>();
            }
        }
    }

    // products adds a block's products with all tiles.
    __device__ __forceinline__ void products(float c[tiles][4], const uint32_t a[steps<bits>()][4], const Activations<tiles> &act,
                                             uint32_t k) {
#pragma unroll
        for (int j = 0; j < tiles; ++j) {
            one(c[j], a, act.x + act.at[j] + k);
            if (act.low) one(c[j], a, act.low + act.at[j] + k);
        }
    }

    // block_end does so for the last block of a group, whose sums it scales.
    __device__ __forceinline__ void block_end(float sum[tiles][4], float group[tiles][4], const uint32_t a[steps<bits>()][4],
                                              const Activations<tiles> &act, uint32_t k, const uint8_t *scale) {
        const uint16_t *halves = reinterpret_cast<const uint16_t *>(scale) + lane / 4;
        const float scale0 = rh::ptx::half_value(halves[0]), scale8 = rh::ptx::half_value(halves[8]);
        products(group, a, act, k);
#pragma unroll
        for (int j = 0; j < tiles; ++j) {
            sum[j][0] = fmaf(scale0, group[j][0], sum[j][0]);
            sum[j][1] = fmaf(scale0, group[j][1], sum[j][1]);
            sum[j][2] = fmaf(scale8, group[j][2], sum[j][2]);
            sum[j][3] = fmaf(scale8, group[j][3], sum[j][3]);
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
};

// stage copies the rows of a launch, and their low plane behind them, to shared
// memory. Not as copies in flight: they would arrive after all weights on their way.
__device__ __noinline__ void stage(uint16_t *to, const LinearArgs &a) {
    const uint32_t pitch = a.k + kPad;
    for (uint32_t plane = 0; plane < (a.low ? 2 : 1); ++plane) {
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < a.k / 8; i += blockDim.x) {
            uint4 v[kColumns];
#pragma unroll
            for (uint32_t r = 0; r < kColumns; ++r) {
                if (r >= a.rows) break;
                v[r] = reinterpret_cast<const uint4 *>((plane ? a.low : a.x) + uint64_t(place(a, r).row) * a.k)[i];
            }
#pragma unroll
            for (uint32_t r = 0; r < kColumns; ++r) {
                if (r >= a.rows) break;
                reinterpret_cast<uint4 *>(to + (plane * a.rows + r) * pitch)[i] = v[r];
            }
        }
    }
    __syncthreads();
}

// stage_normed puts the normed rows of the residual there; the first block writes
// them out too.
__device__ __noinline__ void stage_normed(uint16_t *to, const LinearArgs &a) {
    const uint32_t pitch = a.k + kPad;
    float scale[kColumns];
    rh::rms_scales<kColumns>(scale, a.residual, a.k, a.rows, a.k, a.eps);
#pragma unroll 2
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
    uint8_t *rings;    // of the warps
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
        const uint64_t step = uint64_t(gridDim.x) * m.bytes;
        const uint32_t slabs = (m.count - i + gridDim.x - 1) / gridDim.x;
        Stream<bits, tiles> weights(rings, m.slabs + uint64_t(i) * m.bytes, a.k, slabs, step);
        begin();
        const Activations<tiles> act = columns<bits>(weights.first * values<bits>());
        for (; i < m.count; i += gridDim.x) {
            float sum[tiles][4];
            weights.multiply(sum, act);
            join(m, i * kRows, sum);
        }
        rh::ptx::copies_wait<0>();  // the ring is free
    }
};

template <int tiles>
__device__ __forceinline__ void decode(const LinearArgs &a) {
    extern __shared__ uint4 shared[];
    __shared__ float sums[kParts][tiles * kColumns][kRows];
    uint8_t *rings = reinterpret_cast<uint8_t *>(shared);
    Block<tiles> block{a, rings, reinterpret_cast<uint16_t *>(rings + kParts * ahead<tiles>() * kSlot), sums, false};
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
// kParts warps; of the first three, fewer than declared, so that the compiler leaves
// registers for two or three blocks. Dynamic shared memory: the rings of the warps, and
// of the first, which takes up to 8 rows, the rows: halves [planes][rows][k + kPad].
RH_KERNEL(rh_linear_decode8, rh::LinearArgs, 80, 768) {
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
