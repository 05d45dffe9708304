package tokenizer

import (
	"slices"
	"testing"
	"unicode"

	"github.com/dlclark/regexp2"
)

// oracle is the pattern in an engine that knows its look-ahead. Its classes
// are Go's.
var oracle = regexp2.MustCompile(pattern, regexp2.None)

// oracleKnows says whether the oracle's classes are the same as ours for all of
// text. It does not know that the long s folds to s.
func oracleKnows(text string) bool {
	for i, r := range text {
		c, _ := classAt(text, i)
		if r == 'ſ' || unicode.Is(unicode.L, r) != (c == letter) || unicode.Is(unicode.N, r) != (c == number) ||
			unicode.Is(unicode.White_Space, r) != (c == space || c == newline) {
			return false
		}
	}
	return true
}

func oracleWords(t *testing.T, text string) []string {
	t.Helper()
	var words []string
	m, err := oracle.FindStringMatch(text)
	for ; m != nil && err == nil; m, err = oracle.FindNextMatch(m) {
		words = append(words, m.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	return words
}

func words(text string) []string {
	var words []string
	for len(text) > 0 {
		n := wordLen(text)
		words = append(words, text[:n])
		text = text[n:]
	}
	return words
}

func TestSplitAgainstOracle(t *testing.T) {
	compared := 0
	for _, c := range goldens[encodeCase](t, "testdata/qwen3/encode.jsonl.gz") {
		if len(c.Text) > 2000 || !oracleKnows(c.Text) {
			continue
		}
		compared++
		if got, want := words(c.Text), oracleWords(t, c.Text); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", c.ID, got, want)
		}
	}
	if compared < 3000 {
		t.Errorf("only %d texts were compared", compared)
	}
}

func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{
		"I'm 'ſo 'LL":      {"I", "'m", " '", "ſo", " '", "LL"},
		"it'ſ":             {"it", "'ſ"},
		"a  b":             {"a", " ", " b"},
		"a \n \n b  ":      {"a", " \n \n", " b", "  "},
		"12 3":             {"1", "2", " ", "3"},
		" !!\r\n\n x":      {" !!\r\n\n", " x"},
		"e\u0301a":         {"e", "\u0301a"},
		"\u00a0x\u3000!":   {"\u00a0x", "\u3000", "!"},
		"\U0002ebf0\u0897": {"\U0002ebf0", "\u0897"},
	} {
		if got := words(text); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
