// Package safetensors reads model folders: the headers of all *.safetensors
// files, checked against the bytes that are there, and the tensors' data,
// memory-mapped. Format: https://github.com/huggingface/safetensors (8 bytes of
// header length, JSON header, data).
//
// Nothing of a file is trusted: lengths are bounded before memory is taken, and
// every problem is reported with file, tensor and offset, all in one error.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Bounds of what is read. The largest header known, the real model's, is 21 MB
// in all with 227,088 tensors.
const (
	maxHeader  = 100 << 20 // bytes, the format's own bound
	maxIndex   = 256 << 20
	maxTensors = 4_000_000
	maxFiles   = 4096
	maxName    = 512
	maxRank    = 8
	maxFound   = 1000 // findings of one file; more say nothing new
)

// DType is the element type of a stored tensor.
type DType string

// The types that models here use. Others are kept by name and sized by dtypeSize.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I32  DType = "I32"
	I64  DType = "I64"
	U8   DType = "U8"
)

var dtypeSize = map[DType]int64{
	"BOOL": 1, U8: 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, F16: 2, BF16: 2,
	I32: 4, "U32": 4, F32: 4, I64: 8, "U64": 8, "F64": 8,
}

// Tensor is one entry of a header.
type Tensor struct {
	Name   string
	DType  DType
	Shape  []int64
	File   string
	Offset int64 // of the data, from the start of the file
	Bytes  int64

	file *File
}

// Reader reads the tensor's file where it is not to be touched through its mapping:
// pages that a process touched count as its memory. It is nil without a mapping, and
// dead after Close.
func (t *Tensor) Reader() io.ReaderAt { return t.file.reader }

// Data returns the tensor's bytes, little-endian, mapped and read-only.
func (t *Tensor) Data() []byte { return t.file.data[t.Offset:][:t.Bytes:t.Bytes] }

// Finding is one problem of a folder.
type Finding struct {
	File   string
	Tensor string // empty when the file as a whole is meant
	Offset int64  // in the file, -1 when there is none
	What   string
}

func (f Finding) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Tensor != "" {
		fmt.Fprintf(&b, ": tensor %q", f.Tensor)
	}
	if f.Offset >= 0 {
		fmt.Fprintf(&b, " at offset %d", f.Offset)
	}
	return b.String() + ": " + f.What
}

// Problems is all that is wrong with a folder, in order of files.
type Problems []Finding

func (p Problems) Error() string {
	lines := make([]string, 0, len(p))
	for i, f := range p {
		if i == 50 {
			lines = append(lines, fmt.Sprintf("and %d more", len(p)-i))
			break
		}
		lines = append(lines, f.Error())
	}
	return strings.Join(lines, "\n")
}

// File is one open *.safetensors file.
type File struct {
	Name    string
	Size    int64
	Header  []byte // the JSON, for hashing; mapped
	Tensors []Tensor

	data   []byte
	reader io.ReaderAt
	unmap  func() error
}

// Checkpoint is the open files of a folder.
type Checkpoint struct {
	Files  []*File
	byName map[string]*Tensor
	// IndexTotal is metadata.total_size of the index, 0 without one. It does
	// not count extra files.
	IndexTotal int64
	// Unlisted are files with tensors that the index does not name.
	Unlisted []string
}

// Open reads the headers of every *.safetensors file in fsys and checks them
// and the index, if there is one. The error is a Problems.
func Open(fsys fs.FS) (*Checkpoint, error) {
	names, err := fs.Glob(fsys, "*.safetensors")
	if err != nil {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%d safetensors files: at most %d are read", len(names), maxFiles)
	}
	c := &Checkpoint{Files: make([]*File, len(names))}
	found := make([]Problems, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() { c.Files[i], found[i] = openFile(fsys, name) })
	}
	wait.Wait()
	problems := slices.Concat(found...)
	c.Files = slices.DeleteFunc(c.Files, func(f *File) bool { return f == nil })
	problems = append(problems, c.join()...)
	problems = append(problems, c.checkIndex(fsys, names, problems)...)
	if len(names) == 0 && len(problems) == 0 {
		what := "no *.safetensors files in the folder"
		if _, err := fs.ReadDir(fsys, "."); err != nil { // which Glob does not report
			what = "cannot be listed: " + err.Error()
		}
		problems = append(problems, Finding{File: ".", Offset: -1, What: what})
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems, c.Close())
	}
	return c, nil
}

// OpenFile reads one file by itself.
func OpenFile(fsys fs.FS, name string) (*Checkpoint, error) {
	f, problems := openFile(fsys, name)
	c := &Checkpoint{}
	if f != nil {
		c.Files = []*File{f}
	}
	problems = append(problems, c.join()...)
	if len(problems) > 0 {
		return nil, errors.Join(problems, c.Close())
	}
	return c, nil
}

// join puts the tensors of all files under their names.
func (c *Checkpoint) join() (problems Problems) {
	total := 0
	for _, f := range c.Files {
		total += len(f.Tensors)
	}
	c.byName = make(map[string]*Tensor, total)
	for _, f := range c.Files {
		for i := range f.Tensors {
			t := &f.Tensors[i]
			if other, dup := c.byName[t.Name]; dup {
				what := "duplicate: the tensor is in " + other.File + " too"
				if other.File == f.Name {
					what = fmt.Sprintf("duplicate: the header lists the tensor twice, first at offset %d", other.Offset)
				}
				problems = append(problems, Finding{f.Name, t.Name, t.Offset, what})
				if len(problems) == maxFound {
					return problems
				}
				continue
			}
			c.byName[t.Name] = t
		}
	}
	return problems
}

// Lookup finds a tensor by name.
func (c *Checkpoint) Lookup(name string) (*Tensor, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// Count returns the number of tensors.
func (c *Checkpoint) Count() int { return len(c.byName) }

// Close unmaps the files. Views of tensors are dead afterwards.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.Files {
		if f != nil && f.unmap != nil {
			errs = append(errs, f.unmap())
			f.unmap, f.data = nil, nil
		}
	}
	return errors.Join(errs...)
}

// openFile maps one file and reads its header. A nil File means that not even
// that was possible.
func openFile(fsys fs.FS, name string) (*File, Problems) {
	fail := func(offset int64, format string, args ...any) (*File, Problems) {
		return nil, Problems{{name, "", offset, fmt.Sprintf(format, args...)}}
	}
	data, reader, unmap, err := contents(fsys, name, math.MaxInt64)
	if err != nil {
		return fail(-1, "%v", err)
	}
	if len(data) < 8 {
		f, problems := fail(0, "has %d bytes: the download is incomplete, a header needs 8 and more", len(data))
		return f, append(problems, closing(name, unmap)...)
	}
	f := &File{Name: name, Size: int64(len(data)), data: data, reader: reader, unmap: unmap}
	length := binary.LittleEndian.Uint64(data)
	switch {
	case isPointer(data):
		f, problems := fail(0, pointer)
		return f, append(problems, closing(name, unmap)...)
	case length > maxHeader:
		f, problems := fail(0, "header of %d bytes: at most %d are possible, this is no safetensors file", length, maxHeader)
		return f, append(problems, closing(name, unmap)...)
	case int64(length) > f.Size-8:
		f, problems := fail(0, "header of %d bytes in a file of %d: the download is incomplete", length, f.Size)
		return f, append(problems, closing(name, unmap)...)
	}
	f.Header = data[8 : 8+length]
	return f, f.parse(8 + int64(length))
}

func closing(name string, unmap func() error) Problems {
	if err := unmap(); err != nil {
		return Problems{{name, "", -1, err.Error()}}
	}
	return nil
}

// parse reads the header's tensors, whose data starts at base, and checks that
// they cover the file without gap or overlap.
func (f *File) parse(base int64) (problems Problems) {
	s := &scanner{data: f.Header}
	f.Tensors = make([]Tensor, 0, len(f.Header)/128) // an entry takes about 120 bytes
	report := func(name string, offset int64, what string) error {
		if len(problems) == maxFound {
			return s.errorf("and more than %d findings before", maxFound)
		}
		problems = append(problems, Finding{f.Name, name, offset, what})
		return nil
	}
	err := s.object(func(key []byte) error {
		if string(key) == "__metadata__" {
			return s.skip(4)
		}
		if len(f.Tensors) == maxTensors {
			return s.errorf("more than %d tensors", maxTensors)
		}
		entry := 8 + int64(s.at)
		t, what, err := s.tensor()
		switch {
		case err != nil:
			return fmt.Errorf("tensor %q: %w", abridged(key), err)
		case len(key) == 0 || len(key) > maxName:
			return report(abridged(key), entry, fmt.Sprintf("a tensor name of %d bytes: 1 to %d are possible", len(key), maxName))
		case what != "":
			return report(string(key), entry, what)
		}
		t.Name, t.File, t.file = string(key), f.Name, f
		t.Offset += base
		if what := t.check(base, f.Size); what != "" {
			return report(t.Name, t.Offset, what)
		}
		f.Tensors = append(f.Tensors, t)
		return nil
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return append(problems, Finding{f.Name, "", 8 + int64(s.at), "the header is broken: " + err.Error()})
	}
	return append(problems, f.cover(base, len(problems) > 0)...)
}

// abridged keeps what is needed to find a long name.
func abridged(name []byte) string {
	if len(name) > maxName {
		return string(name[:64]) + "..."
	}
	return string(name)
}

// tensor reads {"dtype":..,"shape":[..],"data_offsets":[begin,end]}; Offset is
// relative to the data, Bytes may be negative. An entry that is JSON but no
// tensor is passed over, and what says why.
func (s *scanner) tensor() (t Tensor, what string, err error) {
	if s.next() != '{' {
		return t, "is no object with dtype, shape and data_offsets", s.skip(4)
	}
	var offsets []int64
	fields := 0
	err = s.object(func(key []byte) (err error) {
		field, wrong := 0, ""
		switch string(key) {
		case "dtype":
			field = 1
			if s.next() != '"' {
				wrong, err = "dtype is no string", s.skip(4)
				break
			}
			var text []byte
			text, err = s.text()
			t.DType = dtype(text)
		case "shape":
			field = 2
			t.Shape, wrong, err = s.integers("shape", s.list(), maxRank)
			t.Shape, s.lists = slices.Clip(t.Shape), s.lists[len(t.Shape):]
		case "data_offsets":
			field = 4
			offsets, wrong, err = s.integers("data_offsets", s.pair[:0], 2)
		default:
			wrong, err = fmt.Sprintf("unknown field %q", abridged(key)), s.skip(4)
		}
		if fields&field != 0 {
			wrong = fmt.Sprintf("field %q stands there twice", key)
		}
		fields |= field
		if what == "" {
			what = wrong
		}
		return err
	})
	switch {
	case err != nil || what != "":
		return t, what, err
	case fields != 7 || len(offsets) != 2:
		return t, "dtype, shape and two data_offsets are needed", nil
	}
	t.Offset, t.Bytes = offsets[0], offsets[1]-offsets[0]
	return t, "", nil
}

// list returns an empty slice with room for a shape. Shapes share blocks: one
// allocation each would be a quarter of all.
func (s *scanner) list() []int64 {
	if len(s.lists) < maxRank {
		s.lists = make([]int64, 1024)
	}
	return s.lists[:0:maxRank]
}

// integers is numbers for a value that may be anything: what is JSON but no such
// list is passed over, and wrong says so.
func (s *scanner) integers(field string, dst []int64, limit int) (list []int64, wrong string, err error) {
	start := s.at
	list, bad := s.numbers(dst, limit)
	if bad == nil {
		return list, "", nil
	}
	s.at = start
	return nil, field + " is no list of at most " + strconv.Itoa(limit) + " integers: " + bad.Error(), s.skip(4)
}

// dtype avoids an allocation for the common names.
func dtype(text []byte) DType {
	switch string(text) {
	case "I32":
		return I32
	case "F16":
		return F16
	case "BF16":
		return BF16
	case "F32":
		return F32
	}
	return DType(text)
}

// check compares type, shape and place; it returns what is wrong.
func (t *Tensor) check(base, fileSize int64) string {
	size, ok := dtypeSize[t.DType]
	if !ok {
		return fmt.Sprintf("has the unknown type %q", t.DType)
	}
	elements := int64(1)
	for _, dim := range t.Shape {
		if dim != 0 && elements > (1<<50)/dim {
			return fmt.Sprintf("has the absurd shape %v", t.Shape)
		}
		elements *= dim
	}
	switch {
	case t.Bytes < 0 || t.Offset-base < 0:
		return "has data offsets that run backwards"
	case t.Offset > fileSize || t.Bytes > fileSize-t.Offset:
		return fmt.Sprintf("ends at %d, the file at %d: the download is incomplete", t.Offset+t.Bytes, fileSize)
	case t.Bytes != elements*size:
		return fmt.Sprintf("takes %d bytes, but %s %v needs %d", t.Bytes, t.DType, t.Shape, elements*size)
	}
	return ""
}

// cover checks that tensors follow one another from base to the end of the
// file. Gaps are not reported where tensors were already refused.
func (f *File) cover(base int64, refused bool) (problems Problems) {
	order := make([]*Tensor, len(f.Tensors))
	for i := range f.Tensors {
		order[i] = &f.Tensors[i]
	}
	slices.SortFunc(order, func(a, b *Tensor) int {
		if a.Offset != b.Offset {
			return int(min(max(a.Offset-b.Offset, -1), 1))
		}
		return int(min(max(a.Bytes-b.Bytes, -1), 1))
	})
	end, before := base, ""
	for _, t := range order {
		if len(problems) >= maxFound {
			return problems
		}
		switch {
		case t.Offset < end && t.Bytes > 0:
			problems = append(problems, Finding{f.Name, t.Name, t.Offset, fmt.Sprintf("overlaps %q, which ends at %d", before, end)})
		case t.Offset > end && !refused:
			problems = append(problems, Finding{f.Name, t.Name, t.Offset, fmt.Sprintf("leaves a gap of %d bytes before it", t.Offset-end)})
		}
		if t.Offset+t.Bytes > end {
			end, before = t.Offset+t.Bytes, t.Name
		}
	}
	if end < f.Size && !refused {
		problems = append(problems, Finding{f.Name, "", end, fmt.Sprintf("%d bytes after the last tensor", f.Size-end)})
	}
	return problems
}

// isPointer recognises what git leaves in place of a large file.
func isPointer(data []byte) bool { return bytes.HasPrefix(data, []byte("version https://git-lfs")) }

const pointer = "is a git-lfs pointer, not the file: run `git lfs pull` in the folder, or download it anew"

// contents maps a regular file of at most limit bytes, or reads it where the
// file system has no descriptors.
func contents(fsys fs.FS, name string, limit int64) (data []byte, reader io.ReaderAt, unmap func() error, err error) {
	// Not opened before it is known to be a file: a pipe would block.
	info, err := fs.Stat(fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil, fmt.Errorf("cannot be opened (a link to nowhere?): %w", err)
	case err != nil:
		return nil, nil, nil, fmt.Errorf("cannot be opened: %w", err)
	case !info.Mode().IsRegular():
		return nil, nil, nil, errors.New("is not a regular file")
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot be opened: %w", err)
	}
	mapped := false
	defer func() {
		if !mapped {
			file.Close() // read only
		}
	}()
	if info, err = file.Stat(); err != nil {
		return nil, nil, nil, fmt.Errorf("cannot be opened: %w", err)
	}
	size := info.Size()
	if size > limit {
		return nil, nil, nil, fmt.Errorf("has %d bytes: at most %d are possible", size, limit)
	}
	unmap = func() error { return nil }
	if f, ok := file.(mappable); ok && size > 0 {
		if data, unmap, err = mapFile(f.Fd(), size); err == nil {
			drop := unmap
			mapped, reader, unmap = true, f, func() error { return errors.Join(drop(), file.Close()) }
		}
	} else {
		data = make([]byte, size)
		_, err = io.ReadFull(file, data)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot be read: %w", err)
	}
	return data, reader, unmap, nil
}

// mappable is a file of the system's: *os.File.
type mappable interface {
	Fd() uintptr
	io.ReaderAt
}
