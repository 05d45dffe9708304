package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// Script is a script that runs in workers. It is safe for concurrent use.
type Script struct {
	host         *Host
	file, source string
	info         scripts.Info
}

// Load has a worker read a script: one text that imports nothing but the module
// roundhouse. file is its name in messages, and says whether it is TypeScript:
// "inline.ts". Errors are *scripts.LoadError, *scripts.BusyError, or say why there is no
// worker.
func (h *Host) Load(ctx context.Context, file, source string) (*Script, error) {
	if len(source) > maxSource {
		return nil, &scripts.LoadError{File: file, Lines: []string{fmt.Sprintf("it is %d bytes: %d at most", len(source), maxSource)}}
	}
	p, info, err := h.start(ctx, file, source)
	if err != nil {
		return nil, err
	}
	p.close()
	return &Script{host: h, file: file, source: source, info: *info}, nil
}

// maxSource bounds a script that comes as one text, in bytes.
const maxSource = 64 << 10

// Info returns what the script says of itself.
func (s *Script) Info() scripts.Info { return s.info }

// Request lets the script change a request's body: see scripts.Script.Request.
func (s *Script) Request(ctx context.Context, body []byte, params map[string]any, log func(string)) ([]byte, error) {
	if !s.info.Request {
		return body, nil
	}
	if _, err := s.info.Params.Fill(params); err != nil {
		return nil, err
	}
	p, _, err := s.host.start(ctx, s.file, s.source)
	if err != nil {
		return nil, err
	}
	defer p.close()
	deadline := time.Now().Add(callTime)
	reply, err := p.ask(down{Op: opRequest, Body: body, Params: params}, func() time.Time { return deadline }, nil)
	if err != nil {
		return nil, unusable(s.file, reply, err)
	}
	for _, line := range reply.Logs {
		log(line)
	}
	return reply.Body, nil
}

// Instance is a script at work for one choice, in a worker of its own: a hook.
type Instance struct {
	hook.None // of hidden and route, which a far end refuses (see hook.Solo)
	process   *process
	script    *Script
	env       scripts.Env
	spec      hook.Spec
	steer     *hook.Steering // as the worker has it; nil for neutral
}

// Start begins a choice. The error is a *scripts.BusyError, a *hook.ParamError or says
// why there is no worker; what goes wrong in the script itself comes from
// Instance.Start, which a chain calls. Close it where no chain does.
func (s *Script) Start(ctx context.Context, e scripts.Env) (*Instance, error) {
	if _, err := s.info.Params.Fill(e.Params); err != nil {
		return nil, err
	}
	p, _, err := s.host.start(ctx, s.file, s.source)
	if err != nil {
		return nil, err
	}
	i := &Instance{process: p, script: s, env: e, spec: s.info.Spec}
	i.spec.Far = true
	return i, nil
}

// Digest names the script, at every position.
func (i *Instance) Digest(int) string { return i.script.info.Digest }

// Spec implements hook.Hook.
func (i *Instance) Spec() hook.Spec { return i.spec }

// Close implements hook.Hook.
func (i *Instance) Close() { i.process.close() }

// call has the worker do something, and adopts what came of it. answer may be nil.
func (i *Instance) call(call *hook.Call, m down, answer func(*up) (down, error), take func(*up) error) error {
	m.Event, m.At, m.Budget = call.Event, call.At, call.Budget()
	if !call.Steer.Equal(i.steer) { // an outcome was dropped after the worker had sent it
		now, err := json.Marshal(call.Steer)
		if err != nil {
			return err
		}
		m.Steer = now
	}
	before := call.Steer.Clone()
	deadline := func() time.Time {
		limit := callTime
		if m.Budget > 0 {
			limit = m.Budget
		}
		return time.Now().Add(max(limit-call.Busy(), 0) + slack)
	}
	reply, err := i.process.ask(m, deadline, func(u *up) (down, error) {
		if a, ok, err := i.lookUp(u); ok {
			return a, err
		}
		if answer == nil {
			return down{}, fmt.Errorf("%q cannot be read here", u.Ask)
		}
		return answer(u)
	})
	if i.steer = before; err != nil { // which the worker goes back to
		if reply != nil {
			_ = call.Adopt(hook.Outcome{Notices: fromNotices(reply.Notices)})
		}
		return err
	}
	out := hook.Outcome{Stop: reply.Stop, Inject: reply.Inject, Notices: fromNotices(reply.Notices)}
	if len(reply.Steer) > 0 {
		if out.Steer, err = hook.ParseSteering(reply.Steer, i.env.Model.Shape, nil); err != nil {
			return &hook.Fault{Kind: hook.BadValue, Err: err}
		}
		i.steer = out.Steer
	}
	if take != nil {
		if err := take(reply); err != nil {
			return err
		}
	}
	return call.Adopt(out)
}

func fromNotices(list []notice) (out []hook.Notice) {
	for _, n := range list {
		out = append(out, hook.Notice{Name: n.Name, Value: n.plain()})
	}
	return out
}

// lookUp answers what the worker may ask at any time.
func (i *Instance) lookUp(u *up) (a down, known bool, err error) {
	switch u.Ask {
	case askVector:
		if i.env.Vectors == nil {
			return a, true, errors.New("the server knows no vectors")
		}
		a.Floats, err = i.env.Vectors(u.Text)
	case askEncode, askDecode:
		if i.env.Tokenizer == nil {
			return a, true, errors.New("this model has no tokenizer")
		}
		if len(u.Text) > maxSource {
			return a, true, fmt.Errorf("encode of %d bytes: %d at most", len(u.Text), maxSource)
		}
		if u.Ask == askEncode {
			a.IDs, err = i.env.Tokenizer.Encode(u.Text)
			break
		}
		for _, id := range u.IDs {
			if id < 0 || int(id) >= i.env.Model.Tokens {
				return a, true, fmt.Errorf("decode of token %d: ids lie in 0 to %d", id, i.env.Model.Tokens-1)
			}
		}
		a.Text = i.env.Tokenizer.Decode(u.IDs)
	default:
		return a, false, nil
	}
	return a, true, err
}

// Start implements hook.Hook.
func (i *Instance) Start(call *hook.Call) error {
	e := &env{Params: i.env.Params, Model: i.env.Model, Request: i.env.Request, Tokens: i.env.Tokenizer != nil, Now: i.env.Now, State: i.env.State}
	return i.call(call, down{Op: opStart, Env: e, Seed: call.Seed()}, nil, func(u *up) error {
		if u.Spec == nil {
			return i.process.lose(errors.New("it did not say what it wants"))
		}
		i.spec = *u.Spec
		i.spec.Far = true
		return nil
	})
}

// Prompt implements hook.Hook.
func (i *Instance) Prompt(call *hook.Call, p *hook.Prompt) error {
	return i.call(call, down{Op: opCall, IDs: p.IDs}, nil, func(u *up) error { p.IDs = u.IDs; return nil })
}

// Logits implements hook.Hook.
func (i *Instance) Logits(call *hook.Call, l *hook.Logits) error {
	read := func(u *up) (a down, err error) {
		reads := l.Reads
		if u.Model {
			reads = reads.Model()
		}
		var x float32
		switch u.Ask {
		case askTop:
			var list []hook.Candidate
			list, err = reads.Top(u.K)
			a.Top = toCandidates(list)
		case askRow:
			a.Floats, err = reads.Full()
		case askLogprob:
			x, err = reads.Logprob(int32(u.K))
			a.Floats = floats{x}
		case askEntropy:
			x, err = reads.Entropy()
			a.Floats = floats{x}
		default:
			err = fmt.Errorf("%q cannot be read here", u.Ask)
		}
		return a, err
	}
	return i.call(call, down{Op: opCall}, read, func(u *up) error {
		list := make([]hook.Edit, len(u.Edits))
		for n, e := range u.Edits {
			if len(e.Value) != 1 {
				return i.process.lose(errors.New("an edit without its value"))
			}
			list[n] = hook.Edit{Op: e.Op, IDs: e.IDs, Value: e.Value[0]}
		}
		return l.Edits.Adopt(list, u.Values)
	})
}

// Sample implements hook.Hook.
func (i *Instance) Sample(call *hook.Call, c *hook.Candidates) (id int32, chosen bool, err error) {
	read := func(u *up) (a down, err error) {
		switch u.Ask {
		case askCandidates:
			var list []hook.Candidate
			list, err = c.Top()
			a.Top = toCandidates(list)
		case askDraw:
			var drawn int32
			drawn, err = c.Draw()
			a.IDs = []int32{drawn}
		default:
			err = fmt.Errorf("%q cannot be read here", u.Ask)
		}
		return a, err
	}
	err = i.call(call, down{Op: opCall}, read, func(u *up) error {
		if chosen = u.Chosen; chosen && len(u.IDs) != 1 {
			return i.process.lose(errors.New("a choice without its token"))
		}
		if chosen {
			id = u.IDs[0]
		}
		return nil
	})
	return id, chosen, err
}

// Token implements hook.Hook.
func (i *Instance) Token(call *hook.Call, t *hook.Token) error {
	return i.call(call, down{Op: opCall, Token: &token{t.Position, t.ID, t.Text, floats{t.Logprob}, t.Forced}}, nil, nil)
}

// Routing implements hook.Hook.
func (i *Instance) Routing(call *hook.Call, r *hook.Routing) error {
	return i.call(call, down{Op: opCall, Record: &record{r.Position, r.Prompt, r.Layers, r.K, r.IDs, r.Weights}}, nil, nil)
}

// Finish implements hook.Hook.
func (i *Instance) Finish(call *hook.Call, f *hook.Finish) error {
	return i.call(call, down{Op: opCall, Finish: f}, nil, nil)
}
