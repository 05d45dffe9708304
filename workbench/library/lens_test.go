//go:build !nodemo

package library

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
)

// Behind the last layer the lens is the model itself; the earlier the layer, the less it
// knows of the token that comes.
func TestLogitLens(t *testing.T) {
	request := engine.Request{MaxTokens: 120, IgnoreEOS: true, Candidates: 1}
	plain := run{prompt: story, request: request}.do(t)
	got := run{script: "logit-lens", prompt: story, request: request}.do(t)
	var lens []struct {
		Layer             int
		Tokens            int
		Best, Probability float64
	}
	got.data(t, "lens", &lens)
	if len(lens) != 4 || got.text != plain.text {
		t.Fatalf("lenses %+v; looking changed the text: %v", lens, got.text != plain.text)
	}
	for i, l := range lens {
		t.Logf("behind layer %d the token to come is the best for %.0f %% of %d tokens, its mean probability is %.3f", l.Layer, 100*l.Best, l.Tokens, l.Probability)
		if l.Tokens != 120 || i > 0 && l.Best < lens[i-1].Best {
			t.Errorf("layer %d: %+v", l.Layer, l)
		}
	}
	if last := lens[len(lens)-1]; last.Best != 1 || lens[0].Best > .5 {
		t.Errorf("the last layer has %.2f of the most likely tokens (bound 1), the first %.2f (bound 0.5)", last.Best, lens[0].Best)
	}
}
