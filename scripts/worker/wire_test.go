package worker

import (
	"bufio"
	"bytes"
	"math"
	"testing"
)

// What is sent arrives, what is no number too.
func TestFloatsArriveAsTheyAre(t *testing.T) {
	var pipe bytes.Buffer
	w := wire{bufio.NewReader(&pipe), &pipe}
	sent := floats{1.5, float32(math.Inf(-1)), float32(math.NaN()), 0}
	if err := w.send(down{Op: opAnswer, Floats: sent}); err != nil {
		t.Fatal(err)
	}
	var got down
	if err := w.receive(&got); err != nil || len(got.Floats) != len(sent) {
		t.Fatal(got.Floats, err)
	}
	for i, x := range sent {
		if math.Float32bits(got.Floats[i]) != math.Float32bits(x) {
			t.Errorf("%v arrives as %v", x, got.Floats[i])
		}
	}
	if err := w.send(down{Source: string(make([]byte, maxFrame))}); err == nil {
		t.Error("a message over the bound was sent")
	}
}

// FuzzReceive gives a parent what a child that was taken over may send.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255})
	f.Add(append([]byte{0, 0, 0, 41}, `{"edits":[{"op":9,"value":"AAA"}],"ids":[]}`...))
	f.Fuzz(func(_ *testing.T, data []byte) {
		w := wire{from: bufio.NewReader(bytes.NewReader(data))}
		var m up
		if err := w.receive(&m); err != nil {
			return
		}
		_ = fromNotices(m.Notices)
		if m.Fault != nil {
			_ = m.Fault.error()
		}
	})
}
