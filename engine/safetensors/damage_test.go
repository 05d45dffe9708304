package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
)

// file makes a file of a header and size bytes of data.
func file(header string, size int) string {
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + strings.Repeat("\x00", size)
}

// length makes a file whose header claims to be of length bytes.
func length(n uint64, rest string) string {
	return string(binary.LittleEndian.AppendUint64(nil, n)) + rest
}

// u8 is a header entry of n bytes at offset begin.
func u8(name string, begin, n int) string {
	return fmt.Sprintf(`"%s":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}`, name, n, begin, begin+n)
}

// folder makes a file system; names ending in / are folders.
func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		if strings.HasSuffix(name, "/") {
			fsys[strings.TrimSuffix(name, "/")] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			continue
		}
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// sound is a whole file with one tensor a of 4 bytes.
var sound = file("{"+u8("a", 0, 4)+"}", 4)

// indexed is a folder with the sound file and an index.
func indexed(index string) map[string]string {
	return map[string]string{"x.safetensors": sound, indexName: index}
}

// entry is a file with one tensor t, described by fields, and 8 bytes of data.
func entry(fields string) map[string]string {
	return map[string]string{"x.safetensors": file(`{"t":{`+fields+`}}`, 8)}
}

// damages are folders, each with the findings it must give: file, tensor, part
// of the text, and offset (-1 for none).
var damages = []struct {
	name  string
	files map[string]string
	want  []Finding
}{
	{"empty folder", map[string]string{"config.json": "{}"}, []Finding{{".", "", -1, "no *.safetensors files"}}},
	{"empty file", map[string]string{"x.safetensors": ""}, []Finding{{"x.safetensors", "", 0, "has 0 bytes: the download is incomplete"}}},
	{"shorter than a length", map[string]string{"x.safetensors": "1234567"}, []Finding{{"x.safetensors", "", 0, "has 7 bytes"}}},
	{"header cut off", map[string]string{"x.safetensors": sound[:40]}, []Finding{{"x.safetensors", "", 0, "header of 53 bytes in a file of 40: the download is incomplete"}}},
	{"data cut off", map[string]string{"x.safetensors": sound[:len(sound)-1]}, []Finding{{"x.safetensors", "a", 61, "ends at 65, the file at 64: the download is incomplete"}}},
	{"header of no bytes", map[string]string{"x.safetensors": length(0, "rest")}, []Finding{{"x.safetensors", "", 8, "the header is broken: at byte 0 of the JSON"}}},
	{"header of 2^64-1 bytes", map[string]string{"x.safetensors": length(1<<64-1, "{}")}, []Finding{{"x.safetensors", "", 0, "header of 18446744073709551615 bytes: at most 104857600 are possible"}}},
	{"header of 2^63 bytes", map[string]string{"x.safetensors": length(1<<63, "{}")}, []Finding{{"x.safetensors", "", 0, "this is no safetensors file"}}},
	{"git-lfs pointer", map[string]string{"x.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4297702384\n"}, []Finding{{"x.safetensors", "", 0, "is a git-lfs pointer, not the file: run `git lfs pull`"}}},
	{"a folder of that name", map[string]string{"x.safetensors/": ""}, []Finding{{"x.safetensors", "", -1, "is not a regular file"}}},
	{"not JSON", map[string]string{"x.safetensors": file("hello there", 0)}, []Finding{{"x.safetensors", "", 8, "expected '{'"}}},
	{"JSON, but a list", map[string]string{"x.safetensors": file("[1]", 0)}, []Finding{{"x.safetensors", "", 8, "expected '{'"}}},
	{"JSON that does not end", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4), 4)}, []Finding{{"x.safetensors", "", 60, "expected '}'"}}},
	{"text after the JSON", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4)+"}x", 4)}, []Finding{{"x.safetensors", "", 61, "unexpected text after the end"}}},
	{"comma at the end", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4)+",}", 4)}, []Finding{{"x.safetensors", "", 61, `expected '"'`}}},
	{"name that is not UTF-8", map[string]string{"x.safetensors": file("{"+u8("a\xff", 0, 4)+"}", 4)}, []Finding{{"x.safetensors", "", 13, "a string is not UTF-8"}}},
	{"escaped name that is not UTF-8", map[string]string{"x.safetensors": file("{"+u8("\\u0061\xff", 0, 4)+"}", 4)}, []Finding{{"x.safetensors", "", 18, "a string is not UTF-8"}}},
	{"control character in a name", map[string]string{"x.safetensors": file("{"+u8("a\x01", 0, 4)+"}", 4)}, []Finding{{"x.safetensors", "", 11, "a control character"}}},
	{"escape of another language", map[string]string{"x.safetensors": file("{"+u8(`\x61`, 0, 4)+"}", 4)}, []Finding{{"x.safetensors", "", 15, "invalid character 'x' in string escape code"}}},
	{"name that does not end", map[string]string{"x.safetensors": file(`{"abc`, 0)}, []Finding{{"x.safetensors", "", 13, "a string does not end"}}},
	{"escape at the end", map[string]string{"x.safetensors": file(`{"abc\`, 0)}, []Finding{{"x.safetensors", "", 14, "a string does not end"}}},
	{"empty name", map[string]string{"x.safetensors": file("{"+u8("", 0, 4)+"}", 4)}, []Finding{{"x.safetensors", "", 12, "a tensor name of 0 bytes: 1 to 512 are possible"}}},
	{"long name", map[string]string{"x.safetensors": file("{"+u8(strings.Repeat("n", 513), 0, 4)+"}", 4)}, []Finding{{"x.safetensors", strings.Repeat("n", 64) + "...", 525, "a tensor name of 513 bytes"}}},
	{"deep metadata", map[string]string{"x.safetensors": file(`{"__metadata__":`+strings.Repeat("[", 100000)+strings.Repeat("]", 100000)+"}", 0)}, []Finding{{"x.safetensors", "", 28, "values are nested too deeply"}}},
	{"deep tensor", map[string]string{"x.safetensors": file(`{"t":`+strings.Repeat(`{"a":`, 50)+"1"+strings.Repeat("}", 51), 0)}, []Finding{{"x.safetensors", "", 38, `tensor "t": at byte 30 of the JSON: values are nested too deeply`}}},
	{"metadata of no JSON value", map[string]string{"x.safetensors": file(`{"__metadata__":nan}`, 0)}, []Finding{{"x.safetensors", "", 24, "expected a value"}}},
	{"twice in one header", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4)+","+u8("a", 4, 4)+"}", 8)}, []Finding{{"x.safetensors", "a", 117, "duplicate: the header lists the tensor twice, first at offset 113"}}},
	{"twice, once with escapes", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4)+","+u8(`\u0061`, 4, 4)+"}", 8)}, []Finding{{"x.safetensors", "a", 122, "duplicate"}}},
	{"in two files", map[string]string{"x.safetensors": sound, "y.safetensors": sound}, []Finding{{"y.safetensors", "a", 61, "duplicate: the tensor is in x.safetensors too"}}},
	{"overlap", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4)+","+u8("b", 3, 4)+"}", 7)}, []Finding{{"x.safetensors", "b", 116, `overlaps "a", which ends at 117`}}},
	{"within another", map[string]string{"x.safetensors": file("{"+u8("a", 0, 8)+","+u8("b", 2, 2)+"}", 8)}, []Finding{{"x.safetensors", "b", 115, `overlaps "a", which ends at 121`}}},
	{"gap", map[string]string{"x.safetensors": file("{"+u8("a", 0, 4)+","+u8("b", 6, 2)+"}", 8)}, []Finding{{"x.safetensors", "b", 119, "leaves a gap of 2 bytes before it"}}},
	{"gap at the start", map[string]string{"x.safetensors": file("{"+u8("a", 4, 4)+"}", 8)}, []Finding{{"x.safetensors", "a", 65, "leaves a gap of 4 bytes before it"}}},
	{"bytes after the last", map[string]string{"x.safetensors": sound + "xyz"}, []Finding{{"x.safetensors", "", 65, "3 bytes after the last tensor"}}},
	{"bytes after no tensor", map[string]string{"x.safetensors": file("{}", 5)}, []Finding{{"x.safetensors", "", 10, "5 bytes after the last tensor"}}},
	{"offsets backwards", entry(`"dtype":"U8","shape":[4],"data_offsets":[8,4]`), []Finding{{"x.safetensors", "t", 69, "data offsets that run backwards"}}},
	{"offsets past the end", entry(`"dtype":"U8","shape":[4],"data_offsets":[8,12]`), []Finding{{"x.safetensors", "t", 70, "ends at 74, the file at 70"}}},
	{"offsets far past the end", entry(`"dtype":"U8","shape":[4],"data_offsets":[999999999999999990,999999999999999994]`), []Finding{{"x.safetensors", "t", 1000000000000000085, "the download is incomplete"}}},
	{"offset of 19 digits", entry(`"dtype":"U8","shape":[4],"data_offsets":[0,9223372036854775807]`), []Finding{{"x.safetensors", "t", 13, "data_offsets is no list of at most 2 integers: at byte 67 of the JSON: a number has more than 18 digits"}}},
	{"offset below zero", entry(`"dtype":"U8","shape":[4],"data_offsets":[-4,0]`), []Finding{{"x.safetensors", "t", 13, "expected a non-negative integer"}}},
	{"offset with a fraction", entry(`"dtype":"U8","shape":[4],"data_offsets":[0,4.5]`), []Finding{{"x.safetensors", "t", 13, "data_offsets is no list"}}},
	{"offset with a leading zero", entry(`"dtype":"U8","shape":[4],"data_offsets":[0,04]`), []Finding{{"x.safetensors", "", 57, "expected a value"}}},
	{"one offset", entry(`"dtype":"U8","shape":[4],"data_offsets":[0]`), []Finding{{"x.safetensors", "t", 13, "dtype, shape and two data_offsets are needed"}}},
	{"three offsets", entry(`"dtype":"U8","shape":[4],"data_offsets":[0,4,8]`), []Finding{{"x.safetensors", "t", 13, "more than 2 numbers in a list"}}},
	{"shape below zero", entry(`"dtype":"U8","shape":[-8],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 13, "shape is no list of at most 8 integers"}}},
	{"shape that overflows", entry(`"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]`), []Finding{{"x.safetensors", "t", 81, "has the absurd shape [4294967296 4294967296]"}}},
	{"shape of rank 9", entry(`"dtype":"U8","shape":[1,1,1,1,1,1,1,1,8],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 13, "more than 8 numbers"}}},
	{"shape that is no list", entry(`"dtype":"U8","shape":{"a":[]},"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 13, "shape is no list"}}},
	{"bytes that do not fit the shape", entry(`"dtype":"I32","shape":[4],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 62, "takes 8 bytes, but I32 [4] needs 16"}}},
	{"unknown type", entry(`"dtype":"I5","shape":[8],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 61, `has the unknown type "I5"`}}},
	{"type that is a number", entry(`"dtype":5,"shape":[8],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 13, "dtype is no string"}}},
	{"no type", entry(`"shape":[8],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 13, "dtype, shape and two data_offsets are needed"}}},
	{"unknown field", entry(`"dtype":"U8","shape":[8],"data_offsets":[0,8],"strides":[1]`), []Finding{{"x.safetensors", "t", 13, `unknown field "strides"`}}},
	{"field twice", entry(`"dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8]`), []Finding{{"x.safetensors", "t", 13, `field "shape" stands there twice`}}},
	{"tensor that is a string", map[string]string{"x.safetensors": file(`{"t":"U8"}`, 0)}, []Finding{{"x.safetensors", "t", 13, "is no object"}}},

	{"index that is no JSON", indexed("oops"), []Finding{{indexName, "", 0, "is broken: at byte 0 of the JSON: expected '{'"}}},
	{"index that does not end", indexed(`{"weight_map":{"a":"x.safetensors"}`), []Finding{{indexName, "", 35, "is broken"}}},
	{"index that is a git-lfs pointer", indexed("version https://git-lfs.github.com/spec/v1\n"), []Finding{{indexName, "", 0, "is a git-lfs pointer"}}},
	{"index that is a folder", map[string]string{"x.safetensors": sound, indexName + "/": ""}, []Finding{{indexName, "", -1, "is not a regular file"}}},
	{"index without a map", indexed(`{"metadata":{}}`), []Finding{{indexName, "", -1, "has no weight_map"}}},
	{"index whose map is a list", indexed(`{"weight_map":["x"]}`), []Finding{{indexName, "", -1, "has no weight_map"}}},
	{"shard missing", indexed(`{"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"y.safetensors"}}`), []Finding{{"y.safetensors", "", -1, "is missing: 2 tensors of the index are in it"}}},
	{"no shard at all", map[string]string{indexName: `{"weight_map":{"a":"x.safetensors"}}`}, []Finding{{"x.safetensors", "", -1, "is missing: 1 tensors"}}},
	{"tensor missing", indexed(`{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}`), []Finding{{indexName, "b", 39, "should be in x.safetensors, which has no such tensor"}}},
	{"tensor elsewhere", map[string]string{"x.safetensors": sound, "y.safetensors": file("{"+u8("b", 0, 1)+"}", 1), indexName: `{"weight_map":{"a":"y.safetensors","b":"y.safetensors"}}`},
		[]Finding{{indexName, "a", 19, "should be in y.safetensors, but is in x.safetensors"}}},
	{"index that climbs", indexed(`{"weight_map":{"a":"../x.safetensors"}}`), []Finding{{indexName, "", -1, `names the file "../x.safetensors", which is no plain file name`}}},
	{"index with an absolute path", indexed(`{"weight_map":{"a":"/x.safetensors"}}`), []Finding{{indexName, "", -1, "no plain file name"}}},
	{"index with a separator of Windows", indexed(`{"weight_map":{"a":"d\\x.safetensors"}}`), []Finding{{indexName, "", -1, "no plain file name"}}},
	{"index with two dots", indexed(`{"weight_map":{"a":".."}}`), []Finding{{indexName, "", -1, "no plain file name"}}},
	{"index with a zero byte", indexed(`{"weight_map":{"a":"x\u0000.safetensors"}}`), []Finding{{indexName, "", -1, "no plain file name"}}},
	{"index with an empty name", indexed(`{"weight_map":{"a":""}}`), []Finding{{indexName, "", -1, "no plain file name"}}},
	{"index with a long name", indexed(`{"weight_map":{"a":"` + strings.Repeat("n", 300) + `.safetensors"}}`), []Finding{{indexName, "", -1, "longer than a file name can be"}}},
	{"index of other files", indexed(`{"weight_map":{"a":"pytorch_model.bin"}}`), []Finding{{indexName, "", -1, "does not end in .safetensors"}}},
	{"index with a number for a file", indexed(`{"weight_map":{"a":1}}`), []Finding{{indexName, "a", 19, "has no file name"}}},

	{"many at once", map[string]string{
		"a.safetensors": file("{"+u8("a", 0, 4)+`,"b":{"dtype":"U8","shape":[-1],"data_offsets":[4,8]},"c":{"dtype":"Q4","shape":[1],"data_offsets":[8,9]},`+u8("d", 2, 4)+"}", 9),
		"b.safetensors": "",
		"c.safetensors": sound,
		indexName:       `{"weight_map":{"a":"c.safetensors","z":"z.safetensors","y":"../y"}}`,
	}, []Finding{
		{"a.safetensors", "b", 65, "shape is no list"}, {"a.safetensors", "c", 226, `the unknown type "Q4"`}, {"a.safetensors", "d", 220, `overlaps "a"`},
		{"b.safetensors", "", 0, "has 0 bytes"}, {"c.safetensors", "a", 61, "in a.safetensors too"},
		{indexName, "", -1, `"../y"`}, {"z.safetensors", "", -1, "is missing"},
	}},
}

func TestDamage(t *testing.T) {
	for _, test := range damages {
		t.Run(test.name, func(t *testing.T) {
			c, err := Open(folder(test.files))
			var found Problems
			if c != nil || !errors.As(err, &found) {
				t.Fatalf("opened %v, error %v", c, err)
			}
			for i, want := range test.want {
				if i == len(found) {
					t.Fatalf("%d findings, want %d:\n%v", len(found), len(test.want), err)
				}
				got := found[i]
				if got.File != want.File || got.Tensor != want.Tensor || got.Offset != want.Offset || !strings.Contains(got.What, want.What) {
					t.Errorf("finding %d\n got %+v\nwant %+v", i, got, want)
				}
				for _, part := range []string{want.File, want.Tensor, want.What} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the message lacks %q:\n%v", part, err)
					}
				}
				if want.Offset >= 0 && !strings.Contains(err.Error(), fmt.Sprintf("at offset %d", want.Offset)) {
					t.Errorf("the message lacks offset %d:\n%v", want.Offset, err)
				}
			}
			if len(found) != len(test.want) {
				t.Errorf("%d findings, want %d:\n%v", len(found), len(test.want), err)
			}
		})
	}
}

// What only a real file system can have.
func TestDamageOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join("..", "blobs", "gone"), filepath.Join(dir, "x.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), "x.safetensors: cannot be opened (a link to nowhere?)") {
		t.Errorf("dangling link: %v", err)
	}
	loop := t.TempDir()
	if err := os.Symlink("x.safetensors", filepath.Join(loop, "x.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(os.DirFS(loop)); err == nil || !strings.Contains(err.Error(), "x.safetensors: cannot be opened") {
		t.Errorf("link to itself: %v", err)
	}
	if _, err := Open(os.DirFS(filepath.Join(dir, "none"))); err == nil || !strings.Contains(err.Error(), "cannot be listed") {
		t.Errorf("no folder: %v", err)
	}
}

// Findings of a hostile file are bounded, and the bound is said.
func TestManyFindings(t *testing.T) {
	entries := make([]string, 5000)
	for i := range entries {
		entries[i] = u8(fmt.Sprint(i), 9_000_000, 1)
	}
	_, err := Open(folder(map[string]string{"x.safetensors": file("{"+strings.Join(entries, ",")+"}", 0)}))
	var found Problems
	if !errors.As(err, &found) || len(found) > maxFound+1 || !strings.Contains(found[len(found)-1].What, "more than 1000 findings") {
		t.Errorf("%d findings", len(found))
	}
	if lines := strings.Count(err.Error(), "\n"); lines != 50 || !strings.HasSuffix(err.Error(), fmt.Sprintf("and %d more", len(found)-50)) {
		t.Errorf("the message has %d lines", lines)
	}
}

// Damage takes memory in proportion to the header, whatever it claims.
func TestDamageMemory(t *testing.T) {
	small := make([]string, 20000)
	for i := range small {
		small[i] = fmt.Sprintf(`"%d":{"dtype":"U8","shape":[0],"data_offsets":[7,7]}`, i)
	}
	for name, text := range map[string]string{
		"length":    length(99<<20, "{}"),
		"shape":     file(`{"t":{"dtype":"F64","shape":[99999999999999],"data_offsets":[0,799999999999992]}}`, 0),
		"rank":      file(`{"t":{"dtype":"F64","shape":[`+strings.Repeat("1,", 1<<19)+`1],"data_offsets":[0,8]}}`, 0),
		"names":     file(`{"`+strings.Repeat("n", 1<<20)+`":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, 0),
		"spaces":    file(strings.Repeat(" ", 1<<20), 0),
		"metadata":  file(`{"__metadata__":{`+strings.Repeat(`"k":"\n",`, 1<<17)+`"k":1},"t":5}`, 0),
		"entries":   file("{"+strings.Join(small, ",")+"}", 0),
		"duplicate": file("{"+strings.Repeat(u8("a", 0, 0)+",", 20000)+u8("a", 0, 0)+"}", 0),
	} {
		t.Run(name, func(t *testing.T) {
			fsys := folder(map[string]string{"x.safetensors": text})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Open(fsys); err == nil {
				t.Fatal("opened")
			}
			runtime.ReadMemStats(&after)
			// In sum, garbage included; the file itself too, which is not mapped here.
			if taken, limit := after.TotalAlloc-before.TotalAlloc, uint64(12*len(text)+1<<20); taken > limit {
				t.Errorf("%d bytes allocated for a header of %d", taken, len(text))
			}
		})
	}
}
