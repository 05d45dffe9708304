package driver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// What an Error is about, for errors.Is.
var (
	ErrNoDevice    = errors.New("no NVIDIA device")
	ErrOldDriver   = errors.New("the NVIDIA driver is too old")
	ErrOutOfMemory = errors.New("out of device memory")
	// ErrDeviceLost says that the context is gone for good: no call of this
	// process on the device will succeed again.
	ErrDeviceLost = errors.New("device lost")
)

// A Code is a CUresult. Zero in an Error means that no call was made: there is
// no driver to call, or it is too old.
type Code int32

// The codes that are told apart here or that the fake driver answers with.
const (
	InvalidValue       Code = 1
	OutOfMemory        Code = 2
	NotInitialized     Code = 3
	StubLibrary        Code = 34
	NewerDriverNeeded  Code = 36
	DeviceUnavailable  Code = 46
	NoDevice           Code = 100
	InvalidDevice      Code = 101
	InvalidImage       Code = 200
	InvalidContext     Code = 201
	NoBinaryForGPU     Code = 209
	ECCUncorrectable   Code = 214
	UnsupportedPTX     Code = 222
	InvalidHandle      Code = 400
	NotFound           Code = 500
	NotReady           Code = 600
	IllegalAddress     Code = 700
	OutOfResources     Code = 701
	LaunchTimeout      Code = 702
	ContextDestroyed   Code = 709
	Assert             Code = 710
	HardwareStack      Code = 714
	IllegalInstruction Code = 715
	MisalignedAddress  Code = 716
	InvalidSpace       Code = 717
	InvalidPC          Code = 718
	LaunchFailed       Code = 719
	NotSupported       Code = 801
	SystemNotReady     Code = 802
	DriverMismatch     Code = 803
	CaptureUnsupported Code = 900
	CaptureInvalidated Code = 901
	CaptureUnmatched   Code = 903
	CaptureUnjoined    Code = 904
	CaptureIsolation   Code = 905
	Unknown            Code = 999
)

var codeNames = map[Code]string{
	InvalidValue: "INVALID_VALUE", OutOfMemory: "OUT_OF_MEMORY", NotInitialized: "NOT_INITIALIZED", StubLibrary: "STUB_LIBRARY",
	NewerDriverNeeded: "CALL_REQUIRES_NEWER_DRIVER", DeviceUnavailable: "DEVICE_UNAVAILABLE", NoDevice: "NO_DEVICE",
	InvalidDevice: "INVALID_DEVICE", InvalidImage: "INVALID_IMAGE", InvalidContext: "INVALID_CONTEXT", NoBinaryForGPU: "NO_BINARY_FOR_GPU",
	ECCUncorrectable: "ECC_UNCORRECTABLE", UnsupportedPTX: "UNSUPPORTED_PTX_VERSION", InvalidHandle: "INVALID_HANDLE",
	NotFound: "NOT_FOUND", NotReady: "NOT_READY", IllegalAddress: "ILLEGAL_ADDRESS", OutOfResources: "LAUNCH_OUT_OF_RESOURCES",
	LaunchTimeout: "LAUNCH_TIMEOUT", ContextDestroyed: "CONTEXT_IS_DESTROYED", Assert: "ASSERT", HardwareStack: "HARDWARE_STACK_ERROR",
	IllegalInstruction: "ILLEGAL_INSTRUCTION", MisalignedAddress: "MISALIGNED_ADDRESS", InvalidSpace: "INVALID_ADDRESS_SPACE",
	InvalidPC: "INVALID_PC", LaunchFailed: "LAUNCH_FAILED", NotSupported: "NOT_SUPPORTED", SystemNotReady: "SYSTEM_NOT_READY",
	DriverMismatch: "SYSTEM_DRIVER_MISMATCH", CaptureUnsupported: "STREAM_CAPTURE_UNSUPPORTED",
	CaptureInvalidated: "STREAM_CAPTURE_INVALIDATED", CaptureUnmatched: "STREAM_CAPTURE_UNMATCHED",
	CaptureUnjoined: "STREAM_CAPTURE_UNJOINED", CaptureIsolation: "STREAM_CAPTURE_ISOLATION", Unknown: "UNKNOWN",
}

func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return fmt.Sprintf("CUDA_ERROR_%s (%d)", name, int32(c))
	}
	return fmt.Sprintf("CUDA error %d", int32(c))
}

// kind sorts a code under one of the errors above, or nil.
func (c Code) kind() error {
	switch c {
	case NoDevice, StubLibrary, DeviceUnavailable, SystemNotReady:
		return ErrNoDevice
	case NewerDriverNeeded, UnsupportedPTX, DriverMismatch:
		return ErrOldDriver
	case OutOfMemory:
		return ErrOutOfMemory
	case IllegalAddress, LaunchTimeout, ContextDestroyed, Assert, HardwareStack, IllegalInstruction, MisalignedAddress,
		InvalidSpace, InvalidPC, LaunchFailed, ECCUncorrectable, Unknown:
		return ErrDeviceLost
	}
	return nil
}

// advice is what to do next, by kind.
var advice = map[error]string{
	ErrNoDevice:    "check that `nvidia-smi` lists a device and that this process may use it",
	ErrOldDriver:   "install NVIDIA driver 580 or newer and restart the machine if it was updated just now",
	ErrOutOfMemory: "free memory on the device or ask for less",
	ErrDeviceLost:  "start the process again; the kernel log (Xid lines) says what the device met",
}

// An Error is one call that failed.
type Error struct {
	Code   Code
	Call   string // the C function
	Kernel string // where one is concerned
	Detail string // the input, and what is known beside the code
	Kind   error  // what it is about where the code does not say so
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Call)
	if e.Kernel != "" {
		fmt.Fprintf(&b, " for %s", e.Kernel)
	}
	if e.Code != 0 {
		fmt.Fprintf(&b, ": %v", e.Code)
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if kind := e.Unwrap(); kind != nil {
		fmt.Fprintf(&b, ": %v; %s", kind, advice[kind])
	}
	return b.String()
}

// Unwrap gives the kind, so that errors.Is(err, ErrOutOfMemory) holds.
func (e *Error) Unwrap() error {
	if e.Kind != nil {
		return e.Kind
	}
	return e.Code.kind()
}

// CheckVersion refuses a driver older than Needed, naming both.
func CheckVersion(have Version) error {
	if have >= Needed {
		return nil
	}
	return &Error{Call: "cuDriverGetVersion", Detail: fmt.Sprintf("this driver is of CUDA %v, the kernels need CUDA %v", have, Needed), Kind: ErrOldDriver}
}

// checkImage refuses what is no whole fat binary: the driver is not told how long
// an image is and would read on.
func checkImage(image []byte) error {
	const magic, header = 0xba55ed50, 16
	if len(image) >= header && binary.LittleEndian.Uint32(image) == magic && binary.LittleEndian.Uint64(image[8:]) <= uint64(len(image)-header) {
		return nil
	}
	return &Error{Code: InvalidImage, Call: "cuModuleLoadData", Detail: fmt.Sprintf("%d bytes that are no whole fat binary", len(image))}
}

// WrongSize says that an image and args.go disagree.
func WrongSize(kernel string, got, want int) error {
	return &Error{Code: InvalidValue, Call: "cuFuncGetParamInfo", Kernel: kernel, Detail: fmt.Sprintf("the image takes an argument of %d bytes, the program has %d: they were not built together", got, want)}
}
