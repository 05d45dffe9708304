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

// widen_half is a half, given by its bits, as fp32: exactly.
__device__ __forceinline__ float widen_half(uint16_t bits) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}

}  // namespace rh::ptx
