// Package kernels holds the CUDA kernels: their sources, the images compiled
// from them, and the Go mirrors of their arguments. `go run ./kernels/build`
// makes the images, which are committed, so that a GPU build needs no compiler.
package kernels

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
)

//go:generate go run ./build -headers

//go:embed bin
var bin embed.FS

// A Manifest says which images there are, what they hold and what they were
// made from (bin/manifest.json).
type Manifest struct {
	Compiler string   `json:"compiler"` // nvcc's version
	Lock     string   `json:"lock"`     // SHA-256 of the list of pinned compiler packages
	Flags    []string `json:"flags"`
	Archs    []string `json:"archs"` // machine code for sm_X, PTX for compute_X
	Images   []Image  `json:"images"`
}

// An Image is one fat binary: every kernel of one source file for every
// architecture.
type Image struct {
	Name    string            `json:"name"`    // file in bin/, without .fatbin
	SHA256  string            `json:"sha256"`  // of the file
	Sources map[string]string `json:"sources"` // the source and each header it reaches: SHA-256
	Kernels []Kernel          `json:"kernels"`
}

// A Kernel is one entry point.
type Kernel struct {
	Name       string `json:"name"`
	Args       string `json:"args"`        // its struct, a key of Structs
	ArgSize    int    `json:"arg_size"`    // bytes
	MinArch    int    `json:"min_arch"`    // 80 for compute capability 8.0: below it the kernel does nothing
	MaxThreads int    `json:"max_threads"` // of a block
}

// Images reads the manifest that is compiled in.
func Images() (Manifest, error) {
	var manifest Manifest
	data, err := read("manifest.json")
	if err == nil {
		err = json.Unmarshal(data, &manifest)
	}
	if err != nil {
		return manifest, fmt.Errorf("kernel manifest: %w; run `go run ./kernels/build` and compile again", err)
	}
	return manifest, nil
}

// Data is an image as the driver loads it.
func (i Image) Data() ([]byte, error) { return read(i.Name + ".fatbin") }

// read reads a file of the images: those compiled in, or those in the folder that
// $ROUNDHOUSE_KERNELS names, to try kernels without building the program again.
func read(name string) ([]byte, error) {
	if dir := os.Getenv("ROUNDHOUSE_KERNELS"); dir != "" {
		return fs.ReadFile(os.DirFS(dir), name)
	}
	return bin.ReadFile("bin/" + name)
}
