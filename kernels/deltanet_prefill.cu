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

}  // namespace

// Grid: key heads, chunks. Dynamic shared memory: floats [2][64][kPitch], [64]
// [kAgainst], [4][64]. q and k are normed; decay becomes G.
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
            const float *mixed = a.mixed + uint64_t(first + row) * l.channels + blockIdx.x * kDim + column;
            q = *reinterpret_cast<const float4 *>(mixed);
            k = *reinterpret_cast<const float4 *>(mixed + l.keys);
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
            g[tid] = tid < run.rows ? a.decay[gate] : 0.0f;
            beta[tid] = tid < run.rows ? a.beta[gate] : 0.0f;
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
constexpr int kColumns = 32;
constexpr int kTile = 64 * 64;
constexpr int kTiles = 7, kRing = 4;

// place is where a tile keeps four values of a row: turned by the row, so that
// neighbouring rows lie in different banks.
__device__ __forceinline__ int place(int row, int four) { return row * 64 + (four ^ row % 8) * 4; }

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

__device__ __forceinline__ void add(float4 &sum, float x, const float4 &v) {
    sum.x += x * v.x;
    sum.y += x * v.y;
    sum.z += x * v.z;
    sum.w += x * v.w;
}

// product adds rows y, y+16, ... of a tile, times 64 rows of four columns.
__device__ __forceinline__ void product(float4 sum[4], const float *tile, int y, const float *columns) {
#pragma unroll 4
    for (int four = 0; four < 16; four++) {
        float4 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = *reinterpret_cast<const float4 *>(columns + (four * 4 + i) * kColumns);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float4 x = *reinterpret_cast<const float4 *>(tile + place(y + 16 * i, four));
            add(sum[i], x.x, v[0]);
            add(sum[i], x.y, v[1]);
            add(sum[i], x.z, v[2]);
            add(sum[i], x.w, v[3]);
        }
    }
}

}  // namespace

// Grid: 128/kColumns, value heads. Dynamic shared memory: floats [kRing][64][64],
// [128 + 2*64][kColumns], [2][64]. Half of the threads multiply W, half q; all of
// them have a part of the state in registers, 4 rows by 4 columns, of which shared
// memory has a copy.
RH_KERNEL(rh_deltanet_scan, rh::DeltaArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    float *ring = reinterpret_cast<float *>(memory);
    Scan scan{a, rh::delta::Layout(a), rh::delta::piece(a, 0), ring};
    const rh::Segment &s = scan.s;
    if (s.len <= 0) return;
    float *held = ring + kRing * kTile;                            // [128][kColumns]
    float *change = held + kDim * kColumns;                          // [64][kColumns]: D
    float *faded = change + kChunk * kColumns;                       // D e^{G_C-G}
    float *grown = faded + kChunk * kColumns, *fade = grown + kChunk;  // e^G, e^{G_C-G}
    const int tid = threadIdx.x, half = tid / 128, y = tid % 128 / 8, column = tid % 8 * 4;
    const uint32_t head = blockIdx.y, from = blockIdx.x * kColumns + column;

    float *state = a.state + ((uint64_t(s.slot) * a.value_heads + head) * kDim + half * 64 + y * 4) * kDim + from;
    float4 keep[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        keep[i] = s.start > 0 ? *reinterpret_cast<const float4 *>(state + i * kDim) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        *reinterpret_cast<float4 *>(held + (half * 64 + y * 4 + i) * kColumns + column) = keep[i];
    }
    scan.fetch(0);
    scan.fetch(1);
    for (int chunk = 0, next = 0; chunk < chunks(s); chunk++, next += kTiles) {
        const Run run(s, chunk);
        const uint64_t first = s.first + run.first;
        float4 sum[4] = {}, written[4] = {};
        float total = 0.0f, last = 0.0f;

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
            for (int i = 0; i < 4; i++)
                if (y + 16 * i < run.rows)
                    written[i] = *reinterpret_cast<const float4 *>(a.change + (first + y + 16 * i) * scan.l.wide + head * kDim + from);
        }
        product(sum, scan.tile(next + half), y, held + column);
        if (tid < kChunk) {
            grown[tid] = expf(total);
            fade[tid] = expf(last - total);
        }
        rh::ptx::copies_wait<0>();
        __syncthreads();
        scan.fetch(next + 4);
        scan.fetch(next + 5);
        product(sum, scan.tile(next + 2 + half), y, held + 64 * kColumns + column);
        if (half == 0) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = y + 16 * i;
                const float4 d = make_float4(written[i].x - sum[i].x, written[i].y - sum[i].y, written[i].z - sum[i].z, written[i].w - sum[i].w);
                const float f = fade[row];
                *reinterpret_cast<float4 *>(change + row * kColumns + column) = d;
                *reinterpret_cast<float4 *>(faded + row * kColumns + column) = make_float4(f * d.x, f * d.y, f * d.z, f * d.w);
            }
        }

        // o = e^G q S / sqrt(128) + P D.
        rh::ptx::copies_wait<1>();
        __syncthreads();
        scan.fetch(next + 6);
        scan.fetch(next + 7);
        if (half == 1) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float f = grown[y + 16 * i] * kScale;
                sum[i] = make_float4(f * sum[i].x, f * sum[i].y, f * sum[i].z, f * sum[i].w);
            }
            product(sum, scan.tile(next + 4), y, change + column);
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (y + 16 * i < run.rows)
                    *reinterpret_cast<float4 *>(a.heads + (first + y + 16 * i) * scan.l.wide + head * kDim + from) = sum[i];
        }

        // S <- e^{G_C} S + sum of e^{G_C-G_j} k_j D_j^T.
        rh::ptx::copies_wait<1>();
        __syncthreads();
        scan.fetch(next + 8);
        const float f = grown[run.rows - 1];
#pragma unroll
        for (int i = 0; i < 4; i++) keep[i] = make_float4(f * keep[i].x, f * keep[i].y, f * keep[i].z, f * keep[i].w);
        const float *keys = scan.tile(next + 5 + half);
#pragma unroll 4
        for (int j = 0; j < kChunk; j++) {
            const float4 k = *reinterpret_cast<const float4 *>(keys + place(j, y));
            const float4 d = *reinterpret_cast<const float4 *>(faded + j * kColumns + column);
            add(keep[0], k.x, d);
            add(keep[1], k.y, d);
            add(keep[2], k.z, d);
            add(keep[3], k.w, d);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) *reinterpret_cast<float4 *>(held + (half * 64 + y * 4 + i) * kColumns + column) = keep[i];
    }
    rh::ptx::copies_wait<0>();
#pragma unroll
    for (int i = 0; i < 4; i++) *reinterpret_cast<float4 *>(state + i * kDim) = keep[i];
}
