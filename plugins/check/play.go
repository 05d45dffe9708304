package check

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
)

// params asks for parameters that there are not, or of other types.
func (c *checker) params(ctx context.Context) (string, error) {
	if _, err := c.about.Params.Fill(c.Params); err != nil {
		return "", fmt.Errorf("those of the check: %w", err)
	}
	wrong := map[string]any{"there_is_no_such_parameter": 1.0}
	for name := range c.about.Params {
		wrong[name] = []any{"a list"}
	}
	for name, v := range wrong {
		i, err := c.plugin.Start(ctx, host.Env{Model: scenes()[0].model, Params: map[string]any{name: v}})
		if err == nil {
			i.Close()
			return "", fmt.Errorf("%s = %v was taken", name, v)
		}
		var p *hook.ParamError
		if !errors.As(err, &p) {
			return "", err
		}
	}
	return fmt.Sprintf("%d, and %d wrong values are refused", len(c.about.Params), len(wrong)), nil
}

// played is a plugin in a chain, with what its calls took and how they failed, by event.
type played struct {
	*host.Instance
	times  map[string][]time.Duration
	faults map[string]error // the first of each
}

// begin begins a choice.
func (c *checker) begin(ctx context.Context, s *scene) (*hook.Chain, *played, error) {
	i, err := c.plugin.Start(ctx, c.env(s))
	if err != nil {
		return nil, nil, err
	}
	p := &played{Instance: i, times: map[string][]time.Duration{}, faults: map[string]error{}}
	chain, err := hook.NewChain(s.options(func(n hook.Notice) {
		if n.Fault != nil && p.faults[n.Fault.Event] == nil {
			p.faults[n.Fault.Event] = n.Fault
		}
	}), p)
	return chain, p, err
}

// note notes what a call took.
func (p *played) note(call *hook.Call, err error) error {
	name := call.Event.String()
	p.times[name] = append(p.times[name], call.Busy())
	return err
}

// Prompt implements hook.Hook, as those below.
func (p *played) Prompt(call *hook.Call, x *hook.Prompt) error {
	return p.note(call, p.Instance.Prompt(call, x))
}

func (p *played) Logits(call *hook.Call, x *hook.Logits) error {
	return p.note(call, p.Instance.Logits(call, x))
}

func (p *played) Sample(call *hook.Call, x *hook.Candidates) (int32, bool, error) {
	id, chosen, err := p.Instance.Sample(call, x)
	return id, chosen, p.note(call, err)
}

func (p *played) Token(call *hook.Call, x *hook.Token) error {
	return p.note(call, p.Instance.Token(call, x))
}

func (p *played) Routing(call *hook.Call, x *hook.Routing) error {
	return p.note(call, p.Instance.Routing(call, x))
}

func (p *played) Hidden(call *hook.Call, x *hook.Hidden) error {
	return p.note(call, p.Instance.Hidden(call, x))
}

func (p *played) Route(call *hook.Call, x *hook.Router) error {
	return p.note(call, p.Instance.Route(call, x))
}

func (p *played) Finish(call *hook.Call, x *hook.Finish) error {
	return p.note(call, p.Instance.Finish(call, x))
}

// sceneTokens is how many tokens of a scene are played.
const sceneTokens = 24

// scene plays one scene, with a line of its beginning and one of each event.
func (c *checker) scene(ctx context.Context, s *scene) {
	var p *played
	before := len(c.plugin.Logs(0))
	ok := c.line(ctx, s.name+" model, begin", func() (string, error) {
		chain, own, err := c.begin(ctx, s)
		if err != nil {
			return "", err
		}
		defer chain.Close()
		c.spec.Spec, c.spec.Observer = own.Spec(), own.Observer()
		if p = own; c.about.Spec.Request && p.Spec().Events == 0 {
			return "it looks at requests only", nil
		}
		err = s.play(ctx, chain, sceneTokens, 0)
		if err == nil && p.Observer() {
			err = complaint(c.plugin.Logs(0), before)
		}
		return fmt.Sprintf("%d tokens of %d", sceneTokens, s.model.Tokens), err
	})
	if !ok || p == nil {
		return
	}
	for bit := hook.OnPrompt; bit != 0; bit <<= 1 {
		if !p.Spec().Events.Has(bit) {
			continue
		}
		name := bit.String()
		c.line(ctx, s.name+" model, "+name, func() (string, error) { return p.sum(name) })
	}
}

// complaint is what an observer, which nobody waits for, logs of its handlers' errors.
func complaint(lines []host.Line, before int) error {
	for _, l := range lines[min(before, len(lines)):] {
		if l.Level == "error" {
			return fmt.Errorf("it logs an error: %s", l.Text)
		}
	}
	return nil
}

// sum says how the calls of an event went: half of them are to keep the budget.
func (p *played) sum(event string) (string, error) {
	if err := p.faults[event]; err != nil {
		return "", err
	}
	times := slices.Sorted(slices.Values(p.times[event]))
	if len(times) == 0 {
		return "was not called: the choice took another course", nil
	}
	budget, median, worst := p.Spec().Budget, times[len(times)/2], times[len(times)-1]
	if median > budget {
		return "", fmt.Errorf("%v a call, which is more than its budget of %v: do less in it, or declare a larger one", median.Round(10*time.Microsecond), budget)
	}
	return fmt.Sprintf("%d calls, %v each, %v at most", len(times), median.Round(10*time.Microsecond), worst.Round(10*time.Microsecond)), nil
}

// failed is the first fault of a choice.
func (p *played) failed() error {
	for _, err := range p.faults {
		return err
	}
	return nil
}

// paced plays as a slow machine does.
func (c *checker) paced(ctx context.Context) (string, error) {
	const pace = 250 * time.Millisecond
	s := scenes()[0]
	chain, p, err := c.begin(ctx, s)
	if err != nil {
		return "", err
	}
	defer chain.Close()
	err = s.play(ctx, chain, 5, pace)
	return fmt.Sprintf("%v between tokens", pace), errors.Join(err, p.failed())
}

// many is how many choices are played at once.
const many = 32

// many plays many choices at once.
func (c *checker) many(ctx context.Context) (string, error) {
	s := scenes()[0]
	errs := make([]error, many)
	var running sync.WaitGroup
	for n := range many {
		running.Go(func() {
			chain, p, err := c.begin(ctx, s)
			if err != nil {
				errs[n] = err
				return
			}
			defer chain.Close()
			err = s.play(ctx, chain, 8, 0)
			errs[n] = errors.Join(err, p.failed())
		})
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// Bounds of the check of memory.
const (
	memoryTokens = 2000
	maxGrowth    = 64 << 20
)

// memory plays many tokens of one choice.
func (c *checker) memory(ctx context.Context) (string, error) {
	s := scenes()[0]
	chain, _, err := c.begin(ctx, s)
	if err != nil {
		return "", err
	}
	if err := s.play(ctx, chain, memoryTokens/10, 0); err != nil {
		return "", err
	}
	chain.Close()
	before, ok := resident(c.plugin.Stat().PID)
	if !ok {
		return "not measured: this system has no /proc", nil
	}
	chain, p, err := c.begin(ctx, s)
	if err != nil {
		return "", err
	}
	defer chain.Close()
	if err := errors.Join(s.play(ctx, chain, memoryTokens, 0), p.failed()); err != nil {
		return "", err
	}
	after, _ := resident(c.plugin.Stat().PID)
	grown := after - before
	if grown > maxGrowth {
		return "", fmt.Errorf("it has grown by %d MiB over %d tokens: %d MiB at most; what it keeps of each token is to end with the choice", grown>>20, memoryTokens, maxGrowth>>20)
	}
	return fmt.Sprintf("%.1f MiB more behind %d tokens, of %.1f", math.Max(0, float64(grown)/(1<<20)), memoryTokens, float64(before)/(1<<20)), nil
}

// resident is the memory of a group of processes.
func resident(group int) (bytes int, ok bool) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, false
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// Behind the name: state, parent, group; the pages are the 22nd.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 22 || fields[2] != strconv.Itoa(group) {
			continue
		}
		pages, err := strconv.Atoi(fields[21])
		if err == nil {
			bytes, ok = bytes+pages*os.Getpagesize(), true
		}
	}
	return bytes, ok
}

// noise looks for what the plugin printed.
func (c *checker) noise() (string, error) {
	for _, l := range c.plugin.Logs(0) {
		if l.Level == "stdout" {
			return "", fmt.Errorf("it printed %.200q: behind the handshake, standard output is nobody's; log, or write to stderr", l.Text)
		}
	}
	return "", nil
}

// bodies has the plugin look at the bodies of requests.
func (c *checker) bodies(ctx context.Context) (string, error) {
	bodies := []string{
		`{"model": "small", "prompt": "Once upon a time", "max_tokens": 16, "temperature": 0.7}`,
		`{"model": "small", "messages": [{"role": "user", "content": "Hello!"}], "stream": true, "stop": ["\n"]}`,
		`{}`,
	}
	changed := 0
	for _, body := range bodies {
		out, err := c.plugin.Request(ctx, []byte(body), c.Params, func(string) {})
		if err != nil && body != `{}` { // it may want more than nothing
			return "", err
		}
		if err == nil && string(out) != body {
			changed++
		}
		if err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "{") {
			return "", fmt.Errorf("of %s it makes %.100q: a body is an object", body, out)
		}
	}
	return fmt.Sprintf("%d of %d were changed", changed, len(bodies)), nil
}
