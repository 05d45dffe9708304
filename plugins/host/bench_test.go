package host

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// BenchmarkStep is one logits event of a plugin in a process of its own, 50 candidates riding
// along: what a token waits for.
func BenchmarkStep(b *testing.B) {
	h := open(b, Options{}, "edits")
	c, _ := begin(b, h, "edits", Env{}, hook.Options{OnError: hook.Fail})
	row := make(hook.Plain, small.Tokens)
	for n := range row {
		row[n] = float32(n%5) / 3
	}
	if _, err := c.Prompt([]int32{1}); err != nil {
		b.Fatal(err)
	}
	for position := 1; b.Loop(); position++ {
		if _, err := c.Logits(hook.At{Position: position}, row, row); err != nil {
			b.Fatal(err)
		}
	}
}
