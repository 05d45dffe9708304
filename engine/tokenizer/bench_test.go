package tokenizer

import (
	"path/filepath"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// prose is the text of the benchmarks: the first 8 MiB of the corpus of
// children's books.
func prose(b *testing.B) string {
	dir, ok := shared.Dir()
	if !ok {
		b.Skip("shared data not found: it has the text of this benchmark")
	}
	return string(unpacked(b, filepath.Join(dir, "corpus", "real.txt.xz"))[:8<<20])
}

// BenchmarkEncode is English prose in one piece, with the cache filled: the
// long-running server.
func BenchmarkEncode(b *testing.B) {
	text, tok := prose(b), qwen3(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		tok.Encode(text, Default)
	}
}

// BenchmarkEncodeCold is the same with an empty cache: the first text after a start.
func BenchmarkEncodeCold(b *testing.B) {
	text, tok := prose(b), *qwen3(b)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		b.StopTimer()
		tok.cache = newWordCache()
		b.StartTimer()
		tok.Encode(text, Default)
	}
}

// BenchmarkMerge is prose without the cache: every word is merged anew.
func BenchmarkMerge(b *testing.B) {
	text, tok := prose(b)[:1<<20], qwen3(b)
	b.SetBytes(int64(len(text)))
	var ids []int32
	for b.Loop() {
		ids = ids[:0]
		for rest := text; len(rest) > 0; {
			n := wordLen(rest)
			ids = tok.appendMerged(ids, rest[:n])
			rest = rest[n:]
		}
	}
}

// BenchmarkEncodeGoldens is the texts of the goldens: many scripts, code,
// broken UTF-8, long words.
func BenchmarkEncodeGoldens(b *testing.B) {
	tok, cases, n := qwen3(b), goldens[encodeCase](b, "testdata/qwen3/encode.jsonl.gz"), 0
	for _, c := range cases {
		n += len(c.Text)
	}
	b.SetBytes(int64(n))
	for b.Loop() {
		for _, c := range cases {
			tok.Encode(c.Text, Default)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text, tok := prose(b)[:1<<20], qwen3(b)
	ids := tok.Encode(text, Default)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Decode(ids, true)
	}
}

// BenchmarkParse is the start of every command: the whole of Qwen3's file.
func BenchmarkParse(b *testing.B) {
	data := unpacked(b, "testdata/qwen3/tokenizer.json.xz")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
