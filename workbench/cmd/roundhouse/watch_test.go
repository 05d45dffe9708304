//go:build unix

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Tests that are watched run again when a script that they run changes, and when another
// test comes; ctrl-C ends it, which is no failure.
func TestWatchScriptTests(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("roundhouse", "scripts", "init", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watch := exec.CommandContext(ctx, "roundhouse", "scripts", "test", "--dir", dir, "--watch")
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, note := io.Pipe()
	watch.Stderr = note
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines, notes := bufio.NewScanner(out), bufio.NewScanner(said)
	// sum reads up to the line that closes a run, and waits for the watch to go on.
	sum := func() string {
		for lines.Scan() {
			if strings.Contains(lines.Text(), "tests passed") {
				if !notes.Scan() || !strings.Contains(notes.Text(), "watching for changes") {
					t.Fatalf("it says %q", notes.Text())
				}
				return lines.Text()
			}
		}
		t.Fatal("it ended")
		return ""
	}
	edit := func(name string, change func(string) string) {
		file := filepath.Join(dir, name)
		text, err := os.ReadFile(filepath.Join(dir, "steady.test.ts"))
		if filepath.Base(name) == "steady.ts" {
			text, err = os.ReadFile(file)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(change(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := sum(); !strings.HasPrefix(got, "2 of 2 ") {
		t.Error(got)
	}
	edit("steady.ts", func(text string) string { return strings.Replace(text, "temperature(0.5)", "temperature(0.25)", 1) })
	if got := sum(); !strings.HasPrefix(got, "1 of 2 ") {
		t.Error(got)
	}
	edit("more.test.ts", func(text string) string { return text })
	if got := sum(); !strings.HasPrefix(got, "2 of 4 ") {
		t.Error(got)
	}
	if err := watch.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if err := watch.Wait(); err != nil {
		t.Errorf("ctrl-C: %v", err)
	}
}
