package workbench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/workbench/bench"
	"github.com/roundhouse-ai/roundhouse/workbench/inspect"
	"github.com/roundhouse-ai/roundhouse/workbench/machine"
	"github.com/roundhouse-ai/roundhouse/workbench/synth"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// BenchOptions say what Bench measures.
type BenchOptions struct {
	Lengths []int // of prompts
	Streams []int // decoding at once
	Tokens  int
	Time    time.Duration // for each row
	JSON    bool
	Hooks   bool // what hooks cost, in the place of the rest
	// Synthetic, where its Shape is set, is measured in place of the model of the
	// settings.
	Synthetic synth.Options
}

// BenchReport is what Bench found.
type BenchReport struct {
	Version   Version           `json:"version"`
	Hardware  Hardware          `json:"hardware"`
	Model     string            `json:"model"`
	Load      time.Duration     `json:"load"` // from the start until the model was ready
	Engine    ops.Caps          `json:"engine"`
	Bandwidth machine.Bandwidth `json:"bandwidth"`
	Work      bench.Work        `json:"work"`
	Rows      []bench.Row       `json:"rows"`
	Memory    machine.Memory    `json:"memory"`
	// Of a GPU.
	Device   *engine.DeviceInfo `json:"device,omitempty"`
	Profiles []Profile          `json:"profiles,omitempty"`
	// Where hooks were measured: what they cost, after so many tokens.
	Hooks      []bench.HookRow `json:"hooks,omitempty"`
	HooksAfter int             `json:"hooks_after,omitempty"`
}

// Bench measures the model's prefill and decode and the memory's bandwidth.
func (a *App) Bench(ctx context.Context, o BenchOptions) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	if len(o.Lengths) == 0 || len(o.Streams) == 0 || slices.Min(o.Lengths) < 1 || slices.Min(o.Streams) < 1 || slices.Max(o.Streams) > 256 || o.Tokens < 2 {
		return UsageError{errors.New("bench: lengths must be positive, streams 1 to 256, tokens 2 or more")}
	}
	report, err := a.bench(ctx, o)
	if err != nil {
		return err
	}
	if o.JSON {
		return a.printJSON(report)
	}
	return a.printBench(report)
}

func (a *App) bench(ctx context.Context, o BenchOptions) (report *BenchReport, err error) {
	folder, remove, err := a.benchFolder(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	described, err := inspect.Inspect(ctx, folder.FS, inspect.Options{})
	if err != nil {
		return nil, err
	}
	a.Config.Engine.Streams = max(a.Config.Engine.Streams, slices.Max(o.Streams))
	bandwidth, err := a.bandwidth(ctx) // before the memory is watched: its buffer is none of the model's
	if err != nil {
		return nil, err
	}
	watch := machine.Watch()
	defer func() {
		if memory := watch(); report != nil {
			report.Memory = memory
		}
	}()
	loading := time.Now()
	model, err := a.open(ctx, folder, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	loaded := time.Since(loading)
	caps := model.Info().Backend
	if onDevice(model) {
		bandwidth = machine.Bandwidth{} // that of the host plays no part
	}
	report = &BenchReport{Version: a.Version, Hardware: NewHardware(), Model: folder.Name, Engine: caps, Bandwidth: bandwidth, Work: workOf(described), Load: loaded}
	if report.Device, err = model.Device(); err != nil {
		return nil, err
	}
	progress := term.NewProgress(a.Err)
	defer progress.Done()
	if o.Hooks {
		report.HooksAfter = o.Lengths[0]
		report.Hooks, err = a.benchHooks(ctx, model, o, progress)
		return report, err
	}
	report.Rows, err = bench.Run(ctx, model, bench.Options{
		Lengths: o.Lengths, Streams: o.Streams, Tokens: o.Tokens, Time: o.Time,
		Work: report.Work, Bandwidth: report.Bandwidth.All,
		Progress: func(done, total int) { progress.Update(fmt.Sprintf("row %d of %d", done+1, total), 0, 0) },
	})
	if err == nil && onDevice(model) {
		report.Profiles, err = profiles(model, o.Streams)
	}
	return report, err
}

// benchFolder finds the model to measure. remove undoes what was made for it.
func (a *App) benchFolder(o BenchOptions) (folder Folder, remove func() error, err error) {
	if o.Synthetic.Shape != "" {
		return outline(o.Synthetic)
	}
	folder, err = a.checkedFolder()
	return folder, func() error { return nil }, err
}

// bandwidth measures with as many threads as the engine has. Where memory is too
// short for it, it is 0: not known.
func (a *App) bandwidth(ctx context.Context) (machine.Bandwidth, error) {
	threads := a.Config.Engine.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	b, err := machine.MeasureBandwidth(ctx, threads)
	if err != nil && ctx.Err() == nil {
		a.Log.Warn("bandwidth is not known", "problem", err)
		return machine.Bandwidth{}, nil
	}
	return b, err
}

// workOf adds up what a step touches. Of an embedding that is no output matrix
// too a step reads only rows.
func workOf(r *inspect.Report) bench.Work {
	w := bench.Work{}
	if c := r.Config; c != nil {
		w.ExpertsOf, w.TopK = c.Experts, c.TopK
	}
	if m := r.Memory; m != nil {
		w.KVPerToken, w.State = m.PerToken, m.PerSequence
	}
	for _, k := range r.Kinds {
		switch {
		case strings.HasPrefix(k.Name, "mtp."):
		case strings.HasPrefix(k.Name, "mlp.experts."):
			w.Experts += k.Bytes
		case strings.HasSuffix(k.Name, "embed_tokens") && !(r.Config != nil && r.Config.Tied):
		default:
			w.Dense += k.Bytes
		}
	}
	return w
}

func (a *App) printBench(r *BenchReport) error {
	if len(r.Hooks) > 0 {
		if err := a.printHooks(r); err != nil {
			return err
		}
		fmt.Fprintln(a.Out)
		return a.printMachine(r)
	}
	var rows [][]string
	for _, row := range r.Rows {
		cells := []string{row.What, strconv.Itoa(row.Prompt), strconv.Itoa(row.Streams)}
		if row.Skipped != "" {
			rows = append(rows, append(cells, "", "", "", "", "", row.Skipped))
			continue
		}
		roofline := "-"
		if row.Roofline > 0 {
			roofline = fmt.Sprintf("%.1f %%", 100*row.Roofline)
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.1f", row.Speed), fmt.Sprintf("%.1f to %.1f", row.Low, row.High),
			strconv.Itoa(row.Runs), term.Bytes(int64(row.BytesPerToken)), roofline, ""))
	}
	_, err := fmt.Fprintf(a.Out, "%s on %s: %d threads, kernels %s, numerics %s\n\n", r.Model, r.Engine.Name, r.Engine.Threads, r.Engine.Kernels, r.Engine.Numerics)
	if err != nil {
		return err
	}
	err = term.Table(a.Out, []term.Column{{Name: "what"}, {Name: "prompt", Right: true}, {Name: "streams", Right: true}, {Name: "tok/s", Right: true},
		{Name: "slowest to fastest", Right: true}, {Name: "runs", Right: true}, {Name: "a token touches", Right: true}, {Name: "of bandwidth", Right: true}, {Name: "remark"}}, rows)
	if err != nil {
		return err
	}
	if err := printProfiles(a.Out, r.Profiles); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	return a.printMachine(r)
}

func (a *App) printMachine(r *BenchReport) error {
	return term.Table(a.Out, []term.Column{{Name: "machine and memory"}, {Name: "measured"}}, r.machineRows())
}

// machineRows are the last table of a report.
func (r *BenchReport) machineRows() [][]string {
	rows := [][]string{{"load, until ready", fmt.Sprintf("%.2f s", r.Load.Seconds())}}
	if d := r.Device; d != nil {
		rows = append(rows, []string{"device", d.Name}, []string{"device memory of the model", term.Bytes(d.Model)},
			[]string{"device memory in use", term.Bytes(d.Used) + " of " + term.Bytes(d.Total)})
	} else {
		rows = append(rows, bandwidthRows(r.Bandwidth)...)
	}
	return append(rows, memoryRows(r.Memory)...)
}

func bandwidthRows(b machine.Bandwidth) [][]string {
	if b.All == 0 {
		return [][]string{{"read bandwidth", "not measured"}}
	}
	return [][]string{
		{"read bandwidth, one thread", fmt.Sprintf("%.1f GB/s", b.One/1e9)},
		{fmt.Sprintf("read bandwidth, %d threads", b.Threads), fmt.Sprintf("%.1f GB/s", b.All/1e9)},
	}
}

// memoryRows is how every report shows the memory of the process.
func memoryRows(m machine.Memory) [][]string {
	size := func(n int64) string {
		if n < 0 {
			return "unknown"
		}
		return term.Bytes(n)
	}
	return [][]string{
		{"anonymous memory, now", size(m.Anonymous)},
		{"anonymous memory, peak", size(m.PeakAnonymous)},
		{"file pages, now", size(m.Files)},
		{"resident memory, peak (VmHWM)", size(m.PeakResident)},
	}
}
