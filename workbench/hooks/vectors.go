package hooks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
)

// vectors are the steering vectors of a folder, read when they are asked for and kept
// while their files stay as they are.
type vectors struct {
	dir string

	mu   sync.Mutex
	kept map[string]vector
}

// vector is one that was read.
type vector struct {
	values []float32
	file   string
	size   int64
	time   time.Time // the file's
}

// Bounds of vectors.
const (
	maxVectorName = 128
	maxVectorFile = 64 << 20 // bytes
	maxKept       = 256
)

// vectorNames are what vectors may be called: no dots, so that nothing leads out.
var vectorNames = regexp.MustCompile(`^[a-z0-9_-]+(/[a-z0-9_-]+)*$`)

// Vectors finds the steering vectors of a folder: those of a hidden size, by name.
func Vectors(dir string) func(hidden int) func(name string) ([]float32, error) {
	return newVectors(dir).get
}

func newVectors(dir string) *vectors { return &vectors{dir: dir, kept: map[string]vector{}} }

// get returns how to find vectors of a hidden size.
func (v *vectors) get(hidden int) func(name string) ([]float32, error) {
	return func(name string) ([]float32, error) { return v.find(name, hidden) }
}

// find returns the vector of a name: "a" is the only tensor of a.safetensors, "a/b" that
// of a/b.safetensors, or the tensor b of a.safetensors.
func (v *vectors) find(name string, hidden int) ([]float32, error) {
	if len(name) > maxVectorName || !vectorNames.MatchString(name) {
		return nil, fmt.Errorf("there is no vector %.128q: names are made of a-z, 0-9, _, - and /", name)
	}
	values, err := v.findIn(name, hidden)
	if !errors.Is(err, fs.ErrNotExist) {
		return values, err
	}
	file := "vectors/" + name + ".safetensors"
	if info, statErr := fs.Stat(library.FS, file); statErr == nil {
		return v.read(library.FS, info, name, file, "", hidden)
	}
	return nil, err
}

// findIn is find in the folder.
func (v *vectors) findIn(name string, hidden int) ([]float32, error) {
	if v.dir == "" {
		return nil, fmt.Errorf("there is no vector %q: the server has no folder of vectors (scripts.vectors): %w", name, fs.ErrNotExist)
	}
	root, err := os.OpenRoot(v.dir)
	if err != nil {
		return nil, fmt.Errorf("there is no vector %q: open the folder of vectors: %w", name, err)
	}
	defer func() { _ = root.Close() }() // it was only read
	folder := unmapped{root.FS()}
	for file, tensor := name, ""; ; {
		info, err := fs.Stat(folder, file+".safetensors")
		if err == nil {
			return v.read(folder, info, name, file+".safetensors", tensor, hidden)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("vector %q: %w", name, err)
		}
		slash := strings.LastIndexByte(file, '/')
		if slash < 0 {
			return nil, fmt.Errorf("there is no vector %q: %s has no file for it, %s.safetensors, nor has the library: %w", name, v.dir, file, fs.ErrNotExist)
		}
		file, tensor = file[:slash], name[slash+1:]
	}
}

// read reads a vector, unless it is kept.
func (v *vectors) read(folder fs.FS, info fs.FileInfo, name, file, tensor string, hidden int) ([]float32, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.kept[name]
	if !ok || k.file != file || k.size != info.Size() || !k.time.Equal(info.ModTime()) {
		values, err := load(folder, info, file, tensor)
		if err != nil {
			return nil, fmt.Errorf("vector %q: %w", name, err)
		}
		if len(v.kept) >= maxKept {
			clear(v.kept)
		}
		k = vector{values, file, info.Size(), info.ModTime()}
		v.kept[name] = k
	}
	if len(k.values) != hidden {
		return nil, fmt.Errorf("vector %q has %d values: the model's hidden size is %d", name, len(k.values), hidden)
	}
	return slices.Clone(k.values), nil
}

// load reads a tensor of a file; the only one for "".
func load(folder fs.FS, info fs.FileInfo, file, tensor string) ([]float32, error) {
	if info.Size() > maxVectorFile {
		return nil, fmt.Errorf("%s has %d bytes: at most %d are read", file, info.Size(), maxVectorFile)
	}
	c, err := safetensors.OpenFile(folder, file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // it is in memory
	names := map[string]bool{}
	for _, t := range c.Files[0].Tensors {
		names[t.Name] = true
	}
	if tensor == "" && len(names) == 1 {
		tensor = c.Files[0].Tensors[0].Name
	}
	t, ok := c.Lookup(tensor)
	if !ok {
		list := slices.Sorted(maps.Keys(names))
		return nil, fmt.Errorf("%s has %d tensors: name one of them behind a slash: %q", file, len(list), list[:min(len(list), listedNames)])
	}
	if len(t.Shape) != 1 {
		return nil, fmt.Errorf("%s: the tensor %s has the shape %v: a vector has one dimension", file, t.Name, t.Shape)
	}
	return floats(t)
}

// floats converts a tensor.
func floats(t *safetensors.Tensor) ([]float32, error) {
	data, out := t.Data(), make([]float32, t.Shape[0])
	for i := range out {
		switch t.DType {
		case safetensors.F32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		case safetensors.BF16:
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		case safetensors.F16:
			out[i] = half(binary.LittleEndian.Uint16(data[2*i:]))
		default:
			return nil, fmt.Errorf("the tensor %s is of type %s: a vector is of F32, F16 or BF16", t.Name, t.DType)
		}
		if out[i]-out[i] != 0 {
			return nil, fmt.Errorf("value %d of the tensor %s is %v", i, t.Name, out[i])
		}
	}
	return out, nil
}

// half converts a number of 16 bits.
func half(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0: // zero, or below the smallest exponent
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)/(1<<24)))
	case 31:
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// unmapped is a folder whose files are read instead of mapped: whoever cuts one short
// while it is read does not end the program.
type unmapped struct{ fs.FS }

// Open implements fs.FS.
func (u unmapped) Open(name string) (fs.File, error) {
	f, err := u.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return struct{ fs.File }{f}, nil
}

// Stat implements fs.StatFS, so that nothing is opened that is no file.
func (u unmapped) Stat(name string) (fs.FileInfo, error) { return fs.Stat(u.FS, name) }
