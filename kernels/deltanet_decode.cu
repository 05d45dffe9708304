// The gated delta net for decoding, with keys and values 128 wide: behind the
// convolution one kernel does norms, gates, rule and gated norm.
#include "rh/delta.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

namespace {

constexpr int kDim = 128;
constexpr int kWarps = 8;
constexpr int kRows = kDim / kWarps;  // of the state, in a warp

__device__ __forceinline__ void add_scaled(float4 &sum, const float4 &v, float x) {
    sum.x += v.x * x;
    sum.y += v.y * x;
    sum.z += v.z * x;
    sum.w += v.w * x;
}

// at is one value of a row of fours.
__device__ __forceinline__ float &at(float4 *row, int i) { return reinterpret_cast<float *>(row)[i]; }

}  // namespace

// Grid: value heads, 1, segments. Warp w holds rows 16*w to 16*w+15 of the head's
// state in registers, lane i of it the columns 4*i to 4*i+3: the state is read once
// and written once, whatever the length of the segment. S^T k and S^T q are taken
// from the state as it comes in, since
//
//	o = (e^g S + k change^T)^T q = e^g S^T q + (k.q) change
RH_KERNEL(rh_deltanet_step, rh::DeltaArgs, 80, 256) {
    __shared__ float4 readk[kWarps][kDim / 4], readq[kWarps][kDim / 4], change[kDim / 4];
    __shared__ float qk[2 * kDim], squares[kWarps], dots[kWarps], outs[kDim / 32];
    const rh::delta::Layout l(a);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.x;

    // The kernel ahead is the convolution, which lets this one start only when all
    // before it is done: the state and the segments are whole, in the L2 cache.
    const int4 *segment = reinterpret_cast<const int4 *>(a.segments + blockIdx.z);
    const int4 where = __ldcg(segment);  // slot, start, first, len
    float4 *state = reinterpret_cast<float4 *>(a.state + (uint64_t(where.x) * a.value_heads + head) * kDim * kDim) +
                    warp * kRows * (kDim / 4) + lane;
    float4 keep[kRows];
#pragma unroll
    for (int i = 0; i < kRows; i++)
        keep[i] = where.w > 0 && where.y > 0 ? __ldcg(state + i * (kDim / 4)) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const float a_log = a.a_log[head], bias = a.dt_bias[head], weight = a.norm[threadIdx.x % kDim];
    rh::ptx::grid_wait();
    rh::ptx::grid_release();

    for (int t = 0; t < where.w; t++) {
        const uint64_t row = uint64_t(where.z) + t;
        const float *in = a.in + row * l.width, *mixed = a.mixed + row * l.channels;
        const float *ba = in + l.b(a, head);
        const float beta = rh::delta::sigmoid(ba[0]), decay = expf(rh::delta::log_decay(a_log, ba[l.share], bias));
        const int column = threadIdx.x % kDim;
        const float x = mixed[threadIdx.x / kDim * l.keys + head / l.share * kDim + column];
        float v = 0.0f, z = 0.0f;
        if (threadIdx.x < kDim) {
            v = mixed[2 * l.keys + head * kDim + column];
            z = in[l.z(a, head) + column];
        }
        qk[threadIdx.x] = x;
        const float square = rh::warp_sum(x * x);
        if (lane == 0) squares[warp] = square;
        __syncthreads();

        const float qunit = rh::delta::unit(squares[0] + squares[1] + squares[2] + squares[3]);
        const float kunit = rh::delta::unit(squares[4] + squares[5] + squares[6] + squares[7]);
        float k[kRows], dot = 0.0f;
        float4 sk = make_float4(0.0f, 0.0f, 0.0f, 0.0f), sq = sk;
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            const float q = qk[warp * kRows + i] * qunit;
            k[i] = qk[kDim + warp * kRows + i] * kunit;
            dot += k[i] * q;
            add_scaled(sk, keep[i], k[i]);
            add_scaled(sq, keep[i], q);
        }
        readk[warp][lane] = sk;
        readq[warp][lane] = sq;
        if (lane == 0) dots[warp] = dot;
        __syncthreads();

        float o = 0.0f;
        if (threadIdx.x < kDim) {
            float sumk = 0.0f, sumq = 0.0f, kq = 0.0f;
#pragma unroll
            for (int i = 0; i < kWarps; i++) {
                sumk += at(readk[i], column);
                sumq += at(readq[i], column);
                kq += dots[i];
            }
            const float write = beta * (v - decay * sumk);
            at(change, column) = write;
            o = (decay * sumq + kq * write) * 0.08838834764831845f;  // 1/sqrt(128)
            const float sum = rh::warp_sum(o * o);
            if (lane == 0) outs[warp] = sum;
        }
        __syncthreads();

        const float4 write = change[lane];
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            keep[i] = make_float4(decay * keep[i].x, decay * keep[i].y, decay * keep[i].z, decay * keep[i].w);
            add_scaled(keep[i], write, k[i]);
        }
        if (threadIdx.x < kDim) {
            const float rms = 1.0f / sqrtf((outs[0] + outs[1] + outs[2] + outs[3]) / float(kDim) + a.eps);
            rh::delta::put(a, row * l.wide + head * kDim + column, rh::delta::gated(o, rms, weight, z));
        }
    }
    if (where.w <= 0) return;
#pragma unroll
    for (int i = 0; i < kRows; i++) state[i * (kDim / 4)] = keep[i];
}
