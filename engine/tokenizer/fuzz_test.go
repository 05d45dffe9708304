package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse feeds the parser: what it takes must be JSON, and must work.
func FuzzParse(f *testing.F) {
	f.Add(tinyJSON(f, nil))
	f.Add(tinyJSON(f, func(_, m object) { m["merges"] = []string{"h e", "t he"} }))
	f.Add(tinyJSON(f, func(file, m object) {
		m["vocab"].(object)["<|end|>"] = 259
		m["vocab"].(object)["中"] = 300
		file["post_processor"] = byteLevelEntry()
	}))
	f.Add([]byte(`{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`))
	f.Add([]byte(`{"\ud800":[{"a":"\\"}],"b":1.5e3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Parse(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("took a file that is not JSON")
		}
		const text = "the <|end|> and <think>:\n\n 12 wörld 中"
		for mode := Default; mode <= AllAsText; mode++ {
			if got := tok.Decode(tok.Encode(text, mode), false); got != text {
				t.Fatalf("mode %d: %q came back as %q", mode, text, got)
			}
		}
		for id := range int32(min(tok.Size(), 5000)) {
			tok.Token(id)
		}
	})
}

// FuzzEncode checks that words are those of the oracle, that text comes back,
// and that the parts marked plain speak no added token.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{
		"Hello, world's 12 \n\n  <|im_end|> x<think>", "e\u0301\u1ac0\u0323\u0344", "\xf0\x9f\x98", " \r\n\t 'S 'Ll ſ",
		"\u1100\u1161\u11a8 中文 🏴\U000e0067", strings.Repeat("\u0301", 40), "<|im_start|><|im_<|im_end|>",
	} {
		f.Add(s, 3, 9)
	}
	f.Fuzz(func(t *testing.T, text string, from, to int) {
		tok := demo(t)
		valid := validUTF8(text)
		if !utf8.ValidString(valid) {
			t.Fatalf("%q is still broken: %q", text, valid)
		}
		plain := tok.Encode(text, AllAsText)
		if got, want := tok.Decode(plain, false), normalize(valid); got != want {
			t.Fatalf("%q came back as %q, want %q", text, got, want)
		}
		if !slices.Equal(plain, tok.Encode(valid, AllAsText)) {
			t.Fatalf("%q: broken text and mended text differ", text)
		}
		if oracleKnows(valid) {
			if got, want := words(valid), oracleWords(t, valid); valid != "" && !slices.Equal(got, want) {
				t.Fatalf("%q: words %q, want %q", valid, got, want)
			}
		}
		whole := tok.Encode(text, Default)
		tok.Encode(text, SpecialAsText)
		if got := tok.EncodeSpans(text, nil); !slices.Equal(got, whole) {
			t.Fatalf("%q: without spans %v, want %v", text, got, whole)
		}
		if got := tok.EncodeSpans(text, []Span{{0, len(text)}}); !slices.Equal(got, plain) {
			t.Fatalf("%q: all plain %v, want %v", text, got, plain)
		}
		if from = max(0, from); from < to && to <= len(text) {
			checkSpan(t, tok, text, Span{from, to})
		}
	})
}

// checkSpan: the tokens spoken are those that stand clear of the span. As no
// two added tokens of the demo can overlap, cutting the span's text out with a
// byte that no added token has shows which.
func checkSpan(t *testing.T, tok *Tokenizer, text string, plain Span) {
	t.Helper()
	spoken := func(ids []int32) (list []int32) {
		for _, id := range ids {
			if _, _, added, _ := tok.Token(id); added {
				list = append(list, id)
			}
		}
		return list
	}
	cut := text[:plain.Start] + "#" + text[plain.End:]
	got := spoken(tok.EncodeSpans(text, []Span{plain}))
	if want := spoken(tok.Encode(cut, Default)); !slices.Equal(got, want) {
		t.Fatalf("%q, plain %v: spoke %v, want %v", text, plain, got, want)
	}
}

// FuzzStream: pieces and tail are the decoded text, and each piece is valid.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 172, 0, 253, 0, 237, 0, 112}, false)
	f.Add([]byte{0, 172, 15, 232, 255, 255, 0, 3}, true)
	f.Fuzz(func(t *testing.T, data []byte, skipSpecial bool) {
		tok := demo(t)
		var ids []int32
		for ; len(data) >= 2; data = data[2:] {
			ids = append(ids, int32(int16(binary.BigEndian.Uint16(data))))
		}
		s := tok.NewStream(skipSpecial)
		var text strings.Builder
		for _, id := range ids {
			piece := s.Push(id)
			if len(s.held) > 3 || !utf8.ValidString(piece) {
				t.Fatalf("%v: id %d gives %q and holds %q", ids, id, piece, s.held)
			}
			text.WriteString(piece)
		}
		text.WriteString(s.Flush())
		if got, want := text.String(), tok.Decode(ids, skipSpecial); got != want {
			t.Fatalf("%v: streamed %q, decoded %q", ids, got, want)
		}
	})
}
