package term

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReaderEnds(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	r := NewReader(in)
	if _, err := out.WriteString("hi"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8)
	if n, err := r.Read(p); n != 2 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.Until(ctx)
	time.AfterFunc(10*time.Millisecond, cancel)
	if n, err := r.Read(p); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %d, %v; want the context's end", n, err)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	err := Table(&b, []Column{{Name: "name"}, {Name: "bytes", Right: true}, {Name: "note"}}, [][]string{
		{"router", "1024", "a b  c"}, {"Straße", "7", "\x1b[31mred"}, {"a long name", "", ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "name         bytes  note\n" +
		"router        1024  a b  c\n" +
		"Straße           7  \\x1b[31mred\n" +
		"a long name\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 20.7e6: "20.7 MB", 44e9: "44.0 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestStyleIsPlainWithoutTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := NewStyle(file, false).Red("x"); got != "x" {
		t.Errorf("got %q", got)
	}
	if got := (Style{on: true}).Red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
}

func TestProgressIsSilentForASecond(t *testing.T) {
	var b strings.Builder
	now := time.Unix(0, 0)
	p := &Progress{w: &b, now: func() time.Time { return now }, start: now}
	p.Update("weights", 1, 10)
	p.Done()
	if b.Len() > 0 {
		t.Fatalf("wrote %q at once", b.String())
	}
	p = &Progress{w: &b, now: func() time.Time { return now }, start: now}
	now = now.Add(2 * time.Second)
	p.Update("weights", 5, 10)
	p.Update("weights", 6, 10) // too soon after the last
	p.Done()
	if want := "\r\x1b[Kweights [===============               ]  50% of 10 B\r\x1b[K"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	(*Progress)(nil).Update("nothing", 1, 2)
}

func TestProgressTellsRateAndTimeLeft(t *testing.T) {
	var b strings.Builder
	now := time.Unix(0, 0)
	p := &Progress{w: &b, now: func() time.Time { return now }, start: now}
	p.Update("weights", 0, 40e9)
	now = now.Add(2 * time.Second)
	p.Update("weights", 10e9, 40e9)
	if err := p.Above(&b, "a table\n"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	p.Update("ready", 40e9, 40e9)
	p.Done()
	want := "\r\x1b[Kweights [=======                       ]  25% of 40.0 GB, 5.0 GB/s, 6s left" +
		"\r\x1b[Ka table\n\r\x1b[Kready [==============================] 100% of 40.0 GB\r\x1b[K"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "roundhouse", "history")
	h, err := LoadHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one", "two\nlines", "two\nlines", " ", "three"} {
		h.Add(line)
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	again, err := LoadHistory(path)
	if err != nil || again.Len() != 3 || again.At(0) != "three" || again.At(1) != "two\nlines" {
		t.Errorf("read back %q, %v", again.lines, err)
	}
	for range historySize + 10 {
		again.Add("a")
		again.Add("b")
	}
	if again.Len() != historySize {
		t.Errorf("%d lines are kept", again.Len())
	}
}

func TestEditor(t *testing.T) {
	const up, left, pasteStart, pasteEnd = "\x1b[A", "\x1b[D", "\x1b[200~", "\x1b[201~"
	keys := "hello\r" + up + " again\r" + "ac" + left + "b\r" + "one\\\rtwo\r" +
		pasteStart + "p1\rp2\r" + pasteEnd + "p3\r"
	h := &History{}
	e := newEditor(strings.NewReader(keys), io.Discard, "> ", h)
	for _, want := range []string{"hello", "hello again", "abc", "one\ntwo", "p1\np2\np3"} {
		got, err := e.ReadLine(context.Background())
		if err != nil || got != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	if _, err := e.ReadLine(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("the end gave %v", err)
	}
	if h.Len() != 5 || h.At(0) != "p1\np2\np3" {
		t.Errorf("history is %q", h.lines)
	}
}

// steps gives one piece a Read, as a person types.
type steps []string

func (s *steps) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*s)[0])
	*s = (*s)[1:]
	return n, nil
}

func TestEditorInterrupt(t *testing.T) {
	e := newEditor(&steps{"half a li", "\x03", "whole\r", "\x03\x03ah", "ead\r", "\x04"}, io.Discard, "> ", &History{})
	for _, want := range []struct {
		line string
		err  error
	}{{"", ErrInterrupt}, {"whole", nil}, {"", ErrInterrupt}, {"", ErrInterrupt}, {"ahead", nil}, {"", io.EOF}} {
		got, err := e.ReadLine(context.Background())
		if got != want.line || !errors.Is(err, want.err) {
			t.Errorf("got %q, %v; want %q, %v", got, err, want.line, want.err)
		}
	}
}
