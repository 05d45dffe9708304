package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// Verb is the hidden command of the program that is a worker: its arguments are for
// Main.
const Verb = "script-worker"

// exitMemory is how a worker ends that takes too much memory.
const exitMemory = 86

// Main is the child's side: it serves one script over a pipe until the other end
// closes it. args are what follows Verb: the most memory that it may take, in bytes.
func Main(args []string, in io.Reader, out io.Writer) error {
	most := uint64(defaultMemory)
	if len(args) > 0 {
		var err error
		if most, err = strconv.ParseUint(args[0], 10, 63); err != nil {
			return fmt.Errorf("%s: the memory limit %q is no number of bytes", Verb, args[0])
		}
	}
	if err := limit(most + overhead); err != nil {
		return fmt.Errorf("%s: limit memory to %d bytes: %w", Verb, most+overhead, err)
	}
	debug.SetMemoryLimit(int64(most / 4 * 3))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go guard(ctx, most) // ends the process, or with it
	c := &child{host: scripts.NewHost(scripts.Options{Memory: int(most / 4)}), wire: wire{to: out}}
	from, pipe := io.Pipe()
	c.from = bufio.NewReader(from)
	// A script that cannot be stopped must not keep the process alive once nobody
	// listens: what comes in is read all the time.
	go func() {
		_, err := io.Copy(pipe, in)
		pipe.CloseWithError(err)
		time.Sleep(time.Second) // for serve to come to its end by itself
		os.Exit(1)
	}()
	if err := c.serve(ctx); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", Verb, err)
	}
	return nil
}

// guard ends the process when it takes too much memory, where the system does not.
func guard(ctx context.Context, most uint64) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		if s[0].Value.Uint64()-s[1].Value.Uint64() > most {
			os.Exit(exitMemory)
		}
	}
}

// child serves one script.
type child struct {
	wire
	host     *scripts.Host
	script   *scripts.Script
	instance *scripts.Instance
	solo     *hook.Solo
	shape    hook.Shape
}

func (c *child) serve(ctx context.Context) error {
	for {
		var m down
		if err := c.receive(&m); err != nil {
			return err
		}
		var reply up
		var err error
		switch {
		case m.Op == opLoad && c.script == nil:
			err = c.load(ctx, &m, &reply)
		case m.Op == opRequest && c.script != nil:
			err = c.request(&m, &reply)
		case m.Op == opStart && c.script != nil && c.instance == nil:
			err = c.start(&m, &reply)
		case m.Op == opCall && c.instance != nil:
			err = c.call(&m, &reply)
		default:
			return fmt.Errorf("%q is not what comes now", m.Op)
		}
		if err != nil {
			reply = up{Fault: toFault(err), Notices: reply.Notices}
			var unusable *scripts.LoadError
			if errors.As(err, &unusable) {
				reply.Lines = unusable.Lines
			}
		}
		if err := c.send(reply); err != nil {
			return err
		}
	}
}

func (c *child) load(ctx context.Context, m *down, reply *up) (err error) {
	if c.script, err = c.host.LoadSource(ctx, m.File, m.Source); err != nil {
		return err
	}
	info := c.script.Info()
	reply.Info = &info
	return nil
}

func (c *child) request(m *down, reply *up) error {
	body, err := c.script.Request(m.Body, m.Params, func(line string) { reply.Logs = append(reply.Logs, line) })
	reply.Body = body
	return err
}

func (c *child) start(m *down, reply *up) (err error) {
	e := scripts.Env{Params: m.Env.Params, Model: m.Env.Model, Request: m.Env.Request, Now: m.Env.Now, State: m.Env.State, Vectors: c.vector}
	if m.Env.Tokens {
		e.Tokenizer = c
	}
	if c.instance, err = c.script.Start(e); err != nil {
		return err
	}
	c.shape = e.Model.Shape
	c.solo = hook.NewSolo(hook.Options{Shape: e.Model.Shape, Tokens: e.Model.Tokens, Seed: m.Seed}, c.instance, hook.Reach{})
	out, err := c.solo.Call(0, m.At, m.Budget, c.instance.Start)
	if err != nil {
		return err
	}
	spec := c.instance.Spec()
	reply.Spec = &spec
	return reply.outcome(out)
}

// call calls a handler.
func (c *child) call(m *down, reply *up) error {
	if len(m.Steer) > 0 {
		s, err := hook.ParseSteering(m.Steer, c.shape, nil)
		if err != nil {
			return err
		}
		c.solo.Steer(s)
	}
	out, err := c.solo.Call(m.Event, m.At, m.Budget, func(call *hook.Call) error {
		switch m.Event {
		case hook.OnPrompt:
			p := hook.Prompt{IDs: m.IDs}
			err := c.instance.Prompt(call, &p)
			reply.IDs = p.IDs
			return err
		case hook.OnLogits:
			l := c.solo.Logits(call, source{c, false}, source{c, true})
			err := c.instance.Logits(call, l)
			reply.edits(l.Edits)
			return err
		case hook.OnSample:
			id, chosen, err := c.instance.Sample(call, hook.NewCandidates(call, source{c, false}))
			reply.IDs, reply.Chosen = []int32{id}, chosen
			return err
		case hook.OnToken:
			if m.Token == nil || len(m.Token.Logprob) != 1 {
				return errors.New("a token event without a token")
			}
			t := m.Token
			return c.instance.Token(call, &hook.Token{Position: t.Position, ID: t.ID, Text: t.Text, Logprob: t.Logprob[0], Forced: t.Forced})
		case hook.OnRouting:
			r := m.Record
			if r == nil || len(r.IDs) != r.Layers*r.K || len(r.Weights) != len(r.IDs) {
				return errors.New("a routing event without its record")
			}
			return c.instance.Routing(call, c.solo.Routing(call, &hook.Record{Position: r.Position, Prompt: r.Prompt, Layers: r.Layers, K: r.K, IDs: r.IDs, Weights: r.Weights}))
		case hook.OnFinish:
			return c.instance.Finish(call, m.Finish)
		}
		return fmt.Errorf("there is no event %d", m.Event)
	})
	if err != nil {
		reply.Notices = toNotices(out.Notices)
		return err
	}
	return reply.outcome(out)
}

func (u *up) edits(e *hook.Edits) {
	for _, x := range e.List() {
		u.Edits = append(u.Edits, edit{x.Op, x.IDs, floats{x.Value}})
	}
	values := e.Values()
	u.Values = values.All()
}

func (u *up) outcome(o hook.Outcome) (err error) {
	u.Stop, u.Inject, u.Notices = o.Stop, o.Inject, toNotices(o.Notices)
	if o.Steer != nil {
		u.Steer, err = json.Marshal(o.Steer)
	}
	return err
}

func toNotices(list []hook.Notice) (out []notice) {
	for _, n := range list {
		if value, err := json.Marshal(n.Value); err == nil {
			out = append(out, notice{n.Name, value})
		}
	}
	return out
}

// ask asks the other end, which answers while it waits for the reply.
func (c *child) ask(question up) (*down, error) {
	if err := c.send(question); err != nil {
		return nil, err
	}
	var m down
	if err := c.receive(&m); err != nil {
		return nil, err
	}
	if m.Op != opAnswer {
		return nil, fmt.Errorf("%q is no answer", m.Op)
	}
	if m.Fault != nil {
		return nil, m.Fault.error()
	}
	return &m, nil
}

// Encode implements hook.Tokenizer.
func (c *child) Encode(text string) ([]int32, error) {
	m, err := c.ask(up{Ask: askEncode, Text: text})
	if err != nil {
		return nil, err
	}
	return m.IDs, nil
}

// Decode implements hook.Tokenizer.
func (c *child) Decode(ids []int32) string {
	m, err := c.ask(up{Ask: askDecode, IDs: ids})
	if err != nil {
		return ""
	}
	return m.Text
}

func (c *child) vector(name string) ([]float32, error) {
	m, err := c.ask(up{Ask: askVector, Text: name})
	if err != nil {
		return nil, err
	}
	return m.Floats, nil
}

// source reads at the other end: a hook.Source and a hook.Chooser.
type source struct {
	*child
	model bool
}

// Top implements hook.Source.
func (s source) Top(k int) ([]hook.Candidate, error) {
	m, err := s.ask(up{Ask: askTop, Model: s.model, K: k})
	if err != nil {
		return nil, err
	}
	return fromCandidates(m.Top)
}

func (s source) number(question up) (float32, error) {
	m, err := s.ask(question)
	if err != nil {
		return 0, err
	}
	if len(m.Floats) != 1 {
		return 0, errors.New("an answer without a number")
	}
	return m.Floats[0], nil
}

// Logprob implements hook.Source.
func (s source) Logprob(id int32) (float32, error) {
	return s.number(up{Ask: askLogprob, Model: s.model, K: int(id)})
}

// Entropy implements hook.Source.
func (s source) Entropy() (float32, error) { return s.number(up{Ask: askEntropy, Model: s.model}) }

// Row implements hook.Source.
func (s source) Row() ([]float32, error) {
	m, err := s.ask(up{Ask: askRow, Model: s.model})
	if err != nil {
		return nil, err
	}
	return m.Floats, nil
}

// Candidates implements hook.Chooser.
func (s source) Candidates(n int) ([]hook.Candidate, error) {
	m, err := s.ask(up{Ask: askCandidates, K: n})
	if err != nil {
		return nil, err
	}
	return fromCandidates(m.Top)
}

// Draw implements hook.Chooser.
func (s source) Draw() (int32, error) {
	m, err := s.ask(up{Ask: askDraw})
	if err != nil {
		return 0, err
	}
	if len(m.IDs) != 1 {
		return 0, errors.New("an answer without a token")
	}
	return m.IDs[0], nil
}
