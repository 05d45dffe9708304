package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEncodeSpans checks what spans change: which added tokens are read.
func TestEncodeSpans(t *testing.T) {
	tok := tiny(t, func(f, _ object) {
		f["added_tokens"] = append(f["added_tokens"].([]any), addedEntry(261, "<|end|><x>", false))
	})
	at := func(text, part string) Span {
		i := strings.Index(text, part)
		return Span{i, i + len(part)}
	}
	text := "the<|end|> the<|end|><x>the"
	tests := []struct {
		name  string
		plain []Span
		want  []any
	}{
		{"none", nil, []any{257, 259, 258, 261, 257}},
		{"empty span", []Span{{5, 5}}, []any{257, 259, 258, 261, 257}},
		{"all", []Span{{0, len(text)}}, []any{257, "<|end|>", 258, "<|end|><x>", 257}},
		{"first token", []Span{at(text, "<|end|>")}, []any{257, "<|end|>", 258, 261, 257}},
		{"its last byte", []Span{{9, 10}}, []any{257, "<|end|>", 258, 261, 257}},
		{"just behind it", []Span{{10, 11}}, []any{257, 259, 258, 261, 257}},
		{"the shorter stays", []Span{at(text, "<x>")}, []any{257, 259, 258, 259, "<x>", 257}},
		{"two spans", []Span{{0, 4}, at(text, "><x>")}, []any{257, "<|end|>", 258, "<|end|><x>", 257}},
		{"within a word", []Span{{1, 2}, {12, 13}}, []any{257, 259, 258, 261, 257}},
	}
	for _, test := range tests {
		var want []int32
		for _, w := range test.want {
			switch w := w.(type) {
			case int:
				want = append(want, int32(w))
			case string:
				want = append(want, tok.Encode(w, AllAsText)...)
			}
		}
		if got := tok.EncodeSpans(text, test.plain); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", test.name, got, want)
		}
	}
	// Spans that break the rules are the caller's fault, but no crash.
	tok.EncodeSpans(text, []Span{{20, 9}, {-4, 300}, {5, 1}})
}

// TestSpansJoin: a plain part that a template goes on after is cut into words
// with what stands around it.
func TestSpansJoin(t *testing.T) {
	tok := qwen3(t)
	text := "<|im_start|>user\nHello<|im_end|>\n"
	begin := strings.Index(text, "Hel")
	got := tok.EncodeSpans(text, []Span{{begin, begin + 3}})
	if want := tok.Encode(text, Default); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	quoted := tok.EncodeSpans(text, []Span{{begin, len(text) - 1}})
	end, _ := tok.ID("<|im_end|>")
	if slices.Contains(quoted, end) || tok.Decode(quoted, false) != text {
		t.Errorf("plain text spoke: %v", quoted)
	}
}

// TestSpecialHides: a special token that is read as text hides what begins
// within it, as in the original (checked with tokenizers 0.23.3).
func TestSpecialHides(t *testing.T) {
	tok := tiny(t, func(f, _ object) {
		f["added_tokens"] = append(f["added_tokens"].([]any), addedEntry(261, "ab<x>", true), addedEntry(262, "<x>y", false))
	})
	for text, want := range map[string][]int32{
		"ab<x>y": {'a', 'b', '<', 'x', '>', 'y'},
		"a<x>y":  {'a', 262},
	} {
		if got := tok.Encode(text, SpecialAsText); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestBrokenUTF8(t *testing.T) {
	tok := qwen3(t)
	for broken, want := range map[string]string{
		"a\xff\xfeb":             "a\uFFFD\uFFFDb",
		"\xe4\xb8<|im_end|>\xe4": "\uFFFD<|im_end|>\uFFFD",
		"\xf0\x9f\x98":           "\uFFFD",
		"\xf0\x9f\x98\xf0":       "\uFFFD\uFFFD",
		"\xe0\x80\x80":           "\uFFFD\uFFFD\uFFFD",
		"\xed\xa0\x80":           "\uFFFD\uFFFD\uFFFD",
		"\xc3\xc3\xa9":           "\uFFFDé",
		"\xf0\x90\x80A":          "\uFFFDA",
		"\xf4\x90\x80\x80":       "\uFFFD\uFFFD\uFFFD\uFFFD",
	} {
		if got, want := tok.Encode(broken, Default), tok.Encode(want, Default); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", broken, got, want)
		}
	}
}

// TestTokens checks what is said of single tokens.
func TestTokens(t *testing.T) {
	tok := qwen3(t)
	if got := tok.Size(); got != 151669 {
		t.Errorf("size %d, want 151669", got)
	}
	for text, want := range map[string]int32{"<|endoftext|>": 151643, "<|im_end|>": 151645, "</think>": 151668} {
		if id, ok := tok.ID(text); !ok || id != want {
			t.Errorf("%s: got %d, %t, want %d", text, id, ok, want)
		}
	}
	if id, ok := tok.ID("the"); ok {
		t.Errorf("an ordinary word has the id %d", id)
	}
	for _, test := range []struct {
		id             int32
		text           string
		special, added bool
		ok             bool
		bytes          string
	}{
		{1879, " world", false, false, true, " world"},
		{151645, "<|im_end|>", true, true, true, "<|im_end|>"},
		{151667, "<think>", false, true, true, "<think>"},
		{172, "\uFFFD", false, false, true, "\xf0"},
		{151669, "", false, false, false, ""},
		{-1, "", false, false, false, ""},
	} {
		text, special, added, ok := tok.Token(test.id)
		if text != test.text || special != test.special || added != test.added || ok != test.ok {
			t.Errorf("token %d: got %q, %t, %t, %t", test.id, text, special, added, ok)
		}
		if got := string(tok.Bytes(test.id)); got != test.bytes {
			t.Errorf("bytes of %d: got %q, want %q", test.id, got, test.bytes)
		}
	}
}

// TestForeignTokens: tokens outside the byte alphabet give their own text.
func TestForeignTokens(t *testing.T) {
	tok := tiny(t, func(f, m object) {
		m["vocab"].(object)["中 x"] = 270
		f["added_tokens"] = append(f["added_tokens"].([]any), addedEntry(271, "éa", true))
	})
	if got, want := tok.Decode([]int32{270, 'x', 271}, false), "中 xxéa"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := tok.Encode("éax", Default), []int32{271, 'x'}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestMergeWaysAgree: the heap does what the plain search for the lowest rank does.
func TestMergeWaysAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tok := range []*Tokenizer{demo(t), qwen3(t)} {
		for range 5000 {
			word := make([]int32, rng.IntN(120))
			letters := "aaeinorst theing =\n\xe4\xb8\xad"[:1+rng.IntN(20)]
			for i := range word {
				word[i] = tok.byteID[letters[rng.IntN(len(letters))]]
			}
			want := tok.merges.mergeByScan(slices.Clone(word))
			if got := tok.merges.mergeByHeap(slices.Clone(word)); !slices.Equal(got, want) {
				t.Fatalf("%v: got %v, want %v", word, got, want)
			}
		}
	}
}

// TestConcurrent shares one tokenizer, and slots of its cache, between goroutines.
func TestConcurrent(t *testing.T) {
	tok := tiny(t, nil)
	text := strings.Repeat("the there theme other <think> ", 50)
	want := tok.Encode(text, Default)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				if !slices.Equal(tok.Encode(text, Default), want) {
					t.Error("ids differ between goroutines")
					return
				}
			}
		})
	}
	group.Wait()
}

// TestLinear encodes hostile texts of 64 KB and 1 MB. The larger takes 16
// times as long if the work is linear and 256 times if it is quadratic; the
// limit stands far from both, and a miss is measured again.
func TestLinear(t *testing.T) {
	const small, factor, limit = 64 << 10, 16, 100
	tok := qwen3(t)
	for name, unit := range map[string]string{
		"one letter":      "a",
		"capital":         "A",
		"spaces":          " ",
		"newlines":        "\n",
		"space newline":   " \n",
		"tabs":            "\t",
		"digits":          "7",
		"dashes":          "-",
		"marks":           "\u0301",
		"two marks":       "\u0323\u0301",
		"marks unordered": "\u0301\u0323",
		"young marks":     "\u0301\u1ac0\u0323",
		"decomposing":     "\u0344",
		"jamo":            "\u1100\u1161",
		"cut tokens":      "<|",
		"longer cut":      "<|im_end|",
		"long word":       "antidisestablishmentarianism",
		"han":             "中",
		"broken":          "\xf0\x9f",
		"apostrophes":     "'",
	} {
		quickest := func(n, runs int) time.Duration {
			text := strings.Repeat(unit, n/len(unit))
			best := time.Hour
			for range runs {
				start := time.Now()
				tok.Encode(text, Default)
				best = min(best, time.Since(start))
			}
			return best
		}
		ratio, large := 0.0, time.Duration(0)
		for range 3 { // again only where something else held the machine
			large = quickest(small*factor, 1)
			if ratio = float64(large) / float64(quickest(small, 2)); ratio < limit {
				break
			}
		}
		t.Logf("%-16s 1 MB in %6.1f ms, %5.1f times 64 KB", name, float64(large.Microseconds())/1000, ratio)
		if ratio >= limit {
			t.Errorf("%s: 16 times the text took %.0f times as long", name, ratio)
		}
	}
}
