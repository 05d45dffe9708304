package safetensors

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// filled is file with data of its own.
func filled(header, data string) string { return file(header, 0) + data }

func TestOpen(t *testing.T) {
	a := filled("{"+u8("a", 0, 4)+"}", "AAAA")
	b := filled("{"+u8("b", 0, 2)+"}", "BB")
	both := `{"metadata":{"total_size":6},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}`
	for _, test := range []struct {
		name     string
		files    map[string]string
		tensors  map[string]string
		total    int64
		unlisted []string
	}{
		{"single without index", map[string]string{"model.safetensors": a}, map[string]string{"a": "AAAA"}, 0, nil},
		{"shards without index", map[string]string{"x.safetensors": a, "y.safetensors": b}, map[string]string{"a": "AAAA", "b": "BB"}, 0, nil},
		{"shards with index", map[string]string{"x.safetensors": a, "y.safetensors": b, indexName: both}, map[string]string{"a": "AAAA", "b": "BB"}, 6, nil},
		{"a file that the index does not name", map[string]string{"x.safetensors": a, "extra.safetensors": b, indexName: `{"metadata":{"total_size":4.0},"weight_map":{"a":"x.safetensors"}}`},
			map[string]string{"a": "AAAA", "b": "BB"}, 4, []string{"extra.safetensors"}},
		{"odd metadata of the index", map[string]string{"x.safetensors": a, indexName: `{"metadata":{"total_size":"4","x":[{"y":null}],"z":-1.5e3},"more":[],"weight_map":{"a":"x.safetensors"}}`}, map[string]string{"a": "AAAA"}, 0, nil},
		{"metadata of the index that is null", map[string]string{"x.safetensors": a, indexName: `{"metadata":null,"weight_map":{"a":"x.safetensors"}}`}, map[string]string{"a": "AAAA"}, 0, nil},
		{"total of the index in powers", map[string]string{"x.safetensors": a, indexName: `{"metadata":{"total_size":4e3},"weight_map":{"a":"x.safetensors"}}`}, map[string]string{"a": "AAAA"}, 4000, nil},
		{"negative total of the index", map[string]string{"x.safetensors": a, indexName: `{"metadata":{"total_size":-4},"weight_map":{"a":"x.safetensors"}}`}, map[string]string{"a": "AAAA"}, 0, nil},
		{"other files beside", map[string]string{"x.safetensors": a, "config.json": "{", "x.safetensors.incomplete": "no", "model.bin": ""}, map[string]string{"a": "AAAA"}, 0, nil},
		{"metadata", map[string]string{"x.safetensors": filled(`{"__metadata__":{"format":"pt","deep":{"x":[1]}},`+u8("a", 0, 4)+"}", "AAAA")}, map[string]string{"a": "AAAA"}, 0, nil},
		{"padded with spaces", map[string]string{"x.safetensors": filled("{"+u8("a", 0, 4)+"}       ", "AAAA")}, map[string]string{"a": "AAAA"}, 0, nil},
		{"spread over lines", map[string]string{"x.safetensors": filled(" {\n\t\"a\" : { \"shape\" : [ 2 , 2 ] ,\r\n \"data_offsets\":[ 0 ,4 ], \"dtype\": \"U8\" } } ", "AAAA")}, map[string]string{"a": "AAAA"}, 0, nil},
		{"not in order", map[string]string{"x.safetensors": filled("{"+u8("b", 4, 2)+","+u8("a", 0, 4)+"}", "AAAABB")}, map[string]string{"a": "AAAA", "b": "BB"}, 0, nil},
		{"names with escapes", map[string]string{"x.safetensors": filled("{"+u8(`\u0061\/\"\ud83d\ude00`, 0, 4)+"}", "AAAA")}, map[string]string{"a/\"\U0001F600": "AAAA"}, 0, nil},
		{"scalars and tensors of nothing", map[string]string{"x.safetensors": filled(`{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},"f":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}`, "SSSS")},
			map[string]string{"s": "SSSS", "e": "", "f": ""}, 0, nil},
		{"no tensors", map[string]string{"x.safetensors": file("{}", 0)}, map[string]string{}, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for kind, fsys := range map[string]fs.FS{"memory": folder(test.files), "mapped": os.DirFS(dir)} {
				c, err := Open(fsys)
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if c.Count() != len(test.tensors) || c.IndexTotal != test.total || !slices.Equal(c.Unlisted, test.unlisted) {
					t.Errorf("%s: %d tensors, total %d, unlisted %v", kind, c.Count(), c.IndexTotal, c.Unlisted)
				}
				for name, data := range test.tensors {
					tensor, ok := c.Lookup(name)
					if !ok || string(tensor.Data()) != data || tensor.Bytes != int64(len(data)) {
						t.Errorf("%s: tensor %q is %+v", kind, name, tensor)
					} else if whole := test.files[tensor.File]; whole[tensor.Offset:][:tensor.Bytes] != data {
						t.Errorf("%s: tensor %q is not at offset %d of %s", kind, name, tensor.Offset, tensor.File)
					}
				}
				if _, ok := c.Lookup("none"); ok {
					t.Errorf("%s: found a tensor that is not there", kind)
				}
				if err := errors.Join(c.Close(), c.Close()); err != nil {
					t.Errorf("%s: closing twice: %v", kind, err)
				}
			}
		})
	}
}

// The hub's cache keeps contents in blobs and folders of links to them.
func TestOpenHubCache(t *testing.T) {
	root := t.TempDir()
	snapshot := filepath.Join(root, "models--org--name", "snapshots", "0123abcd")
	blobs := filepath.Join(root, "models--org--name", "blobs")
	if err := errors.Join(os.MkdirAll(snapshot, 0o700), os.MkdirAll(blobs, 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"model-00001-of-00002.safetensors": filled("{"+u8("a", 0, 4)+"}", "AAAA"),
		"model-00002-of-00002.safetensors": filled("{"+u8("b", 0, 2)+"}", "BB"),
		indexName:                          `{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`,
	} {
		blob := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
		if err := errors.Join(os.WriteFile(filepath.Join(blobs, blob), []byte(text), 0o600),
			os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(snapshot, name))); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(os.DirFS(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, ok := c.Lookup("b"); !ok || string(b.Data()) != "BB" || len(c.Unlisted) != 0 {
		t.Errorf("tensor b is %+v, unlisted %v", b, c.Unlisted)
	}
}

func TestOpenFile(t *testing.T) {
	fsys := folder(map[string]string{"golden.safetensors": filled("{"+u8("a", 0, 4)+"}", "AAAA"), "other.safetensors": "broken"})
	c, err := OpenFile(fsys, "golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := c.Lookup("a"); !ok || !bytes.Equal(a.Data(), []byte("AAAA")) {
		t.Errorf("tensor a is %+v", a)
	}
	if _, err := OpenFile(fsys, "other.safetensors"); err == nil || !strings.Contains(err.Error(), "other.safetensors at offset 0") {
		t.Errorf("broken file: %v", err)
	}
	if _, err := OpenFile(fsys, "none.safetensors"); err == nil || !strings.Contains(err.Error(), "none.safetensors: cannot be opened") {
		t.Errorf("missing file: %v", err)
	}
}

// models opens every folder below dir and compares names with encoding/json's
// reading of the headers.
func models(t *testing.T, pattern string, least int) {
	dirs, err := filepath.Glob(pattern)
	if err != nil || len(dirs) < least {
		t.Fatalf("%d model folders: %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, err := Open(os.DirFS(dir))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			count := 0
			for _, f := range c.Files {
				var header map[string]struct {
					Dtype   DType    `json:"dtype"`
					Shape   []int64  `json:"shape"`
					Offsets [2]int64 `json:"data_offsets"`
				}
				if err := json.Unmarshal(f.Header, &header); err != nil {
					t.Fatal(err)
				}
				delete(header, "__metadata__")
				for name, want := range header {
					got, ok := c.Lookup(name)
					if !ok || got.DType != want.Dtype || !slices.Equal(got.Shape, want.Shape) || got.Bytes != want.Offsets[1]-want.Offsets[0] ||
						got.Offset != 8+int64(len(f.Header))+want.Offsets[0] {
						t.Errorf("%s is %+v, the header says %+v", name, got, want)
					}
				}
				count += len(header)
			}
			if count != c.Count() || count == 0 {
				t.Errorf("%d tensors, the headers have %d", c.Count(), count)
			}
		})
	}
}

func TestModels(t *testing.T) { models(t, "../ops/optest/testdata/models/*", 3) }

func TestModelsShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: further models beside the committed ones")
	}
	models(t, filepath.Join(dir, "models", "micro", "*"), 13)
	models(t, filepath.Join(dir, "models", "demo-*"), 1)
}

// seeds adds the headers of committed models' small parts and every damage.
func seeds(f *testing.F, add func(name, text string)) {
	for _, d := range damages {
		for name, text := range d.files {
			if len(text) < 4096 {
				add(name, text)
			}
		}
	}
	index, err := os.ReadFile("../ops/optest/testdata/models/int4-mixed-2026/" + indexName)
	if err != nil {
		f.Fatal(err)
	}
	add(indexName, string(index[:3000])+`"z":"x.safetensors"}}`)
	model, err := os.ReadFile("../ops/optest/testdata/models/int4-mixed-2026/model_extra_tensors.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	add("x.safetensors", string(model[:2048]))
}

// FuzzHeader: a file that opens is JSON, and its tensors lie within it, without
// overlap, and add up to it.
func FuzzHeader(f *testing.F) {
	seeds(f, func(name, text string) {
		if name != indexName && len(text) >= 8 {
			f.Add([]byte(text[8:]), uint16(8))
			f.Add([]byte(text[8:]), uint16(0))
		}
	})
	f.Fuzz(func(t *testing.T, header []byte, size uint16) {
		c, err := Open(fstest.MapFS{"x.safetensors": {Data: []byte(file(string(header), int(size)))}})
		if err != nil {
			var found Problems
			if !errors.As(err, &found) || found[0].What == "" || found[0].File != "x.safetensors" {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if !json.Valid(header) {
			t.Fatal("opened a header that is no JSON")
		}
		total := 0
		for i := range c.Files[0].Tensors {
			tensor := &c.Files[0].Tensors[i]
			total += len(tensor.Data())
			if got, ok := c.Lookup(tensor.Name); !ok || got != tensor {
				t.Fatalf("%q is found as %v", tensor.Name, got)
			}
		}
		if total != int(size) {
			t.Fatalf("%d bytes of data, %d in tensors", size, total)
		}
	})
}

// FuzzIndex: an index is read or refused with its name; one that is read is JSON.
func FuzzIndex(f *testing.F) {
	seeds(f, func(name, text string) {
		if name == indexName {
			f.Add([]byte(text))
		}
	})
	f.Add([]byte(`{"metadata":{"total_size":1e3},"weight_map":{"a":"x.safetensors"}}`))
	f.Fuzz(func(t *testing.T, index []byte) {
		_, err := Open(fstest.MapFS{"x.safetensors": {Data: []byte(sound)}, indexName: {Data: index}})
		if err == nil && !json.Valid(index) {
			t.Fatal("opened an index that is no JSON")
		}
		var found Problems
		if err != nil && (!errors.As(err, &found) || len(found) == 0) {
			t.Fatalf("refused with %v", err)
		}
		for _, p := range found {
			if p.File != indexName && unsafeName(p.File) != "" {
				t.Fatalf("finding of the file %q", p.File)
			}
		}
	})
}
