package machine

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestReadMemory(t *testing.T) {
	const status = "Name:\tx\nVmHWM:\t    2048 kB\nRssAnon:\t     512 kB\nRssFile:\t     100 kB\n"
	for name, c := range map[string]struct {
		proc fstest.MapFS
		want Memory
	}{
		"both":       {fstest.MapFS{"status": file(status), "smaps_rollup": file("00-ff ---p 0 0 0 [rollup]\nAnonymous:   600 kB\n")}, Memory{600 << 10, 600 << 10, 100 << 10, 2 << 20}},
		"old kernel": {fstest.MapFS{"status": file(status)}, Memory{512 << 10, 512 << 10, 100 << 10, 2 << 20}},
		"none":       {fstest.MapFS{}, Memory{-1, -1, -1, -1}},
	} {
		if got := readMemory(c.proc); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestWatchSeesAPeak(t *testing.T) {
	if ReadMemory().Anonymous < 0 {
		t.Skip("this system does not tell a process's memory")
	}
	stop := Watch()
	m := stop()
	if m.PeakAnonymous < m.Anonymous || m.PeakResident <= 0 {
		t.Errorf("%+v", m)
	}
}

func TestFindNVIDIA(t *testing.T) {
	const version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)  Sun\nGCC version: 12.2.0\n"
	for name, c := range map[string]struct {
		root fstest.MapFS
		want NVIDIA
	}{
		"none": {fstest.MapFS{}, NVIDIA{Devices: []string{}}},
		"driver and device": {fstest.MapFS{
			"proc/driver/nvidia/version":                       file(version),
			"proc/driver/nvidia/gpus/0000:01:00.0/information": file("Model: \t\t NVIDIA H200\nIRQ: 17\n"),
		}, NVIDIA{Driver: "580.65.06", Devices: []string{"NVIDIA H200"}}},
		"device without a driver": {fstest.MapFS{
			"sys/bus/pci/devices/0/vendor": file("0x10de\n"), "sys/bus/pci/devices/0/class": file("0x030200\n"), "sys/bus/pci/devices/0/device": file("0x2335\n"),
			"sys/bus/pci/devices/1/vendor": file("0x10de\n"), "sys/bus/pci/devices/1/class": file("0x040300\n"),
			"sys/bus/pci/devices/2/vendor": file("0x8086\n"), "sys/bus/pci/devices/2/class": file("0x030000\n"),
		}, NVIDIA{Devices: []string{"PCI device 0x2335"}}},
		"a version that says nothing": {fstest.MapFS{"proc/driver/nvidia/version": file("NVRM\n")}, NVIDIA{Driver: "unknown", Devices: []string{}}},
	} {
		if diff := cmp.Diff(c.want, findNVIDIA(c.root)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestBandwidth(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 256 MiB 18 times")
	}
	b, err := MeasureBandwidth(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if b.One <= 0 || b.All <= 0 || b.Buffer < minBuffer {
		t.Errorf("%+v", b)
	}
	t.Logf("one thread %.1f GB/s, two %.1f GB/s", b.One/1e9, b.All/1e9)
}
