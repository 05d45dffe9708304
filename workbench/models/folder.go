package models

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	indexName = "model.safetensors.index.json"
	maxIndex  = 64 << 20 // bytes; the real model's has 21 MB
	maxConfig = 16 << 20
	maxShards = 4096
	pointer   = "version https://git-lfs"
)

// looksLikeModel says whether a folder claims to hold a model at all.
func looksLikeModel(fsys fs.FS) bool {
	if _, err := fs.Stat(fsys, "config.json"); err == nil {
		return true
	}
	names, err := fs.Glob(fsys, "*.safetensors*")
	return err == nil && len(names) > 0
}

// examine judges a folder by names, sizes and the first bytes of its files.
func examine(fsys fs.FS) Candidate {
	x := &examination{fsys: fsys}
	x.config()
	x.shards()
	if _, err := fs.Stat(fsys, "tokenizer.json"); err != nil {
		x.c.Missing = append(x.c.Missing, "tokenizer.json")
	} else {
		x.pointer("tokenizer.json")
	}
	if len(x.c.Missing)+len(x.c.Problems) > 0 {
		x.unfinished(".cache/huggingface/download") // where hf download --local-dir keeps them
	}
	slices.Sort(x.c.Missing)
	x.c.Complete = len(x.c.Missing) == 0 && len(x.c.Problems) == 0
	return x.c
}

type examination struct {
	fsys    fs.FS
	c       Candidate
	indexed bool
}

func (x *examination) problem(format string, args ...any) {
	x.c.Problems = append(x.c.Problems, fmt.Sprintf(format, args...))
}

// config checks that config.json is there and of this model type.
func (x *examination) config() {
	data, err := readBounded(x.fsys, "config.json", maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		x.c.Missing = append(x.c.Missing, "config.json")
		return
	}
	var config struct {
		Type string `json:"model_type"`
	}
	switch {
	case err != nil:
		x.problem("config.json cannot be read: %v", err)
	case bytes.HasPrefix(data, []byte(pointer)):
		x.problem("config.json is a git-lfs pointer, not the file")
	case json.Unmarshal(data, &config) != nil:
		x.problem("config.json is no JSON object: fetch it again")
	case config.Type != "qwen3_next":
		x.c.other = true
		x.problem("config.json: model_type is %q: only qwen3_next is supported", config.Type)
	}
}

// numbered matches the shards of a set: model-00002-of-00011.safetensors.
var numbered = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})\.safetensors$`)

// shards checks the weights: those there, and those that the index, or the
// numbers in their names, promise.
func (x *examination) shards() {
	names, err := fs.Glob(x.fsys, "*.safetensors")
	if err != nil || len(names) > maxShards {
		x.problem("%d safetensors files: at most %d are read", len(names), maxShards)
		return
	}
	listed, total := x.index()
	var have int64
	whole := true
	for _, name := range names {
		size, ok := x.shard(name)
		x.c.Size += size
		whole = whole && ok
		if listed[name] {
			have += size
		}
	}
	expected := listed
	if !x.indexed {
		expected = siblings(names)
	}
	for name := range expected {
		if !slices.Contains(names, name) {
			x.c.Missing = append(x.c.Missing, name)
			whole = false
		}
	}
	if len(names) == 0 && len(expected) == 0 {
		x.c.Missing = append(x.c.Missing, "*.safetensors")
	}
	if total > 0 {
		x.c.need = total
	}
	if whole && x.indexed && have < total {
		x.problem("the shards hold %d bytes, the index promises %d of tensors: a download was cut off", have, total)
	}
}

// siblings completes sets of numbered shards.
func siblings(names []string) map[string]bool {
	expected := map[string]bool{}
	for _, name := range names {
		if m := numbered.FindStringSubmatch(name); m != nil {
			count, _ := strconv.Atoi(m[3]) // five digits
			for i := 1; i <= min(count, maxShards); i++ {
				expected[fmt.Sprintf("%s-%05d-of-%s.safetensors", m[1], i, m[3])] = true
			}
		}
	}
	return expected
}

// index reads which shards the index names, and metadata.total_size.
func (x *examination) index() (listed map[string]bool, total int64) {
	data, err := readBounded(x.fsys, indexName, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0
	}
	if err == nil && bytes.HasPrefix(data, []byte(pointer)) {
		x.problem("%s is a git-lfs pointer, not the file", indexName)
		return nil, 0
	}
	if err == nil {
		listed, total, err = parseIndex(data)
	}
	if err != nil {
		x.problem("%s is broken: %v", indexName, err)
		return nil, 0
	}
	x.indexed = true
	for name := range listed {
		if strings.ContainsAny(name, "/\\\x00") || path.Ext(name) != ".safetensors" {
			x.problem("%s names the file %q: only plain names that end in .safetensors are possible", indexName, name)
			delete(listed, name)
		}
	}
	return listed, total
}

// parseIndex streams the index, so that its 227,088 names are never all held.
func parseIndex(data []byte) (listed map[string]bool, total int64, err error) {
	listed = map[string]bool{}
	in := json.NewDecoder(bytes.NewReader(data))
	err = object(in, func(key string) error {
		switch key {
		case "metadata":
			var metadata struct {
				Total float64 `json:"total_size"` // some writers put 1.0
			}
			err := in.Decode(&metadata)
			if metadata.Total > 0 && metadata.Total < 1<<53 {
				total = int64(metadata.Total)
			}
			return err
		case "weight_map":
			return object(in, func(string) error {
				token, err := in.Token()
				name, ok := token.(string)
				if err == nil && !ok {
					err = errors.New("weight_map holds something other than file names")
				}
				if listed[name] = true; len(listed) > maxShards {
					err = fmt.Errorf("more than %d files", maxShards)
				}
				return err
			})
		}
		var skipped json.RawMessage
		return in.Decode(&skipped)
	})
	return listed, total, err
}

// object calls field after each key of the object that comes next.
func object(in *json.Decoder, field func(key string) error) error {
	if token, err := in.Token(); err != nil || token != json.Delim('{') {
		return errors.Join(errors.New("expected an object"), err)
	}
	for in.More() {
		token, err := in.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // keys of objects are strings
		if err := field(key); err != nil {
			return err
		}
	}
	_, err := in.Token()
	return err
}

// shard returns the size of a weight file and whether it can be whole.
func (x *examination) shard(name string) (size int64, ok bool) {
	info, err := fs.Stat(x.fsys, name)
	switch {
	case err != nil: // globbed, so the name is there: a link to nowhere
		x.c.Missing = append(x.c.Missing, name+" (a link whose file is not there)")
		return 0, false
	case !info.Mode().IsRegular():
		x.problem("%s is not a regular file", name)
		return 0, false
	}
	size = info.Size()
	if x.pointer(name) {
		return size, false
	}
	head, err := x.head(name, 8)
	if err != nil || len(head) < 8 {
		x.problem("%s has %d bytes: the download is incomplete", name, size)
		return size, false
	}
	if length := binary.LittleEndian.Uint64(head); length > uint64(size-8) {
		x.problem("%s has %d bytes and a header of %d: the download is incomplete", name, size, length)
		return size, false
	}
	return size, true
}

// pointer reports a git-lfs pointer in place of a file, and adds up the sizes
// that pointers tell.
func (x *examination) pointer(name string) bool {
	head, err := x.head(name, 512)
	if err != nil || !bytes.HasPrefix(head, []byte(pointer)) {
		return false
	}
	text := ""
	for line := range strings.Lines(string(head)) {
		if digits, ok := strings.CutPrefix(line, "size "); ok {
			if size, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64); err == nil && size > 0 && size < 1<<53 {
				text = ", the file has " + bytesText(size)
				x.c.need += size
			}
		}
	}
	x.problem("%s is a git-lfs pointer, not the file%s", name, text)
	return true
}

// unfinished reports the parts of interrupted downloads below dir.
func (x *examination) unfinished(dir string) {
	parts, err := fs.Glob(x.fsys, dir+"/*.incomplete")
	if err != nil || len(parts) == 0 {
		return
	}
	var size int64
	for _, name := range parts {
		if info, err := fs.Stat(x.fsys, name); err == nil {
			size += info.Size()
		}
	}
	x.problem("%d unfinished downloads (.incomplete, %s so far): the command below resumes them", len(parts), bytesText(size))
}

func (x *examination) head(name string, n int64) ([]byte, error) {
	file, err := x.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, n))
}

func readBounded(fsys fs.FS, name string, limit int64) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return data, err
}
