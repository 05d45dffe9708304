//go:build linux && (amd64 || arm64)

package driver

import (
	"fmt"
	"reflect"

	"github.com/ebitengine/purego"
)

// A symbol is a function of libcuda.
type symbol struct {
	name string
	addr uintptr
}

// symbols are the functions in use, each under the C declaration that it has in
// cuda.h of CUDA 13.0; a test lets a C compiler compare the two.
type symbols struct {
	// CUresult cuInit(unsigned int Flags);
	init symbol `c:"cuInit"`
	// CUresult cuDriverGetVersion(int *driverVersion);
	driverGetVersion symbol `c:"cuDriverGetVersion"`

	// CUresult cuDeviceGetCount(int *count);
	deviceGetCount symbol `c:"cuDeviceGetCount"`
	// CUresult cuDeviceGet(CUdevice *device, int ordinal);
	deviceGet symbol `c:"cuDeviceGet"`
	// CUresult cuDeviceGetName(char *name, int len, CUdevice dev);
	deviceGetName symbol `c:"cuDeviceGetName"`
	// CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev);
	deviceGetAttribute symbol `c:"cuDeviceGetAttribute"`
	// CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev);
	deviceTotalMem symbol `c:"cuDeviceTotalMem_v2"`

	// CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev);
	primaryCtxRetain symbol `c:"cuDevicePrimaryCtxRetain"`
	// CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev);
	primaryCtxRelease symbol `c:"cuDevicePrimaryCtxRelease_v2"`
	// CUresult cuCtxSetCurrent(CUcontext ctx);
	ctxSetCurrent symbol `c:"cuCtxSetCurrent"`
	// CUresult cuMemGetInfo_v2(size_t *free, size_t *total);
	memGetInfo symbol `c:"cuMemGetInfo_v2"`

	// CUresult cuModuleLoadData(CUmodule *module, const void *image);
	moduleLoadData symbol `c:"cuModuleLoadData"`
	// CUresult cuModuleUnload(CUmodule hmod);
	moduleUnload symbol `c:"cuModuleUnload"`
	// CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name);
	moduleGetFunction symbol `c:"cuModuleGetFunction"`
	// CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset, size_t *paramSize);
	funcGetParamInfo symbol `c:"cuFuncGetParamInfo"`
	// CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value);
	funcSetAttribute symbol `c:"cuFuncSetAttribute"`

	// CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize);
	memAlloc symbol `c:"cuMemAlloc_v2"`
	// CUresult cuMemFree_v2(CUdeviceptr dptr);
	memFree symbol `c:"cuMemFree_v2"`
	// CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags);
	memHostAlloc symbol `c:"cuMemHostAlloc"`
	// CUresult cuMemFreeHost(void *p);
	memFreeHost symbol `c:"cuMemFreeHost"`
	// CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags);
	memHostGetDevicePointer symbol `c:"cuMemHostGetDevicePointer_v2"`
	// CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream);
	memcpyHtoDAsync symbol `c:"cuMemcpyHtoDAsync_v2"`
	// CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream);
	memcpyDtoHAsync symbol `c:"cuMemcpyDtoHAsync_v2"`
	// CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream);
	memcpyDtoDAsync symbol `c:"cuMemcpyDtoDAsync_v2"`

	// CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags);
	streamCreate symbol `c:"cuStreamCreate"`
	// CUresult cuStreamDestroy_v2(CUstream hStream);
	streamDestroy symbol `c:"cuStreamDestroy_v2"`
	// CUresult cuStreamSynchronize(CUstream hStream);
	streamSynchronize symbol `c:"cuStreamSynchronize"`
	// CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags);
	streamWaitEvent symbol `c:"cuStreamWaitEvent"`

	// CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags);
	eventCreate symbol `c:"cuEventCreate"`
	// CUresult cuEventDestroy_v2(CUevent hEvent);
	eventDestroy symbol `c:"cuEventDestroy_v2"`
	// CUresult cuEventRecord(CUevent hEvent, CUstream hStream);
	eventRecord symbol `c:"cuEventRecord"`
	// CUresult cuEventQuery(CUevent hEvent);
	eventQuery symbol `c:"cuEventQuery"`
	// CUresult cuEventSynchronize(CUevent hEvent);
	eventSynchronize symbol `c:"cuEventSynchronize"`
	// CUresult cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd);
	eventElapsedTime symbol `c:"cuEventElapsedTime_v2"`

	// CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra);
	launchKernelEx symbol `c:"cuLaunchKernelEx"`
	// CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode);
	streamBeginCapture symbol `c:"cuStreamBeginCapture_v2"`
	// CUresult cuStreamEndCapture(CUstream hStream, CUgraph *phGraph);
	streamEndCapture symbol `c:"cuStreamEndCapture"`
	// CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags);
	graphInstantiate symbol `c:"cuGraphInstantiateWithFlags"`
	// CUresult cuGraphDestroy(CUgraph hGraph);
	graphDestroy symbol `c:"cuGraphDestroy"`
	// CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream);
	graphLaunch symbol `c:"cuGraphLaunch"`
	// CUresult cuGraphExecDestroy(CUgraphExec hGraphExec);
	graphExecDestroy symbol `c:"cuGraphExecDestroy"`
}

// Values of cuda.h.
const (
	attrSMs          = 16 // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
	attrIntegrated   = 18 // CU_DEVICE_ATTRIBUTE_INTEGRATED
	attrL2           = 38 // CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
	attrMajor        = 75 // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
	attrMinor        = 76 // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
	attrShared       = 97 // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
	funcShared       = 8  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
	hostPortable     = 1  // CU_MEMHOSTALLOC_PORTABLE
	hostMapped       = 2  // CU_MEMHOSTALLOC_DEVICEMAP
	streamUnblocking = 1  // CU_STREAM_NON_BLOCKING
	captureOfThread  = 1  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
	launchOverlap    = 6  // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
)

// find fills in the addresses. What is missing is an error that names it.
func (s *symbols) find(lib uintptr) error {
	value := reflect.ValueOf(s).Elem()
	for i := range value.NumField() {
		name := value.Type().Field(i).Tag.Get("c")
		addr, err := purego.Dlsym(lib, name)
		if err != nil {
			return fmt.Errorf("no function %s: %w", name, err)
		}
		*(*symbol)(value.Field(i).Addr().UnsafePointer()) = symbol{name, addr}
	}
	return nil
}
