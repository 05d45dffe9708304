// From a checkpoint's layouts to the device's, piece by piece, as the pieces come
// in through staging buffers.
#include <cuda_fp16.h>

#include "rh/args_repack.cuh"
#include "rh/ptx.cuh"

namespace rh {

// A tile is what a block repacks at a time: one block of slabs along k, 128 outputs
// wide. Rows of the tile are padded so that the lanes of a warp, which read four of
// them, meet no bank twice.
constexpr uint32_t kTileColumns = 128;
constexpr uint32_t kTilePitch = kTileColumns + 4;    // GPTQ: 8 rows of 128 words
constexpr uint32_t kTileAWQPitch = kTileColumns / 8 + 1;  // AWQ: 64 rows of 16 words
constexpr uint32_t kTileWords = 64 * kTileAWQPitch;

__device__ __forceinline__ float stored(const uint8_t *from, uint64_t i, uint32_t type) {
    switch (type) {
        case 0: return reinterpret_cast<const float *>(from)[i];
        case 1: return __half2float(reinterpret_cast<const __half *>(from)[i]);
        default: return __uint_as_float(uint32_t(reinterpret_cast<const uint16_t *>(from)[i]) << 16);
    }
}

__device__ void copy(const RepackPiece &p, const uint8_t *from) {
    const uint32_t vectors = p.count / 16, first = blockIdx.y * blockDim.x + threadIdx.x;
    for (uint32_t i = first; i < vectors; i += gridDim.y * blockDim.x)
        reinterpret_cast<uint4 *>(p.dst)[i] = reinterpret_cast<const uint4 *>(from)[i];
    if (first < p.count % 16) p.dst[vectors * 16 + first] = from[vectors * 16 + first];
}

__device__ void widen(const RepackPiece &p, const uint8_t *from) {
    for (uint32_t i = blockIdx.y * blockDim.x + threadIdx.x; i < p.count; i += gridDim.y * blockDim.x)
        reinterpret_cast<float *>(p.dst)[i] = stored(from, i, p.type);
}

__device__ void scales(const RepackPiece &p, const uint8_t *from) {
    const uint32_t per = p.side == kRepackPlain ? 16 : 8, below = p.side == kRepackUp ? 8 : 0;
    const uint64_t all = uint64_t(p.count) * p.n;
    for (uint64_t i = blockIdx.y * blockDim.x + threadIdx.x; i < all; i += gridDim.y * blockDim.x) {
        const uint32_t group = p.first + uint32_t(i / p.n), n = uint32_t(i % p.n);
        uint8_t *slab = p.dst + uint64_t(n / per) * p.stride;
        reinterpret_cast<uint16_t *>(slab)[group * 16 + below + n % per] = reinterpret_cast<const uint16_t *>(from)[i];
    }
}

// spread puts four neighbouring codes where a word of a slab has those of row g; a
// nibble higher they are those of row g + 8.
__device__ __forceinline__ uint32_t spread(uint32_t codes) {
    return (codes & 0x0f0f) | (codes & 0xf0f0) << 12;
}

// fetch reads a tile: the words of one block of k and 128 outputs from column on.
// Words of columns from N on are 0.
__device__ void fetch(const RepackPiece &p, const uint8_t *from, uint32_t *tile, uint32_t block, uint32_t column) {
    const uint32_t *words = reinterpret_cast<const uint32_t *>(from);
    const bool awq = p.kind == kRepackAWQ;
    const uint32_t width = awq ? p.n / 8 : p.n;              // words of a row
    const uint32_t rows = awq ? 64 : 8;                      // of the tile
    const uint32_t across = awq ? kTileColumns / 8 : kTileColumns;
    const uint32_t pitch = awq ? kTileAWQPitch : kTilePitch;
    const uint32_t left = awq ? column / 8 : column;
    for (uint32_t i = threadIdx.x; i < rows * across; i += blockDim.x) {
        const uint32_t row = i / across, at = left + i % across;
        tile[row * pitch + i % across] = at < width ? words[uint64_t(block * rows + row) * width + at] : 0;
    }
}

// codes gives the four codes k = 16*t + 4*s + {0..3} (4 bits) or 8*t + 4*s + {0..3}
// (8 bits) of a column of the tile, the first one lowest.
__device__ __forceinline__ uint32_t codes(const RepackPiece &p, const uint32_t *tile, uint32_t t, uint32_t s, uint32_t column) {
    if (p.bits == 8) return tile[(2 * t + s) * kTilePitch + column];
    if (p.kind == kRepackGPTQ) return tile[(2 * t + s / 2) * kTilePitch + column] >> (s % 2 * 16) & 0xffff;
    const uint32_t nibble = 4 * (column % 2 * 4 + column % 8 / 2);
    uint32_t four = 0;
    for (uint32_t j = 0; j < 4; j++)
        four |= (tile[(16 * t + 4 * s + j) * kTileAWQPitch + column / 8] >> nibble & 15) << (4 * j);
    return four;
}

// lane_words writes what a piece has of a lane's four words of a block: all of them,
// or, of a gate or up matrix, its row's. Gate and up share the words of 4 bits, and
// may come at the same time.
__device__ void lane_words(const RepackPiece &p, const uint32_t *tile, uint32_t *to, uint32_t slab, uint32_t lane) {
    const uint32_t g = lane / 4, t = lane % 4;
    if (p.side == kRepackPlain) {
        const uint32_t low = slab * 16 + g, high = low + 8;
        uint4 four;
        if (p.bits == 8) {
            four = {codes(p, tile, t, 0, low), codes(p, tile, t, 0, high), codes(p, tile, t, 1, low), codes(p, tile, t, 1, high)};
        } else {
            four = {spread(codes(p, tile, t, 0, low)) | spread(codes(p, tile, t, 0, high)) << 4,
                    spread(codes(p, tile, t, 1, low)) | spread(codes(p, tile, t, 1, high)) << 4,
                    spread(codes(p, tile, t, 2, low)) | spread(codes(p, tile, t, 2, high)) << 4,
                    spread(codes(p, tile, t, 3, low)) | spread(codes(p, tile, t, 3, high)) << 4};
        }
        *reinterpret_cast<uint4 *>(to) = four;
        return;
    }
    const uint32_t column = slab * 8 + g, up = p.side == kRepackUp;
    if (p.bits == 8) {
        for (uint32_t s = 0; s < 2; s++) to[2 * s + up] = codes(p, tile, t, s, column);
    } else {
        for (uint32_t s = 0; s < 4; s++) atomicOr(to + s, spread(codes(p, tile, t, s, column)) << (4 * up));
    }
}

__device__ void packed(const RepackPiece &p, const uint8_t *from, uint32_t *tile) {
    const uint32_t per = p.side == kRepackPlain ? 16 : 8;  // outputs of the piece in a slab
    const uint32_t deep = 256 / p.bits;                    // k of a block
    const uint32_t across = (p.n + kTileColumns - 1) / kTileColumns, tiles = p.count / deep * across;
    for (uint32_t u = blockIdx.y; u < tiles; u += gridDim.y) {
        const uint32_t block = u / across, column = u % across * kTileColumns;
        __syncthreads();  // the tile before may still be read
        fetch(p, from, tile, block, column);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < kTileColumns / per * 32; i += blockDim.x) {
            const uint32_t slab = i / 32, lane = i % 32;
            if (column + slab * per >= p.n) continue;
            uint8_t *at = p.dst + uint64_t(column / per + slab) * p.stride + uint64_t(p.first / deep + block) * 512 + lane * 16;
            lane_words(p, tile, reinterpret_cast<uint32_t *>(at), slab, lane);
        }
    }
}

// half_pair rounds two neighbouring weights of one output; what fp16 cannot hold is
// reported.
__device__ __forceinline__ uint32_t half_pair(const RepackPiece &p, const uint8_t *from, uint64_t at, uint32_t *overflow) {
    uint32_t pair = 0;
    for (uint32_t j = 0; j < 2; j++) {
        const uint32_t bits = __half_as_ushort(__float2half_rn(stored(from, at + j, p.type)));
        if ((bits & 0x7c00) == 0x7c00) atomicMax(overflow, p.tensor);
        pair |= bits << (16 * j);
    }
    return pair;
}

// dense: a warp writes a block of 16 outputs and 16 inputs at a time.
__device__ void dense(const RepackPiece &p, const uint8_t *from, uint32_t *overflow) {
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warps = blockDim.x / 32;
    const bool plain = p.side == kRepackPlain;
    const uint32_t per = plain ? 16 : 8, up = p.side == kRepackUp, blocks = p.k / 16;
    const uint64_t all = uint64_t((p.count + per - 1) / per) * blocks;
    for (uint64_t i = blockIdx.y * warps + threadIdx.x / 32; i < all; i += gridDim.y * warps) {
        const uint32_t slab = uint32_t(i / blocks), block = uint32_t(i % blocks);
        uint8_t *at = p.dst + uint64_t(p.first / per + slab) * p.stride + uint64_t(block) * 512 + lane * 16;
        for (uint32_t high = 0; high < per / 8; high++) {
            const uint32_t row = slab * per + high * 8 + g;  // of the piece
            if (row >= p.count) continue;
            const uint64_t value = uint64_t(row) * p.k + block * 16 + t * 4;
            uint32_t *to = reinterpret_cast<uint32_t *>(at) + (plain ? high : up);
            to[0] = half_pair(p, from, value, overflow);
            to[2] = half_pair(p, from, value + 2, overflow);
        }
    }
}

// random is 64 bits for number i of a stream (splitmix64).
__device__ __forceinline__ uint64_t random(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// made is value i of a piece. The sum of four numbers of 16 bits has the deviation
// 65536 / sqrt(3). Nothing is fused, so that the value is the same anywhere.
__device__ __forceinline__ float made(const RandomPiece &p, uint64_t i) {
    const uint64_t r = random(p.seed, i);
    const int32_t sum = int32_t((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48)) - 2 * 65535;
    const float v = __fadd_rn(p.centre, __fmul_rn(p.spread, __fmul_rn(float(sum), 2.6428964e-05f)));
    return p.signs && (r >> 20 & 1) ? -v : v;
}

// made_slab is where output n of a piece has its slab, and row its row there.
__device__ __forceinline__ uint8_t *made_slab(const RandomPiece &p, uint32_t n, uint32_t &row) {
    const uint32_t per = p.side == kRepackPlain ? 16 : 8;
    row = n % per + (p.side == kRepackUp ? 8 : 0);
    return p.dst + uint64_t(n / per) * p.stride;
}

__device__ void make(const RandomPiece &p, uint64_t i) {
    uint32_t row;
    switch (p.kind) {
        case kRandomWords:
            reinterpret_cast<uint32_t *>(p.dst + i / p.count * p.stride)[i % p.count] = uint32_t(random(p.seed, i));
            break;
        case kRandomValues:
            if (p.type == 0) reinterpret_cast<float *>(p.dst)[i] = made(p, i);
            else if (p.type == 1) reinterpret_cast<__half *>(p.dst)[i] = __float2half_rn(made(p, i));
            else reinterpret_cast<uint16_t *>(p.dst)[i] = uint16_t(__float_as_uint(made(p, i)) >> 16);
            break;
        case kRandomScales: {
            __half *slab = reinterpret_cast<__half *>(made_slab(p, uint32_t(i % p.n), row));
            slab[i / p.n * 16 + row] = __float2half_rn(made(p, i));
            break;
        }
        default: {
            const uint32_t k = uint32_t(i % p.count);
            uint8_t *slab = made_slab(p, uint32_t(i / p.count), row);
            const uint32_t at = k / 16 * 256 + (row % 8 * 4 + k % 16 / 4) * 8 + (k % 4 / 2 * 2 + row / 8) * 2 + k % 2;
            reinterpret_cast<__half *>(slab)[at] = __float2half_rn(made(p, i));
        }
    }
}

}  // namespace rh

// Grid: x shares the pieces out, y the work of each. Block: whole warps.
RH_KERNEL(rh_repack_pieces, rh::RepackArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    __shared__ uint32_t tile[rh::kTileWords];
    for (uint32_t i = blockIdx.x; i < a.count; i += gridDim.x) {
        const rh::RepackPiece p = a.pieces[i];
        const uint8_t *from = a.staging + p.source;
        switch (p.kind) {
            case rh::kRepackCopy: rh::copy(p, from); break;
            case rh::kRepackWiden: rh::widen(p, from); break;
            case rh::kRepackScales: rh::scales(p, from); break;
            case rh::kRepackDense: rh::dense(p, from, a.overflow); break;
            default: rh::packed(p, from, tile);
        }
    }
}

// Grid: x shares the pieces out, y the numbers of each.
RH_KERNEL(rh_repack_random, rh::RandomArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    for (uint32_t i = blockIdx.x; i < a.count; i += gridDim.x) {
        const rh::RandomPiece p = a.pieces[i];
        const uint64_t all = p.kind == rh::kRandomValues ? p.count : p.count * p.n;
        for (uint64_t j = blockIdx.y * blockDim.x + threadIdx.x; j < all; j += uint64_t(gridDim.y) * blockDim.x) rh::make(p, j);
    }
}
