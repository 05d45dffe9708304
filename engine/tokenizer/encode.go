package tokenizer

// Mode says which strings in a text are read as added tokens. The others are
// plain text, like any words.
type Mode uint8

const (
	// Default reads all added tokens in the text as tokens.
	Default Mode = iota
	// SpecialAsText reads special tokens (<|im_end|>) as text and other added
	// tokens (<think>) as tokens.
	SpecialAsText
	// AllAsText reads everything as text: for text that must not be able to
	// speak the model's control language.
	AllAsText
)

// Span is the range of bytes from Start up to End of a text.
type Span struct{ Start, End int }

// Encode returns the ids of a text. It adds no token before or after.
func (t *Tokenizer) Encode(text string, mode Mode) []int32 {
	if mode == AllAsText {
		return t.appendText(nil, text)
	}
	return t.encode(text, mode, nil)
}

// EncodeSpans encodes a text of which some parts were written by others: as
// Encode does by Default, but strings that overlap a span in plain, were it by
// one byte, are not read as added tokens. plain must be sorted and without
// overlaps. The borders of the spans cut no word: apart from added tokens the
// ids are those of the whole text.
func (t *Tokenizer) EncodeSpans(text string, plain []Span) []int32 {
	return t.encode(text, Default, plain)
}

func (t *Tokenizer) encode(text string, mode Mode, plain []Span) []int32 {
	var ids []int32
	done := 0 // text before it is encoded
	for from := 0; ; {
		m, ok := t.added.next(text, from, plain)
		if !ok {
			return t.appendText(ids, text[done:])
		}
		from = m.End
		// A special token that is read as text still hides tokens that
		// begin within it, as it does in the original.
		if mode == SpecialAsText && m.special {
			continue
		}
		ids = t.appendText(ids, text[done:m.Start])
		ids = append(ids, m.id)
		done = m.End
		for len(plain) > 0 && plain[0].End <= done {
			plain = plain[1:]
		}
	}
}

// appendText appends the ids of text without added tokens.
func (t *Tokenizer) appendText(ids []int32, text string) []int32 {
	text = normalize(validUTF8(text))
	if ids == nil && text != "" {
		ids = make([]int32, 0, len(text)/4+4) // English has 4.3 bytes a token
	}
	for len(text) > 0 {
		n := wordLen(text)
		ids = t.appendWord(ids, text[:n])
		text = text[n:]
	}
	return ids
}

// appendWord appends the ids of one word of the pattern.
func (t *Tokenizer) appendWord(ids []int32, word string) []int32 {
	if len(word) == 1 {
		return append(ids, t.byteID[word[0]])
	}
	if len(word) > cachedWord {
		return t.appendMerged(ids, word)
	}
	slot := t.cache.slot(word)
	if c := slot.Load(); c != nil && c.word == word {
		return append(ids, c.ids...)
	}
	start := len(ids)
	ids = t.appendMerged(ids, word)
	t.cache.put(slot, word, ids[start:])
	return ids
}

// appendMerged appends the ids of one word, worked out by merging its bytes.
func (t *Tokenizer) appendMerged(ids []int32, word string) []int32 {
	start := len(ids)
	for i := range len(word) {
		ids = append(ids, t.byteID[word[i]])
	}
	return ids[:start+len(t.merges.merge(ids[start:]))]
}
