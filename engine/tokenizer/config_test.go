package tokenizer

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseTiny(t *testing.T) {
	want := []int32{257, 258, 259, 258, 'y'}
	for name, edit := range map[string]func(file, model object){
		"pairs":          nil,
		"strings":        func(_, m object) { m["merges"] = []string{"h e", "t he", "Ġ the"} },
		"other settings": func(_, m object) { m["dropout"], m["unk_token"], m["ignore_merges"] = 0.0, "x", nil },
		"added in vocab": func(_, m object) { m["vocab"].(object)["<|end|>"] = 259 },
	} {
		tok := tiny(t, edit)
		if got := tok.Encode("the the<|end|> they", Default); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	merge := func(sides ...string) func(_, m object) {
		return func(_, m object) { m["merges"] = append(m["merges"].([]any), sides) }
	}
	addToken := func(entry object) func(f, _ object) {
		return func(f, _ object) { f["added_tokens"] = append(f["added_tokens"].([]any), entry) }
	}
	pre := func(change func(split, byteLevel object)) func(f, _ object) {
		return func(f, _ object) {
			list := f["pre_tokenizer"].(object)["pretokenizers"].([]any)
			change(list[0].(object), list[1].(object))
		}
	}
	set := func(key string, value any) func(f, _ object) {
		return func(f, _ object) { f[key] = value }
	}
	setModel := func(key string, value any) func(_, m object) {
		return func(_, m object) { m[key] = value }
	}
	lstrip := addedEntry(261, "<x>", false)
	lstrip["lstrip"] = true
	tests := map[string]struct {
		edit func(file, model object)
		want string
	}{
		"version":          {set("version", "2.0"), `version is "\"2.0\""`},
		"unknown key":      {set("surprise", 1), `unknown key "surprise"`},
		"truncation":       {set("truncation", object{"max_length": 3}), "truncation is set"},
		"padding":          {set("padding", object{}), "padding is set"},
		"normalizer":       {set("normalizer", object{"type": "NFKC"}), `normalizer: type is "NFKC"`},
		"no normalizer":    {set("normalizer", nil), `normalizer: type is "null"`},
		"pre_tokenizer":    {set("pre_tokenizer", object{"type": "Whitespace"}), `pre_tokenizer: type is "Whitespace"`},
		"post_processor":   {set("post_processor", object{"type": "RobertaProcessing"}), `post_processor: type is "RobertaProcessing"`},
		"post settings":    {set("post_processor", object{"type": "TemplateProcessing", "single": 1}), "post_processor: json: unknown field"},
		"decoder":          {set("decoder", object{"type": "WordPiece"}), `decoder: type is "WordPiece"`},
		"pattern":          {pre(func(s, _ object) { s["pattern"] = object{"Regex": `\w+`} }), "Split has the pattern"},
		"behavior":         {pre(func(s, _ object) { s["behavior"] = "Removed" }), `behavior "Removed"`},
		"prefix space":     {pre(func(_, b object) { b["add_prefix_space"] = true }), "add_prefix_space"},
		"use_regex":        {pre(func(_, b object) { b["use_regex"] = true }), "use_regex"},
		"use_regex absent": {pre(func(_, b object) { delete(b, "use_regex") }), "use_regex"},
		"model type":       {setModel("type", "Unigram"), `model: type is "Unigram"`},
		"dropout":          {setModel("dropout", 0.1), "dropout is 0.1"},
		"byte_fallback":    {setModel("byte_fallback", true), "byte_fallback"},
		"ignore_merges":    {setModel("ignore_merges", true), "ignore_merges"},
		"prefix":           {setModel("continuing_subword_prefix", "##"), "continuing_subword_prefix"},
		"suffix":           {setModel("end_of_word_suffix", "</w>"), "end_of_word_suffix"},
		"model key":        {setModel("Type", "BPE"), `model: unknown key "Type"`},
		"no vocab":         {func(_, m object) { delete(m, "vocab") }, "model.vocab: missing"},
		"no merges":        {func(_, m object) { delete(m, "merges") }, "model.merges: missing"},
		"no byte":          {func(_, m object) { delete(m["vocab"].(object), "!") }, "byte 0x21 has no token"},
		"second id":        {func(_, m object) { m["vocab"].(object)["hex"] = 256 }, "id 256 has a second token"},
		"huge id":          {func(_, m object) { m["vocab"].(object)["hex"] = 1 << 20 }, "id 1048576 is out of range"},
		"wide id":          {func(_, m object) { m["vocab"].(object)["hex"] = 1 << 40 }, "is out of range"},
		"negative id":      {func(_, m object) { m["vocab"].(object)["hex"] = -1 }, "want a whole number"},
		"empty token":      {func(_, m object) { m["vocab"].(object)[""] = 300 }, "the token of id 300 is empty"},
		"merge unknown":    {merge("x", "y"), `merge 3 joins "x" and "y"`},
		"merge again":      {merge("h", "e"), `merge 3 joins "h" and "e", as an earlier one does`},
		"merge one side":   {merge("h"), "a merge has 1 sides"},
		"merge three":      {merge("h", "e", "e"), "a merge has 3 sides"},
		"merge alphabet":   {merge("中", "e"), "outside the byte alphabet"},
		"merge string":     {func(_, m object) { m["merges"] = []string{"h  e"} }, "a merge has 3 sides"},
		"merge to added": {func(_, m object) {
			m["vocab"].(object)["<|end|>"] = 259
			m["vocab"].(object)["<|end|"] = 300
			m["merges"] = append(m["merges"].([]any), []string{"<|end|", ">"})
		}, "must not be added tokens"},
		"added empty":       {addToken(addedEntry(261, "", true)), "has 0 bytes"},
		"added long":        {addToken(addedEntry(261, strings.Repeat("x", 257), true)), "has 257 bytes"},
		"added twice":       {addToken(addedEntry(261, "<think>", true)), `"<think>" stands here twice`},
		"added over vocab":  {addToken(addedEntry(257, "<x>", true)), `"<x>" has id 257, which is the token "the"`},
		"added other id":    {addToken(addedEntry(261, "the", true)), `token "the" has id 257, but 261`},
		"added negative":    {addToken(addedEntry(-1, "<x>", true)), "id -1 is out of range"},
		"added lstrip":      {addToken(lstrip), "lstrip"},
		"added is byte":     {addToken(addedEntry(33, "!", true)), "byte 0x21 has no token"},
		"added foreign ids": {func(f, m object) { m["vocab"].(object)["中"] = 300; addToken(addedEntry(301, "中", true))(f, m) }, "but 301 as an added token"},
	}
	for name, test := range tests {
		_, err := Parse(tinyJSON(t, test.edit))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, test.want)
		}
	}
}

func TestParseDamaged(t *testing.T) {
	data := tinyJSON(t, nil)
	for n := range len(data) {
		if _, err := Parse(data[:n]); err == nil {
			t.Fatalf("no error for the first %d of %d bytes", n, len(data))
		}
	}
	for name, text := range map[string]string{
		"empty":          "",
		"array":          "[]",
		"not UTF-8":      "{\"\xff\":1}",
		"text behind":    string(data) + "x",
		"zero behind":    string(data) + "\x00",
		"key twice":      `{"version":"1.0",` + string(data[1:]),
		"lone surrogate": strings.Replace(string(data), `"<think>"`, `"\ud800"`, 1),
		"bad escape":     strings.Replace(string(data), `"the":257`, `"\x":257`, 1),
		"surrogate key":  strings.Replace(string(data), `"the":257`, `"\ud800":257`, 1),
		"control":        strings.Replace(string(data), `"the":257`, "\"t\nhe\":257", 1),
		"leading zero":   strings.Replace(string(data), `"the":257`, `"the":0257`, 1),
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(path, tinyJSON(t, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode("the", Default); !slices.Equal(got, []int32{257}) {
		t.Errorf("got %v", got)
	}
	if _, err := Load(filepath.Join(dir, "none.json")); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("["), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged file: %v", err)
	}
	if err := os.Truncate(path, maxFile+1); err != nil { // sparse
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("large file: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a folder: no error")
	}
}
