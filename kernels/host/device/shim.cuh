// What CUDA C++ has and C++ has not, for kernels compiled with g++ and run on the
// CPU. A CUDA thread is a fiber: it runs until it waits for its warp or its block.
// Blocks run one after another; shared memory is static, so a block finds there
// what the block before left, as on a device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#define RH_HOST 1

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __align__
#undef __restrict__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define alignas(n) __attribute__((aligned(n)))  // which may stand behind `static`
#define __restrict__

// The build turns `extern __shared__ T name[]` into this.
#define RH_DYNAMIC_SHARED(T, name) auto *const name = reinterpret_cast<T *>(::rh::host::dynamic_shared)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace rh::host {

extern char *dynamic_shared;

// die ends the process with a message that names the kernel, the block and the thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char *format, ...);

// A Kernel lists itself at start.
struct Kernel {
    const char *name;
    uint32_t arg_size;
    void (*run)(const void *args);
    const Kernel *next;
    Kernel(const char *name, uint32_t arg_size, void (*run)(const void *));
};

// What a lane brings to a warp and takes from it.
struct Exchange {
    uint32_t mask;  // lanes that take part and are there
    uint32_t in[32][10], out[32][8];
};

// exchange waits until every lane of mask has come with the same op, of which the
// last one to come does the work for all. in and out are words of this lane.
using Op = void (*)(Exchange &);
void exchange(Op op, uint32_t mask, const uint32_t *in, unsigned in_words, uint32_t *out, unsigned out_words, const char *what);

// barrier waits for so many threads, or for the block where it is 0.
void barrier(unsigned id, unsigned threads, int line);

unsigned lane();
unsigned alive();  // lanes of the warp that have not ended

// Copies that a thread asked for and has not waited for.
void copy_later(void *to, const void *from, unsigned bytes, unsigned from_bytes);
void copy_commit();
void copy_wait(unsigned pending);  // all groups but the last pending ones
void copy_wait_all();

template <class To, class From>
inline To cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

template <class T, class Pick>
inline T shuffle(unsigned mask, T v, int argument, int width, Pick) {
    static_assert(sizeof(T) <= 8, "shuffles move 4 or 8 bytes");
    constexpr unsigned words = (sizeof(T) + 3) / 4;
    uint32_t in[4] = {uint32_t(argument), uint32_t(width)}, out[2];
    memcpy(in + 2, &v, sizeof v);
    exchange(
        [](Exchange &e) {
            for (int lane = 0; lane < 32; lane++) {
                const int argument = int(e.in[lane][0]), width = int(e.in[lane][1]);
                const int from = Pick()(lane, argument, width);
                const bool there = e.mask >> from & 1;
                for (unsigned i = 0; i < words; i++) e.out[lane][i] = there ? e.in[from][2 + i] : 0xffffffffu;
            }
        },
        mask, in, 2 + words, out, words, "__shfl_sync");
    memcpy(&v, out, sizeof v);
    return v;
}

struct PickIdx {
    int operator()(int lane, int from, int width) const { return (lane & ~(width - 1)) | (from & (width - 1)); }
};
struct PickXor {
    int operator()(int lane, int with, int width) const {
        const int from = lane ^ with;
        return from > (lane | (width - 1)) ? lane : from;
    }
};
struct PickUp {
    int operator()(int lane, int by, int width) const {
        const int from = lane - by;
        return from < (lane & ~(width - 1)) ? lane : from;
    }
};
struct PickDown {
    int operator()(int lane, int by, int width) const {
        const int from = lane + by;
        return from > (lane | (width - 1)) ? lane : from;
    }
};

// fold gives every lane of the mask what all of them make.
template <class T, class Fold>
inline T fold(unsigned mask, T v, Fold, const char *what) {
    static_assert(sizeof(T) == 4, "");
    uint32_t in = cast<uint32_t>(v), out;
    exchange(
        [](Exchange &e) {
            bool first = true;
            T sum{};
            for (int lane = 0; lane < 32; lane++) {
                if (!(e.mask >> lane & 1)) continue;
                const T v = cast<T>(e.in[lane][0]);
                sum = first ? v : Fold()(sum, v);
                first = false;
            }
            for (int lane = 0; lane < 32; lane++) e.out[lane][0] = cast<uint32_t>(sum);
        },
        mask, &in, 1, &out, 1, what);
    return cast<T>(out);
}

}  // namespace rh::host

// Barriers and warps.
inline void __syncthreads(int line = __builtin_LINE()) { rh::host::barrier(0, 0, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    rh::host::exchange([](rh::host::Exchange &) {}, mask, nullptr, 0, nullptr, 0, "__syncwarp");
}
inline int __syncthreads_or(int v, int line = __builtin_LINE()) {
    static int any;
    rh::host::barrier(0, 0, line);
    any = 0;
    rh::host::barrier(0, 0, line);
    any |= v != 0;
    rh::host::barrier(0, 0, line);
    return any;
}
inline int __syncthreads_count(int v, int line = __builtin_LINE()) {
    static int count;
    rh::host::barrier(0, 0, line);
    count = 0;
    rh::host::barrier(0, 0, line);
    count += v != 0;
    rh::host::barrier(0, 0, line);
    return count;
}
inline int __syncthreads_and(int v, int line = __builtin_LINE()) { return !__syncthreads_or(!v, line); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
inline void __prof_trigger(int) {}
[[noreturn]] inline void __trap() { rh::host::die("__trap"); }
inline long long clock64() { return 0; }
inline unsigned __activemask() { return rh::host::alive(); }

template <class T>
inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) { return rh::host::shuffle(mask, v, from, width, rh::host::PickIdx()); }
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32) { return rh::host::shuffle(mask, v, with, width, rh::host::PickXor()); }
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) { return rh::host::shuffle(mask, v, int(by), width, rh::host::PickUp()); }
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) { return rh::host::shuffle(mask, v, int(by), width, rh::host::PickDown()); }

inline unsigned __ballot_sync(unsigned mask, int v) {
    struct Or {
        uint32_t operator()(uint32_t a, uint32_t b) const { return a | b; }
    };
    return rh::host::fold(mask, uint32_t(v != 0) << rh::host::lane(), Or(), "__ballot_sync");
}
inline int __any_sync(unsigned mask, int v) { return __ballot_sync(mask, v) != 0; }
inline int __all_sync(unsigned mask, int v) { return __ballot_sync(mask, !v) == 0; }

template <class T>
inline unsigned __match_any_sync(unsigned mask, T v) {
    uint32_t in[2] = {}, out;
    memcpy(in, &v, sizeof v);
    rh::host::exchange(
        [](rh::host::Exchange &e) {
            for (int lane = 0; lane < 32; lane++) {
                e.out[lane][0] = 0;
                for (int other = 0; other < 32; other++)
                    if (e.mask >> other & 1 && e.in[lane][0] == e.in[other][0] && e.in[lane][1] == e.in[other][1]) e.out[lane][0] |= 1u << other;
            }
        },
        mask, in, 2, &out, 1, "__match_any_sync");
    return out;
}

template <class T>
inline T __reduce_add_sync(unsigned mask, T v) {
    struct F {
        T operator()(T a, T b) const { return a + b; }
    };
    return rh::host::fold(mask, v, F(), "__reduce_add_sync");
}
template <class T>
inline T __reduce_max_sync(unsigned mask, T v) {
    struct F {
        T operator()(T a, T b) const { return a > b ? a : b; }
    };
    return rh::host::fold(mask, v, F(), "__reduce_max_sync");
}
template <class T>
inline T __reduce_min_sync(unsigned mask, T v) {
    struct F {
        T operator()(T a, T b) const { return a < b ? a : b; }
    };
    return rh::host::fold(mask, v, F(), "__reduce_min_sync");
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned v) {
    struct F {
        unsigned operator()(unsigned a, unsigned b) const { return a | b; }
    };
    return rh::host::fold(mask, v, F(), "__reduce_or_sync");
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned v) {
    struct F {
        unsigned operator()(unsigned a, unsigned b) const { return a & b; }
    };
    return rh::host::fold(mask, v, F(), "__reduce_and_sync");
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned v) {
    struct F {
        unsigned operator()(unsigned a, unsigned b) const { return a ^ b; }
    };
    return rh::host::fold(mask, v, F(), "__reduce_xor_sync");
}

// Atomics: one thread runs at a time.
namespace rh::host {
template <class T>
using same = std::common_type_t<T>;
template <class T, class F>
inline T exchange_at(T *p, F f) {
    const T old = *p;
    *p = f(old);
    return old;
}
}  // namespace rh::host
#define RH_ATOMIC(name, result)                                                                \
    template <class T>                                                                         \
    inline T name(T *p, rh::host::same<T> v) {                                                 \
        return rh::host::exchange_at(p, [v](T old) { return T(result); });                     \
    }                                                                                          \
    template <class T>                                                                         \
    inline T name##_block(T *p, rh::host::same<T> v) { return name(p, v); }                    \
    template <class T>                                                                         \
    inline T name##_system(T *p, rh::host::same<T> v) { return name(p, v); }
RH_ATOMIC(atomicAdd, old + v)
RH_ATOMIC(atomicSub, old - v)
RH_ATOMIC(atomicMax, old > v ? old : v)
RH_ATOMIC(atomicMin, old < v ? old : v)
RH_ATOMIC(atomicAnd, old & v)
RH_ATOMIC(atomicOr, old | v)
RH_ATOMIC(atomicXor, old ^ v)
RH_ATOMIC(atomicExch, v)
RH_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
RH_ATOMIC(atomicDec, old == 0 || old > v ? v : old - 1)
template <class T>
inline T atomicCAS(T *p, rh::host::same<T> expected, rh::host::same<T> v) {
    return rh::host::exchange_at(p, [=](T old) { return old == expected ? v : old; });
}

// Loads and stores with a cache's hint.
#define RH_LOAD(name)    \
    template <class T> \
    inline T name(const T *p) { return *p; }
#define RH_STORE(name)   \
    template <class T> \
    inline void name(T *p, rh::host::same<T> v) { *p = v; }
RH_LOAD(__ldg)
RH_LOAD(__ldcs)
RH_LOAD(__ldcg)
RH_LOAD(__ldca)
RH_LOAD(__ldlu)
RH_LOAD(__ldcv)
RH_STORE(__stcs)
RH_STORE(__stcg)
RH_STORE(__stwb)
RH_STORE(__stwt)
inline size_t __cvta_generic_to_shared(const void *p) { return size_t(p); }
inline size_t __cvta_generic_to_global(const void *p) { return size_t(p); }
inline size_t __cvta_generic_to_global(const void *p) { return size_t(p); }
inline void *__cvta_shared_to_generic(size_t p) { return reinterpret_cast<void *>(p); }

// Numbers. settle keeps a rounded result from being drawn into a fused one.
namespace rh::host {
template <class T>
inline T settle(T v) {
    asm("" : "+m"(v));
    return v;
}
}  // namespace rh::host
inline float __fmul_rn(float a, float b) { return rh::host::settle(a * b); }
inline float __fadd_rn(float a, float b) { return rh::host::settle(a) + rh::host::settle(b); }
inline float __fsub_rn(float a, float b) { return rh::host::settle(a) - rh::host::settle(b); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frsqrt_rn(float a) { return float(1.0 / sqrt(double(a))); }
inline double __dmul_rn(double a, double b) { return rh::host::settle(a * b); }
inline double __dadd_rn(double a, double b) { return rh::host::settle(a) + rh::host::settle(b); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float rsqrtf(float a) { return float(1.0 / sqrt(double(a))); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
// turns is pi a, brought near 0 first.
inline double turns(double a) { return fmod(a, 2.0) * 3.14159265358979323846; }
inline float sinpif(float a) { return float(sin(turns(a))); }
inline float cospif(float a) { return float(cos(turns(a))); }
inline void sincospif(float a, float *s, float *c) { *s = sinpif(a), *c = cospif(a); }
inline double sinpi(double a) { return sin(turns(a)); }
inline double cospi(double a) { return cos(turns(a)); }
inline float __expf(float a) { return expf(a); }
inline float __exp10f(float a) { return powf(10.0f, a); }
inline float __logf(float a) { return logf(a); }
inline float __log2f(float a) { return log2f(a); }
inline float __sinf(float a) { return sinf(a); }
inline float __cosf(float a) { return cosf(a); }
inline float __tanf(float a) { return tanf(a); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }
inline void __sincosf(float a, float *s, float *c) { sincosf(a, s, c); }
inline unsigned __float_as_uint(float v) { return rh::host::cast<unsigned>(v); }
inline int __float_as_int(float v) { return rh::host::cast<int>(v); }
inline float __uint_as_float(unsigned v) { return rh::host::cast<float>(v); }
inline float __int_as_float(int v) { return rh::host::cast<float>(v); }
inline long long __double_as_longlong(double v) { return rh::host::cast<long long>(v); }
inline double __longlong_as_double(long long v) { return rh::host::cast<double>(v); }
inline int __double2hiint(double v) { return int(uint64_t(__double_as_longlong(v)) >> 32); }
inline int __double2loint(double v) { return int(__double_as_longlong(v)); }

// Conversions to integers saturate, and NaN gives 0, as cvt does.
namespace rh::host {
template <class T>
inline T whole(double v) {
    if (std::isnan(v)) return 0;
    constexpr T low = std::is_signed_v<T> ? T(T(1) << (8 * sizeof(T) - 1)) : 0, high = T(~low);
    return v <= double(low) ? low : v >= double(high) ? high : T(v);
}
}  // namespace rh::host
inline int __float2int_rn(float v) { return rh::host::whole<int>(nearbyint(double(v))); }
inline int __float2int_rz(float v) { return rh::host::whole<int>(trunc(double(v))); }
inline int __float2int_rd(float v) { return rh::host::whole<int>(floor(double(v))); }
inline int __float2int_ru(float v) { return rh::host::whole<int>(ceil(double(v))); }
inline unsigned __float2uint_rn(float v) { return rh::host::whole<unsigned>(nearbyint(double(v))); }
inline unsigned __float2uint_rz(float v) { return rh::host::whole<unsigned>(trunc(double(v))); }
inline unsigned __float2uint_rd(float v) { return rh::host::whole<unsigned>(floor(double(v))); }
inline long long __float2ll_rn(float v) { return rh::host::whole<long long>(nearbyint(double(v))); }
inline int __double2int_rn(double v) { return rh::host::whole<int>(nearbyint(v)); }
inline float __int2float_rn(int v) { return float(v); }
inline float __uint2float_rn(unsigned v) { return float(v); }
inline float __ull2float_rn(unsigned long long v) { return float(v); }
inline float __double2float_rn(double v) { return float(v); }
inline double __int2double_rn(int v) { return double(v); }

// Integers.
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(uint64_t(v)) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (v >> i & 1u) << (31 - i);
    return r;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    const uint64_t both = uint64_t(b) << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned pick = s >> (4 * i) & 15u, byte = unsigned(both >> (8 * (pick & 7u))) & 255u;
        r |= (pick & 8u ? (byte & 128u ? 255u : 0u) : byte) << (8 * i);
    }
    return r;
}
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) { return unsigned(((uint64_t(hi) << 32 | lo) << (n & 31u)) >> 32); }
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) { return unsigned((uint64_t(hi) << 32 | lo) >> (n & 31u)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
inline int __mul24(int a, int b) { return a * b; }
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += int8_t(a >> 8 * i) * int8_t(b >> 8 * i);
    return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; i++) c += (a >> 8 * i & 255u) * (b >> 8 * i & 255u);
    return c;
}

#define RH_MINMAX(T)                                     \
    inline T min(T a, T b) { return b < a ? b : a; }     \
    inline T max(T a, T b) { return a < b ? b : a; }
RH_MINMAX(int)
RH_MINMAX(unsigned)
RH_MINMAX(long)
RH_MINMAX(unsigned long)
RH_MINMAX(long long)
RH_MINMAX(unsigned long long)
#undef RH_MINMAX
inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
inline unsigned long min(unsigned long a, unsigned b) { return min(a, (unsigned long)b); }
inline unsigned long max(unsigned long a, unsigned b) { return max(a, (unsigned long)b); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline int umin(int a, int b) { return min(a, b); }
inline unsigned umin(unsigned a, unsigned b) { return min(a, b); }
inline unsigned umax(unsigned a, unsigned b) { return max(a, b); }
using std::isfinite;
using std::isinf;
using std::isnan;

// What CUDA's headers of half types give to a device compiler only.
inline __half __hfma(__half a, __half b, __half c) { return __double2half(fma(double(__half2float(a)), double(__half2float(b)), double(__half2float(c)))); }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) { return __halves2half2(__hfma(__low2half(a), __low2half(b), __low2half(c)), __hfma(__high2half(a), __high2half(b), __high2half(c))); }
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) { return __double2bfloat16(fma(double(__bfloat162float(a)), double(__bfloat162float(b)), double(__bfloat162float(c)))); }
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) { return __halves2bfloat162(__hfma(__low2bfloat16(a), __low2bfloat16(b), __low2bfloat16(c)), __hfma(__high2bfloat16(a), __high2bfloat16(b), __high2bfloat16(c))); }

#include "ptx_host.cuh"
