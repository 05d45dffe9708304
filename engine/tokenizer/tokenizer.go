// Package tokenizer turns text into token ids and back: byte-level BPE as the
// Qwen2 and Qwen3 models use it, read from the published tokenizer.json.
//
// Encoding goes in five steps, and each has a file:
//
//	added.go      added tokens (<|im_end|>, <think>, ...) are cut out of the raw text
//	normalize.go  each part between them is brought into Unicode form NFC
//	split.go      ... cut into words by the model's pattern
//	alphabet.go   ... read as bytes (the file writes bytes in a printable alphabet)
//	bpe.go        ... and each word's bytes are merged by rank
//
// config.go checks the file's settings and build.go makes the tables, with
// json.go for the two large parts; cache.go
// remembers the ids of words; decode.go is the way back. unicode_tables.go
// has the character classes of the pattern's engine, which are newer than
// those of Go.
//
// Text that is not UTF-8 is read as if each maximal broken part were U+FFFD
// (Unicode 16, section 3.9, "substitution of maximal subparts"), in both
// directions.
package tokenizer

import (
	"fmt"
	"io"
	"os"
)

//go:generate go run ./internal/gen

// maxFile bounds a tokenizer.json in bytes. Qwen3's has 11 MB; the largest
// known, with vocabularies of 262,144, have 33 MB.
const maxFile = 64 << 20

// Tokenizer encodes and decodes. It does not change after Parse, apart from a
// bounded cache of encoded words, and may be used by any number of goroutines
// at once.
type Tokenizer struct {
	arena  string  // the bytes of all tokens, one after the other
	tokens []token // by id
	added  *addedTokens
	merges mergeTable
	cache  *wordCache

	byteID [256]int32 // the token of each single byte
}

// token is one entry of the vocabulary; its bytes are arena[start:end]. The
// zero token is an id without a token: it has no bytes.
type token struct {
	start, end uint32
	kind       kind
}

type kind uint8

const (
	absent  kind = iota
	base         // bytes, and what merges make of them
	foreign      // in the vocabulary but outside the byte alphabet: only decodes
	added        // matched in text as a whole
	special      // added, and left out when special tokens are skipped
)

// Load reads a tokenizer.json of at most 64 MiB. Files that ask for anything
// else than this package does (other models, normalizers, pre-tokenizers ...)
// are errors that name the setting.
func Load(path string) (*Tokenizer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("tokenizer: %s has %d bytes, more than the %d that a tokenizer.json may have", path, info.Size(), maxFile)
	}
	// The size may be wrong (a pipe, a file that grows): the limit holds for
	// what is read. One byte more than the size tells the end without growing.
	data := make([]byte, 0, info.Size()+1)
	for limited := io.LimitReader(file, maxFile+1); ; {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := limited.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %w", err)
		}
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, path)
	}
	return t, nil
}

// Size is the number of ids the tokenizer knows: its highest id + 1. A model's
// output layer may be wider (151,936 against 151,669 in Qwen3); ids from Size
// on have no text and must be masked before sampling.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// ID returns the id of an added token, such as "<|im_end|>", by its text.
func (t *Tokenizer) ID(token string) (id int32, ok bool) {
	id, ok = t.added.ids[token]
	return id, ok
}

// Token describes a token: its bytes as text (with U+FFFD for the broken parts
// of a token that is not whole characters), and whether it is an added token
// and a special one. ok is false for ids that have no token.
func (t *Tokenizer) Token(id int32) (text string, isSpecial, isAdded, ok bool) {
	if id < 0 || int(id) >= len(t.tokens) || t.tokens[id].kind == absent {
		return "", false, false, false
	}
	k := t.tokens[id].kind
	return validUTF8(t.bytes(id)), k == special, k >= added, true
}

// Bytes returns a copy of the bytes of one token, none for ids without one.
func (t *Tokenizer) Bytes(id int32) []byte { return []byte(t.bytes(id)) }

// bytes returns the bytes of one token, "" for ids without one.
func (t *Tokenizer) bytes(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.arena[t.tokens[id].start:t.tokens[id].end]
}
