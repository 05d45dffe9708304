package rehearse

import (
	"fmt"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Made has rows that were made up, one a token, from the first token on.
func Made(rows []Row) Rows { return &made{rows: rows} }

type made struct {
	rows  []Row
	start int
}

func (m *made) Begin(prompt int) error {
	m.start = prompt
	return nil
}

func (m *made) Over() bool { return false }

func (m *made) Take(position int) (*Row, error) {
	if position-m.start >= len(m.rows) {
		return nil, nil
	}
	return &m.rows[position-m.start], nil
}

// Recorded is the scene of a recording. Where the hook chooses another token now, the
// recorded one is told and read all the same.
func Recorded(r *hook.Recording) *Scene {
	s := &Scene{Model: r.Model, Seed: r.Seed, Choice: r.Choice, Prompt: r.Prompt, Ends: "end"}
	rows := &recorded{model: r.Model, first: -1, at: map[int][]*hook.RecordedStep{}}
	if r.Finish != nil && slices.Contains(outer, r.Finish.Reason) {
		s.Ends, rows.final = r.Finish.Reason, true
	}
	for i := range r.Steps {
		step := &r.Steps[i]
		if step.Entry == nil && step.Token == nil {
			if step.Routing != nil && rows.first < 0 {
				s.Routing = append(s.Routing, *step.Routing)
			}
			continue
		}
		if rows.first < 0 {
			rows.first = step.Position
		}
		rows.at[step.Position] = append(rows.at[step.Position], step)
		rows.left++
	}
	s.Rows = rows
	return s
}

// outer are the reasons that are none of the hook's.
var outer = []string{"stop", "length", "cancelled", "error"}

// recorded has the rows of a recording: those of a position in their order.
type recorded struct {
	model hook.Model
	first int // position; -1 where there are none
	at    map[int][]*hook.RecordedStep
	left  int
	final bool // the choice ended behind them whatever the hook wanted
}

func (r *recorded) Begin(prompt int) error {
	if r.first >= 0 && r.first != prompt {
		return fmt.Errorf("the prompt has %d tokens now and had %d in the recording: its rows are those of another", prompt, r.first)
	}
	return nil
}

func (r *recorded) Over() bool { return r.final && r.left == 0 }

func (r *recorded) Take(position int) (*Row, error) {
	steps := r.at[position]
	if len(steps) == 0 {
		if r.left > 0 {
			return nil, fmt.Errorf("the recording has no further token at position %d: others were taken back then than now, and it cannot be followed further", position)
		}
		return nil, nil
	}
	step := steps[0]
	r.at[position] = steps[1:]
	r.left--
	row := &Row{Entry: r.source(step.Position, step.Entry), Model: r.source(step.Position, step.Model), Left: step.Left, Routing: step.Routing, Told: step.Token,
		Back: step.Token == nil && r.left > 0, Last: step.Token == nil && r.left == 0}
	if step.Token != nil {
		row.Drawn = &step.Token.ID
	}
	return row, nil
}

// source has the reads of a row; errors where it was not seen.
func (r *recorded) source(position int, row *hook.RecordedRow) hook.Source {
	if row == nil {
		return unseen{&hook.Fault{Kind: hook.Unsupported, Err: fmt.Errorf("the recording has no logits of position %d: its token was injected then", position)}}
	}
	return row.Source(r.model.Tokens)
}

// unseen is a row that nobody saw.
type unseen struct{ error }

// Top implements hook.Source.
func (u unseen) Top(int) ([]hook.Candidate, error) { return nil, u.error }

// Logprob implements hook.Source.
func (u unseen) Logprob(int32) (float32, error) { return 0, u.error }

// Entropy implements hook.Source.
func (u unseen) Entropy() (float32, error) { return 0, u.error }

// Row implements hook.Source.
func (u unseen) Row() ([]float32, error) { return nil, u.error }
