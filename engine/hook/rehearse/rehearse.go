// Package rehearse plays a choice to a hook without a model: its rows are made up, or
// were recorded (see hook.Recorder). The hook is in a real chain, and cannot tell.
//
//	scene := &rehearse.Scene{Model: model, Prompt: ids, Rows: rehearse.Made(rows)}
//	scene, err := rehearse.Recorded(recording)
//	course, err := scene.Play(ctx, hook)
//
// What the sampler does between edits and choice is left out: of what the edits leave,
// the token of the row is drawn, or the most likely one.
package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Scene is a choice to be played.
type Scene struct {
	Model  hook.Model
	Seed   uint64
	Choice int
	Prompt []int32
	// Routing is that of the prompt's rows.
	Routing []hook.Record
	Rows    Rows
	// Text is the text of a token; nil for none.
	Text func(id int32) string
	// Ends is why the choice ends when the rows do; "" for "length", or "stop" behind a
	// token that ends texts.
	Ends string
}

// Rows has the rows of a scene.
type Rows interface {
	// Begin is told how many tokens the prompt has, once the hook has seen it.
	Begin(prompt int) error
	// Over says that nothing comes any more, whatever the hook wants.
	Over() bool
	// Take returns the row of the token at a position, once more after a rewind; nil
	// where the rows end.
	Take(position int) (*Row, error)
}

// Row is what is there for one token.
type Row struct {
	// Entry is the row of logits as it comes to the hook, Model as the model has it.
	Entry, Model hook.Source
	// Drawn is the token that is drawn, unless edits take it; nil for the most likely.
	Drawn *int32
	// Left is what a hook that chooses has to choose from; nil for what its edits leave
	// of Entry.
	Left *hook.RecordedChoice
	// Routing is that of the row that reads the token; nil for none.
	Routing *hook.Record
	// Told is the token that the hook is told of, whatever was chosen; nil for what was.
	Told *hook.Token
	// Back says that no token came of the row, which was taken back; Last that none did,
	// for the choice ended.
	Back, Last bool
}

// Course is what became of a choice.
type Course struct {
	Prompt   []int32        // as the hook left it
	Steering *hook.Steering // of the first row of the prompt; nil for none
	Steps    []Step
	Notices  []Notice
	Reason   string // why it ended: "length", "stop", or what the hook stopped it for
}

// Step is what a hook made of one token.
type Step struct {
	Position, Attempt int
	List              []hook.Edit  // of the row, as the hook made them
	Edits             *hook.Folded // what they come to; nil where the row was left alone
	ID                int32        // chosen; -1 where none was
	Forced            bool         // it was injected
	Chosen            bool         // by sample
	Told              *hook.Token  // of the Row
	Steering          *hook.Steering
	Stop              string // the hook ended the choice with this token
	Rewind            int    // the hook took tokens back to here; -1 for not
}

// Notice is what a hook logged or emitted.
type Notice struct {
	hook.Notice
	Step int // index of the step it is about; -1 for none
}

// Bounds of what is played.
const (
	MaxSteps     = 1 << 14
	maxNoticed   = 8 << 20 // bytes of notices
	noticeWeight = 100     // bytes that each counts beside its text
)

// play is a scene that is played.
type play struct {
	*Scene
	*Course
	chain   *hook.Chain
	noticed int
	failed  *hook.Fault // the first that did not end it: of finish
}

// Play plays the scene to a hook, and closes it. A fault of the hook ends it: the error
// is a *hook.Fault then. No budget holds, and the hook does not change into newer versions
// of itself.
func (s *Scene) Play(ctx context.Context, h hook.Hook) (*Course, error) {
	p := &play{Scene: s, Course: &Course{}}
	var err error
	p.chain, err = hook.NewChain(hook.Options{Shape: s.Model.Shape, Tokens: s.Model.Tokens, Seed: s.Seed, Choice: s.Choice,
		OnError: hook.Fail, Notify: p.notify}, observed{h, p})
	if err != nil {
		return nil, err
	}
	defer p.chain.Close()
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	return p.Course, nil
}

// notify keeps what the hook tells.
func (p *play) notify(n hook.Notice) {
	p.noticed += noticeWeight + len(n.Name)
	switch v := n.Value.(type) {
	case string:
		p.noticed += len(v)
	case json.RawMessage:
		p.noticed += len(v)
	}
	if n.Fault != nil {
		if p.failed == nil {
			p.failed = n.Fault
		}
		return
	}
	if p.noticed > maxNoticed {
		return // and run says so
	}
	step := len(p.Steps) - 1
	for step >= 0 && p.Steps[step].Position != n.Position {
		step--
	}
	p.Notices = append(p.Notices, Notice{n, step})
}

// run plays the prompt, the rows and the end.
func (p *play) run(ctx context.Context) (err error) {
	if p.Course.Prompt, err = p.chain.Prompt(slices.Clone(p.Scene.Prompt)); err != nil {
		return err
	}
	start := len(p.Course.Prompt)
	if err := p.Rows.Begin(start); err != nil {
		return err
	}
	if p.Course.Steering, err = p.chain.Steer(0); err != nil {
		return err
	}
	for _, r := range p.Scene.Routing {
		p.chain.Routing(r)
	}
	if p.Reason = p.Ends; p.Reason == "" {
		p.Reason = "length"
	}
	end := start
	for again := true; again; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if len(p.Steps) == MaxSteps || p.noticed > maxNoticed {
			return fmt.Errorf("the run goes on for more than %d tokens, or tells more than %d MiB", MaxSteps, maxNoticed>>20)
		}
		if end, again, err = p.next(end); err != nil {
			return err
		}
	}
	p.chain.Finish(hook.Finish{Reason: p.Reason, Prompt: start, Completion: end - start})
	if p.failed != nil {
		return p.failed
	}
	return nil
}

// next plays the token at a position, and returns the position of the one to come.
func (p *play) next(position int) (to int, again bool, err error) {
	if p.Rows.Over() {
		return position, false, nil
	}
	v, err := p.chain.Settle(position)
	if err != nil {
		return 0, false, err
	}
	last := len(p.Steps) - 1 // that decided it
	switch {
	case v.Stop != "":
		p.Steps[last].Stop, p.Reason = v.Stop, v.Stop
		return position, false, nil
	case v.Rewind:
		p.Steps[last].Rewind = v.To
		return v.To, true, nil
	}
	row, err := p.Rows.Take(position)
	if err == nil && row == nil && last >= 0 && p.Steps[last].Rewind >= 0 {
		err = fmt.Errorf("tokens were taken back to position %d, which were not when it was recorded: it cannot be followed further", position)
	}
	if err != nil || row == nil {
		return position, false, err
	}
	step, err := p.step(position, v, row)
	switch {
	case err != nil:
		return 0, false, err
	case step.Rewind >= 0:
		return step.Rewind, true, nil
	case step.Stop != "":
		p.Reason = step.Stop
		return position, false, nil
	case p.Ends == "" && slices.Contains(p.Model.EOS, step.ID):
		p.Reason = "stop"
		return position + 1, false, nil
	}
	return position + 1, !row.Last, nil
}

// step plays one token. v is what was decided before its row.
func (p *play) step(position int, v hook.Verdict, row *Row) (*Step, error) {
	at := hook.At{Position: position}
	p.Steps = append(p.Steps, Step{Position: position, Attempt: v.Attempt, ID: -1, Rewind: -1, Told: row.Told})
	step := &p.Steps[len(p.Steps)-1]
	if !v.Decided {
		var err error
		if v, err = p.chain.Logits(at, row.Entry, row.Model); err != nil {
			return nil, err
		}
		step.Edits = v.Edits
		if v, err = p.choose(at, row, v); err != nil {
			return nil, err
		}
		step.Chosen = v.Decided && !v.Forced
	}
	switch {
	case v.Stop != "":
		step.Stop = v.Stop
		return step, nil
	case v.Rewind:
		step.Rewind = v.To
		return step, nil
	case row.Back:
		return nil, fmt.Errorf("the token at position %d was taken back when it was recorded, and is not now: it cannot be followed further", position)
	}
	if step.ID, step.Forced = v.ID, v.Forced; row.Last {
		return step, nil
	}
	if err := p.tell(row, step); err != nil {
		return nil, err
	}
	return step, nil
}

// choose is what hooks and edits make of a row: its ID is the token in any case.
func (p *play) choose(at hook.At, row *Row, v hook.Verdict) (hook.Verdict, error) {
	edits, attempt := v.Edits, v.Attempt
	if !p.chain.Needs().Events.Has(hook.OnSample) {
		id, err := p.drawn(at, row, edits)
		return hook.Verdict{ID: id, Attempt: attempt}, err
	}
	from := chooser{list: func() ([]hook.Candidate, error) { return left(row.Entry, edits) },
		drawn: func() (int32, error) { return p.drawn(at, row, edits) }}
	if row.Left != nil {
		from.list = func() ([]hook.Candidate, error) { return row.Left.List, nil }
		if row.Left.Drawn != nil {
			from.drawn = func() (int32, error) { return *row.Left.Drawn, nil }
		}
	}
	v, err := p.chain.Sample(at, from, func(id int32) bool { return edits == nil || edits.Allows(id) })
	if err == nil && v.Stop == "" && !v.Rewind && !v.Decided {
		v.ID, err = from.drawn()
	}
	return v, err
}

// drawn is the token that is drawn of a row with edits.
func (p *play) drawn(at hook.At, row *Row, edits *hook.Folded) (int32, error) {
	if row.Drawn != nil && (edits == nil || edits.Allows(*row.Drawn)) {
		return *row.Drawn, nil
	}
	list, err := left(row.Entry, edits)
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		if edits == nil {
			return 0, fmt.Errorf("the row of position %d leaves no token to draw", at.Position)
		}
		nothing := &hook.Fault{Kind: hook.NothingLeft, Position: at.Position, Err: errors.New("the edits ban all tokens that the row leaves")}
		if err := p.chain.Spoil(at, nothing); err != nil {
			return 0, err
		}
		return 0, nothing
	}
	return list[0].ID, nil
}

// tell tells the chain of a token and of the row that reads it.
func (p *play) tell(row *Row, step *Step) (err error) {
	if step.Steering, err = p.chain.Steer(step.Position); err != nil {
		return err
	}
	token := row.Told
	if token == nil {
		token = &hook.Token{Position: step.Position, ID: step.ID, Forced: step.Forced}
		if p.Text != nil {
			token.Text = p.Text(step.ID)
		}
		if token.Logprob, err = row.Model.Logprob(step.ID); err != nil {
			return err
		}
	}
	p.chain.Token(*token)
	if row.Routing != nil {
		p.chain.Routing(*row.Routing)
	}
	return nil
}
