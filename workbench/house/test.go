package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is a line of `go test -json` (cmd/test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath, FailedBuild       string
}

// A tally counts leaf tests: a test with subtests is counted through them,
// unless it failed by itself.
type tally struct {
	out                     io.Writer
	passed, failed, skipped int
	reasons                 map[string]int // why tests were skipped
	seconds                 map[string]float64
	output                  map[string][]string // of tests still running
	parents                 map[string]bool
	blamed                  map[string]bool // package or test whose failure is explained
}

func newTally(out io.Writer) *tally {
	return &tally{
		out: out, reasons: map[string]int{}, seconds: map[string]float64{},
		output: map[string][]string{}, parents: map[string]bool{}, blamed: map[string]bool{},
	}
}

// test runs `go test` with the given arguments, prints one line a package and
// the whole output of what fails, and closes with the counts.
func test(ctx context.Context, args []string) error {
	start := time.Now()
	command := group(ctx, "go", append([]string{"test", "-json", "-timeout", "20m"}, args...)...)
	command.Stderr = os.Stderr
	pipe, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	counts := newTally(os.Stdout)
	if err := counts.read(pipe); err != nil {
		return err
	}
	err = command.Wait()
	if err != nil && counts.failed == 0 {
		counts.failed++
	}
	counts.close(time.Since(start))
	return err
}

func (t *tally) read(stream io.Reader) error {
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(t.out, "%s", line)
			continue
		}
		t.add(e)
	}
}

func (t *tally) add(e event) {
	name := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(t.out, e.Output)
	case "run":
		for parent, below := strings.CutSuffix(e.Test, "/"+lastElement(e.Test)); below; parent, below = strings.CutSuffix(parent, "/"+lastElement(parent)) {
			t.parents[e.Package+" "+parent] = true
		}
	case "output":
		t.output[name] = append(t.output[name], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.closePackage(e)
		} else {
			t.closeTest(e, name)
		}
		delete(t.output, name)
	}
}

func (t *tally) closeTest(e event, name string) {
	switch {
	case e.Action == "fail":
		fmt.Fprint(t.out, strings.Join(t.output[name], ""))
		if !t.blamed[name] {
			t.failed++
		}
		t.blamed[e.Package+" "] = true
		if i := strings.LastIndex(e.Test, "/"); i > 0 {
			t.blamed[e.Package+" "+e.Test[:i]] = true
		}
	case e.Action == "skip":
		t.skipped++
		t.reasons[reason(t.output[name])]++
	case !t.parents[name]:
		t.passed++
	}
}

func (t *tally) closePackage(e event) {
	short := strings.TrimPrefix(e.Package, "github.com/roundhouse-ai/roundhouse/")
	t.seconds[short] = e.Elapsed
	switch e.Action {
	case "pass":
		fmt.Fprintf(t.out, "ok    %-36s %6.1f s\n", short, e.Elapsed)
	case "fail":
		if !t.blamed[e.Package+" "] {
			t.failed++ // it did not build, panicked outside a test or ran out of time
		}
		fmt.Fprint(t.out, strings.Join(t.output[e.Package+" "], ""))
		fmt.Fprintf(t.out, "FAIL  %-36s %6.1f s\n", short, e.Elapsed)
	}
}

// where is the file:line that the testing package puts before a reason.
var where = regexp.MustCompile(`^\s+\S+\.go:\d+: `)

// reason is the first line a test said before it was skipped, cut at a colon or
// a parenthesis so that like reasons count together.
func reason(output []string) string {
	for _, line := range output {
		if where.MatchString(line) {
			text := strings.TrimSpace(where.ReplaceAllString(line, ""))
			text, _, _ = strings.Cut(text, ":")
			return text
		}
	}
	return "no reason given"
}

func (t *tally) close(took time.Duration) {
	fmt.Fprintf(t.out, "\n%.0f s; slowest packages:", took.Seconds())
	slowest := slices.SortedFunc(maps.Keys(t.seconds), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.seconds[b], t.seconds[a]), strings.Compare(a, b))
	})
	for _, name := range slowest[:min(5, len(slowest))] {
		fmt.Fprintf(t.out, " %s %.0f s", name, t.seconds[name])
	}
	fmt.Fprintln(t.out)
	for _, why := range slices.Sorted(maps.Keys(t.reasons)) {
		fmt.Fprintf(t.out, "skipped %d: %s\n", t.reasons[why], why)
	}
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}

func lastElement(test string) string {
	return test[strings.LastIndex(test, "/")+1:]
}
