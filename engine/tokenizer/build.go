package tokenizer

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// builder makes a Tokenizer's tables. Its steps go in this order: vocabulary,
// addedTokens, index, merges.
type builder struct {
	t     *Tokenizer
	arena []byte
	// byBytes finds the base tokens by the bytes they stand for.
	byBytes map[string]int32
}

// vocabulary reads {"token": id, ...}.
func (b *builder) vocabulary(raw []byte) error {
	if raw == nil {
		return fmt.Errorf("missing")
	}
	r := jsonReader{data: raw}
	err := r.object(func(key []byte) error {
		start := len(b.arena)
		k := base
		var inAlphabet bool
		if b.arena, inAlphabet = appendBytes(b.arena, key); !inAlphabet {
			b.arena = append(b.arena, key...)
			k = foreign
		}
		id, err := r.integer()
		if err != nil {
			return err
		}
		if len(b.arena) == start {
			return r.fail("the token of id %d is empty", id)
		}
		if err := b.grow(id); err != nil {
			return err
		}
		if b.t.tokens[id].kind != absent {
			return r.fail("id %d has a second token", id)
		}
		b.t.tokens[id] = token{uint32(start), uint32(len(b.arena)), k}
		return nil
	})
	if err != nil {
		return err
	}
	return r.end()
}

// grow makes room for id.
func (b *builder) grow(id int32) error {
	if id < 0 || id > maxID {
		return fmt.Errorf("id %d is out of range; ids go from 0 to %d", id, maxID)
	}
	for len(b.t.tokens) <= int(id) {
		b.t.tokens = append(b.t.tokens, token{})
	}
	return nil
}

// addedTokens enters the added tokens. One may stand in the vocabulary too,
// under the same id.
func (b *builder) addedTokens(list []addedToken) error {
	b.t.added = newAddedTokens()
	for _, a := range list {
		switch {
		case a.Content == "" || len(a.Content) > maxAdded:
			return fmt.Errorf("the token of id %d has %d bytes; 1 to %d are supported", a.ID, len(a.Content), maxAdded)
		case strings.ContainsRune(a.Content, utf8.RuneError):
			// encoding/json reads a lone surrogate as this, and so does
			// Encode bytes that are not UTF-8.
			return fmt.Errorf("%q has U+FFFD or a lone surrogate, which is not supported", a.Content)
		case a.SingleWord || a.LStrip || a.RStrip || a.Normalized:
			return fmt.Errorf("%q has single_word, lstrip, rstrip or normalized set; none of them is supported", a.Content)
		}
		if err := b.grow(a.ID); err != nil {
			return err
		}
		if old := b.t.tokens[a.ID]; old.kind != absent {
			spelt := b.arena[old.start:old.end]
			if plain, _ := appendBytes(nil, []byte(a.Content)); !bytes.Equal(spelt, plain) && string(spelt) != a.Content {
				return fmt.Errorf("%q has id %d, which is the token %q", a.Content, a.ID, spelt)
			}
		}
		if !b.t.added.add(a.Content, a.ID, a.Special) {
			return fmt.Errorf("%q stands here twice", a.Content)
		}
		k := added
		if a.Special {
			k = special
		}
		start := len(b.arena)
		b.arena = append(b.arena, a.Content...)
		b.t.tokens[a.ID] = token{uint32(start), uint32(len(b.arena)), k}
	}
	return nil
}

// index makes byBytes and the table of single bytes. Added tokens are left
// out: no merge may make one, so plain text can never turn into one.
func (b *builder) index() error {
	t := b.t
	t.arena = string(b.arena)
	b.byBytes = make(map[string]int32, len(t.tokens))
	for i, tok := range t.tokens {
		text, id := t.arena[tok.start:tok.end], int32(i)
		switch tok.kind {
		case base:
			if other, twice := b.byBytes[text]; twice {
				return fmt.Errorf("token %q has the ids %d and %d", text, other, id)
			}
			b.byBytes[text] = id
		case foreign:
			if other, twice := t.added.ids[text]; twice {
				return errTwoIDs(text, id, other)
			}
		}
	}
	for content, id := range t.added.ids {
		text, ok := appendBytes(nil, []byte(content))
		if other, twice := b.byBytes[string(text)]; ok && twice {
			return errTwoIDs(content, other, id)
		}
	}
	for i := range t.byteID {
		id, ok := b.byBytes[string([]byte{byte(i)})]
		if !ok {
			return fmt.Errorf("byte %#02x has no token of its own; all 256 bytes need one", i)
		}
		t.byteID[i] = id
	}
	return nil
}

func errTwoIDs(text string, inVocab, asAdded int32) error {
	return fmt.Errorf("token %q has id %d, but %d as an added token", text, inVocab, asAdded)
}

// merges reads [["a","b"], ...] or ["a b", ...], in order of rank.
func (b *builder) merges(raw []byte) error {
	if raw == nil {
		return fmt.Errorf("missing")
	}
	b.t.merges = make(mergeTable, len(b.t.tokens))
	r := jsonReader{data: raw}
	var text []byte // both sides, as bytes
	rank := uint32(0)
	err := r.array(func() error {
		both, middle, err := readPair(&r, text[:0])
		if err != nil {
			return err
		}
		text = both
		left, okLeft := b.byBytes[string(text[:middle])]
		right, okRight := b.byBytes[string(text[middle:])]
		whole, okWhole := b.byBytes[string(text)]
		if !okLeft || !okRight || !okWhole {
			return r.fail("merge %d joins %q and %q: they and the whole must be in the vocabulary and must not be added tokens",
				rank, text[:middle], text[middle:])
		}
		if !b.t.merges.add(left, right, rank, whole) {
			return r.fail("merge %d joins %q and %q, as an earlier one does", rank, text[:middle], text[middle:])
		}
		rank++
		return nil
	})
	if err != nil {
		return err
	}
	return r.end()
}

// readPair reads one merge and appends the bytes of its two sides to text;
// the second begins at middle.
func readPair(r *jsonReader, text []byte) (both []byte, middle int, err error) {
	n := 0
	side := func(s []byte) error {
		ok := false
		if text, ok = appendBytes(text, s); !ok {
			return r.fail("%q has characters outside the byte alphabet", s)
		}
		if n++; n == 1 {
			middle = len(text)
		}
		return nil
	}
	if r.peek() == '"' {
		line, err := r.string()
		if err != nil {
			return nil, 0, err
		}
		for s := range bytes.SplitSeq(line, []byte{' '}) {
			if err := side(s); err != nil {
				return nil, 0, err
			}
		}
	} else if err := r.array(func() error {
		s, err := r.string()
		if err != nil {
			return err
		}
		return side(s)
	}); err != nil {
		return nil, 0, err
	}
	if n != 2 {
		return nil, 0, r.fail("a merge has %d sides; it must have 2", n)
	}
	return text, middle, nil
}
