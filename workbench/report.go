package workbench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/parity"
	"github.com/roundhouse-ai/roundhouse/workbench/check"
	"github.com/roundhouse-ai/roundhouse/workbench/inspect"
	"github.com/roundhouse-ai/roundhouse/workbench/models"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// interruptible ends with SIGINT or SIGTERM; a second signal ends the program.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Models lists the model folders of this machine.
func (a *App) Models(asJSON bool) error {
	found := models.List(a.Config.Models.Dirs, os.Getenv)
	if asJSON {
		if found == nil {
			found = []models.Candidate{}
		}
		return a.printJSON(found)
	}
	if len(found) == 0 {
		fmt.Fprintln(a.Err, "no models found: put folders into models.dirs of the configuration (`roundhouse config init`), or download one with `hf download`. `roundhouse serve` without MODEL serves the embedded demo.")
		return nil
	}
	var rows [][]string
	for _, c := range found {
		state := "complete"
		switch lacks := len(c.Missing) + len(c.Problems); {
		case lacks == 1:
			state = strings.Join(append(prefixed("missing: ", c.Missing), c.Problems...), "")
		case lacks > 1:
			state = fmt.Sprintf("%d missing, %d problems: `roundhouse inspect %s`", len(c.Missing), len(c.Problems), c.Name)
		}
		rows = append(rows, []string{c.Name, term.Bytes(c.Size), state, c.Path})
	}
	return term.Table(a.Out, []term.Column{{Name: "model"}, {Name: "size", Right: true}, {Name: "state"}, {Name: "folder"}}, rows)
}

func prefixed(prefix string, list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, prefix+s)
	}
	return out
}

// Inspect describes the model folder; ErrFindings says that it is not sound.
func (a *App) Inspect(ctx context.Context, asJSON, verify bool) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	folder, err := a.Folder()
	if err != nil {
		return err
	}
	report, err := a.inspect(ctx, folder, verify)
	if err != nil {
		return err
	}
	if asJSON {
		err = a.printJSON(report)
	} else {
		err = report.WriteText(a.Out)
	}
	if err == nil && len(report.Findings) > 0 {
		err = ErrFindings
	}
	return err
}

func (a *App) inspect(ctx context.Context, folder Folder, verify bool) (*inspect.Report, error) {
	progress := term.NewProgress(a.Err)
	defer progress.Done()
	return inspect.Inspect(ctx, folder.FS, inspect.Options{Verify: verify, Kernels: a.kernelNames, Progress: func(done, total int64) {
		progress.Update("reading tensors", done, total)
	}})
}

// Parity compares the model with a golden file; ErrFindings says that a tensor
// missed its tolerance. worst reduces the table to the worst of each kind.
func (a *App) Parity(ctx context.Context, golden string, worst, asJSON bool) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	folder, err := a.Folder()
	if err != nil {
		return err
	}
	want, err := parity.ReadGolden(os.DirFS(filepath.Dir(golden)), strings.TrimSuffix(filepath.Base(golden), ".json"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, want.Close()) }()
	model, err := a.open(ctx, folder, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	progress := term.NewProgress(a.Err)
	progress.Update("comparing every tensor", 0, 0)
	report, err := parity.Run(ctx, model, want)
	progress.Done()
	if err != nil {
		return err
	}
	if worst {
		report.Rows = report.Kinds()
	}
	if err := a.printParity(report, asJSON); err != nil {
		return err
	}
	if !report.OK {
		return ErrFindings
	}
	return nil
}

func (a *App) printParity(report *parity.Report, asJSON bool) error {
	if asJSON {
		for i := range report.Rows {
			r := &report.Rows[i]
			r.MaxAbs, r.Relative, r.Cosine = finite(r.MaxAbs), finite(r.Relative), finite(r.Cosine)
		}
		return a.printJSON(report)
	}
	style := a.style(a.Out)
	misses := 0
	var rows [][]string
	for _, r := range report.Rows {
		verdict := "ok"
		if !r.OK {
			verdict = "MISS"
			misses++
		}
		if r.Note != "" {
			verdict += ": " + r.Note
		}
		rows = append(rows, []string{r.Tensor, strconv.Itoa(r.Count), scientific(r.MaxAbs), scientific(r.Relative),
			strconv.FormatFloat(r.Cosine, 'f', 8, 64), scientific(r.Tolerance), verdict})
	}
	err := term.Table(a.Out, []term.Column{{Name: "tensor"}, {Name: "values", Right: true}, {Name: "max abs", Right: true},
		{Name: "relative", Right: true}, {Name: "cosine", Right: true}, {Name: "tolerance", Right: true}, {Name: "verdict"}}, rows)
	if err != nil {
		return err
	}
	verdict := style.Green("every row is within its tolerance")
	if !report.OK {
		verdict = style.Red(fmt.Sprintf("%d of %d rows miss", misses, len(rows)))
	}
	_, err = fmt.Fprintf(a.Out, "\n%s against %s on %s: %s\n", report.Model, report.Golden, report.Engine, verdict)
	return err
}

// finite keeps a number within what JSON can say.
func finite(v float64) float64 {
	switch {
	case math.IsNaN(v):
		return 0
	case math.IsInf(v, 0):
		return math.Copysign(math.MaxFloat64, v)
	}
	return v
}

func scientific(v float64) string { return strconv.FormatFloat(v, 'e', 2, 64) }

// Check looks the model over; ErrFindings says that something is wrong with it.
func (a *App) Check(ctx context.Context, limit time.Duration, asJSON bool) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	folder, err := a.checkedFolder()
	if err != nil {
		return err
	}
	report, err := a.check(ctx, folder, limit)
	if err != nil {
		return err
	}
	if asJSON {
		err = a.printJSON(report)
	} else {
		err = a.printCheck(report)
	}
	if err == nil && report.Verdict != check.Pass {
		err = ErrFindings
	}
	return err
}

func (a *App) check(ctx context.Context, folder Folder, limit time.Duration) (report *check.Report, err error) {
	model, err := a.open(ctx, folder, nil)
	if err != nil {
		return nil, err
	}
	progress := term.NewProgress(a.Err)
	progress.Update("checking, two minutes at most", 0, 0)
	report, err = check.Run(ctx, model, check.Options{Limit: limit})
	progress.Done()
	return report, errors.Join(err, model.Close())
}

func (a *App) printCheck(report *check.Report) error {
	style := a.style(a.Out)
	var rows [][]string
	for _, p := range report.Parts {
		rows = append(rows, []string{p.Name, string(p.Verdict), fmt.Sprintf("%.1f s", p.Took.Seconds()), p.Value, p.Bound})
	}
	err := term.Table(a.Out, []term.Column{{Name: "check"}, {Name: "verdict"}, {Name: "took", Right: true}, {Name: "value"}, {Name: "expected"}}, rows)
	if err != nil {
		return err
	}
	verdict := style.Green(string(report.Verdict))
	if report.Verdict != check.Pass {
		verdict = style.Red(string(report.Verdict))
	}
	_, err = fmt.Fprintf(a.Out, "\n%s on %s: %s\n", report.Model, report.Engine, verdict)
	return err
}

// ShowVersion prints which program this is.
func (a *App) ShowVersion(asJSON bool) error {
	if asJSON {
		return a.printJSON(a.Version)
	}
	_, err := fmt.Fprintln(a.Out, a.Version)
	return err
}
