//go:build linux && (amd64 || arm64)

package driver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// compileC runs the host's C compiler with the cuda.h of the kernels' compiler.
func compileC(t *testing.T, args ...string) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc to compile against cuda.h")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("needs a user cache folder:", err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "roundhouse/nvcc-*/nvidia/cu13/include/cuda.h"))
	if err != nil || len(found) == 0 {
		t.Skip("needs cuda.h, which `go run ./kernels/build` fetches")
	}
	args = append([]string{"-Wall", "-Werror", "-I", filepath.Dir(found[0])}, args...)
	if out, err := exec.CommandContext(t.Context(), gcc, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
}

// The declarations, numbers and layouts written here are those of cuda.h: a C
// compiler compares them.
func TestBindingsAgreeWithTheHeader(t *testing.T) {
	text, err := os.ReadFile("symbols_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	var c bytes.Buffer
	c.WriteString("#include <cuda.h>\n#include <stddef.h>\n")
	bindings := regexp.MustCompile("(?m)^\t// (CUresult (\\w+)\\(.*\\);)\n\t\\w+ symbol `c:\"(\\w+)\"`$").FindAllSubmatch(text, -1)
	if want := reflect.TypeFor[symbols]().NumField(); len(bindings) != want {
		t.Errorf("%d of %d bindings stand under their declaration", len(bindings), want)
	}
	for _, b := range bindings {
		if string(b[2]) != string(b[3]) {
			t.Errorf("%s stands under the declaration of %s", b[3], b[2])
		}
		fmt.Fprintf(&c, "%s\n", b[1])
	}
	values := regexp.MustCompile(`(?m)= (\d+) +// (CU_\w+)$`).FindAllSubmatch(text, -1)
	if len(values) < 10 {
		t.Errorf("only %d values of cuda.h found", len(values))
	}
	for _, v := range values {
		fmt.Fprintf(&c, "_Static_assert((int)%s == %s, \"\");\n", v[2], v[1])
	}
	for code, name := range codeNames {
		fmt.Fprintf(&c, "_Static_assert((int)CUDA_ERROR_%s == %d, \"\");\n", name, code)
	}
	for field, offset := range map[string]uintptr{
		"gridDimX": unsafe.Offsetof(launchConfig{}.grid), "blockDimX": unsafe.Offsetof(launchConfig{}.block),
		"sharedMemBytes": unsafe.Offsetof(launchConfig{}.shared), "hStream": unsafe.Offsetof(launchConfig{}.stream),
		"attrs": unsafe.Offsetof(launchConfig{}.attributes), "numAttrs": unsafe.Offsetof(launchConfig{}.count),
	} {
		fmt.Fprintf(&c, "_Static_assert(offsetof(CUlaunchConfig, %s) == %d, \"\");\n", field, offset)
	}
	fmt.Fprintf(&c, "_Static_assert(sizeof(CUlaunchConfig) == %d && sizeof(CUlaunchAttribute) == %d && offsetof(CUlaunchAttribute, value) == %d, \"\");\n",
		unsafe.Sizeof(launchConfig{}), unsafe.Sizeof(launchAttribute{}), unsafe.Offsetof(launchAttribute{}.value))
	name := filepath.Join(t.TempDir(), "bindings.c")
	if err := os.WriteFile(name, c.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	compileC(t, "-fsyntax-only", name)
}

func stub(t *testing.T, flags ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "libstub.so")
	compileC(t, append(flags, "-shared", "-fPIC", "-o", name, "testdata/stub.c")...)
	return name
}

// echoArgs are the bytes of kernels.EchoArgs.
type echoArgs struct {
	out, step, wide uint64
	word            uint32
	real            float32
	half            uint16
	byte, last      uint8
	_               uint32
}

// Every call crosses to C and back with each value in its place.
func TestBindingsAgainstAStub(t *testing.T) {
	opened, err := open(stub(t))
	if err != nil {
		t.Fatal(err)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d := opened
	count, err := d.Devices()
	ok(err)
	properties, err := d.Device(1)
	ok(err)
	want := Properties{Name: "stub", Memory: 130 << 30, Arch: 121, SMs: 48, Shared: 101376, L2: 25165824, Integrated: true}
	if count != 2 || properties != want || d.Version() != 13000 {
		t.Errorf("%d devices, %+v", count, properties)
	}
	if _, err := d.Device(2); !isCode(err, InvalidDevice) {
		t.Error(err)
	}
	context, err := d.Retain(1)
	ok(err)
	ok(d.SetCurrent(context))
	free, total, err := d.Memory()
	ok(err)
	if free != 100<<30 || total != 129<<30 {
		t.Errorf("%d of %d free", free, total)
	}

	image := make([]byte, 16)
	copy(image, []byte{0x50, 0xed, 0x55, 0xba})
	module, err := d.Load(image)
	ok(err)
	for _, bad := range [][]byte{nil, image[:8], make([]byte, 64)} {
		if _, err := d.Load(bad); !isCode(err, InvalidImage) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	if _, err := d.Function(module, "rh_no_such", 8); !isCode(err, NotFound) {
		t.Error(err)
	}
	if _, err := d.Function(module, "rh_smoke_echo", 48); !isCode(err, InvalidValue) || !strings.Contains(err.Error(), "40 bytes, the program has 48") {
		t.Error(err)
	}
	function, err := d.Function(module, "rh_smoke_echo", 40)
	ok(err)
	ok(d.SetShared(function, 65536))

	if _, err := d.Alloc(2 << 30); !errors.Is(err, ErrOutOfMemory) || !strings.Contains(err.Error(), "2147483648 bytes asked, 107374182400 of") {
		t.Error(err)
	}
	p, err := d.Alloc(64)
	ok(err)
	q, err := d.Alloc(64)
	ok(err)
	host, err := d.AllocHost(64)
	ok(err)
	stream, err := d.NewStream()
	ok(err)
	event, err := d.NewEvent()
	ok(err)

	copy(host.Bytes(), "abcdefgh")
	ok(d.CopyIn(p, host.Slice(0, 8), stream))
	ok(d.Copy(q, p+2, 4, stream))
	ok(d.CopyOut(host.Slice(32, 36), q, stream))
	ok(d.Synchronise(stream))
	if got := string(host.Bytes()[32:36]); got != "cdef" {
		t.Errorf("copies gave %q", got)
	}

	launch := Launch{Function: function, Grid: Dim{1, 2, 3}, Block: Dim{32, 4, 5}, Shared: 77, Stream: stream}
	args := echoArgs{out: uint64(q), step: uint64(p), wide: 0x1122334455667788, word: 3, real: 1, half: 4, byte: 5, last: 6}
	launch.Args = unsafe.Slice((*byte)(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	for i := range 200 {
		launch.Overlap = i%2 == 1
		if i%20 == 0 {
			runtime.GC()
		}
		ok(d.Launch(&launch))
		got := slices.Clone(unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(host.Bytes()))), 8))
		ok(d.CopyOut(host.Slice(0, 32), q, stream))
		got = slices.Clone(unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(host.Bytes()))), len(got)))
		if want := []uint32{0x55667788, 0x11223344, 3, 0x3f800000, 4, 5<<8 | 6, 0x64636261, uint32(i % 2)}; !slices.Equal(got, want) {
			t.Fatalf("launch %d: % x, want % x", i, got, want)
		}
	}
	large := launch
	large.Block[0] = 2048
	if err := d.Launch(&large); !isCode(err, InvalidValue) || !strings.Contains(err.Error(), "block [2048 4 5]") {
		t.Error(err)
	}

	ok(d.Record(event, stream))
	ok(d.Wait(stream, event))
	first, err := d.Done(event)
	ok(err)
	second, err := d.Done(event)
	ok(err)
	if first || !second {
		t.Errorf("an event was done %v, then %v", first, second)
	}
	if _, err := d.Done(event + 1); !isCode(err, InvalidHandle) {
		t.Error(err)
	}
	ok(d.SynchroniseEvent(event))
	if elapsed, err := d.Elapsed(event, event); err != nil || elapsed.Microseconds() != 1500 {
		t.Errorf("%v, %v", elapsed, err)
	}
	ok(d.BeginCapture(stream))
	graph, err := d.EndCapture(stream)
	ok(err)
	ok(d.Replay(graph, stream))
	if n := testing.AllocsPerRun(100, func() {
		_, _ = d.Replay(graph, stream), d.CopyIn(p, host, stream)
		_, _, _ = d.Record(event, stream), d.Synchronise(stream), d.Launch(&launch)
	}); n != 0 {
		t.Errorf("the calls of a step allocate %v times", n)
	}

	ok(errors.Join(d.DestroyGraph(graph), d.DestroyEvent(event), d.DestroyStream(stream), d.FreeHost(host), d.Free(p), d.Free(q), d.Unload(module), d.Release(1)))
}

func isCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// An old driver lacks functions; what its user hears is its version.
func TestOldDriverIsNamed(t *testing.T) {
	_, err := open(stub(t, "-DSTUB_VERSION=12040"))
	if !errors.Is(err, ErrOldDriver) || !strings.Contains(err.Error(), "CUDA 12.4") || !strings.Contains(err.Error(), "CUDA 13.0") || !strings.Contains(err.Error(), "580") {
		t.Error(err)
	}
}

func TestNoDriver(t *testing.T) {
	_, err := open(filepath.Join(t.TempDir(), "libcuda.so.1"))
	if !errors.Is(err, ErrNoDevice) || !strings.Contains(err.Error(), "nvidia-smi") {
		t.Error(err)
	}
	if _, err := open("libc.so.6"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("a library that is no driver: %v", err)
	}
}

func BenchmarkCall(b *testing.B) {
	d, err := Open()
	if err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		if _, err := d.Devices(); err != nil {
			b.Fatal(err)
		}
	}
}
