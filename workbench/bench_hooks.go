package workbench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/workbench/bench"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// benchHooks measures what hooks cost, after the first of the prompts' lengths. Calls
// have ten times the budget of the settings: what they take is measured, not cut short
// because other programs have the cores.
func (a *App) benchHooks(ctx context.Context, model *engine.Model, o BenchOptions, progress *term.Progress) (rows []bench.HookRow, err error) {
	host := scripts.NewHost(scripts.Options{Memory: int(a.Config.Scripts.Memory)})
	defer host.Close()
	cases, err := hookCases(ctx, host, model)
	if err != nil {
		return nil, err
	}
	watchers, stop, err := benchWatchers(ctx, model)
	if err != nil {
		return nil, err
	}
	defer stop()
	return bench.Hooks(ctx, model, bench.HookOptions{
		Cases: append(cases, watchers), Length: o.Lengths[0], Streams: o.Streams, Tokens: o.Tokens, Time: o.Time, Budget: 10 * time.Duration(a.Config.Scripts.Budget),
		Progress: func(done, total int) { progress.Update(fmt.Sprintf("row %d of %d", done+1, total), 0, 0) },
	})
}

// hookCases are the hooks that are measured, each as a script and in Go.
func hookCases(ctx context.Context, host *scripts.Host, model *engine.Model) (cases []bench.HookCase, err error) {
	env := scripts.Env{Model: model.HookModel(), Tokenizer: model.HookTokenizer(), Now: time.Now()}
	for _, h := range bench.HookScripts {
		if h.File != "" {
			script, err := host.Load(ctx, bench.Scripts, h.File)
			if err != nil {
				return nil, err
			}
			own := env
			own.Params = h.Params
			cases = append(cases, bench.HookCase{Name: h.Name, By: "script", Start: func(uint32) ([]hook.Hook, error) {
				i, err := script.Start(own)
				if err != nil {
					return nil, err
				}
				return []hook.Hook{i}, nil
			}})
		}
		cases = append(cases, bench.HookCase{Name: h.Name, By: "Go", Start: func(uint32) ([]hook.Hook, error) { return []hook.Hook{h.Go(env.Model)}, nil }})
	}
	return cases, nil
}

// printHooks shows the table of costs.
func (a *App) printHooks(r *BenchReport) error {
	_, err := fmt.Fprintf(a.Out, "%s on %s: %d threads, kernels %s, numerics %s; what a hook adds to a decode step after %d tokens\n\n",
		r.Model, r.Engine.Name, r.Engine.Threads, r.Engine.Kernels, r.Engine.Numerics, r.HooksAfter)
	var rows [][]string
	micros := func(us float64) string { return fmt.Sprintf("%.1f", us) }
	for _, h := range r.Hooks {
		remark := ""
		if h.Off != "" {
			remark = "switched off: " + h.Off
		} else if h.Degraded > 0 {
			remark = fmt.Sprintf("%d tokens without the hook", h.Degraded)
		}
		rows = append(rows, []string{h.Hook, h.By, strconv.Itoa(h.Streams), strconv.Itoa(h.Pairs), micros(h.Step), micros(h.Cost), fmt.Sprintf("%.1f to %.1f", h.Low, h.High),
			fmt.Sprintf("%.2f %%", h.Percent), micros(h.MeanCost), micros(h.Handlers), remark})
	}
	return errors.Join(err, term.Table(a.Out, []term.Column{{Name: "hook"}, {Name: "by"}, {Name: "streams", Right: true}, {Name: "pairs", Right: true}, {Name: "step us", Right: true},
		{Name: "cost us", Right: true}, {Name: "95 % within", Right: true}, {Name: "of the step", Right: true}, {Name: "cost of the mean", Right: true}, {Name: "handlers us", Right: true}, {Name: "remark"}}, rows))
}
