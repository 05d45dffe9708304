package tokenizer

import (
	"slices"
	"testing"
)

type encodeCase struct {
	ID      string  `json:"id"`
	Text    string  `json:"text"`
	IDs     []int32 `json:"ids"`
	Decoded string  `json:"decoded"`
	// The following stand in a case only where they differ from the above.
	DecodedSkipSpecial *string  `json:"decoded_skip_special"`
	SpecialAsText      *[]int32 `json:"ids_special_as_text"`
	AllAsText          *[]int32 `json:"ids_all_as_text"`
}

func or[T any](p *T, usual T) T {
	if p != nil {
		return *p
	}
	return usual
}

func TestEncodeGoldens(t *testing.T) {
	for _, m := range testModels(t) {
		t.Run(m.name, func(t *testing.T) {
			tok := load(t, m.tokenizer)
			differ := 0
			for _, c := range goldens[encodeCase](t, m.goldens("encode")) {
				specialAsText := or(c.SpecialAsText, c.IDs)
				allAsText := or(c.AllAsText, c.IDs)
				for mode, want := range map[Mode][]int32{Default: c.IDs, SpecialAsText: specialAsText, AllAsText: allAsText} {
					if got := tok.Encode(c.Text, mode); !slices.Equal(got, want) {
						t.Errorf("%s: mode %d of %.100q: got %v, want %v", c.ID, mode, c.Text, got, want)
						differ++
					}
				}
				whole := []Span{{0, len(c.Text)}}
				if got := tok.EncodeSpans(c.Text, whole); !slices.Equal(got, allAsText) {
					t.Errorf("%s: plain %.100q: got %v, want %v", c.ID, c.Text, got, allAsText)
				}
				if got := tok.EncodeSpans(c.Text, nil); !slices.Equal(got, c.IDs) {
					t.Errorf("%s: no span %.100q: got %v, want %v", c.ID, c.Text, got, c.IDs)
				}
				checkDecode(t, tok, c.ID, c.IDs, c.Decoded, or(c.DecodedSkipSpecial, c.Decoded))
				if differ > 20 {
					t.Fatal("and so on")
				}
			}
		})
	}
}

func checkDecode(t *testing.T, tok *Tokenizer, id string, ids []int32, want, wantSkip string) {
	t.Helper()
	if got := tok.Decode(ids, false); got != want {
		t.Errorf("%s: decode %v: got %q, want %q", id, ids, got, want)
	}
	if got := tok.Decode(ids, true); got != wantSkip {
		t.Errorf("%s: decode without special %v: got %q, want %q", id, ids, got, wantSkip)
	}
}

func TestDecodeGoldens(t *testing.T) {
	type decodeCase struct {
		ID                 string  `json:"id"`
		IDs                []int32 `json:"ids"`
		Decoded            string  `json:"decoded"`
		DecodedSkipSpecial string  `json:"decoded_skip_special"`
	}
	for _, m := range testModels(t) {
		t.Run(m.name, func(t *testing.T) {
			tok := load(t, m.tokenizer)
			for _, c := range goldens[decodeCase](t, m.goldens("decode")) {
				checkDecode(t, tok, c.ID, c.IDs, c.Decoded, c.DecodedSkipSpecial)
			}
		})
	}
}

func TestStreamGoldens(t *testing.T) {
	type streamCase struct {
		ID          string   `json:"id"`
		SkipSpecial bool     `json:"skip_special"`
		IDs         []int32  `json:"ids"`
		Pieces      []string `json:"pieces"`
		Tail        string   `json:"tail"`
	}
	for _, m := range testModels(t) {
		t.Run(m.name, func(t *testing.T) {
			tok := load(t, m.tokenizer)
			for _, c := range goldens[streamCase](t, m.goldens("stream")) {
				s := tok.NewStream(c.SkipSpecial)
				var pieces []string
				for _, id := range c.IDs {
					pieces = append(pieces, s.Push(id))
				}
				if tail := s.Flush(); !slices.Equal(pieces, c.Pieces) || tail != c.Tail {
					t.Errorf("%s: stream %v: got %q and %q, want %q and %q", c.ID, c.IDs, pieces, tail, c.Pieces, c.Tail)
				}
			}
		})
	}
}
