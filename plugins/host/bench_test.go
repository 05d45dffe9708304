package host

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins"
)

// known is a row of the real shape's vocabulary whose reads cost nothing: the transport alone
// is measured.
type known struct{ row []float32 }

func (k known) Top(n int) ([]hook.Candidate, error) {
	list := make([]hook.Candidate, n)
	for i := range list {
		list[i].ID = int32(i)
	}
	return list, nil
}
func (known) Logprob(int32) (float32, error) { return -1, nil }
func (known) Entropy() (float32, error)      { return 1, nil }
func (k known) Row() ([]float32, error)      { return k.row, nil }

// BenchmarkStep is one logits event of a plugin in a process of its own: with 50 candidates that
// come along, with 256, and with all logits of the real shape.
func BenchmarkStep(b *testing.B) {
	large := small
	large.Tokens = 151936
	for _, name := range []string{"ride-50", "ride-256", "ride-all"} {
		b.Run(name, func(b *testing.B) {
			h := open(b, Options{}, name)
			c, _ := beginOf(b, h, name, Env{Model: large}, hook.Options{OnError: hook.Fail})
			row := known{make([]float32, large.Tokens)}
			if _, err := c.Prompt([]int32{1}); err != nil {
				b.Fatal(err)
			}
			for position := 1; b.Loop(); position++ {
				if _, err := c.Logits(hook.At{Position: position}, row, row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// rides is a plugin that has so much come along.
func rides(name string, riding plugins.Riding) func() *plugins.Plugin {
	return func() *plugins.Plugin {
		return &plugins.Plugin{Name: name, Riding: riding, New: func(*plugins.Sequence) (any, error) { return edits{}, nil }}
	}
}
