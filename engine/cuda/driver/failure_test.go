package driver_test

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// What fails at its call leaves the device well.
func TestDriverSurvivesFailures(t *testing.T) {
	each(t, func(m *machine) {
		p := m.alloc(64)
		args := kernels.FillArgs{Dst: uint64(p), N: 16, Value: 3}
		good := driver.Launch{Function: m.function["rh_smoke_fill"], Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: m.stream, Args: kernels.Bytes(&args)}
		for name, change := range map[string]func(*driver.Launch){
			"no blocks":           func(l *driver.Launch) { l.Grid[0] = 0 },
			"no threads":          func(l *driver.Launch) { l.Block[1] = 0 },
			"too many threads":    func(l *driver.Launch) { l.Block[0] = 2048 },
			"too much shared":     func(l *driver.Launch) { l.Shared = 1 << 20 },
			"no arguments":        func(l *driver.Launch) { l.Args = nil },
			"too few arguments":   func(l *driver.Launch) { l.Args = l.Args[:16] },
			"too large arguments": func(l *driver.Launch) { l.Args = make([]byte, driver.MaxArgs+8) },
		} {
			l := good
			change(&l)
			if err := m.Launch(&l); code(err) != driver.InvalidValue {
				m.Errorf("%s: %v", name, err)
			}
		}
		_, total, err := m.Memory()
		m.ok(err)
		if _, err := m.Alloc(2 * total); !errors.Is(err, driver.ErrOutOfMemory) || !strings.Contains(err.Error(), "free") {
			m.Errorf("twice the memory: %v", err)
		}
		if _, err := m.Alloc(0); code(err) != driver.InvalidValue {
			m.Errorf("no memory: %v", err)
		}
		if _, err := m.AllocHost(0); code(err) != driver.InvalidValue {
			m.Errorf("no host memory: %v", err)
		}
		m.ok(m.SetShared(good.Function, 64<<10))
		good.Shared = 64 << 10
		m.ok(m.Launch(&good))
		if got := decode[uint32](m.download(p, 64), 16); got[15] != 3 {
			m.Errorf("afterwards: %v", got)
		}
	})
}

// A capture that was spoiled fails at its end and leaves the stream usable.
func TestDriverEndsSpoiledCapture(t *testing.T) {
	each(t, func(m *machine) {
		m.ok(m.BeginCapture(m.stream))
		if err := m.Synchronise(m.stream); code(err) != driver.CaptureUnsupported {
			m.Errorf("waiting for a capture: %v", err)
		}
		if graph, err := m.EndCapture(m.stream); code(err) != driver.CaptureInvalidated || graph != 0 {
			m.Errorf("its end: %v, %v", graph, err)
		}
		if _, err := m.EndCapture(m.stream); code(err) == 0 {
			m.Error("a capture that never began ended")
		}
		m.sync()
	})
}

// A wild write loses the device: that call and all after it say so. On a device
// this takes a process of its own.
func TestDriverLosesDevice(t *testing.T) {
	lose := func(m *machine) {
		args := kernels.FillArgs{Dst: 0x10, N: 1 << 20, Value: 3}
		m.ok(m.Launch(&driver.Launch{
			Function: m.function["rh_smoke_fill"], Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: m.stream, Args: kernels.Bytes(&args),
		}))
		err := m.Synchronise(m.stream)
		if !errors.Is(err, driver.ErrDeviceLost) || code(err) != driver.IllegalAddress {
			m.Errorf("a wild write: %v", err)
		}
		m.Log(err)
		if _, err := m.Alloc(1024); !errors.Is(err, driver.ErrDeviceLost) {
			m.Errorf("the call after: %v", err)
		}
	}
	leave := func(func() error) {} // a lost device is left, not given back
	t.Run("fake", func(t *testing.T) {
		fake := newFake(t)
		lose(open(t, fake, fake, leave))
	})
	t.Run("device", func(t *testing.T) {
		d := device(t)
		if os.Getenv("ROUNDHOUSE_LOSE_DEVICE") == "1" {
			lose(open(t, d, nil, leave))
			return
		}
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDriverLosesDevice$/^device$", "-test.v")
		child.Env = append(os.Environ(), "ROUNDHOUSE_LOSE_DEVICE=1")
		out, err := child.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
	})
}

// A chip that no machine code is for gets the PTX compiled.
func TestDriverFallsBackToPTX(t *testing.T) {
	d := device(t)
	m := ready(t, d, nil)
	manifest, err := kernels.Images()
	m.ok(err)
	for _, image := range manifest.Images {
		data, err := image.Data()
		m.ok(err)
		module := must(m, m.Load)(ptxOnly(data))
		for _, kernel := range image.Kernels {
			function, err := m.Function(module, kernel.Name, kernel.ArgSize)
			m.ok(err)
			m.function[kernel.Name] = function
		}
		t.Cleanup(func() { m.ok(m.Unload(module)) })
	}
	p := m.alloc(400)
	launch(m, "rh_smoke_fill", 2, 32, kernels.FillArgs{Dst: uint64(p), N: 100, Value: 8})
	if got := decode[uint32](m.download(p, 400), 100); got[0] != 8 || got[99] != 8 {
		m.Errorf("%v", got)
	}
}

// ptxOnly leaves a fat binary its PTX alone: a header of 16 bytes with the length
// at 8, then entries of {u16 kind, u16, u32 header length, u64 length}.
func ptxOnly(image []byte) []byte {
	le := binary.LittleEndian
	out := append([]byte(nil), image[:16]...)
	for rest := image[16:]; len(rest) > 16; {
		size := uint64(le.Uint32(rest[4:])) + le.Uint64(rest[8:])
		if le.Uint16(rest) == 1 {
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	le.PutUint64(out[8:], uint64(len(out)-16))
	return out
}
