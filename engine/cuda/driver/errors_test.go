package driver

import (
	"errors"
	"strings"
	"testing"
)

func TestErrorsSayWhatTheyAreAbout(t *testing.T) {
	kinds := []error{ErrNoDevice, ErrOldDriver, ErrOutOfMemory, ErrDeviceLost}
	for code, want := range map[Code]error{
		NoDevice: ErrNoDevice, StubLibrary: ErrNoDevice, UnsupportedPTX: ErrOldDriver, DriverMismatch: ErrOldDriver,
		OutOfMemory: ErrOutOfMemory, IllegalAddress: ErrDeviceLost, LaunchFailed: ErrDeviceLost, ECCUncorrectable: ErrDeviceLost,
		InvalidValue: nil, NotFound: nil, CaptureUnsupported: nil, Code(12345): nil,
	} {
		err := error(&Error{Code: code, Call: "cuCall"})
		for _, kind := range kinds {
			if errors.Is(err, kind) != (kind == want) { //nolint:errorlint // a table of kinds
				t.Errorf("%v is %v: %v", code, kind, errors.Is(err, kind))
			}
		}
		if want != nil && !strings.Contains(err.Error(), advice[want]) {
			t.Errorf("%v gives no advice", err)
		}
	}
	err := &Error{Code: OutOfMemory, Call: "cuMemAlloc_v2", Detail: "24 bytes asked"}
	if got, want := err.Error(), "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): 24 bytes asked: out of device memory; free memory on the device or ask for less"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	err = &Error{Code: 12345, Call: "cuLaunchKernelEx", Kernel: "rh_a_b"}
	if got, want := err.Error(), "cuLaunchKernelEx for rh_a_b: CUDA error 12345"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[Version]string{13000: "13.0", 12080: "12.8", 13020: "13.2", 0: "0.0"} {
		if version.String() != want {
			t.Errorf("%d is %v, want %s", int(version), version, want)
		}
	}
	if CheckVersion(Needed) != nil || CheckVersion(Needed-10) == nil {
		t.Error("the border of versions is not at Needed")
	}
}

func TestImagesAreWhole(t *testing.T) {
	good := append([]byte{0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0}, 1, 2, 3, 4)
	if err := checkImage(good); err != nil {
		t.Error(err)
	}
	for n := range good {
		if checkImage(good[:n]) == nil {
			t.Errorf("%d of %d bytes were accepted", n, len(good))
		}
	}
}

func TestHostSlices(t *testing.T) {
	h := HostMemory(make([]byte, 16), 0x1000)
	part := h.Slice(4, 12)
	part.Bytes()[0] = 9
	if part.Len() != 8 || part.Ptr() != 0x1004 || h.Bytes()[4] != 9 || cap(part.Bytes()) != 8 {
		t.Errorf("%d bytes at %#x", part.Len(), part.Ptr())
	}
}
