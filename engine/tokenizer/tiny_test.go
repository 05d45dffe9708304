package tokenizer

import (
	"bytes"
	"encoding/json"
	"testing"
)

// object is a JSON object of a test's tokenizer.json.
type object = map[string]any

// tinyFile is a tokenizer.json with the 256 bytes, three merges that make
// "the" and " the", and two added tokens. Tests change it before they parse it.
func tinyFile() object {
	alphabet := map[int]string{}
	for r, b := range byteOf {
		if b >= 0 {
			alphabet[int(b)] = string(rune(r))
		}
	}
	vocab := object{}
	for b, s := range alphabet {
		vocab[s] = b
	}
	vocab["he"], vocab["the"], vocab["Ġthe"] = 256, 257, 258
	return object{
		"version":       "1.0",
		"truncation":    nil,
		"padding":       nil,
		"added_tokens":  []any{addedEntry(259, "<|end|>", true), addedEntry(260, "<think>", false)},
		"normalizer":    object{"type": "NFC"},
		"pre_tokenizer": object{"type": "Sequence", "pretokenizers": []any{splitEntry(), byteLevelEntry()}},
		"decoder":       byteLevelEntry(),
		"model": object{
			"type":   "BPE",
			"vocab":  vocab,
			"merges": []any{[]string{"h", "e"}, []string{"t", "he"}, []string{"Ġ", "the"}},
		},
	}
}

func addedEntry(id int, content string, special bool) object {
	return object{"id": id, "content": content, "special": special,
		"single_word": false, "lstrip": false, "rstrip": false, "normalized": false}
}

func splitEntry() object {
	return object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false}
}

func byteLevelEntry() object {
	return object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
}

// tinyJSON returns tinyFile, changed by edit, as text.
func tinyJSON(t testing.TB, edit func(file, model object)) []byte {
	t.Helper()
	file := tinyFile()
	if edit != nil {
		edit(file, file["model"].(object))
	}
	var data bytes.Buffer
	e := json.NewEncoder(&data)
	e.SetEscapeHTML(false)
	if err := e.Encode(file); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(data.Bytes())
}

// tiny parses tinyFile, changed by edit.
func tiny(t testing.TB, edit func(file, model object)) *Tokenizer {
	t.Helper()
	tok, err := Parse(tinyJSON(t, edit))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}
