package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A promise of the handbook: how it is measured and what it must be.
type promise struct {
	name    string
	unit    string
	measure func(ctx context.Context) (value, bound float64, err error)
	atLeast bool // the bound is a floor, not a ceiling
}

var promises = []promise{
	{"make test, cold build cache", "s", coldTest, false},
	{"resident memory while loading", "MB", loadPeak, false},
	{"resident memory, anonymous part", "MB", anonymousPeak, false},
	{"header parse, 227,088 tensors", "s", headerParse, false},
	{"tokenizer, English prose", "MB/s", tokenizerSpeed, true},
	{"parity, worst share of tolerance", "%", parityWorst, false},
	{"demo decode one stream", "tok/s", demoTarget("Decode/after64", 300), true},
	{"demo decode, eight streams", "tok/s", demoTarget("DecodeStreams/8", 900), true},
	{"demo prefill", "tok/s", demoTarget("Prefill/512", 3000), true},
	{"sampler chain, 151,936 tokens", "us", microseconds("Chain", "", 1000), false},
	{"top-256 selection", "us", microseconds("Top256", "equal", 150), false},
	{"fast numerics, mean KL", "nats", numerics(1e-3, func(d divergence) float64 { return d.MeanKL }), false},
	{"fast numerics, same top token", "%", numerics(99, func(d divergence) float64 { return 100 * d.Top1 }), true},
	{"fast numerics, perplexity", "%", numerics(0.3, func(d divergence) float64 { return 100 * math.Abs(d.PerplexityThen/d.Perplexity-1) }), false},
	{"W4 expert GEMV of read bandwidth", "%", gemv("Mul/(2048x512|512x2048)/w4/.*/fast/rows=1"), true},
	{"W8 GEMV of read bandwidth", "%", gemv("Mul/2048x12288/w8/.*/fast/rows=1"), true},
}

// line is one line of evidence.
type line struct {
	name, unit   string
	value, bound float64
	atLeast      bool
}

// A set of promises is measured at once; the names of its lines begin with its own.
type set struct {
	name    string
	measure func(ctx context.Context) ([]line, error)
}

var sets = []set{
	{"intervention", tested("./engine", "^TestInterventionsFollowTheFormulas$")},
	{"neutral hooks", tested("./engine", "^TestNeutralHooksChangeNoBit$")},
	{"library", tested("./workbench/library", ".")},
	{"hook", hookCosts},
	{"hostile", hostileFigures},
	{"watchers", tested("./workbench/live", "^TestCost$", "ROUNDHOUSE_LATENCY=1")},
	{"plugin twin", tested("./workbench/twin", "^TestTwins$")},
	{"plugin latency", tested("./workbench/twin", "^TestLatency$", "ROUNDHOUSE_LATENCY=1")},
	{"plugin faults", pluginFigures},
	{"frames", tested("./workbench/cmd/roundhouse", "^TestServeLive$")},
	{"drops", tested("./workbench/live", "^TestSlowWatchersLoseFrames$")},
	{"pages", inBrowser},
}

// evidence measures each promise and prints name, value, bound and verdict.
// With arguments it measures only those whose name contains one of them.
func evidence(ctx context.Context, args []string) error {
	misses := 0
	for _, p := range promises {
		if !chosen(p.name, args) {
			continue
		}
		value, bound, err := p.measure(ctx)
		if err != nil {
			misses++
			fmt.Printf("%-52s %v  FAIL\n", p.name, err)
			continue
		}
		if !judge(p.name, value, p.unit, bound, p.atLeast) {
			misses++
		}
	}
	for _, s := range sets {
		if chosen(s.name, args) {
			misses += s.judge(ctx)
		}
	}
	if misses > 0 {
		return fmt.Errorf("%d promises are not kept", misses)
	}
	return nil
}

// judge measures a set, prints its lines and counts those that are not kept.
func (s set) judge(ctx context.Context) (misses int) {
	all, err := s.measure(ctx)
	if err != nil {
		fmt.Printf("%-52s %v  FAIL\n", s.name, err)
		return 1
	}
	for _, f := range all {
		if !judge(f.name, f.value, f.unit, f.bound, f.atLeast) {
			misses++
		}
	}
	return misses
}

// tested measures by tests, which log lines of evidence: name, value, unit and bound. Those
// that are no tests of anything want a variable of the environment.
func tested(pkg, run string, env ...string) func(context.Context) ([]line, error) {
	return func(ctx context.Context) ([]line, error) {
		command := exec.CommandContext(ctx, "go", "test", "-count", "1", "-v", "-run", run, pkg)
		command.Env = append(os.Environ(), env...)
		output, err := command.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("tests %s of %s: %w\n%s", run, pkg, err, output)
		}
		return lines(string(output))
	}
}

// inBrowser measures by the tests of the pages, which log the same lines: two minutes of the
// fast feed among them.
func inBrowser(ctx context.Context) ([]line, error) {
	command := exec.CommandContext(ctx, "bash", "workbench/conformance/run.sh", "pages")
	command.Env = append(os.Environ(), "ROUNDHOUSE_FEED_SECONDS=120")
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", command.Args, err, output)
	}
	return lines(string(output))
}

// reported measures by a test that writes a report of its own, which becomes into. args are
// those of go test, the package and the test's flags last. It returns what the test printed.
func reported(ctx context.Context, into any, args ...string) (output string, err error) {
	dir, err := os.MkdirTemp("", "roundhouse-report-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "report.json")
	command := exec.CommandContext(ctx, "go", append(append([]string{"test", "-count", "1"}, args...), "-report", file)...)
	printed, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%v: %w\n%s", command.Args, err, printed)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return string(printed), json.Unmarshal(text, into)
}

// kept prints lines with their verdicts; the error says how many bounds are not kept.
func kept(all []line) error {
	misses := 0
	for _, l := range all {
		if !judge(l.name, l.value, l.unit, l.bound, l.atLeast) {
			misses++
		}
	}
	if misses > 0 {
		return fmt.Errorf("%d bounds are not kept", misses)
	}
	return nil
}

var evidenceLine = regexp.MustCompile(`(?m): evidence: (.+): (\S+) (\S+) (<=|>=) (\S+)$`)

// lines reads the lines of evidence in the output of tests.
func lines(output string) (all []line, err error) {
	for _, found := range evidenceLine.FindAllStringSubmatch(output, -1) {
		f := line{name: found[1], unit: found[3], atLeast: found[4] == ">="}
		if f.value, err = strconv.ParseFloat(found[2], 64); err != nil {
			return nil, err
		}
		if f.bound, err = strconv.ParseFloat(found[5], 64); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no line of evidence in\n%s", output)
	}
	return all, nil
}

// judge prints name, value, bound and verdict of a figure that may be at most, or
// must be at least, its bound, and says whether it keeps to it.
func judge(name string, value float64, unit string, bound float64, atLeast bool) bool {
	relation, kept, verdict := "<=", value <= bound, "PASS"
	if atLeast {
		relation, kept = ">=", value >= bound
	}
	if !kept {
		verdict = "FAIL"
	}
	fmt.Printf("%-52s %9.4g %-6s %s %-6.4g %s\n", name, value, unit, relation, bound, verdict)
	return kept
}

func chosen(name string, args []string) bool {
	for _, arg := range args {
		if strings.Contains(name, arg) {
			return true
		}
	}
	return len(args) == 0
}

// coldTest times `make test` with an empty build cache; the modules are there.
func coldTest(ctx context.Context) (seconds, bound float64, err error) {
	cache, err := os.MkdirTemp("", "roundhouse-cold-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(cache)
	command := exec.CommandContext(ctx, "make", "test")
	command.Env = append(os.Environ(), "GOCACHE="+cache)
	start := time.Now()
	if output, err := command.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, output)
	}
	return time.Since(start).Seconds(), 8 * 60, nil
}

// loadPeak loads a model and makes one token.
func loadPeak(ctx context.Context) (megabytes, bound float64, err error) {
	model, bound, remove, err := loaded(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer remove()
	command := exec.CommandContext(ctx, program, "chat", "--once", "hello", "--max-tokens", "1", model)
	if output, err := command.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%v: %w\n%s", command.Args, err, output)
	}
	usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("this system does not tell the peak of a child's memory")
	}
	return float64(usage.Maxrss) / 1e6 * maxrssUnit, bound, nil
}

// anonymousPeak is what of it the kernel cannot take back, as the program
// itself tells it: mapped weights are not in it.
func anonymousPeak(ctx context.Context) (megabytes, bound float64, err error) {
	model, bound, remove, err := loaded(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer remove()
	command := exec.CommandContext(ctx, program, "bench", "--json", "--lengths", "1", "--batches", "1", "--tokens", "2", "--time", "1ms", model)
	output, err := command.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("%v: %w", command.Args, err)
	}
	var report struct {
		Memory struct {
			Peak float64 `json:"peak_anonymous"`
		} `json:"memory"`
	}
	if err := json.Unmarshal(output, &report); err != nil {
		return 0, 0, fmt.Errorf("%v: %w", command.Args, err)
	}
	if report.Memory.Peak < 0 {
		return 0, 0, errors.New("this system does not tell anonymous memory apart")
	}
	return report.Memory.Peak / 1e6, bound, nil
}

// loaded is the model whose memory is measured, a synthetic one of 0.9 GB or
// $EVIDENCE_MODEL. The bound is the size of its files, a tenth more, and 200 MB.
func loaded(ctx context.Context) (model string, bound float64, remove func(), err error) {
	remove = func() {}
	if model = os.Getenv("EVIDENCE_MODEL"); model == "" {
		if model, err = os.MkdirTemp("", "roundhouse-synth-"); err != nil {
			return "", 0, nil, err
		}
		remove = func() { _ = os.RemoveAll(model) } // in the folder of temporary files
		if err := synthesise(ctx, model); err != nil {
			remove()
			return "", 0, nil, err
		}
	}
	size, err := sizeOf(model)
	if err != nil {
		remove()
		return "", 0, nil, err
	}
	return model, 1.1*float64(size)/1e6 + 200, remove, nil
}

// benchmark runs one Go benchmark and returns the figure with the given unit.
func benchmark(ctx context.Context, pkg, name, unit string) (float64, error) {
	output, err := benchmarks(ctx, pkg, name)
	if err != nil {
		return 0, err
	}
	return figure(output, unit)
}

// benchmarks runs a Go benchmark with what lies below its name.
func benchmarks(ctx context.Context, pkg, name string) (output string, err error) {
	pattern := "^Benchmark" + strings.ReplaceAll(name, "/", "$/^") + "$"
	text, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", "2s", pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("benchmark %s of %s: %w\n%s", name, pkg, err, text)
	}
	return string(text), nil
}

// levels are the sets of kernels, best first: a part of a benchmark's name.
var levels = []string{"avx512", "avx2", "portable"}

// worst returns the worst figure of the best level that was run: the largest,
// or the smallest where more is better. Names that contain without are left out.
func worst(output, unit, without string, moreIsBetter bool) (value float64, err error) {
	rows := regexp.MustCompile(`(?m)^(Benchmark\S+?)(?:-\d+)?\s.*?\s(\S+) `+regexp.QuoteMeta(unit)+`(?:\s|$)`).FindAllStringSubmatch(output, -1)
	for _, level := range levels {
		found := false
		for _, row := range rows {
			if !strings.Contains(row[1]+"/", "/"+level+"/") || without != "" && strings.Contains(row[1], without) {
				continue
			}
			v, err := strconv.ParseFloat(row[2], 64)
			if err != nil {
				return 0, err
			}
			if !found || moreIsBetter == (v < value) {
				value, found = v, true
			}
		}
		if found {
			return value, nil
		}
	}
	return 0, fmt.Errorf("no figure in %s of a benchmark that names its kernels, in\n%s", unit, output)
}

// microseconds measures a benchmark of engine/sample.
func microseconds(name, without string, bound float64) func(context.Context) (float64, float64, error) {
	return func(ctx context.Context) (float64, float64, error) {
		output, err := benchmarks(ctx, "./engine/sample", name)
		if err != nil {
			return 0, 0, err
		}
		nanoseconds, err := worst(output, "ns/op", without, false)
		return nanoseconds / 1e3, bound, err
	}
}

// gemv measures products of packed matrices with one row, as shares of the
// bandwidth that the same run measures.
func gemv(name string) func(context.Context) (float64, float64, error) {
	return func(ctx context.Context) (float64, float64, error) {
		output, err := benchmarks(ctx, "./engine/cpu/simd", name)
		if err != nil {
			return 0, 0, err
		}
		percent, err := worst(output, "%roof", "", true)
		return percent, 70, err
	}
}

// figure finds the first number before a unit in the output of a benchmark.
func figure(output, unit string) (float64, error) {
	found := regexp.MustCompile(`(?m)^Benchmark.*\s(\S+) ` + regexp.QuoteMeta(unit) + `(\s|$)`).FindStringSubmatch(output)
	if found == nil {
		return 0, fmt.Errorf("no figure in %s in\n%s", unit, output)
	}
	return strconv.ParseFloat(found[1], 64)
}

func headerParse(ctx context.Context) (seconds, bound float64, err error) {
	nanoseconds, err := benchmark(ctx, "./engine/safetensors", "OpenReal", "ns/op")
	return nanoseconds / 1e9, 0.5, err
}

func tokenizerSpeed(ctx context.Context) (megabytes, bound float64, err error) {
	megabytes, err = benchmark(ctx, "./engine/tokenizer", "EncodeCold", "MB/s")
	return megabytes, 20, err
}

func parityWorst(ctx context.Context) (percent, bound float64, err error) {
	dir, err := sharedDir()
	if err != nil {
		return 0, 0, err
	}
	all, err := pairs(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range all {
		v, err := compare(ctx, p)
		if err != nil {
			return 0, 0, err
		}
		if !v.OK {
			return 0, 0, fmt.Errorf("golden %s: a miss; run `make parity`", p.name)
		}
		percent = max(percent, 100*ratio(closest(v.Rows)))
	}
	return percent, 100, nil
}

// demoTarget runs a benchmark of workbench/bench against what two cores must
// reach.
func demoTarget(name string, bound float64) func(context.Context) (float64, float64, error) {
	return func(ctx context.Context) (speed, _ float64, err error) {
		speed, err = benchmark(ctx, "./workbench/bench", name, "tok/s")
		return speed, bound, err
	}
}
