package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// HookCase is a hook whose cost is measured.
type HookCase struct {
	Name string
	By   string // "script", "Go", or "live" for who looks on
	// Start makes the hooks of a choice.
	Start func(choice uint32) ([]hook.Hook, error)
	// Watch is in the place of Start: it tells somebody of a request before it begins, who may
	// ask more of it; of its tokens, and that it has ended.
	Watch func(r *engine.Request) (token func(engine.Token), end func(engine.Result))
}

// HookOptions say how to measure what hooks cost.
type HookOptions struct {
	Cases    []HookCase
	Length   int           // of prompts, in tokens
	Streams  []int         // decoding at once, all with the hook
	Tokens   int           // decoded by each stream of a run; at least 2
	Time     time.Duration // for each row: as many pairs of runs as fit, at least 5
	Budget   time.Duration // of a call
	Progress func(done, total int)
}

// HookRow is what a hook adds to a decode step. Runs with and without it take turns in
// one process, and each is compared with its neighbour, so that a machine that grows
// slower or faster meanwhile does not count.
type HookRow struct {
	Hook    string `json:"hook"`
	By      string `json:"by"`
	Streams int    `json:"streams"`
	Pairs   int    `json:"pairs"`
	// Step is a decode step without the hook: the median of a run's steps, of which
	// the median over all runs is taken.
	Step float64 `json:"step_us"`
	// Cost is what the hook adds to it: the median of all pairs, which lies within Low
	// and High with a probability of 95 %.
	Cost    float64 `json:"cost_us"`
	Low     float64 `json:"cost_low_us"`
	High    float64 `json:"cost_high_us"`
	Percent float64 `json:"cost_percent"`
	// MeanCost is the same of the means of steps: the rare and dear is in it too, the
	// collection of garbage say, and all that disturbs the machine.
	MeanCost float64 `json:"mean_cost_us"`
	// Handlers is how long the calls for a token took, without reads: on a goroutine of
	// their own, so that less than that may be lost.
	Handlers float64 `json:"handlers_us"`
	// Degraded counts tokens that took the default because the hook failed, as it does
	// where the machine is too busy for the budget.
	Degraded int `json:"degraded_tokens"`
	// Off says why the hook was switched off, where it was: the row counts for nothing.
	Off string `json:"off,omitempty"`
}

// leastPairs is how many pairs of runs a row has at least: an interval of 95 % needs six.
const leastPairs = 6

// Hooks measures what each hook costs at each number of streams.
func Hooks(ctx context.Context, m Model, o HookOptions) ([]HookRow, error) {
	if o.Tokens < 8 || o.Length < 1 || len(o.Streams) == 0 || slices.Min(o.Streams) < 1 {
		return nil, fmt.Errorf("bench: prompts of %d tokens, %v streams, %d tokens: length and streams must be positive, tokens 8 or more", o.Length, o.Streams, o.Tokens)
	}
	if limit := m.Info().Context; o.Length+o.Tokens > limit {
		return nil, fmt.Errorf("bench: a prompt of %d tokens and %d more do not fit in the context of %d", o.Length, o.Tokens, limit)
	}
	var rows []HookRow
	for _, streams := range o.Streams {
		for _, c := range o.Cases {
			if o.Progress != nil {
				o.Progress(len(rows), len(o.Streams)*len(o.Cases))
			}
			row, err := c.measure(ctx, m, o, streams)
			if err != nil {
				return nil, fmt.Errorf("bench: hook %s (%s), %d streams: %w", c.Name, c.By, streams, err)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// measure runs pairs, each in the other order than the one before.
func (c HookCase) measure(ctx context.Context, m Model, o HookOptions, streams int) (HookRow, error) {
	row := HookRow{Hook: c.Name, By: c.By, Streams: streams}
	with := func(r *engine.Request) (func(engine.Token), func(engine.Result)) {
		if c.Watch != nil {
			return c.Watch(r)
		}
		r.Hooks = &engine.Hooking{Start: c.Start, Budget: o.Budget, OnError: hook.Disable}
		return alone(r)
	}
	var steps, costs, means []float64
	var handlers time.Duration
	calls := 0
	for start := time.Now(); row.Pairs < leastPairs || time.Since(start) < o.Time; row.Pairs++ {
		var runs [2]hookedRun // without and with
		for i := range runs {
			which, attach := (row.Pairs+i)%2, with
			if which == 0 {
				attach = alone
			}
			run, err := decode(ctx, m, o, streams, row.Pairs, attach)
			if err != nil {
				return row, err
			}
			runs[which] = run
		}
		row.Off = cmp.Or(row.Off, runs[1].off)
		steps = append(steps, runs[0].median)
		costs = append(costs, runs[1].median-runs[0].median)
		means = append(means, runs[1].mean-runs[0].mean)
		handlers += runs[1].handlers
		calls += runs[1].tokens
		row.Degraded += runs[1].degraded
	}
	row.Step, row.MeanCost = median(steps), median(means)
	row.Cost, row.Low, row.High = within(costs)
	row.Percent = 100 * row.Cost / row.Step
	row.Handlers = micros(handlers) / float64(calls)
	return row, nil
}

// hookedRun is what one run of all streams gave; times are in microseconds.
type hookedRun struct {
	median, mean float64 // of the steps in which all streams decode
	handlers     time.Duration
	tokens       int
	degraded     int
	off          string
}

// alone leaves a request as it is.
func alone(*engine.Request) (func(engine.Token), func(engine.Result)) {
	return func(engine.Token) {}, func(engine.Result) {}
}

// decode makes tokens with several streams at once, seeded by the round.
func decode(ctx context.Context, m Model, o HookOptions, streams, round int, attach func(*engine.Request) (func(engine.Token), func(engine.Result))) (run hookedRun, err error) {
	times, reports := make([][]time.Time, streams), make([]hook.Report, streams)
	errs := make([]error, streams)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	for s := range streams {
		req := request(m, o.Length, s, o.Tokens)
		req.Sampling = engine.Sampling{Temperature: 0.8, TopK: 50, TopP: 1, Seed: uint64(round*streams + s)}
		token, end := attach(&req)
		group.Go(func() {
			var result engine.Result
			result, errs[s] = m.Generate(ctx, req, func(t engine.Token) error {
				times[s] = append(times[s], t.Drawn)
				token(t)
				return nil
			})
			end(result)
			if errs[s] != nil {
				stop()
			}
			reports[s] = result.Hooks
		})
	}
	group.Wait()
	if err := first(errs); err != nil {
		return run, err
	}
	for _, r := range reports {
		run.degraded += r.Degraded
		for _, u := range r.Hooks {
			if u.Off {
				run.off = u.Last
			}
			run.handlers += u.Time - u.Begun
		}
	}
	run.tokens = streams * o.Tokens
	steps, err := stepsOf(times)
	run.median, run.mean = median(steps), mean(steps)
	return run, err
}

// first is the error that the others came of.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// stepsOf are the times between tokens of a stream, in microseconds, while all streams
// decode.
func stepsOf(times [][]time.Time) ([]float64, error) {
	from, to, err := window(times)
	if err != nil {
		return nil, err
	}
	var steps []float64
	for _, t := range times {
		for i := 1; i < len(t); i++ {
			if !t[i-1].Before(from) && !t[i].After(to) {
				steps = append(steps, micros(t[i].Sub(t[i-1])))
			}
		}
	}
	if len(steps) == 0 {
		return nil, errApart(len(times))
	}
	return steps, nil
}

// within returns the median of some values, and two of them that the median of all that
// could have been measured lies between with a probability of 95 %, by their ranks.
func within(values []float64) (middle, low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := float64(len(sorted))
	rank := max(0, int(math.Floor(n/2-0.98*math.Sqrt(n))))
	return median(values), sorted[rank], sorted[len(sorted)-1-rank]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
