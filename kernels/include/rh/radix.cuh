// Selection of the largest by radix. Values are ordered with their index in one
// word, so every order is strict and the lower index wins among equals.
#pragma once

#include <cstdint>

namespace rh {

// order is larger for a larger value, and among equals for a lower index; 0 for
// -Inf and NaN. -0 and 0 are equals.
__device__ __forceinline__ uint64_t order(float v, uint32_t index) {
    if (!(v > -INFINITY)) return 0;
    const uint32_t bits = __float_as_uint(__fadd_rn(v, 0.0f));
    const uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return uint64_t(key) << 32 | uint32_t(~index);
}

// order_value and order_index undo order, but for the sign of 0.
__device__ __forceinline__ float order_value(uint64_t o) {
    const uint32_t key = uint32_t(o >> 32);
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}
__device__ __forceinline__ int32_t order_index(uint64_t o) { return int32_t(~uint32_t(o)); }

// Bins is the shared memory of descend.
struct Bins {
    uint32_t count[256];
    unsigned long long weight[256];
    uint64_t prefix;
    unsigned long long left;
    int done;
};

__device__ __forceinline__ uint64_t warp_total(uint64_t v) {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// descend returns the largest floor such that the orders at(0) to at(n-1) that are
// not below it weigh target or more; where all together weigh less, the least. Its
// bits below low are 0, with which equals may be left together. Weights are
// integers, so no order of additions plays a part. All threads of the block call
// it, at most 1024 in whole warps; each gets the answer.
template <class At, class Weigh>
__device__ uint64_t descend(Bins &bins, uint32_t n, uint64_t target, int low, At at, Weigh weigh) {
    const uint32_t lane = threadIdx.x % 32;
    __syncthreads();
    if (threadIdx.x == 0) {
        bins.prefix = 0;
        bins.left = target;
        bins.done = 0;
    }
    for (int shift = 56; shift >= low; shift -= 8) {
        for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x) bins.count[i] = 0, bins.weight[i] = 0;
        __syncthreads();
        const uint64_t above = shift == 56 ? 0 : ~uint64_t(0) << (shift + 8), prefix = bins.prefix;
        for (uint32_t base = threadIdx.x; base - threadIdx.x < n; base += 4 * blockDim.x) {
            uint64_t orders[4];  // four reads under way at a time
            for (int j = 0; j < 4; j++) {
                const uint32_t i = base + j * blockDim.x;
                orders[j] = i < n ? at(i) : 0;
            }
            for (int j = 0; j < 4; j++) {
                const uint64_t o = orders[j];
                const bool in = o != 0 && (o & above) == prefix;
                const uint32_t ins = __ballot_sync(0xffffffffu, in);
                if (ins == 0) continue;
                const uint64_t w = in ? weigh(o) : 0;
                const uint32_t bin = uint32_t(o >> shift) & 255;
                // Of a row of equals whole warps meet in one bin: one lane adds for all.
                const uint32_t one = __shfl_sync(0xffffffffu, bin, __ffs(ins) - 1);
                if (__ballot_sync(0xffffffffu, !in || bin == one) == 0xffffffffu) {
                    const uint64_t sum = warp_total(w);
                    if (lane == 0) {
                        atomicAdd(&bins.count[one], uint32_t(__popc(ins)));
                        atomicAdd(&bins.weight[one], (unsigned long long)(sum));
                    }
                } else if (in) {
                    atomicAdd(&bins.count[bin], 1u);
                    atomicAdd(&bins.weight[bin], (unsigned long long)(w));
                }
            }
        }
        __syncthreads();
        if (threadIdx.x < 32) {  // lane l has the bins 255-8l down to 248-8l
            uint64_t own = 0;
            for (int j = 0; j < 8; j++) own += bins.weight[255 - 8 * int(lane) - j];
            uint64_t before = own;
            for (int offset = 1; offset < 32; offset *= 2) {
                const uint64_t other = __shfl_up_sync(0xffffffffu, before, offset);
                if (int(lane) >= offset) before += other;
            }
            const uint64_t left = bins.left;
            const uint32_t enough = __ballot_sync(0xffffffffu, before >= left);
            if (enough == 0) {
                if (lane == 0) bins.done = 2;  // all together are too few
            } else if (int(lane) == __ffs(enough) - 1) {
                before -= own;
                int bin = 255 - 8 * int(lane);
                while (before + bins.weight[bin] < left) before += bins.weight[bin--];
                bins.prefix = prefix | uint64_t(bin) << shift;
                bins.left = left - before;
                // The whole bin belongs to it: the lower bytes need not be told apart.
                if (before + bins.weight[bin] == left || bins.count[bin] == 1) bins.done = 1;
            }
        }
        __syncthreads();
        if (bins.done) break;
    }
    return bins.done == 2 ? 1 : max(bins.prefix, uint64_t(1));
}

// sort_orders sorts n orders in shared memory, largest first; n is a power of two,
// at most twice the block.
__device__ __forceinline__ void sort_orders(uint64_t *list, uint32_t n) {
    for (uint32_t size = 2; size <= n; size *= 2) {
        for (uint32_t step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            const uint32_t i = threadIdx.x / step * step * 2 + threadIdx.x % step;
            if (threadIdx.x < n / 2) {
                const uint64_t a = list[i], b = list[i + step];
                if ((a < b) == ((i & size) == 0)) list[i] = b, list[i + step] = a;
            }
        }
    }
    __syncthreads();
}

}  // namespace rh
