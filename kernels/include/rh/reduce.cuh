// Sums over a warp and a block. The order of additions depends on the block's
// size alone, so a row's bits depend on the row alone.
#pragma once

namespace rh {

__device__ __forceinline__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// block_sum gives every thread the sum over a one-dimensional block of whole
// warps. All threads call it; it may be called again at once.
__device__ __forceinline__ float block_sum(float v) {
    __shared__ float partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    v = warp_sum(v);
    __syncthreads();  // the call before may still be read
    if (lane == 0) partial[warp] = v;
    __syncthreads();
    return warp_sum(lane < blockDim.x / 32 ? partial[lane] : 0.0f);
}

}  // namespace rh
