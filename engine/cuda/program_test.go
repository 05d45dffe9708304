package cuda

import (
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// A caller's buffers end behind the program's rows, and so does scratch.
func TestNoGraphExceedsItsProgram(t *testing.T) {
	for rows, want := range map[int]int{1: 1, 5: 5, 8: 8, 11: 11, 64: decodeRows, 300: decodeRows} {
		g := newGQA(t, sizes{2, 1, 256, 32, Fast, ops.F16}, rows, 4)
		graphs := g.device.(*program).graphs
		if last := graphs[len(graphs)-1].rows; last != want {
			t.Errorf("a program of %d rows has a graph of %d, want %d", rows, last, want)
		}
	}
}
