// The delta rule over the tokens of a prompt, with keys and values 128 wide, in
// chunks of 64 tokens whose borders are multiples of 64 in the sequence. With G_i
// the sum of g up to row i of a chunk and S the state as it comes in, the changes
// that its rows write are
//
//	D = U - W S,  (I + A) [U | W] = [beta V | beta e^G K]
//	A_ij = beta_i (k_i.k_j) e^{G_i-G_j} for j < i, else 0
//
// and then
//
//	o_i = e^{G_i} S^T q_i + sum_{j<=i} P_ij D_j,  P_ij = (q_i.k_j) e^{G_i-G_j}
//	S  <- e^{G_C} S + sum_j e^{G_C-G_j} k_j D_j^T
//
// U, W and P need no S: rh_deltanet_chunk makes them for all chunks at once, and
// rh_deltanet_scan walks over the chunks. All sums are fp32, and all exponents are
// at most 0: e^{-G} would overflow.
#include "rh/delta.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

namespace {

constexpr int kChunk = 64;
constexpr int kDim = 128;
constexpr float kScale = 0.08838834764831845f;  // of q: 1/sqrt(128)

// Rows of shared memory begin 4 banks apart.
constexpr int kPitch = kDim + 4;        // of q and k
constexpr int kAgainst = kChunk + 4;    // of A
constexpr int kThreads = 256;

extern __shared__ float4 memory[];

// Run is a chunk's rows in its piece.
struct Run {
    int first, rows;
    __device__ Run(const rh::Segment &s, int chunk) {
        const int before = s.start % kChunk;  // rows of the first chunk in an earlier piece
        first = max(chunk * kChunk - before, 0);
        rows = min((chunk + 1) * kChunk - before, s.len) - first;
    }
};

__device__ __forceinline__ int chunks(const rh::Segment &s) { return (s.start % kChunk + s.len + kChunk - 1) / kChunk; }

__device__ __forceinline__ float dot(const float4 &a, const float4 &b, float sum) {
    return a.x * b.x + (a.y * b.y + (a.z * b.z + (a.w * b.w + sum)));
}

__device__ __forceinline__ float4 times(const float4 &v, float x) { return make_float4(v.x * x, v.y * x, v.z * x, v.w * x); }

// unit L2-norms a row of which each lane has four values.
__device__ __forceinline__ float4 unit(const float4 &v) { return times(v, rh::delta::unit(rh::warp_sum(dot(v, v, 0.0f)))); }

}  // namespace

// Norms of q and k, in mixed; g, of which decay gets the sum G; U, W and P. Grid: key
// heads, chunks. Dynamic shared memory: floats [2][64][kPitch], [64]
// [kAgainst], [4][64].
RH_KERNEL(rh_deltanet_chunk, rh::DeltaArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    float *queries = reinterpret_cast<float *>(memory), *keys = queries + kChunk * kPitch;
    float *against = keys + kChunk * kPitch;  // A by columns: [j][i]
    float *total = against + kChunk * kAgainst, *beta = total + kChunk, *grown = beta + kChunk, *g = grown + kChunk;
    const rh::delta::Layout l(a);
    const rh::Segment s = rh::delta::piece(a, 0);
    if (int(blockIdx.y) >= chunks(s)) return;
    const Run run(s, blockIdx.y);
    const uint32_t first = s.first + run.first, tid = threadIdx.x;

    for (uint32_t i = tid; i < kChunk * kDim / 4; i += blockDim.x) {
        const uint32_t row = i / (kDim / 4), column = i % (kDim / 4) * 4;
        float4 q = make_float4(0.0f, 0.0f, 0.0f, 0.0f), k = q;
        if (row < run.rows) {
            float *mixed = a.mixed + uint64_t(first + row) * l.channels + blockIdx.x * kDim + column;
            q = unit(*reinterpret_cast<const float4 *>(mixed));  // a warp has a row
            k = unit(*reinterpret_cast<const float4 *>(mixed + l.keys));
            *reinterpret_cast<float4 *>(mixed) = q;
            *reinterpret_cast<float4 *>(mixed + l.keys) = k;
        }
        *reinterpret_cast<float4 *>(queries + row * kPitch + column) = q;
        *reinterpret_cast<float4 *>(keys + row * kPitch + column) = k;
    }
    __syncthreads();

    // Products of pairs: rows y, y+16, ... against columns x, x+16, ...
    const int x = tid % 16, y = tid / 16;
    float qk[4][4] = {}, kk[4][4] = {};
    for (int d = 0; d < kDim; d += 4) {
        float4 with[4];
#pragma unroll
        for (int j = 0; j < 4; j++) with[j] = *reinterpret_cast<const float4 *>(keys + (x + 16 * j) * kPitch + d);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float4 q = *reinterpret_cast<const float4 *>(queries + (y + 16 * i) * kPitch + d);
            const float4 k = *reinterpret_cast<const float4 *>(keys + (y + 16 * i) * kPitch + d);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                qk[i][j] = dot(q, with[j], qk[i][j]);
                kk[i][j] = dot(k, with[j], kk[i][j]);
            }
        }
    }

    // They wait in place of q, each where its own thread finds it.
    __syncthreads();
    float *pairs = queries + tid;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        pairs[i * kThreads] = qk[i / 4][i % 4];
        pairs[(i + 16) * kThreads] = kk[i / 4][i % 4];
    }

    for (uint32_t head = blockIdx.x * l.share; head < (blockIdx.x + 1) * l.share; head++) {
        const uint64_t gate = uint64_t(first + tid) * a.value_heads + head;
        if (tid < kChunk) {
            g[tid] = beta[tid] = 0.0f;
            if (tid < run.rows) {
                const float *ba = a.in + uint64_t(first + tid) * l.width + l.b(a, head);
                beta[tid] = rh::delta::sigmoid(ba[0]);
                g[tid] = rh::delta::log_decay(a.a_log[head], ba[l.share], a.dt_bias[head]);
            }
        }
        __syncthreads();
        if (tid < kChunk) {  // in the order of rows, so that it never grows
            float sum = 0.0f;
            for (uint32_t i = 0; i <= tid; i++) sum += g[i];
            total[tid] = sum;
            grown[tid] = beta[tid] * expf(sum);
            if (tid < run.rows) a.decay[gate] = sum;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const int row = y + i / 4 * 16, column = x + i % 4 * 16;
            const float fade = column <= row ? expf(total[row] - total[column]) : 0.0f;
            against[column * kAgainst + row] = column < row ? beta[row] * pairs[(i + 16) * kThreads] * fade : 0.0f;
            if (row < run.rows)
                a.pairs[(uint64_t(first + row) * a.value_heads + head) * kChunk + column] = pairs[i * kThreads] * fade * kScale;
        }
        __syncthreads();

        // Forward substitution: a thread has one column of U, or of W, in registers.
        const uint32_t column = tid % kDim;
        float solved[kChunk];
        if (tid < kDim) {
            const float *v = a.mixed + uint64_t(first) * l.channels + 2 * l.keys + head * kDim + column;
#pragma unroll
            for (int i = 0; i < kChunk; i++) solved[i] = i < run.rows ? beta[i] * v[uint64_t(i) * l.channels] : 0.0f;
        } else {
#pragma unroll
            for (int i = 0; i < kChunk; i++) solved[i] = grown[i] * keys[i * kPitch + column];
        }
#pragma unroll
        for (int j = 0; j < kChunk - 1; j++) {
#pragma unroll
            for (int i = (j + 1) / 4 * 4; i < kChunk; i += 4) {
                const float4 by = *reinterpret_cast<const float4 *>(against + j * kAgainst + i);
                if (i + 0 > j) solved[i + 0] -= by.x * solved[j];
                if (i + 1 > j) solved[i + 1] -= by.y * solved[j];
                if (i + 2 > j) solved[i + 2] -= by.z * solved[j];
                if (i + 3 > j) solved[i + 3] -= by.w * solved[j];
            }
        }
        float *to = (tid < kDim ? a.change : a.carry) + (uint64_t(first) * a.value_heads + head) * kDim + column;
#pragma unroll
        for (int i = 0; i < kChunk; i++)
            if (i < run.rows) to[uint64_t(i) * l.wide] = solved[i];
        __syncthreads();
    }
}

namespace {

// A block of the scan has kColumns columns of a head's state. What is multiplied
// with state and changes comes by way of a ring of four tiles of 64x64, of which a
// chunk has seven: W and q in halves (each in turn), P, k in halves.
//
// Products run on tensor cores with every fp32 factor as the sum of two bfloat16,
// and without the product of the two small ones: 2^-17 of a factor is lost, whatever
// its size. Sums, and the state from chunk to chunk, are fp32.
constexpr int kColumns = 32;
constexpr int kParts = kColumns / 8;  // columns of an mma
constexpr int kTile = 64 * 64;
constexpr int kTiles = 7, kRing = 4;

// A plane keeps one half of the split of values [k][kColumns] by columns, two k in a
// word. Columns begin 4 banks apart.
constexpr int kStatePitch = kDim / 2 + 4, kChangePitch = kChunk / 2 + 4;

// place is where a tile keeps four values of a row: turned by the row, so that lanes
// that read along rows or along columns find different banks.
__device__ __forceinline__ int place(int row, int four) { return row * 64 + (four ^ ((row ^ row >> 2 & 1) & 3) * 2) * 4; }

struct Scan {
    const rh::DeltaArgs &a;
    const rh::delta::Layout l;
    rh::Segment s;
    float *ring;

    __device__ const float *tile(int index) const { return ring + index % kRing * kTile; }

    // fetch begins to copy a tile into the ring and ends a group of copies.
    __device__ void fetch(int index) const {
        const int chunk = index / kTiles, part = index % kTiles;
        if (chunk < chunks(s)) {
            const Run run(s, chunk);
            const uint32_t head = blockIdx.y;
            const float *from = a.pairs + head * 64;
            uint32_t stride = a.value_heads * 64;
            if (part < 4 && part % 2 == 0) {
                from = a.carry + head * kDim + part / 2 * 64;
                stride = l.wide;
            } else if (part != 4) {
                from = a.mixed + head / l.share * kDim + (part < 4 ? part / 2 * 64 : l.keys + (part - 5) * 64);
                stride = l.channels;
            }
            from += uint64_t(s.first + run.first) * stride;
            float *to = ring + index % kRing * kTile;
            for (int i = threadIdx.x; i < kTile / 4; i += blockDim.x) {
                const int row = i / 16, four = i % 16;
                float *at = to + place(row, four);
                if (row < run.rows) rh::ptx::copy_async(at, from + uint64_t(row) * stride + four * 4);
                else *reinterpret_cast<float4 *>(at) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            }
        }
        rh::ptx::copies_close();
    }
};

// split rounds two values to bfloat16, and what that lost of them.
__device__ __forceinline__ void split(float x0, float x1, uint32_t &high, uint32_t &low) {
    high = rh::ptx::bfloat2_bits(x0, x1);
    low = rh::ptx::bfloat2_bits(x0 - __uint_as_float(high << 16), x1 - __uint_as_float(high & 0xffff0000u));
}

// Factor is the A operand of an mma, split.
struct Factor {
    uint32_t high[4], low[4];
    __device__ __forceinline__ void set(int i, float x0, float x1) { split(x0, x1, high[i], low[i]); }

    // rows takes 16x16 values of a tile: rows from row, columns from column on.
    __device__ __forceinline__ void rows(const float *tile, int row, int column) {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int four = column / 4 + i / 2 * 2 + t / 2;
            const float2 x = *reinterpret_cast<const float2 *>(tile + place(row + g + i % 2 * 8, four) + t % 2 * 2);
            set(i, x.x, x.y);
        }
    }

    // columns takes them transposed, each row of the tile times a factor.
    __device__ __forceinline__ void columns(const float *tile, int row, int column, const float *times) {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int from = row + i / 2 * 8 + t * 2, four = column / 4 + i % 2 * 2 + g / 4;
            set(i, tile[place(from, four) + g % 4] * times[from], tile[place(from + 1, four) + g % 4] * times[from + 1]);
        }
    }

    // multiply adds the product with 16 rows of both planes from a k on.
    __device__ __forceinline__ void multiply(float sum[kParts][4], const uint32_t *planes, int pitch, int k) const {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        uint32_t large[kParts][2], small[kParts][2];
#pragma unroll
        for (int n = 0; n < kParts; n++) {
            const uint32_t *at = planes + (n * 8 + g) * pitch + k / 2 + t;
            large[n][0] = at[0];
            large[n][1] = at[4];
            small[n][0] = at[kColumns * pitch];
            small[n][1] = at[kColumns * pitch + 4];
        }
#pragma unroll
        for (int n = 0; n < kParts; n++) rh::ptx::mma_bf16(sum[n], low, large[n]);
#pragma unroll
        for (int n = 0; n < kParts; n++) rh::ptx::mma_bf16(sum[n], high, small[n]);
#pragma unroll
        for (int n = 0; n < kParts; n++) rh::ptx::mma_bf16(sum[n], high, large[n]);
    }
};

// keep writes a warp's 16 rows of sums, from a k on, to both planes. Lanes of
// neighbouring rows trade values, so that each has two rows of one column.
__device__ __forceinline__ void keep(const float sum[kParts][4], uint32_t *planes, int pitch, int k) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const bool odd = g % 2 != 0;
#pragma unroll
    for (int n = 0; n < kParts; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float mine = odd ? sum[n][2 * i + 1] : sum[n][2 * i];
            const float other = __shfl_xor_sync(0xffffffffu, odd ? sum[n][2 * i] : sum[n][2 * i + 1], 4);
            uint32_t *at = planes + (n * 8 + t * 2 + odd) * pitch + k / 2 + i * 4 + g / 2;
            split(odd ? other : mine, odd ? mine : other, at[0], at[kColumns * pitch]);
        }
    }
}

}  // namespace

// Grid: 128/kColumns, value heads. Dynamic shared memory: floats [kRing][64][64],
// words [2][kColumns][kStatePitch + kChangePitch], floats [2][64]. Warps 0 to 3
// multiply W, each 16 of its rows, and 4 to 7 q; each of the eight has 16 rows of
// the state.
RH_KERNEL(rh_deltanet_scan, rh::DeltaArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    float *ring = reinterpret_cast<float *>(memory);
    Scan scan{a, rh::delta::Layout(a), rh::delta::piece(a, 0), ring};
    const rh::Segment &s = scan.s;
    if (s.len <= 0) return;
    uint32_t *states = reinterpret_cast<uint32_t *>(ring + kRing * kTile);
    uint32_t *changes = states + 2 * kColumns * kStatePitch;  // D
    float *grown = reinterpret_cast<float *>(changes + 2 * kColumns * kChangePitch), *fade = grown + kChunk;  // e^G, e^{G_C-G}
    const int tid = threadIdx.x, warp = tid / 32, half = warp / 4, row = warp % 4 * 16;
    const int g = tid % 32 / 4, t = tid % 4;
    const uint32_t head = blockIdx.y, column = head * kDim + blockIdx.x * kColumns + t * 2;

    // Value i of part n lies at row g + i/2*8, column 8*n + 2*t + i%2.
    float *state = a.state + (uint64_t(s.slot) * a.value_heads * kDim + warp * 16 + g) * kDim + blockIdx.x * kColumns + t * 2 + uint64_t(head) * kDim * kDim;
    float held[kParts][4];
#pragma unroll
    for (int i = 0; i < kParts * 2; i++) {
        const float2 x = s.start > 0 ? *reinterpret_cast<const float2 *>(state + i % 2 * 8 * kDim + i / 2 * 8) : make_float2(0.0f, 0.0f);
        held[i / 2][i % 2 * 2] = x.x;
        held[i / 2][i % 2 * 2 + 1] = x.y;
    }
    keep(held, states, kStatePitch, warp * 16);
    scan.fetch(0);
    scan.fetch(1);
    for (int chunk = 0, next = 0; chunk < chunks(s); chunk++, next += kTiles) {
        const Run run(s, chunk);
        const uint64_t first = s.first + run.first;
        float sum[kParts][4] = {}, written[kParts][4] = {};
        float total = 0.0f, last = 0.0f;
        Factor x;

        // [W | q] S, by halves of its rows.
        rh::ptx::copies_wait<0>();
        __syncthreads();
        scan.fetch(next + 2);
        scan.fetch(next + 3);
        if (tid < run.rows) {
            total = a.decay[(first + tid) * a.value_heads + head];
            last = a.decay[(first + run.rows - 1) * a.value_heads + head];
        }
        if (half == 0) {
#pragma unroll
            for (int i = 0; i < kParts * 2; i++) {
                const int at = row + g + i % 2 * 8;
                if (at >= run.rows) continue;
                const float2 u = *reinterpret_cast<const float2 *>(a.change + (first + at) * scan.l.wide + column + i / 2 * 8);
                written[i / 2][i % 2 * 2] = u.x;
                written[i / 2][i % 2 * 2 + 1] = u.y;
            }
        }
#pragma unroll
        for (int k = 0; k < 64; k += 16) {
            x.rows(scan.tile(next + half), row, k);
            x.multiply(sum, states, kStatePitch, k);
        }
        if (tid < kChunk) {
            grown[tid] = expf(total);
            fade[tid] = expf(last - total);
        }
        rh::ptx::copies_wait<0>();
        __syncthreads();
        scan.fetch(next + 4);
        scan.fetch(next + 5);
#pragma unroll
        for (int k = 0; k < 64; k += 16) {
            x.rows(scan.tile(next + 2 + half), row, k);
            x.multiply(sum, states, kStatePitch, 64 + k);
        }
        if (half == 0) {
#pragma unroll
            for (int i = 0; i < kParts * 4; i++) written[i / 4][i % 4] -= sum[i / 4][i % 4];
            keep(written, changes, kChangePitch, row);
        }

        // o = e^G q S / sqrt(128) + P D.
        rh::ptx::copies_wait<1>();
        __syncthreads();
        scan.fetch(next + 6);
        scan.fetch(next + 7);
        if (half == 1) {
#pragma unroll
            for (int i = 0; i < kParts * 4; i++) sum[i / 4][i % 4] *= grown[row + g + i % 4 / 2 * 8] * kScale;
            for (int k = 0; k <= row; k += 16) {  // P is 0 above its diagonal
                x.rows(scan.tile(next + 4), row, k);
                x.multiply(sum, changes, kChangePitch, k);
            }
#pragma unroll
            for (int i = 0; i < kParts * 2; i++) {
                const int at = row + g + i % 2 * 8;
                if (at >= run.rows) continue;
                *reinterpret_cast<float2 *>(a.heads + (first + at) * scan.l.wide + column + i / 2 * 8) =
                    make_float2(sum[i / 2][i % 2 * 2], sum[i / 2][i % 2 * 2 + 1]);
            }
        }

        // S <- e^{G_C} S + sum of e^{G_C-G_j} k_j D_j^T.
        rh::ptx::copies_wait<1>();
        __syncthreads();
        scan.fetch(next + 8);
#pragma unroll
        for (int i = 0; i < kParts * 4; i++) held[i / 4][i % 4] *= grown[run.rows - 1];
#pragma unroll
        for (int k = 0; k < kChunk; k += 16) {
            x.columns(scan.tile(next + 5 + half), k, row, fade);
            x.multiply(held, changes, kChangePitch, k);
        }
        keep(held, states, kStatePitch, warp * 16);
    }
    rh::ptx::copies_wait<0>();
#pragma unroll
    for (int i = 0; i < kParts * 2; i++)
        *reinterpret_cast<float2 *>(state + i % 2 * 8 * kDim + i / 2 * 8) = make_float2(held[i / 2][i % 2 * 2], held[i / 2][i % 2 * 2 + 1]);
}

// The gated norm, a warp a head. Grid: rows*heads/8.
RH_KERNEL(rh_deltanet_norm_prefill, rh::DeltaArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::delta::Layout l(a);
    const uint32_t index = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t row = index / a.value_heads, head = index % a.value_heads;
    if (row >= a.rows) return;
    const uint64_t at = uint64_t(index) * kDim + lane * 4;
    const float4 o = *reinterpret_cast<const float4 *>(a.heads + at);
    const float4 z = *reinterpret_cast<const float4 *>(a.in + uint64_t(row) * l.width + l.z(a, head) + lane * 4);
    const float4 w = *reinterpret_cast<const float4 *>(a.norm + lane * 4);
    const float rms = 1.0f / sqrtf(rh::warp_sum(dot(o, o, 0.0f)) / float(kDim) + a.eps);
    const float4 y = make_float4(rh::delta::gated(o.x, rms, w.x, z.x), rh::delta::gated(o.y, rms, w.y, z.y),
                                 rh::delta::gated(o.z, rms, w.z, z.z), rh::delta::gated(o.w, rms, w.w, z.w));
    *reinterpret_cast<float4 *>(a.out + at) = y;
    if (a.half == nullptr) return;
    *reinterpret_cast<ushort4 *>(a.half + at) = make_ushort4(rh::to_half(y.x), rh::to_half(y.y), rh::to_half(y.z), rh::to_half(y.w));
}
