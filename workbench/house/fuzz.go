package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A target is one fuzz function of one package.
type target struct{ pkg, name string }

// targets asks every test binary of the module for its fuzz functions.
func targets(ctx context.Context) ([]target, error) {
	command := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "./...")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the fuzz targets: %w\n%s", err, output)
	}
	return parseTargets(string(output)), nil
}

// parseTargets reads `go test -list`: a package's functions stand before its
// "ok" line.
func parseTargets(listing string) []target {
	var all []target
	var names []string
	for line := range strings.Lines(listing) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 1 && strings.HasPrefix(fields[0], "Fuzz"):
			names = append(names, fields[0])
		case len(fields) >= 2 && fields[0] == "ok":
			for _, name := range names {
				all = append(all, target{fields[1], name})
			}
			names = nil
		}
	}
	return all
}

// progress is the line that a fuzzing test prints every three seconds.
var progress = regexp.MustCompile(`fuzz: elapsed: (\S+), execs: (\d+) \(.*new interesting: (\d+) \(total: (\d+)\)`)

// maxSeed is the largest found input that is kept as a seed, in bytes of its file.
const maxSeed = 4 << 10

// fuzz runs every target for a while, -jobs of them side by side. -report writes
// the log as a page, where targets that did not run keep their rows; -keep copies that many of the smallest inputs that reached
// new code to each target's testdata.
func fuzz(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	each := flags.Duration("time", 10*time.Second, "time for each target")
	jobs := flags.Int("jobs", 1, "targets at a time; more than one gives each a single worker")
	only := flags.String("only", "", "run the targets whose name matches this pattern")
	report := flags.String("report", "", "write the log to this page")
	keep := flags.Int("keep", 0, "copy up to this many found inputs of each target to its testdata")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	all, err := targets(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(t target) bool { return !pattern.MatchString(t.name) })
	if len(all) == 0 {
		return errors.New("no fuzz target found")
	}
	rows := make([]string, len(all))
	var failed atomic.Int64
	running := make(chan struct{}, max(*jobs, 1))
	var wait sync.WaitGroup
	for i, t := range all {
		running <- struct{}{}
		wait.Go(func() {
			defer func() { <-running }()
			row, err := fuzzOne(ctx, t, *each, *jobs)
			if errors.Is(err, errOwnDeadline) {
				row, err = fuzzOne(ctx, t, *each, *jobs)
			}
			if err == nil && *keep > 0 {
				err = keepSeeds(ctx, t, *keep)
			}
			if err != nil {
				failed.Add(1)
				fmt.Printf("%s %s: %v\n", t.pkg, t.name, err)
				first, _, _ := strings.Cut(err.Error(), "\n")
				row = fmt.Sprintf("| `%s` | `%s` | | | | **finding**: %s |", short(t.pkg), t.name, first)
			}
			rows[i] = row
		})
	}
	wait.Wait()
	if *report != "" {
		before, err := os.ReadFile(*report)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		page := soakPage(*each, *jobs, merge(string(before), rows))
		if err := os.WriteFile(*report, []byte(page), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("fuzz: %d passed, %d failed\n", len(all)-int(failed.Load()), failed.Load())
	if failed.Load() > 0 {
		return fmt.Errorf("%d of %d targets have findings; the inputs lie under their testdata/fuzz", failed.Load(), len(all))
	}
	return nil
}

func short(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/roundhouse-ai/roundhouse/")
}

// errOwnDeadline is Go's fuzzer taking the end of its time for a failure, as it
// does now and then on a busy machine. A finding always leaves an input behind;
// without one the target runs once more.
var errOwnDeadline = errors.New("the fuzzer ran into its own deadline and wrote no input")

func fuzzOne(ctx context.Context, t target, each time.Duration, jobs int) (row string, err error) {
	args := []string{"test", "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", each.String(), "-fuzzminimizetime", "10x"}
	if jobs > 1 {
		args = append(args, "-parallel", "1")
	}
	command := group(ctx, "go", append(args, t.pkg)...)
	pipe, err := command.StdoutPipe()
	if err != nil {
		return "", err
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		return "", err
	}
	var last []string
	var tail []string
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if found := progress.FindStringSubmatch(lines.Text()); found != nil {
			last = found
		}
		tail = append(tail[max(0, len(tail)-39):], lines.Text())
	}
	if err := command.Wait(); err != nil {
		text := strings.Join(tail, "\n")
		if strings.Contains(text, "context deadline exceeded") && !strings.Contains(text, "Failing input written") {
			return "", fmt.Errorf("%w: %w\n%s", errOwnDeadline, err, text)
		}
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	if last == nil && strings.Contains(strings.Join(tail, "\n"), "gathering baseline coverage") {
		// A large corpus of earlier runs can take all of a short time: its inputs
		// ran, and none was a finding.
		fmt.Printf("%-28s %-28s      its corpus only\n", short(t.pkg), t.name)
		return fmt.Sprintf("| `%s` | `%s` | %s | corpus only | | none |", short(t.pkg), t.name, each), nil
	}
	if last == nil {
		return "", errors.New("the target printed no progress: was the time too short to build it?")
	}
	fmt.Printf("%-28s %-28s %8s execs, %s new\n", short(t.pkg), t.name, last[2], last[3])
	return fmt.Sprintf("| `%s` | `%s` | %s | %s | %s | none |", short(t.pkg), t.name, last[1], last[2], last[4]), nil
}

// keepSeeds copies the smallest inputs of Go's fuzz cache to the package.
func keepSeeds(ctx context.Context, t target, count int) error {
	output, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(output)), "fuzz", t.pkg, t.name, "*"))
	if err != nil {
		return err
	}
	type seed struct {
		name string
		text []byte
	}
	var seeds []seed
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if len(text) <= maxSeed {
			seeds = append(seeds, seed{filepath.Base(name), text})
		}
	}
	slices.SortFunc(seeds, func(a, b seed) int {
		return cmp.Or(cmp.Compare(len(a.text), len(b.text)), strings.Compare(a.name, b.name))
	})
	dir := filepath.Join(short(t.pkg), "testdata", "fuzz", t.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, s := range seeds[:min(count, len(seeds))] {
		if err := os.WriteFile(filepath.Join(dir, s.name), s.text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// merge puts new rows in the place of those of a page about the same targets.
func merge(page string, rows []string) []string {
	about := func(row string) string { return strings.Join(strings.SplitN(row, "|", 4)[:3], "|") }
	merged := map[string]string{}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| `") {
			merged[about(line)] = strings.TrimSpace(line)
		}
	}
	for _, row := range rows {
		merged[about(row)] = row
	}
	return slices.SortedFunc(maps.Values(merged), func(a, b string) int { return strings.Compare(about(a), about(b)) })
}

func soakPage(each time.Duration, jobs int, rows []string) string {
	return fmt.Sprintf(`<!-- Code generated by make soak; DO NOT EDIT. -->
# Soak

Every fuzz target ran for %v, %d at a time, on %s. Continuous integration runs each for some seconds; this page is
the longer run. "Corpus" counts the inputs that reach code of their own; the smallest are committed under each package's
`+"`testdata/fuzz`"+` and run as plain tests by `+"`make test`"+`.

Rows come from several runs: a target that a run leaves out keeps its row, and its code may have changed since.

| package | target | time | executions | corpus | finding |
| --- | --- | --- | --- | --- | --- |
%s
`, each, jobs, machine(), strings.Join(rows, "\n"))
}

// machine says what the figures of a page were measured on.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, found := strings.Cut(string(text), "model name"); found {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.TrimLeft(line, "\t :")
		}
	}
	return fmt.Sprintf("%d cores of %s, %s, %s/%s", runtime.NumCPU(), model, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
