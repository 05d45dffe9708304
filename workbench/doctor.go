package workbench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/roundhouse-ai/roundhouse/engine/hostmem"
	"github.com/roundhouse-ai/roundhouse/workbench/check"
	"github.com/roundhouse-ai/roundhouse/workbench/config"
	"github.com/roundhouse-ai/roundhouse/workbench/inspect"
	"github.com/roundhouse-ai/roundhouse/workbench/machine"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Doctor is what helps others to understand a problem from afar: the program,
// the machine, the settings and the model. It holds no prompt and no key.
type Doctor struct {
	Version  Version         `json:"version"`
	Time     time.Time       `json:"time"`
	Hardware Hardware        `json:"hardware"`
	Plan     Plan            `json:"plan"`
	Settings []config.Value  `json:"settings"`
	Model    string          `json:"model"`
	Inspect  *inspect.Report `json:"inspect"` // with the hash of every file's header
	Check    *check.Report   `json:"check"`
	Memory   machine.Memory  `json:"memory"` // of this program, the check's peak included
	Advice   []string        `json:"advice"`
	Problems []string        `json:"problems"` // what kept a part from being made
}

// Hardware is the machine as the program sees it.
type Hardware struct {
	CPU             string   `json:"cpu,omitempty"`
	Cores           int      `json:"cores"`
	Flags           []string `json:"flags"`
	MemoryTotal     int64    `json:"memory_total,omitempty"`
	MemoryAvailable int64    `json:"memory_available,omitempty"`

	Bandwidth *machine.Bandwidth `json:"bandwidth,omitempty"` // where it was measured
	NVIDIA    *machine.NVIDIA    `json:"nvidia,omitempty"`    // where it was looked for
}

// NewHardware asks the machine.
func NewHardware() Hardware {
	h := Hardware{CPU: cpuName(), Cores: runtime.NumCPU(), Flags: []string{}}
	h.MemoryTotal, _ = hostmem.Total()
	h.MemoryAvailable, _ = hostmem.Available()
	for _, features := range []any{cpu.X86, cpu.ARM64} {
		v := reflect.ValueOf(features)
		for i := range v.NumField() {
			name, has := strings.CutPrefix(v.Type().Field(i).Name, "Has")
			if has && v.Field(i).Bool() {
				h.Flags = append(h.Flags, strings.ToLower(name))
			}
		}
	}
	return h
}

// cpuName is the processor's name where the system tells it in a file.
func cpuName() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer file.Close() // read only
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Doctor makes the report and writes it to path, if one is given; a summary, or
// the report as JSON, is printed. ErrFindings says that something is wrong.
func (a *App) Doctor(ctx context.Context, path string, asJSON bool) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	d, err := a.diagnose(ctx)
	if err != nil {
		return err
	}
	if path != "" {
		data, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		if err := writeFile(path, append(data, '\n')); err != nil {
			return err
		}
	}
	if asJSON {
		err = a.printJSON(d)
	} else {
		err = a.printDoctor(d, path)
	}
	if err == nil && !d.sound() {
		err = ErrFindings
	}
	return err
}

func (d *Doctor) sound() bool {
	return len(d.Problems) == 0 && len(d.Inspect.Findings) == 0 && d.Check.Verdict == check.Pass
}

// diagnose goes on where a part fails: that is what the report is for.
func (a *App) diagnose(ctx context.Context) (*Doctor, error) {
	d := &Doctor{Version: a.Version, Time: time.Now().UTC(), Hardware: NewHardware(), Settings: a.Config.Values(), Advice: []string{}, Problems: []string{}}
	bandwidth, err := a.bandwidth(ctx)
	if err != nil {
		return nil, err
	}
	gpus := machine.FindNVIDIA()
	d.Hardware.Bandwidth, d.Hardware.NVIDIA = &bandwidth, &gpus
	if d.Plan, err = a.plan(); err != nil {
		d.Plan.Engine = "nothing: see the problem"
		d.Problems = append(d.Problems, err.Error())
	}
	watch := machine.Watch()
	defer func() {
		d.Memory = watch()
		d.Advice = append(d.Advice, a.advice(d)...)
	}()
	folder, err := a.Folder()
	if err != nil {
		d.Problems = append(d.Problems, err.Error())
		return d, nil
	}
	d.Model = folder.Name
	if d.Inspect, err = a.inspect(ctx, folder, false); err == nil {
		d.Check, err = a.check(ctx, folder, 0)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		d.Problems = append(d.Problems, err.Error())
	}
	return d, nil
}

func (a *App) printDoctor(d *Doctor, path string) error {
	memory := "unknown"
	if d.Hardware.MemoryTotal > 0 {
		memory = term.Bytes(d.Hardware.MemoryAvailable) + " of " + term.Bytes(d.Hardware.MemoryTotal) + " free"
	}
	rows := [][]string{
		{"program", d.Version.String()},
		{"processor", strings.TrimSpace(fmt.Sprintf("%s, %d cores", d.Hardware.CPU, d.Hardware.Cores))},
		{"features", strings.Join(d.Hardware.Flags, " ")},
		{"memory", memory},
	}
	rows = append(rows, bandwidthRows(*d.Hardware.Bandwidth)...)
	rows = append(rows, []string{"NVIDIA devices", nvidiaText(*d.Hardware.NVIDIA)},
		[]string{"runs on", d.Plan.Engine}, []string{"kernels", d.Plan.Kernels + ": " + d.Plan.Why}, []string{"model", d.Model})
	if d.Inspect != nil {
		rows = append(rows, []string{"folder", fmt.Sprintf("%d files, %d tensors, %s, %d findings", len(d.Inspect.Files), d.Inspect.Tensors, term.Bytes(d.Inspect.Bytes), len(d.Inspect.Findings))})
	}
	if d.Check != nil {
		rows = append(rows, []string{"check", string(d.Check.Verdict)})
	}
	rows = append(rows, memoryRows(d.Memory)...)
	for _, problem := range d.Problems {
		rows = append(rows, []string{"problem", problem})
	}
	for _, advice := range d.Advice {
		rows = append(rows, []string{"advice", advice})
	}
	if path != "" {
		rows = append(rows, []string{"report", path + " (no prompts, no keys)"})
	}
	return term.Table(a.Out, []term.Column{{Name: "what"}, {Name: "found"}}, rows)
}

// writeFile puts a file in place whole or not at all.
func writeFile(path string, data []byte) error {
	partial, err := os.CreateTemp(filepath.Dir(path), ".roundhouse-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = partial.Write(data)
	if err = errors.Join(err, partial.Close()); err == nil {
		err = os.Rename(partial.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(partial.Name()))
	}
	return nil
}
