package scripts

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// row is a distribution of the size of a real vocabulary.
func row(tokens int) hook.Plain {
	r := make(hook.Plain, tokens)
	for i := range r {
		r[i] = float32(i%977) / 100
	}
	return r
}

// ready is a source with its top at hand, as a step brings it.
type ready struct {
	hook.Plain
	top []hook.Candidate
}

func (r ready) Top(k int) ([]hook.Candidate, error) { return r.top[:k], nil }

// BenchmarkHandlers is what a token costs with a handler, beside what the device does.
func BenchmarkHandlers(b *testing.B) {
	list, _ := row(4096).Top(256)
	source := ready{row(8), list}
	for _, c := range []struct{ name, handler string }{
		{"empty", `logits() {}`},
		{"edits", `logits(l) { l.bias(1, 0.5).ban([2, 3]).temperature(0.7); }`},
		{"50 candidates", `logits(l) { const c = l.top(50); let best = 0; for (let i = 0; i < c.n; i++) if (c.logprobs[i] > c.logprobs[best]) best = i; l.bias(c.ids[best], 1); }`},
		{"256 candidates", `logits(l) { const c = l.top(256); let best = 0; for (let i = 0; i < c.n; i++) if (c.logprobs[i] > c.logprobs[best]) best = i; l.bias(c.ids[best], 1); }`},
		{"for of 50", `logits(l) { let s = 0; for (const x of l.top(50).logprobs) s += x; l.bias(1, s); }`},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := NewHost(Options{})
			s, err := h.Load(b.Context(), files("test.ts", wrapped(`return { `+c.handler+` }`)), "test.ts")
			if err != nil {
				b.Fatal(err)
			}
			i, err := s.Start(Env{Model: model})
			if err != nil {
				b.Fatal(err)
			}
			chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: 4096, OnError: hook.Fail}, i)
			if err != nil {
				b.Fatal(err)
			}
			defer chain.Close()
			for n := 0; b.Loop(); n++ {
				if _, err := chain.Logits(hook.At{Position: n}, source, source); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStart is what a choice costs before its first token.
func BenchmarkStart(b *testing.B) {
	h := NewHost(Options{})
	s, err := h.Load(b.Context(), files("test.ts", wrapped(`return { logits() {} }`)), "test.ts")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		i, err := s.Start(Env{Model: model})
		if err != nil {
			b.Fatal(err)
		}
		chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: 8}, i)
		if err != nil {
			b.Fatal(err)
		}
		chain.Close()
	}
}
