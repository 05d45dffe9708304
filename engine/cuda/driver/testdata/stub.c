// A libcuda in host memory, for the test of the bindings: compiled against the
// real cuda.h, so that a wrong declaration does not compile, and strict about
// every value that arrives. It runs one kernel, rh_smoke_echo.
#include <cuda.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT ((CUcontext)0x100)
#define MODULE ((CUmodule)0x200)
#define FUNCTION ((CUfunction)0x300)
#define STREAM ((CUstream)0x400)
#define EVENT ((CUevent)0x500)
#define GRAPH ((CUgraph)0x600)
#define EXEC ((CUgraphExec)0x700)
#define EXPECT(condition) \
    do { \
        if (!(condition)) return CUDA_ERROR_UNKNOWN; \
    } while (0)

#ifndef STUB_VERSION
#define STUB_VERSION 13000
#endif

CUresult cuInit(unsigned int flags) { return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }
CUresult cuDriverGetVersion(int *version) { *version = STUB_VERSION; return CUDA_SUCCESS; }

// What follows is missing in an older driver.
#if STUB_VERSION >= 13000
CUresult cuDeviceGetCount(int *count) { *count = 2; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (ordinal < 0 || ordinal > 1) return CUDA_ERROR_INVALID_DEVICE;
    *device = 40 + ordinal;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int len, CUdevice dev) {
    EXPECT(dev == 41 && len == 256);
    strcpy(name, "stub");
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice dev) {
    EXPECT(dev == 41);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 12; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 48; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 101376; break;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 25165824; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = 1; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) {
    EXPECT(dev == 41);
    *bytes = (size_t)130 << 30;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice dev) {
    EXPECT(dev == 41);
    *context = CONTEXT;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) { EXPECT(dev == 41); return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) { EXPECT(context == CONTEXT); return CUDA_SUCCESS; }
CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    *free = (size_t)100 << 30;
    *total = (size_t)129 << 30;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    if (*(const uint32_t *)image != 0xba55ed50) return CUDA_ERROR_INVALID_IMAGE;
    *module = MODULE;
    return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) { EXPECT(module == MODULE); return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    EXPECT(module == MODULE);
    if (strcmp(name, "rh_smoke_echo") != 0) return CUDA_ERROR_NOT_FOUND;
    *function = FUNCTION;
    return CUDA_SUCCESS;
}
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *size) {
    EXPECT(function == FUNCTION);
    if (index != 0) return CUDA_ERROR_INVALID_VALUE;
    *offset = 0;
    *size = 40;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    EXPECT(function == FUNCTION && attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value == 65536);
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t bytes) {
    if (bytes > (size_t)1 << 30) return CUDA_ERROR_OUT_OF_MEMORY;
    *p = (CUdeviceptr)calloc(1, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr p) { free((void *)p); return CUDA_SUCCESS; }
CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned int flags) {
    EXPECT(flags == (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
    *p = calloc(1, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *p) { free(p); return CUDA_SUCCESS; }
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *p, unsigned int flags) {
    EXPECT(flags == 0);
    *device = (CUdeviceptr)p;
    return CUDA_SUCCESS;
}
static CUresult move(void *dst, const void *src, size_t bytes, CUstream stream) {
    EXPECT(stream == STREAM);
    memcpy(dst, src, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *src, size_t bytes, CUstream stream) { return move((void *)dst, src, bytes, stream); }
CUresult cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr src, size_t bytes, CUstream stream) { return move(dst, (void *)src, bytes, stream); }
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream) { return move((void *)dst, (void *)src, bytes, stream); }
CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
    EXPECT(flags == CU_STREAM_NON_BLOCKING);
    *stream = STREAM;
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy_v2(CUstream stream) { EXPECT(stream == STREAM); return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream stream) { EXPECT(stream == STREAM); return CUDA_SUCCESS; }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
    EXPECT(stream == STREAM && event == EVENT && flags == 0);
    return CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent *event, unsigned int flags) {
    EXPECT(flags == CU_EVENT_DEFAULT);
    *event = EVENT;
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent event) { EXPECT(event == EVENT); return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) { EXPECT(event == EVENT && stream == STREAM); return CUDA_SUCCESS; }
CUresult cuEventQuery(CUevent event) {
    static int queried;
    if (event != EVENT) return CUDA_ERROR_INVALID_HANDLE;
    return queried++ == 0 ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuEventSynchronize(CUevent event) { EXPECT(event == EVENT); return CUDA_SUCCESS; }
CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
    EXPECT(start == EVENT && end == EVENT);
    *milliseconds = 1.5f;
    return CUDA_SUCCESS;
}

struct echo {
    uint32_t *out;
    const uint32_t *step;
    uint64_t wide;
    uint32_t word;
    float real;
    uint16_t half;
    uint8_t byte, last;
    uint32_t pad;
};

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **parameters, void **extra) {
    EXPECT(function == FUNCTION && extra == NULL && c->hStream == STREAM);
    EXPECT(c->gridDimX == 1 && c->gridDimY == 2 && c->gridDimZ == 3);
    if (c->blockDimX > 1024) return CUDA_ERROR_INVALID_VALUE;
    EXPECT(c->blockDimX == 32 && c->blockDimY == 4 && c->blockDimZ == 5 && c->sharedMemBytes == 77);
    EXPECT(c->numAttrs <= 1);
    const struct echo *a = parameters[0];
    if (c->numAttrs == 1) {
        EXPECT(c->attrs[0].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
        EXPECT(c->attrs[0].value.programmaticStreamSerializationAllowed == 1);
    }
    uint32_t bits;
    memcpy(&bits, &a->real, 4);
    const uint32_t out[8] = {(uint32_t)a->wide, (uint32_t)(a->wide >> 32), a->word, bits, a->half,
                             (uint32_t)a->byte << 8 | a->last, a->step[0], c->numAttrs};
    memcpy(a->out, out, sizeof out);
    return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    EXPECT(stream == STREAM && mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    EXPECT(stream == STREAM);
    *graph = GRAPH;
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    EXPECT(graph == GRAPH && flags == 0);
    *exec = EXEC;
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) { EXPECT(graph == GRAPH); return CUDA_SUCCESS; }
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) { EXPECT(exec == EXEC && stream == STREAM); return CUDA_SUCCESS; }
CUresult cuGraphExecDestroy(CUgraphExec exec) { EXPECT(exec == EXEC); return CUDA_SUCCESS; }
#endif
