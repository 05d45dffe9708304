// Draws from rows of logits as ops.Sampling says, in up to four launches: scan
// (many blocks a row: edits, peaks, sums), select (a block a row: sorts the best 256
// and decides most draws), and for draws that the whole row may win, race (many
// blocks a row) and finish. The Go package engine/sample says it with sorting and
// no tricks.
//
// Numbers that decide (edits, scaled logits, weights and times of those that can
// win) are rounded as the reference rounds them: fp32 without fused multiply-adds,
// then fp64.
#include "rh/args_sample.cuh"
#include "rh/philox.cuh"
#include "rh/ptx.cuh"
#include "rh/radix.cuh"

namespace {

using namespace rh;

constexpr float kMax = 3.402823466e+38f;  // FLT_MAX
constexpr int kScan = 256;                // threads of scan and race: 8 logits each
constexpr int kEach = kSampleSpan / kScan;
constexpr int kRoom = 2048;    // orders, or groups, that select gathers
constexpr double kUnit = 1099511627776.0;  // 2^40: a weight of 1 as an integer

__device__ __forceinline__ const SampleRow &row_of(const SampleArgs &a, uint32_t row) {
    return reinterpret_cast<const SampleRow *>(a.block)[row];
}

// logits_of is the row that is drawn from: edited, where it has edits.
__device__ __forceinline__ const float *drawn_from(const SampleArgs &a, uint32_t row, const SampleRow &s) {
    return s.edited >= 0 ? a.edited + uint64_t(s.edited) * a.tokens : a.logits + uint64_t(row) * a.vocabulary;
}

__device__ __forceinline__ uint32_t *peaks_of(const SampleArgs &a, uint32_t row, bool edited) {
    return a.peaks + (uint64_t(row) * 2 + edited) * a.groups;
}

// Reductions over a block of whole warps; the order is fixed by the block's size.
template <class T, class Join>
__device__ T block_join(T v, Join join) {
    __shared__ T partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int offset = 16; offset > 0; offset /= 2) v = join(v, __shfl_xor_sync(0xffffffffu, v, offset));
    __syncthreads();  // the call before may still be read
    if (lane == 0) partial[warp] = v;
    __syncthreads();
    v = partial[0];
    for (int i = 1; i < warps; i++) v = join(v, partial[i]);
    return v;
}
__device__ __forceinline__ float block_max(float v) {
    return block_join(v, [](float x, float y) { return fmaxf(x, y); });
}
__device__ __forceinline__ double block_add(double v) {
    return block_join(v, [](double x, double y) { return x + y; });
}
__device__ __forceinline__ uint64_t block_add(uint64_t v) {
    return block_join(v, [](uint64_t x, uint64_t y) { return x + y; });
}

// banned makes what is no number, or too large for one, a token that cannot be drawn.
__device__ __forceinline__ float banned(float v) { return v <= kMax ? v : -INFINITY; }

// lower_bound is the first of count entries, ids ascending, that is not below id.
template <class Entry>
__device__ uint32_t lower_bound(const Entry *entries, uint32_t count, int32_t id) {
    uint32_t low = 0;
    while (low < count) {
        const uint32_t middle = low + (count - low) / 2;
        if (entries[middle].id < id) low = middle + 1;
        else count = middle;
    }
    return low;
}

// edit applies penalties, bias and mask to the tokens [from, to) in tile, in this
// order; ids stand once in each list.
__device__ void edit(const SampleArgs &a, const SampleRow &s, float *tile, int32_t from, int32_t to) {
    const auto *seen = reinterpret_cast<const SampleSeen *>(a.block + s.seen);
    const uint32_t last_seen = lower_bound(seen, s.seen_count, to);
    for (uint32_t i = lower_bound(seen, s.seen_count, from) + threadIdx.x; i < last_seen; i += blockDim.x) {
        float v = tile[seen[i].id - from];
        if (s.repetition > 0.0f) v = v > 0.0f ? __fdiv_rn(v, s.repetition) : __fmul_rn(v, s.repetition);
        if (seen[i].output > 0) {
            v = __fsub_rn(v, __fmul_rn(s.frequency, __uint2float_rn(seen[i].output)));
            v = __fsub_rn(v, s.presence);
        }
        tile[seen[i].id - from] = banned(v);
    }
    __syncthreads();
    const auto *bias = reinterpret_cast<const SampleBias *>(a.block + s.bias);
    const uint32_t last_bias = lower_bound(bias, s.bias_count, to);
    for (uint32_t i = lower_bound(bias, s.bias_count, from) + threadIdx.x; i < last_bias; i += blockDim.x) {
        float &v = tile[bias[i].id - from];
        v = banned(__fadd_rn(v, bias[i].value));
    }
    __syncthreads();
    if (!s.masked) return;
    const auto *mask = reinterpret_cast<const uint32_t *>(a.block + s.mask);
    for (int32_t id = from + int32_t(threadIdx.x); id < to; id += int32_t(blockDim.x)) {
        const uint32_t word = uint32_t(id) / 32;
        if (word >= s.mask_words || !(mask[word] >> (id % 32) & 1)) tile[id - from] = -INFINITY;
    }
}

// find_peaks writes the largest of each group of 64 tokens, 8 threads a group.
__device__ __forceinline__ void find_peaks(const SampleArgs &a, uint32_t *peaks, const float (&v)[kEach], uint32_t from) {
    static_assert(kSampleGroup == 8 * kEach, "");
    uint32_t top = 0;
    for (int i = 0; i < kEach; i++) {
        if (from + i < a.tokens) top = max(top, uint32_t(order(v[i], 0) >> 32));
    }
    for (int offset = 1; offset < 8; offset *= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, offset));
    if (threadIdx.x % 8 == 0 && from < a.tokens) peaks[from / kSampleGroup] = top;
}

// sum_exp is the block's sum of exp((v - top) * scale) over v below limit, in fp64;
// NaN passes on.
__device__ __forceinline__ double sum_exp(const float (&v)[kEach], uint32_t from, uint32_t limit, float top, float scale) {
    double sum = 0.0;
    for (int i = 0; i < kEach; i++) {
        if (from + i < limit && v[i] != -INFINITY) sum += double(expf(__fmul_rn(__fsub_rn(v[i], top), scale)));
    }
    return block_add(sum);
}

// Totals are a row's partials joined.
struct Totals {
    float max, row_max;
    double sum, row_sum;  // relative to the largest; sum is NaN without a distribution
};

__device__ Totals join(const SampleArgs &a, uint32_t row, const SampleRow &s) {
    const SamplePartial *partials = a.partials + uint64_t(row) * a.blocks;
    Totals t{-INFINITY, -INFINITY, 0.0, 0.0};
    for (uint32_t i = threadIdx.x; i < a.blocks; i += blockDim.x) {
        t.max = fmaxf(t.max, partials[i].max);
        t.row_max = fmaxf(t.row_max, partials[i].row_max);
    }
    t.max = block_max(t.max);
    t.row_max = block_max(t.row_max);
    for (uint32_t i = threadIdx.x; i < a.blocks; i += blockDim.x) {
        const SamplePartial &p = partials[i];
        t.sum += p.max == -INFINITY ? p.sum : p.sum * exp(double(p.max) - double(t.max));
        if (p.row_max != -INFINITY) t.row_sum += p.row_sum * exp((double(p.row_max) - double(t.row_max)) * double(s.scale));
    }
    t.sum = t.max == -INFINITY ? double(NAN) : block_add(t.sum);
    t.row_sum = block_add(t.row_sum);
    return t;
}

// Runner is a token in a race. Of two with one time the more likely wins, then the
// lower id.
struct Runner {
    double time, value;
    int32_t id;
};

__device__ __forceinline__ bool ahead(const Runner &x, const Runner &y) {
    return x.time < y.time || (x.time == y.time && (x.value > y.value || (x.value == y.value && x.id < y.id)));
}

__device__ Runner block_first(Runner r) {
    __shared__ Runner partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int offset = 16; offset > 0; offset /= 2) {
        Runner other;
        other.time = __shfl_xor_sync(0xffffffffu, r.time, offset);
        other.value = __shfl_xor_sync(0xffffffffu, r.value, offset);
        other.id = __shfl_xor_sync(0xffffffffu, r.id, offset);
        if (ahead(other, r)) r = other;
    }
    __syncthreads();
    if (lane == 0) partial[warp] = r;
    __syncthreads();
    r = partial[0];
    for (int i = 1; i < warps; i++) {
        if (ahead(partial[i], r)) r = partial[i];
    }
    return r;
}

// enter runs a token of weight exp(value): a logit less the best one, scaled. Since
// -log(u) > 1-u, most losers are known without fp64.
__device__ __forceinline__ void enter(Runner &r, const SampleRow &s, int32_t id, double value) {
    const float u = unit(philox(s.choice, s.position, s.attempt << 8, uint32_t(id), s.seed));
    if (double((1.0f - u) * expf(-float(value))) * 0.999 > r.time) return;
    const Runner mine{-log(double(u)) * exp(-value), value, id};
    if (ahead(mine, r)) r = mine;
}

__device__ __forceinline__ double scaled(float v, float first, float temperature) {
    return double(__fsub_rn(v, first)) / double(temperature);
}

// lean is the weight of an order as an integer; good to fp32, for sums of thousands.
__device__ __forceinline__ uint64_t lean(uint64_t o, float first, float scale) {
    return uint64_t(double(expf(__fmul_rn(__fsub_rn(order_value(o), first), scale))) * kUnit);
}

// Choice is where the results of a row go.
struct Choice {
    SampleResult *head;
    SamplePick *candidates, *window;
    float *plain;
    int32_t *drawn;
};

__device__ __forceinline__ Choice choice_of(const SampleArgs &a, uint32_t row) {
    uint8_t *at = a.results + uint64_t(row) * kSampleResultBytes;
    auto *picks = reinterpret_cast<SamplePick *>(at + sizeof(SampleResult));
    return {reinterpret_cast<SampleResult *>(at), picks, picks + kSampleTop, reinterpret_cast<float *>(picks + 2 * kSampleTop), a.drawn + row};
}

// choose writes the token of a row. One thread calls it.
__device__ void choose(const SampleArgs &a, uint32_t row, int32_t id, double chosen) {
    const Choice to = choice_of(a, row);
    to.head->id = id;
    to.head->logit = id < 0 ? 0.0f : a.logits[uint64_t(row) * a.vocabulary + id];
    to.head->chosen = float(chosen);
    *to.drawn = id;
}

// Sorted is the shared memory of select: the best of a row, sorted.
struct Sorted {
    uint64_t list[kRoom];
    uint32_t groups[kRoom];
    Bins bins;
    double weight[kSampleTop];
    uint32_t count, group_count;
};

// best sorts the largest 256 of a row to the front of the list and returns how many
// there are. 256 groups whose peak is p or more have 256 values of p or more, so
// only what is not below the 256-th largest peak is gathered.
__device__ uint32_t best(Sorted &m, const SampleArgs &a, const float *row, const uint32_t *peaks) {
    const auto one = [](uint64_t) { return uint64_t(1); };
    uint64_t floor = descend(m.bins, a.groups, kSampleTop, 32, [&](uint32_t i) { return uint64_t(peaks[i]) << 32; }, one);
    __syncthreads();
    if (threadIdx.x == 0) m.count = m.group_count = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < a.groups; i += blockDim.x) {
        if (peaks[i] == 0 || (uint64_t(peaks[i]) << 32 | 0xffffffffu) < floor) continue;
        const uint32_t n = atomicAdd(&m.group_count, 1u);
        if (n < kRoom) m.groups[n] = i;
    }
    __syncthreads();
    const auto gather = [&](uint32_t i) {
        const uint64_t o = i < a.tokens ? order(row[i], i) : 0;
        if (o == 0 || o < floor) return;
        const uint32_t n = atomicAdd(&m.count, 1u);
        if (n < kRoom) m.list[n] = o;
    };
    if (m.group_count <= kRoom) {
        for (uint32_t g = threadIdx.x / 32; g < m.group_count; g += blockDim.x / 32) {
            const uint32_t from = m.groups[g] * kSampleGroup + threadIdx.x % 32;
            gather(from);
            gather(from + 32);
        }
        __syncthreads();
    }
    if (m.group_count > kRoom || m.count > kRoom) {  // a row of equals, or an ascending one
        floor = descend(m.bins, a.tokens, kSampleTop, 0, [&](uint32_t i) { return order(row[i], i); }, one);
        __syncthreads();
        if (threadIdx.x == 0) m.count = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < a.tokens; i += blockDim.x) gather(i);
        __syncthreads();
    }
    const uint32_t n = m.count;
    uint32_t power = kSampleTop;
    while (power < n) power *= 2;
    for (uint32_t i = n + threadIdx.x; i < power; i += blockDim.x) m.list[i] = 0;
    sort_orders(m.list, power);
    return min(n, uint32_t(kSampleTop));
}

// nucleus returns how many of the first kept weights reach mass, all if they do not.
__device__ uint32_t nucleus(Sorted &m, uint32_t kept, double mass, bool &enough) {
    const uint32_t i = threadIdx.x;
    double sum = i < kept ? m.weight[i] : 0.0;
    for (uint32_t offset = 1; offset < kSampleTop; offset *= 2) {  // sums up to i
        __syncthreads();
        if (i < kSampleTop) m.weight[i] = sum;
        __syncthreads();
        if (i < kSampleTop && i >= offset) sum += m.weight[i - offset];
    }
    __shared__ uint32_t below;
    __syncthreads();
    if (i == 0) below = 0;
    __syncthreads();
    if (i < kept && sum < mass) atomicAdd(&below, 1u);
    __syncthreads();
    enough = below < kept;
    return min(below + 1, kept);
}

// draw decides the token of a row whose best n are sorted, or sets its race up.
__device__ void draw(Sorted &m, const SampleArgs &a, uint32_t row, const SampleRow &s, const float *logits, uint32_t n, double row_sum) {
    const float first = order_value(m.list[0]);
    const int32_t first_id = order_index(m.list[0]);
    const uint32_t i = threadIdx.x;
    const bool all = n < kSampleTop;  // the list is the whole row
    const double value = i < n ? scaled(order_value(m.list[i]), first, s.temperature) : 0.0;
    const double weight = i < n ? exp(value) : 0.0;
    if (i < kSampleTop) m.weight[i] = weight;
    uint32_t kept = n;
    uint64_t floor = 1;
    bool wide = false, enough = true;
    if (s.top_k > 0 && (s.top_k <= kSampleTop || all)) {
        kept = min(n, uint32_t(s.top_k));
        if (s.top_p_on) kept = nucleus(m, kept, double(s.top_p) * block_add(i < kept ? weight : 0.0), enough);
    } else if (s.top_k > 0) {
        wide = true;
        const auto at = [&](uint32_t j) { return order(logits[j], j); };
        const auto mass = [&](uint64_t o) { return lean(o, first, s.scale); };
        floor = descend(m.bins, a.tokens, uint64_t(s.top_k), 0, at, [](uint64_t) { return uint64_t(1); });
        if (s.top_p_on) {
            uint64_t total = 0;
            for (uint32_t j = i; j < a.tokens; j += blockDim.x) {
                const uint64_t o = at(j);
                if (o >= floor) total += mass(o);
            }
            total = block_add(total);
            floor = max(floor, descend(m.bins, a.tokens, max(uint64_t(ceil(double(s.top_p) * double(total))), uint64_t(1)), 0, at, mass));
        }
    } else if (s.top_p_on) {
        kept = nucleus(m, n, double(s.top_p) * row_sum, enough);
        wide = !enough && !all;
        if (wide) {
            floor = descend(m.bins, a.tokens, max(uint64_t(ceil(double(s.top_p) * row_sum * kUnit)), uint64_t(1)), 0,
                            [&](uint32_t j) { return order(logits[j], j); }, [&](uint64_t o) { return lean(o, first, s.scale); });
        }
    } else {
        wide = !all;
    }
    const bool plain = s.top_k == 0 && !s.top_p_on;
    // Those of the list that a wide field leaves out lie below its floor.
    const bool in = i < kept && m.list[i] >= floor && (i == 0 || !(s.min_p > 0.0f) || !(weight < double(s.min_p)));
    Runner r{INFINITY, 0.0, first_id};
    if (in) enter(r, s, order_index(m.list[i]), value);
    r = block_first(r);
    double sum = block_add(in ? weight : 0.0);
    if (plain && wide) {  // the rest of the row may be out of reach
        const double last = scaled(order_value(m.list[n - 1]), first, s.temperature);
        if (s.min_p > 0.0f) {
            wide = !(exp(last) < double(s.min_p));
        } else {
            // time >= -log(u)/weight, and the largest u leaves -log(u) >= 2^-24.
            wide = !(last < -24.0 * 0.6931471805599453 - log(r.time) - 1e-3);
        }
    }
    if (plain && !(s.min_p > 0.0f)) sum = row_sum;
    if (i != 0) return;
    if (wide) {
        a.races[row] = SampleRace{floor, r.time, r.value, sum, first, first_id, r.id, 1};
    } else {
        choose(a, row, r.id, r.value - log(sum));
    }
}

}  // namespace

// Grid: [blocks, rows]. Block: 256 threads, for 2048 logits.
RH_KERNEL(rh_sample_scan, rh::SampleArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint32_t row = blockIdx.y, span = blockIdx.x * kSampleSpan, from = span + threadIdx.x * kEach;
    const SampleRow &s = row_of(a, row);
    const float *logits = a.logits + uint64_t(row) * a.vocabulary;
    __shared__ float tile[kSampleSpan];
    // The reads of a warp are neighbours, what a thread works on are neighbours too.
    for (uint32_t i = threadIdx.x; i < kSampleSpan; i += kScan) tile[i] = span + i < a.vocabulary ? logits[span + i] : -INFINITY;
    __syncthreads();
    float v[kEach];
    float top = -INFINITY;
    bool bad = false;
    for (int i = 0; i < kEach; i++) {
        v[i] = tile[threadIdx.x * kEach + i];
        bad |= !(v[i] <= kMax);
        top = fmaxf(top, v[i]);
    }
    top = block_max(top);
    double sum = sum_exp(v, from, a.vocabulary, top, 1.0f);
    if (block_max(bad ? 1.0f : 0.0f) > 0.0f) sum = double(NAN);
    find_peaks(a, peaks_of(a, row, false), v, from);
    float row_top = -INFINITY;
    double row_sum = 0.0;
    if (s.edited >= 0) {
        float *edited = a.edited + uint64_t(s.edited) * a.tokens;
        __syncthreads();
        const uint32_t end = min(span + kSampleSpan, a.tokens);
        if (span < end) edit(a, s, tile, int32_t(span), int32_t(end));
        __syncthreads();
        for (uint32_t i = threadIdx.x; span + i < end; i += kScan) edited[span + i] = tile[i];
        for (int i = 0; i < kEach; i++) v[i] = tile[threadIdx.x * kEach + i];
        find_peaks(a, peaks_of(a, row, true), v, from);
    }
    if (s.sum) {
        for (int i = 0; i < kEach; i++) {
            if (from + i < a.tokens) row_top = fmaxf(row_top, v[i]);
        }
        row_top = block_max(row_top);
        row_sum = sum_exp(v, from, a.tokens, row_top, s.scale);
    }
    if (threadIdx.x == 0) a.partials[uint64_t(row) * a.blocks + blockIdx.x] = SamplePartial{sum, row_sum, top, row_top};
}

// Grid: [rows, 2]: of each row the report of its best, and the draw where the row
// was edited; else the first block does both. Block: 1024 threads.
RH_KERNEL(rh_sample_select, rh::SampleArgs, 80, 1024) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    __shared__ Sorted m;
    const uint32_t row = blockIdx.x, i = threadIdx.x;
    const SampleRow &s = row_of(a, row);
    const bool draws = (blockIdx.y == 1) == (s.edited >= 0), reports = blockIdx.y == 0;
    if (!draws && !reports) return;
    const Totals t = join(a, row, s);
    const float log_sum = float(double(t.max) + log(t.sum));
    const bool none = !(log_sum == log_sum);
    const float *logits = reports ? a.logits + uint64_t(row) * a.vocabulary : drawn_from(a, row, s);
    const uint32_t n = none ? 0 : best(m, a, logits, peaks_of(a, row, !reports));
    const Choice to = choice_of(a, row);
    if (reports) {
        if (i < n) to.candidates[i] = SamplePick{order_index(m.list[i]), order_value(m.list[i])};
        if (i == 0) {
            to.head->log_sum_exp = log_sum;
            to.head->candidates = int32_t(n);
            to.head->watched = s.watch >= 0 && uint32_t(s.watch) < a.vocabulary ? a.logits[uint64_t(row) * a.vocabulary + s.watch] : 0.0f;
        }
    }
    if (!draws) return;
    if (i == 0) {
        to.head->window = 0;
        to.head->window_sum_exp = -INFINITY;
        a.races[row].active = 0;
    }
    __syncthreads();
    if (n > 0 && s.window > 0) {
        const uint32_t asked = min(n, uint32_t(s.window));
        if (i < asked) {
            const int32_t id = order_index(m.list[i]);
            to.window[i] = SamplePick{id, order_value(m.list[i])};
            to.plain[i] = a.logits[uint64_t(row) * a.vocabulary + id];
        }
        if (i == 0) {
            to.head->window = int32_t(asked);
            to.head->window_sum_exp = float(double(t.row_max) + log(t.row_sum));
        }
    }
    if (n == 0 || !s.draws) {
        if (i == 0) choose(a, row, -1, 0.0);
    } else if (!(s.temperature > 0.0f)) {
        if (i == 0) choose(a, row, order_index(m.list[0]), 0.0);
    } else {
        draw(m, a, row, s, logits, n, t.row_sum);
    }
}

// Grid: [blocks, rows]. Block: 256 threads. Rows that are decided are passed over.
RH_KERNEL(rh_sample_race, rh::SampleArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint32_t row = blockIdx.y, span = blockIdx.x * kSampleSpan;
    const SampleRace race = a.races[row];
    if (!race.active) return;
    const SampleRow &s = row_of(a, row);
    const float *logits = drawn_from(a, row, s);
    const uint32_t end = min(span + kSampleSpan, a.tokens);
    Runner r{race.time, race.value, race.id};
    double sum = 0.0;
    for (uint32_t id = span + threadIdx.x; id < end; id += kScan) {
        const uint64_t o = order(logits[id], id);
        if (o < race.floor) continue;
        const double value = scaled(order_value(o), race.first, s.temperature);
        const float about = expf(float(value));
        if (s.min_p > 0.0f && int32_t(id) != race.first_id && about < s.min_p * 1.001f) {
            if (about < s.min_p * 0.999f || exp(value) < double(s.min_p)) continue;
        }
        sum += double(about);
        enter(r, s, int32_t(id), value);
    }
    r = block_first(r);
    sum = block_add(sum);
    if (threadIdx.x == 0) a.runners[uint64_t(row) * a.blocks + blockIdx.x] = SampleRunner{r.time, r.value, sum, r.id, 0};
}

// Grid: [rows]. Block: 256 threads.
RH_KERNEL(rh_sample_finish, rh::SampleArgs, 80, 256) {
    rh::ptx::grid_wait();
    rh::ptx::grid_release();
    const uint32_t row = blockIdx.x;
    const SampleRace race = a.races[row];
    if (!race.active) return;
    const SampleRow &s = row_of(a, row);
    Runner r{race.time, race.value, race.id};
    double sum = 0.0;
    for (uint32_t i = threadIdx.x; i < a.blocks; i += blockDim.x) {
        const SampleRunner &other = a.runners[uint64_t(row) * a.blocks + i];
        const Runner o{other.time, other.value, other.id};
        if (ahead(o, r)) r = o;
        sum += other.sum;
    }
    r = block_first(r);
    sum = block_add(sum);
    if (s.top_k == 0 && !s.top_p_on && !(s.min_p > 0.0f)) sum = race.sum;  // of the whole row
    if (threadIdx.x == 0) choose(a, row, r.id, r.value - log(sum));
}
