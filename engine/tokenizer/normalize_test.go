package tokenizer

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// TestNormalize compares with the original's normal forms, and the two ways
// of normalize with each other.
func TestNormalize(t *testing.T) {
	type nfcCase struct {
		Text string `json:"text"`
		NFC  string `json:"nfc"`
	}
	for _, c := range goldens[nfcCase](t, "testdata/nfc.jsonl.gz") {
		if got := normalize(c.Text); got != c.NFC {
			t.Errorf("%+q: got %+q, want %+q", c.Text, got, c.NFC)
		}
		var alone composer
		if got := string(alone.appendNFC(nil, c.Text)); got != c.NFC {
			t.Errorf("%+q: alone: got %+q, want %+q", c.Text, got, c.NFC)
		}
	}
}

// TestNormalizeSingle checks every code point by itself.
func TestNormalizeSingle(t *testing.T) {
	var classes struct {
		Single map[string]string `json:"nfc_single"`
	}
	if err := json.Unmarshal(unpacked(t, "internal/gen/classes.json.gz"), &classes); err != nil {
		t.Fatal(err)
	}
	changed := map[string]string{}
	for from, to := range classes.Single {
		changed[fromHex(t, from)] = fromHex(t, to)
	}
	if len(changed) != 1120 {
		t.Fatalf("%d code points change, want 1120", len(changed))
	}
	for r := range rune(utf8.MaxRune + 1) {
		if !utf8.ValidRune(r) {
			continue
		}
		want, ok := changed[string(r)]
		if !ok {
			want = string(r)
		}
		if got := normalize(string(r)); got != want {
			t.Errorf("%U: got %+q, want %+q", r, got, want)
		}
	}
}

// fromHex reads code points in hexadecimal, with spaces between them.
func fromHex(t *testing.T, hex string) string {
	t.Helper()
	var s strings.Builder
	for field := range strings.FieldsSeq(hex) {
		r, err := strconv.ParseInt(field, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		s.WriteRune(rune(r))
	}
	return s.String()
}

// TestUnicodeVersion fails when x/text moves on: its newer marks would have to
// enter the table inert, which says what the original does not know.
func TestUnicodeVersion(t *testing.T) {
	if norm.Version != "15.0.0" {
		t.Errorf("x/text has Unicode %s, the table inert was made for 15.0.0: add the marks that are new since to nfc_inert in classes.json.gz", norm.Version)
	}
}
