// The one home of inline PTX: each instruction wrapped and named once, pointers
// in and values out.
#pragma once

#include <cstdint>

namespace rh::ptx {

// grid_wait blocks until every grid that this one was allowed to overlap has
// ended and its writes are visible (griddepcontrol.wait). Before it a kernel may
// touch weights and its arguments only, never what the kernel before it wrote.
// Every thread of every kernel calls it: a kernel that did not would let the next
// one run ahead of the one before.
__device__ __forceinline__ void grid_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// grid_release lets the next kernel of the stream start on free multiprocessors.
// That one's grid_wait still waits for the end of this whole grid.
__device__ __forceinline__ void grid_release() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// prefetch brings the line of an address in global memory closer.
__device__ __forceinline__ void prefetch(const void *p) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(p)));
}

// mma_f16 is mma.m16n8k16: c += a b, fp16 products summed in fp32. With g = lane/4
// and t = lane%4, a holds rows g and g+8 of columns 2t, 2t+1, then both rows of
// 2t+8, 2t+9; b column g of rows 2t, 2t+1, then 2t+8, 2t+9; c columns 2t, 2t+1 of row
// g, then of row g+8.
__device__ __forceinline__ void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sub_half2 is a - b, two halves at a time.
__device__ __forceinline__ uint32_t sub_half2(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

// fma_half2 is a * b + c, two halves at a time.
__device__ __forceinline__ uint32_t fma_half2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// half_bits rounds to fp16, to the nearest even.
__device__ __forceinline__ uint16_t half_bits(float v) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
}

// half_value widens an fp16.
__device__ __forceinline__ float half_value(uint16_t h) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
    return v;
}

// load_once reads 16 bytes that nothing writes while the grid runs and nobody
// reads again soon: weights (ld.global.nc, out of the way of the L1 cache).
__device__ __forceinline__ uint4 load_once(const void *at) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at));
    return v;
}

// mul_half2 is a * b, two halves at a time.
__device__ __forceinline__ uint32_t mul_half2(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

// copy_async begins a copy of 16 bytes into shared memory, past the L1 cache.
// copies_close ends a group of a thread's copies, and copies_wait waits until all
// but the last so many groups have arrived; other threads see them behind a barrier.
__device__ __forceinline__ void copy_async(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"(uint32_t(__cvta_generic_to_shared(shared))), "l"(global)
                 : "memory");
}
__device__ __forceinline__ void copies_close() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int groups>
__device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// copy_async_or_zero is copy_async, or zeros where nothing lives; global is a valid
// address all the same.
__device__ __forceinline__ void copy_async_or_zero(void *shared, const void *global, bool live) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(uint32_t(__cvta_generic_to_shared(shared))), "l"(global), "r"(live ? 16 : 0)
                 : "memory");
}

// ldmatrix_x4 loads four matrices of 8x8 16-bit values: lane l gives the address of
// row l%8 (16 bytes) of matrix l/8, and gets columns 2(l%4), 2(l%4)+1 of row l/4 of
// each. ldmatrix_x4_trans gives it rows 2(l%4), 2(l%4)+1 of column l/4 instead.
__device__ __forceinline__ void ldmatrix_x4(uint32_t d[4], const void *shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(uint32_t(__cvta_generic_to_shared(shared)))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t d[4], const void *shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(uint32_t(__cvta_generic_to_shared(shared)))
                 : "memory");
}

// movmatrix_trans transposes an 8x8 matrix of 16-bit values that lies over the warp
// as ldmatrix_x4 leaves it.
__device__ __forceinline__ uint32_t movmatrix_trans(uint32_t a) {
    uint32_t d;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(a));
    return d;
}

// mma_bf16 is mma_f16 for bfloat16.
__device__ __forceinline__ void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// half2_bits and bfloat2_bits round two values to 16 bits each, to the nearest even.
__device__ __forceinline__ uint32_t half2_bits(float low, float high) {
    uint32_t d;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}
__device__ __forceinline__ uint32_t bfloat2_bits(float low, float high) {
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

}  // namespace rh::ptx
