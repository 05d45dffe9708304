// PTX instructions in C++. The build turns each asm statement of rh/ptx.cuh into
// calls of these, named after the instruction, operands in its order: results by
// reference, an address as a number. An instruction that is not here fails to
// compile, with its name.
#pragma once

namespace rh::host::ptx {

inline uint64_t address(uint64_t p) { return p; }
inline uint64_t address(const volatile void *p) { return reinterpret_cast<uint64_t>(p); }

template <class D>
inline void put(D &d, uint32_t bits) {
    static_assert(sizeof(D) <= 4, "");
    memcpy(&d, &bits, sizeof d);
}

inline float half(uint32_t bits) { return __half2float(__ushort_as_half(uint16_t(bits))); }
inline float bfloat(uint32_t bits) { return cast<float>(bits << 16); }
inline uint32_t half_bits(float v) { return __half_as_ushort(__float2half_rn(v)); }
inline uint32_t bfloat_bits(float v) { return __bfloat16_as_ushort(__float2bfloat16_rn(v)); }

// mma_16x8 is d = a b + c for elements of two bytes: 16 rows, 8 columns, K deep.
// What a device sums in some order of its own is summed in fp64 here.
template <int K, float (*number)(uint32_t)>
void mma_16x8(Exchange &e) {
    float a[16][K], b[8][K];
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, pair = lane % 4 * 2;
        const uint32_t *in = e.in[lane];
        for (int i = 0; i < K / 4; i++)
            for (int j = 0; j < 2; j++) a[group + i % 2 * 8][pair + i / 2 * 8 + j] = number(in[i] >> (16 * j) & 0xffff);
        for (int i = 0; i < K / 8; i++)
            for (int j = 0; j < 2; j++) b[group][pair + i * 8 + j] = number(in[4 + i] >> (16 * j) & 0xffff);
    }
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, pair = lane % 4 * 2;
        for (int i = 0; i < 4; i++) {
            double sum = cast<float>(e.in[lane][6 + i]);
            for (int k = 0; k < K; k++) sum += double(a[group + i / 2 * 8][k]) * double(b[pair + i % 2][k]);
            e.out[lane][i] = cast<uint32_t>(float(sum));
        }
    }
}

// The same for tf32, of which a register holds one element: 8 deep.
inline void mma_16x8_tf32(Exchange &e) {
    float a[16][8], b[8][8];
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, at = lane % 4;
        for (int i = 0; i < 4; i++) a[group + i % 2 * 8][at + i / 2 * 4] = cast<float>(e.in[lane][i] & 0xffffe000u);
        for (int i = 0; i < 2; i++) b[group][at + i * 4] = cast<float>(e.in[lane][4 + i] & 0xffffe000u);
    }
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, pair = lane % 4 * 2;
        for (int i = 0; i < 4; i++) {
            double sum = cast<float>(e.in[lane][6 + i]);
            for (int k = 0; k < 8; k++) sum += double(a[group + i / 2 * 8][k]) * double(b[pair + i % 2][k]);
            e.out[lane][i] = cast<uint32_t>(float(sum));
        }
    }
}

template <class D>
inline void mma(Op op, const char *what, D &d0, D &d1, D &d2, D &d3, const uint32_t (&in)[10]) {
    uint32_t out[4];
    exchange(op, 0xffffffffu, in, 10, out, 4, what);
    put(d0, out[0]), put(d1, out[1]), put(d2, out[2]), put(d3, out[3]);
}

#define RH_MMA_K16(name, number)                                                                                          \
    template <class D>                                                                                                    \
    inline void name(D &d0, D &d1, D &d2, D &d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,         \
                     uint32_t b1, float c0, float c1, float c2, float c3) {                                               \
        mma(mma_16x8<16, number>, #name, d0, d1, d2, d3,                                                                  \
            {a0, a1, a2, a3, b0, b1, cast<uint32_t>(c0), cast<uint32_t>(c1), cast<uint32_t>(c2), cast<uint32_t>(c3)});    \
    }
RH_MMA_K16(mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32, half)
RH_MMA_K16(mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32, bfloat)
#define RH_MMA_K8(name, number)                                                                                           \
    template <class D>                                                                                                    \
    inline void name(D &d0, D &d1, D &d2, D &d3, uint32_t a0, uint32_t a1, uint32_t b0, float c0, float c1, float c2,     \
                     float c3) {                                                                                          \
        mma(mma_16x8<8, number>, #name, d0, d1, d2, d3,                                                                   \
            {a0, a1, 0, 0, b0, 0, cast<uint32_t>(c0), cast<uint32_t>(c1), cast<uint32_t>(c2), cast<uint32_t>(c3)});       \
    }
RH_MMA_K8(mma_sync_aligned_m16n8k8_row_col_f32_f16_f16_f32, half)
RH_MMA_K8(mma_sync_aligned_m16n8k8_row_col_f32_bf16_bf16_f32, bfloat)
template <class D>
inline void mma_sync_aligned_m16n8k8_row_col_f32_tf32_tf32_f32(D &d0, D &d1, D &d2, D &d3, uint32_t a0, uint32_t a1, uint32_t a2,
                                                              uint32_t a3, uint32_t b0, uint32_t b1, float c0, float c1, float c2,
                                                              float c3) {
    mma(mma_16x8_tf32, "mma tf32", d0, d1, d2, d3,
        {a0, a1, a2, a3, b0, b1, cast<uint32_t>(c0), cast<uint32_t>(c1), cast<uint32_t>(c2), cast<uint32_t>(c3)});
}

// ldmatrix: lane 8 i + r brings the address of row r of matrix i, 8 halves wide.
template <bool transposed, unsigned count>
void ldmatrix(Exchange &e) {
    for (unsigned i = 0; i < count; i++) {
        uint16_t m[8][8];
        for (unsigned row = 0; row < 8; row++) {
            const uint32_t *in = e.in[8 * i + row];
            memcpy(m[row], reinterpret_cast<const void *>(uint64_t(in[1]) << 32 | in[0]), 16);
        }
        for (unsigned lane = 0; lane < 32; lane++) {
            const unsigned row = lane / 4, column = lane % 4 * 2;
            const uint32_t low = transposed ? m[column][row] : m[row][column], high = transposed ? m[column + 1][row] : m[row][column + 1];
            e.out[lane][i] = high << 16 | low;
        }
    }
}
template <bool transposed, class... D>
inline void load_matrix(uint64_t from, D &...d) {
    if (from % 16 != 0 && lane() < 8 * sizeof...(d)) die("ldmatrix: row address %#lx is not at a border of 16 bytes", (unsigned long)from);
    uint32_t in[2] = {uint32_t(from), uint32_t(from >> 32)}, out[4];
    exchange(ldmatrix<transposed, sizeof...(d)>, 0xffffffffu, in, 2, out, sizeof...(d), "ldmatrix");
    unsigned i = 0;
    (put(d, out[i++]), ...);
}
#define RH_LDMATRIX(suffix, transposed)                                                                       \
    template <class D>                                                                                        \
    inline void ldmatrix_sync_aligned_m8n8_x1_##suffix(D &d0, uint64_t p) { load_matrix<transposed>(p, d0); } \
    template <class D>                                                                                        \
    inline void ldmatrix_sync_aligned_m8n8_x2_##suffix(D &d0, D &d1, uint64_t p) { load_matrix<transposed>(p, d0, d1); } \
    template <class D>                                                                                        \
    inline void ldmatrix_sync_aligned_m8n8_x4_##suffix(D &d0, D &d1, D &d2, D &d3, uint64_t p) { load_matrix<transposed>(p, d0, d1, d2, d3); }
RH_LDMATRIX(shared_b16, false)
RH_LDMATRIX(trans_shared_b16, true)

// movmatrix transposes the warp's 8 by 8 halves.
template <class D>
inline void movmatrix_sync_aligned_m8n8_trans_b16(D &d, uint32_t a) {
    uint32_t out;
    exchange(
        [](Exchange &e) {
            for (unsigned lane = 0; lane < 32; lane++) {
                const unsigned row = lane / 4, column = lane % 4 * 2;
                const auto at = [&](unsigned r, unsigned c) { return e.in[4 * r + c / 2][0] >> (c % 2 * 16) & 0xffffu; };
                e.out[lane][0] = at(column + 1, row) << 16 | at(column, row);
            }
        },
        0xffffffffu, &a, 1, &out, 1, "movmatrix");
    put(d, out);
}

// cp.async copies when somebody waits for it: what is read too early is old.
inline void cp_async(uint64_t to, uint64_t from, unsigned bytes, unsigned from_bytes) {
    if (to % bytes != 0 || from % bytes != 0) die("cp.async: %u bytes from %#lx to %#lx, not at their border", bytes, (unsigned long)from, (unsigned long)to);
    copy_later(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes, from_bytes < bytes ? from_bytes : bytes);
}
inline void cp_async_cg_shared_global(uint64_t to, uint64_t from, unsigned bytes, unsigned from_bytes = ~0u) { cp_async(to, from, bytes, from_bytes); }
inline void cp_async_ca_shared_global(uint64_t to, uint64_t from, unsigned bytes, unsigned from_bytes = ~0u) { cp_async(to, from, bytes, from_bytes); }
inline void cp_async_commit_group() { copy_commit(); }
inline void cp_async_wait_group(unsigned pending) { copy_wait(pending); }
inline void cp_async_wait_all() { copy_wait_all(); }

// Loads and stores; the build leaves only the width of their names.
template <class E, class D>
inline void load_one(uint64_t p, D &d) {
    const E v = *reinterpret_cast<const E *>(p);
    if constexpr (sizeof(D) == sizeof(E)) memcpy(&d, &v, sizeof d);
    else d = D(v);
}
template <class E, class S>
inline void store_one(uint64_t p, S s) {
    E v;
    if constexpr (sizeof(S) == sizeof(E)) memcpy(&v, &s, sizeof v);
    else v = E(s);
    *reinterpret_cast<E *>(p) = v;
}
inline void check_vector(uint64_t p, unsigned bytes) {
    if (p % bytes != 0) die("%u bytes at %#lx, not at their border", bytes, (unsigned long)p);
}
#define RH_MEMORY(type, E)                                                                                        \
    template <class D>                                                                                            \
    inline void ld_##type(D &d0, uint64_t p) { check_vector(p, sizeof(E)), load_one<E>(p, d0); }                  \
    template <class D>                                                                                            \
    inline void ld_v2_##type(D &d0, D &d1, uint64_t p) { check_vector(p, 2 * sizeof(E)), load_one<E>(p, d0), load_one<E>(p + sizeof(E), d1); } \
    template <class D>                                                                                            \
    inline void ld_v4_##type(D &d0, D &d1, D &d2, D &d3, uint64_t p) {                                            \
        check_vector(p, 4 * sizeof(E));                                                                           \
        load_one<E>(p, d0), load_one<E>(p + sizeof(E), d1), load_one<E>(p + 2 * sizeof(E), d2), load_one<E>(p + 3 * sizeof(E), d3); \
    }                                                                                                             \
    template <class S>                                                                                            \
    inline void st_##type(uint64_t p, S s0) { check_vector(p, sizeof(E)), store_one<E>(p, s0); }                  \
    template <class S>                                                                                            \
    inline void st_v2_##type(uint64_t p, S s0, S s1) { check_vector(p, 2 * sizeof(E)), store_one<E>(p, s0), store_one<E>(p + sizeof(E), s1); } \
    template <class S>                                                                                            \
    inline void st_v4_##type(uint64_t p, S s0, S s1, S s2, S s3) {                                                \
        check_vector(p, 4 * sizeof(E));                                                                           \
        store_one<E>(p, s0), store_one<E>(p + sizeof(E), s1), store_one<E>(p + 2 * sizeof(E), s2), store_one<E>(p + 3 * sizeof(E), s3); \
    }
RH_MEMORY(u8, uint8_t)
RH_MEMORY(b8, uint8_t)
RH_MEMORY(s8, int8_t)
RH_MEMORY(u16, uint16_t)
RH_MEMORY(b16, uint16_t)
RH_MEMORY(u32, uint32_t)
RH_MEMORY(b32, uint32_t)
RH_MEMORY(s32, int32_t)
RH_MEMORY(f32, float)
RH_MEMORY(u64, uint64_t)
RH_MEMORY(b64, uint64_t)
RH_MEMORY(s64, int64_t)
RH_MEMORY(f64, double)
inline void prefetch(uint64_t) {}
inline void discard(uint64_t, int) {}
template <class D>
inline void createpolicy(D &d) { d = 0; }
template <class D>
inline void createpolicy(D &d, float) { d = 0; }

template <class E, class D, class S, class F>
inline void atomic(D &d, uint64_t p, S s, F f) {
    check_vector(p, sizeof(E));
    E *at = reinterpret_cast<E *>(p);
    const E old = *at;
    *at = f(old, E(s));
    d = D(old);
}
#define RH_ATOM(op, type, E, result)                                                                                                    \
    template <class D, class S>                                                                                                         \
    inline void atom_##op##_##type(D &d, uint64_t p, S s) { atomic<E>(d, p, s, [](E old, E v) { return E(result); }); }                 \
    template <class S>                                                                                                                  \
    inline void red_##op##_##type(uint64_t p, S s) { E d; atomic<E>(d, p, s, [](E old, E v) { return E(result); }); }
RH_ATOM(add, u32, uint32_t, old + v)
RH_ATOM(add, s32, int32_t, old + v)
RH_ATOM(add, u64, uint64_t, old + v)
RH_ATOM(add, f32, float, old + v)
RH_ATOM(inc, u32, uint32_t, old >= v ? 0 : old + 1)
RH_ATOM(max, u32, uint32_t, old > v ? old : v)
RH_ATOM(max, s32, int32_t, old > v ? old : v)
RH_ATOM(max, u64, uint64_t, old > v ? old : v)
RH_ATOM(or, b32, uint32_t, old | v)
RH_ATOM(exch, b32, uint32_t, v)

// Bits.
template <class D>
inline void lop3_b32(D &d, uint32_t a, uint32_t b, uint32_t c, unsigned table) {
    uint32_t r = 0;
    for (unsigned i = 0; i < 8; i++)
        if (table >> i & 1u) r |= (i & 4u ? a : ~a) & (i & 2u ? b : ~b) & (i & 1u ? c : ~c);
    put(d, r);
}
template <class D>
inline void prmt_b32(D &d, uint32_t a, uint32_t b, uint32_t s) { put(d, __byte_perm(a, b, s)); }
template <class D>
inline void shf_r_wrap_b32(D &d, uint32_t lo, uint32_t hi, uint32_t n) { put(d, __funnelshift_r(lo, hi, n)); }
template <class D>
inline void shf_l_wrap_b32(D &d, uint32_t lo, uint32_t hi, uint32_t n) { put(d, __funnelshift_l(lo, hi, n)); }
template <class D>
inline void bfe_u32(D &d, uint32_t a, uint32_t at, uint32_t n) { put(d, n >= 32 ? a >> at : a >> at & ((1u << n) - 1)); }
template <class D>
inline void bfe_s32(D &d, int32_t a, uint32_t at, uint32_t n) { put(d, n == 0 ? 0 : uint32_t(int32_t(uint32_t(a) << (32 - at - n)) >> (32 - n))); }
template <class D, class S>
inline void mov(D &d, S s) {
    static_assert(sizeof(D) == sizeof(S), "");
    memcpy(&d, &s, sizeof d);
}
#define RH_MOV(type) \
    template <class D, class S> \
    inline void mov_##type(D &d, S s) { mov(d, s); }
RH_MOV(u32) RH_MOV(b32) RH_MOV(s32) RH_MOV(f32) RH_MOV(u64) RH_MOV(b64)
template <class D>
inline void mov_b32(D &d, uint16_t low, uint16_t high) { put(d, uint32_t(high) << 16 | low); }
template <class D>
inline void cvta_to_shared_u64(D &d, uint64_t p) { d = p; }
template <class D>
inline void cvta_to_global_u64(D &d, uint64_t p) { d = p; }
template <class D>
inline void cvt_u32_u64(D &d, uint64_t p) { d = D(p); }

// Conversions: the first source of a pair is its high half.
template <class D>
inline void cvt_rn_f16x2_f32(D &d, float high, float low) { put(d, half_bits(high) << 16 | half_bits(low)); }
template <class D>
inline void cvt_rn_bf16x2_f32(D &d, float high, float low) { put(d, bfloat_bits(high) << 16 | bfloat_bits(low)); }
inline float saturated(float v) { return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v; }
template <class D>
inline void cvt_rn_satfinite_f16x2_f32(D &d, float high, float low) { put(d, half_bits(saturated(high)) << 16 | half_bits(saturated(low))); }
template <class D>
inline void cvt_rn_f16_f32(D &d, float v) { put(d, half_bits(v)); }
template <class D>
inline void cvt_rn_satfinite_f16_f32(D &d, float v) { put(d, half_bits(saturated(v))); }
template <class D>
inline void cvt_rn_bf16_f32(D &d, float v) { put(d, bfloat_bits(v)); }
template <class D>
inline void cvt_f32_f16(D &d, uint32_t v) { d = half(v); }
template <class D>
inline void cvt_f32_bf16(D &d, uint32_t v) { d = bfloat(v); }
template <class D>
inline void cvt_rna_tf32_f32(D &d, float v) { put(d, (cast<uint32_t>(v) + 0x1000u) & 0xffffe000u); }

// Arithmetic.
template <class D>
inline void ex2_approx_f32(D &d, float a) { d = exp2f(a); }
template <class D>
inline void lg2_approx_f32(D &d, float a) { d = log2f(a); }
template <class D>
inline void rcp_approx_f32(D &d, float a) { d = 1.0f / a; }
template <class D>
inline void rsqrt_approx_f32(D &d, float a) { d = rsqrtf(a); }
template <class D>
inline void sqrt_approx_f32(D &d, float a) { d = sqrtf(a); }
template <class D>
inline void tanh_approx_f32(D &d, float a) { d = tanhf(a); }
template <class D>
inline void sin_approx_f32(D &d, float a) { d = sinf(a); }
template <class D>
inline void cos_approx_f32(D &d, float a) { d = cosf(a); }

template <class F>
inline uint32_t halves(uint32_t a, uint32_t b, uint32_t c, F f) {
    const auto one = [&](unsigned at) { return uint32_t(__half_as_ushort(__double2half(f(double(half(a >> at & 0xffff)), double(half(b >> at & 0xffff)), double(half(c >> at & 0xffff)))))); };
    return one(16) << 16 | one(0);
}
template <class F>
inline uint32_t bfloats(uint32_t a, uint32_t b, uint32_t c, F f) {
    const auto one = [&](unsigned at) { return uint32_t(__bfloat16_as_ushort(__double2bfloat16(f(double(bfloat(a >> at & 0xffff)), double(bfloat(b >> at & 0xffff)), double(bfloat(c >> at & 0xffff)))))); };
    return one(16) << 16 | one(0);
}
#define RH_PAIRS(name2, work, a_op_b)                                                                                              \
    template <class D>                                                                                                            \
    inline void name2(D &d, uint32_t a, uint32_t b) { put(d, work(a, b, 0, [](double x, double y, double) { return a_op_b; })); }
RH_PAIRS(add_f16x2, halves, x + y)
RH_PAIRS(sub_f16x2, halves, x - y)
RH_PAIRS(mul_f16x2, halves, x * y)
RH_PAIRS(min_f16x2, halves, fmin(x, y))
RH_PAIRS(max_f16x2, halves, fmax(x, y))
RH_PAIRS(add_rn_f16x2, halves, x + y)
RH_PAIRS(sub_rn_f16x2, halves, x - y)
RH_PAIRS(mul_rn_f16x2, halves, x * y)
RH_PAIRS(add_bf16x2, bfloats, x + y)
RH_PAIRS(mul_bf16x2, bfloats, x * y)
template <class D>
inline void fma_rn_f16x2(D &d, uint32_t a, uint32_t b, uint32_t c) { put(d, halves(a, b, c, [](double x, double y, double z) { return fma(x, y, z); })); }
template <class D>
inline void fma_rn_bf16x2(D &d, uint32_t a, uint32_t b, uint32_t c) { put(d, bfloats(a, b, c, [](double x, double y, double z) { return fma(x, y, z); })); }

// Predicates and waiting.
template <class D, class S>
inline void setp_ne_b32(D &d, S a, S b) { d = a != b; }
template <class D>
inline void setp_ne_b32(D &d, uint32_t a, uint32_t b) { d = a != b; }
template <class D>
inline void setp_ne_u32(D &d, uint32_t a, uint32_t b) { d = a != b; }
template <class D>
inline void setp_ne_s32(D &d, int32_t a, int32_t b) { d = a != b; }
template <class D>
inline void setp_eq_u32(D &d, uint32_t a, uint32_t b) { d = a == b; }
template <class D>
inline void setp_eq_s32(D &d, int32_t a, int32_t b) { d = a == b; }
template <class D>
inline void setp_lt_u32(D &d, uint32_t a, uint32_t b) { d = a < b; }
inline void bar_sync(unsigned id, unsigned threads = 0) { barrier(id, threads, -int(id) - 1); }
inline void barrier_sync(unsigned id, unsigned threads = 0) { barrier(id, threads, -int(id) - 1); }
inline void fence() {}
inline void nanosleep_u32(unsigned) {}

}  // namespace rh::host::ptx
