package machine

import (
	"io/fs"
	"os"
	"strings"
)

// NVIDIA is what the driver's files say. It needs neither the driver's library
// nor a device.
type NVIDIA struct {
	Driver  string   `json:"driver,omitempty"` // version; empty without a driver
	Devices []string `json:"devices"`          // names
}

// FindNVIDIA looks into /proc/driver/nvidia, and, without a driver, for
// NVIDIA's devices on the PCI bus.
func FindNVIDIA() NVIDIA { return findNVIDIA(os.DirFS("/")) }

func findNVIDIA(root fs.FS) NVIDIA {
	out := NVIDIA{Devices: []string{}}
	if data, err := fs.ReadFile(root, "proc/driver/nvidia/version"); err == nil {
		out.Driver = driverVersion(string(data))
	}
	// An error means a pattern that is no pattern.
	infos, _ := fs.Glob(root, "proc/driver/nvidia/gpus/*/information")
	for _, name := range infos {
		if model := lines(root, name)["Model"]; model != "" {
			out.Devices = append(out.Devices, model)
		}
	}
	if len(out.Devices) > 0 {
		return out
	}
	vendors, _ := fs.Glob(root, "sys/bus/pci/devices/*/vendor")
	for _, name := range vendors {
		folder := strings.TrimSuffix(name, "vendor")
		vendor, _ := fs.ReadFile(root, name)
		class, _ := fs.ReadFile(root, folder+"class")
		// Class 0x03 is a display controller; bridges and sound have others.
		if strings.TrimSpace(string(vendor)) == "0x10de" && strings.HasPrefix(string(class), "0x03") {
			device, _ := fs.ReadFile(root, folder+"device")
			out.Devices = append(out.Devices, "PCI device "+strings.TrimSpace(string(device)))
		}
	}
	return out
}

// driverVersion finds the version in a line such as "NVRM version: NVIDIA UNIX
// Open Kernel Module for x86_64  580.65.06  Release Build ...".
func driverVersion(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	for _, word := range strings.Fields(line) {
		if strings.Count(word, ".") >= 1 && strings.Trim(word, "0123456789.") == "" {
			return word
		}
	}
	return "unknown"
}
