// The gated delta net (Yang et al., "Gated Delta Networks", 2024) in four steps of
// any dimensions: convolution, norms and gates, the rule token by token, gated norm.
#include "rh/delta.cuh"
#include "rh/ptx.cuh"
#include "rh/reduce.cuh"

namespace {

constexpr int kTaps = 8;  // most taps of the convolution
constexpr int kColumns = 32, kGroups = 8;  // of a block of the rule
constexpr int kKeep = 256 / kGroups;       // rows of the state that a thread keeps

}  // namespace

// The causal convolution and SiLU: mixed, and the window behind the piece. Grid:
// channels/256, tiles of a.tile rows, segments; a thread has one channel of a
// tile. Only the thread of the first tile reads the window, so it may write it.
RH_KERNEL(rh_deltanet_conv, rh::DeltaArgs, 80, 256) {
    const rh::delta::Layout l(a);
    const uint32_t channel = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = blockIdx.y * a.tile, past = a.kernel - 1;
    // Taps and inputs end at the last of a fixed number of registers.
    float taps[kTaps], seen[kTaps];
#pragma unroll
    for (int i = 0; i < kTaps; i++) {
        const int tap = i - (kTaps - 1 - past);
        taps[i] = tap >= 0 && channel < l.channels ? a.conv[uint64_t(channel) * a.kernel + tap] : 0.0f;
    }
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::Segment s = rh::delta::piece(a, blockIdx.z);
    if (channel >= l.channels || first >= s.len) return;
    const float *in = a.in + uint64_t(s.first) * l.width + l.column(a, channel);
    float *window = a.window + (uint64_t(s.slot) * l.channels + channel) * past;
    float *mixed = a.mixed + uint64_t(s.first) * l.channels + channel;

#pragma unroll
    for (int i = 0; i < kTaps; i++) {
        const int tap = i - (kTaps - 1 - past), t = first + i - (kTaps - 1);
        seen[i] = 0.0f;
        if (i == kTaps - 1 || tap < 0) continue;
        if (t >= 0) seen[i] = in[uint64_t(t) * l.width];
        else if (s.start > 0) seen[i] = window[past + t];
    }
    const int end = min(first + int(a.tile), s.len);
    for (int t = first; t < end; t++) {
        seen[kTaps - 1] = in[uint64_t(t) * l.width];
        float y = 0.0f;
#pragma unroll
        for (int i = 0; i < kTaps; i++) y += taps[i] * seen[i];
        mixed[uint64_t(t) * l.channels] = rh::delta::silu(y);
#pragma unroll
        for (int i = 0; i + 1 < kTaps; i++) seen[i] = seen[i + 1];
    }
    if (first != 0) return;
#pragma unroll
    for (int i = 0; i + 1 < kTaps; i++) {
        const int at = i - (kTaps - 1 - past);
        if (at >= 0) window[at] = end == s.len ? seen[i] : in[uint64_t(s.len - past + at) * l.width];
    }
}

// L2 norms of q and k in mixed, beta and g. Grid: key heads, rows.
RH_KERNEL(rh_deltanet_gates, rh::DeltaArgs, 80, 128) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::delta::Layout l(a);
    const uint32_t head = blockIdx.x, row = blockIdx.y;
    if (a.table[row].slot < 0) return;
    float *q = a.mixed + uint64_t(row) * l.channels + head * a.key_dim, *k = q + l.keys;
    float qq = 0.0f, kk = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.key_dim; i += blockDim.x) {
        qq += q[i] * q[i];
        kk += k[i] * k[i];
    }
    qq = rh::delta::unit(rh::block_sum(qq));
    kk = rh::delta::unit(rh::block_sum(kk));
    for (uint32_t i = threadIdx.x; i < a.key_dim; i += blockDim.x) {
        q[i] *= qq;
        k[i] *= kk;
    }
    for (uint32_t i = threadIdx.x; i < l.share; i += blockDim.x) {
        const uint32_t n = head * l.share + i;
        const float *ba = a.in + uint64_t(row) * l.width + l.b(a, n);
        a.beta[uint64_t(row) * a.value_heads + n] = rh::delta::sigmoid(ba[0]);
        a.decay[uint64_t(row) * a.value_heads + n] = rh::delta::log_decay(a.a_log[n], ba[l.share], a.dt_bias[n]);
    }
}

// The delta rule, token by token, with
//
//	change = beta (v - e^g S^T k);  S <- e^g S + k change^T;  o = S^T q / sqrt(key_dim)
//
// Grid: columns/32, value heads, segments. Thread (x, y) has rows y, y+8, ... of
// column x of the state, in registers.
RH_KERNEL(rh_deltanet_rule_generic, rh::DeltaArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    __shared__ float q[256], k[256], read[kGroups][kColumns], wrote[kGroups][kColumns];
    const rh::delta::Layout l(a);
    const rh::Segment s = rh::delta::piece(a, blockIdx.z);
    if (s.len <= 0) return;
    const uint32_t x = threadIdx.x % kColumns, y = threadIdx.x / kColumns;
    const uint32_t column = blockIdx.x * kColumns + x, head = blockIdx.y;
    const bool live = column < a.value_dim;
    float *state = a.state + (uint64_t(s.slot) * a.value_heads + head) * a.key_dim * a.value_dim + column;
    float keep[kKeep];
#pragma unroll
    for (int i = 0; i < kKeep; i++) {
        const uint32_t row = y + kGroups * i;
        keep[i] = live && row < a.key_dim && s.start > 0 ? state[uint64_t(row) * a.value_dim] : 0.0f;
    }
    const float scale = 1.0f / sqrtf(float(a.key_dim));
    for (int t = 0; t < s.len; t++) {
        const uint64_t row = uint64_t(s.first) + t;
        const float *mixed = a.mixed + row * l.channels + head / l.share * a.key_dim;
        q[threadIdx.x] = threadIdx.x < a.key_dim ? mixed[threadIdx.x] : 0.0f;
        k[threadIdx.x] = threadIdx.x < a.key_dim ? mixed[l.keys + threadIdx.x] : 0.0f;
        const float beta = a.beta[row * a.value_heads + head], decay = expf(a.decay[row * a.value_heads + head]);
        const float v = live ? a.mixed[row * l.channels + 2 * l.keys + head * a.value_dim + column] : 0.0f;
        __syncthreads();
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kKeep; i++) sum += keep[i] * k[y + kGroups * i];
        read[y][x] = sum;
        __syncthreads();
        sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kGroups; i++) sum += read[i][x];
        const float change = beta * (v - decay * sum);
        sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kKeep; i++) {
            keep[i] = decay * keep[i] + k[y + kGroups * i] * change;
            sum += keep[i] * q[y + kGroups * i];
        }
        wrote[y][x] = sum;
        __syncthreads();
        if (y != 0 || !live) continue;
        sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kGroups; i++) sum += wrote[i][x];
        a.heads[row * l.wide + head * a.value_dim + column] = sum * scale;
    }
#pragma unroll
    for (int i = 0; i < kKeep; i++) {
        const uint32_t row = y + kGroups * i;
        if (live && row < a.key_dim) state[uint64_t(row) * a.value_dim] = keep[i];
    }
}

// The gated norm. Grid: value heads, rows.
RH_KERNEL(rh_deltanet_norm, rh::DeltaArgs, 80, 128) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const rh::delta::Layout l(a);
    const uint32_t head = blockIdx.x, row = blockIdx.y;
    if (a.table[row].slot < 0) return;
    const uint64_t at = uint64_t(row) * l.wide + head * a.value_dim;
    const float *z = a.in + uint64_t(row) * l.width + l.z(a, head);
    float squares = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.value_dim; i += blockDim.x) squares += a.heads[at + i] * a.heads[at + i];
    const float rms = 1.0f / sqrtf(rh::block_sum(squares) / float(a.value_dim) + a.eps);
    for (uint32_t i = threadIdx.x; i < a.value_dim; i += blockDim.x)
        rh::delta::put(a, at + i, rh::delta::gated(a.heads[at + i], rms, a.norm[i], z[i]));
}

// Neighbouring columns of rows, side by side: for those who look on. Grid: rows.
RH_KERNEL(rh_deltanet_columns, rh::ColumnsArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint64_t row = blockIdx.x;
    for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x) a.dst[row * a.width + i] = a.src[row * a.stride + i];
}
