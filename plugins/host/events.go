package host

import (
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// Prompt implements hook.Hook, as those below.
func (i *Instance) Prompt(call *hook.Call, p *hook.Prompt) error {
	m := i.next(call)
	m.Payload = &pb.Step_Prompt{Prompt: &pb.Prompt{Ids: p.IDs}}
	return i.call(call, m, nil, func(r *pb.Reply) error {
		if r.GetPrompt() != nil {
			p.IDs = r.GetPrompt().GetIds()
		}
		return nil
	})
}

// Logits implements hook.Hook.
func (i *Instance) Logits(call *hook.Call, l *hook.Logits) error {
	m := i.next(call)
	riding, err := i.riding(l)
	if err != nil {
		return err
	}
	m.Payload = &pb.Step_Logits{Logits: riding}
	return i.call(call, m, func(r *pb.Read) (*pb.ReadResult, error) { return i.read(l, r) }, func(r *pb.Reply) error {
		return wire.ToEdits(l.Edits, r.GetEdits(), r.GetSettings(), i.sequences)
	})
}

// riding makes the reads that every logits event carries.
func (i *Instance) riding(l *hook.Logits) (m *pb.Logits, err error) {
	m = &pb.Logits{}
	top := func(reads *hook.Reads, k int) (list *pb.Candidates) {
		if k > 0 && err == nil {
			var top []hook.Candidate
			top, err = reads.Top(min(k, i.env.Model.Tokens))
			list = wire.Candidates(top)
		}
		return list
	}
	full := func(reads *hook.Reads, wanted bool) (data []byte) {
		if wanted && err == nil {
			var row []float32
			row, err = reads.Full()
			data = wire.Floats(row)
		}
		return data
	}
	r := i.spec.Riding
	m.Top, m.ModelTop = top(l.Reads, r.Top), top(l.Model(), r.ModelTop)
	m.Full, m.ModelFull = full(l.Reads, r.Full), full(l.Model(), r.ModelFull)
	if r.Entropy && err == nil {
		var h float32
		h, err = l.Entropy()
		m.Entropy = &h
	}
	return m, err
}

// from returns the reads of the row that a read names.
func (i *Instance) from(l *hook.Logits, source pb.Source, sequence uint32) (*hook.Reads, error) {
	switch source {
	case pb.Source_SOURCE_UNSPECIFIED:
		return l.Reads, nil
	case pb.Source_SOURCE_MODEL:
		return l.Model(), nil
	case pb.Source_SOURCE_SEQUENCE:
		if int(sequence) < len(i.sequences) {
			return l.Beside(i.sequences[sequence])
		}
	}
	return nil, i.fault(hook.BadID, "%v %d: the plugin has %d sequences", source, sequence, len(i.sequences))
}

// maxLogprobs bounds the tokens of one read.
const maxLogprobs = 4096

// read answers a read of logits; nil where it is none.
func (i *Instance) read(l *hook.Logits, r *pb.Read) (*pb.ReadResult, error) {
	switch what := r.GetWhat().(type) {
	case *pb.Read_Top:
		reads, err := i.from(l, what.Top.GetSource(), what.Top.GetSequence())
		if err != nil {
			return nil, err
		}
		top, err := reads.Top(int(min(what.Top.GetK(), 1<<30)))
		return &pb.ReadResult{Candidates: wire.Candidates(top)}, err
	case *pb.Read_Logprobs:
		reads, err := i.from(l, what.Logprobs.GetSource(), what.Logprobs.GetSequence())
		if n := len(what.Logprobs.GetIds()); err == nil && n > maxLogprobs {
			err = i.fault(hook.BadValue, "log-probabilities of %d tokens: %d at most, or read all logits", n, maxLogprobs)
		}
		var values []float32
		for _, id := range what.Logprobs.GetIds() {
			var v float32
			if err == nil {
				v, err = reads.Logprob(id)
			}
			values = append(values, v)
		}
		return &pb.ReadResult{Floats: wire.Floats(values)}, err
	case *pb.Read_Entropy:
		reads, err := i.from(l, what.Entropy.GetSource(), what.Entropy.GetSequence())
		if err != nil {
			return nil, err
		}
		h, err := reads.Entropy()
		return &pb.ReadResult{Floats: wire.Floats([]float32{h})}, err
	case *pb.Read_Full:
		reads, err := i.from(l, what.Full.GetSource(), what.Full.GetSequence())
		if err != nil {
			return nil, err
		}
		row, err := reads.Full()
		return &pb.ReadResult{Floats: wire.Floats(row)}, err
	}
	return nil, nil //nolint:nilnil // it is another read
}

// Sample implements hook.Hook.
func (i *Instance) Sample(call *hook.Call, c *hook.Candidates) (id int32, chosen bool, err error) {
	m := i.next(call)
	list, err := c.Top()
	if err != nil {
		return 0, false, err
	}
	m.Payload = &pb.Step_Candidates{Candidates: wire.Candidates(list)}
	draw := func(r *pb.Read) (*pb.ReadResult, error) {
		if r.GetDraw() == nil {
			return nil, nil //nolint:nilnil // it is another read
		}
		drawn, err := c.Draw()
		return &pb.ReadResult{Ids: []int32{drawn}}, err
	}
	err = i.call(call, m, draw, func(r *pb.Reply) error {
		id, chosen = r.GetChosen(), r.Chosen != nil
		return nil
	})
	return id, chosen, err
}

// Token implements hook.Hook.
func (i *Instance) Token(call *hook.Call, t *hook.Token) error {
	m := i.next(call)
	m.Payload = &pb.Step_Token{Token: &pb.Token{Id: t.ID, Text: t.Text, Logprob: t.Logprob, Forced: t.Forced}}
	return i.observe(call, m, nil, nil)
}

// Routing implements hook.Hook.
func (i *Instance) Routing(call *hook.Call, r *hook.Routing) error {
	m := i.next(call)
	m.Payload = &pb.Step_Routing{Routing: wire.Routing(r.Record)}
	return i.observe(call, m, nil, nil)
}

// Hidden implements hook.Hook.
func (i *Instance) Hidden(call *hook.Call, h *hook.Hidden) error {
	values, err := h.Read()
	if err != nil {
		return err
	}
	m := i.next(call)
	m.Payload = &pb.Step_Hidden{Hidden: &pb.Hidden{Layer: uint32(h.Layer), Values: wire.Floats(values), Within: i.spec.Write}}
	lens := func(r *pb.Read) (*pb.ReadResult, error) {
		if r.GetLens() == nil {
			return nil, nil //nolint:nilnil // it is another read
		}
		top, err := h.Lens(int(min(r.GetLens().GetK(), 1<<30)))
		return &pb.ReadResult{Candidates: wire.Candidates(top)}, err
	}
	return i.observe(call, m, lens, func(r *pb.Reply) error { return written(r, h.Write) })
}

// written writes what a reply has in the place of values.
func written(r *pb.Reply, write func([]float32) error) error {
	if len(r.GetWrite()) == 0 {
		return nil
	}
	values, err := wire.ToFloats(r.GetWrite(), -1)
	if err != nil {
		return &hook.Fault{Kind: hook.BadValue, Err: err}
	}
	return write(values)
}

// Route implements hook.Hook.
func (i *Instance) Route(call *hook.Call, r *hook.Router) error {
	logits, err := r.Read()
	if err != nil {
		return err
	}
	m := i.next(call)
	m.Payload = &pb.Step_Router{Router: &pb.Router{Layer: uint32(r.Layer), Logits: wire.Floats(logits)}}
	return i.call(call, m, nil, func(reply *pb.Reply) error { return written(reply, r.Write) })
}

// observe sends a step of an observer, or has it served.
func (i *Instance) observe(call *hook.Call, m *pb.Step, read func(*pb.Read) (*pb.ReadResult, error), take func(*pb.Reply) error) error {
	if i.spec.Observer {
		return i.tell(m)
	}
	return i.call(call, m, read, take)
}

// Finish implements hook.Hook.
func (i *Instance) Finish(call *hook.Call, f *hook.Finish) error {
	m := i.next(call)
	m.Payload = &pb.Step_Finish{Finish: &pb.Finish{Reason: f.Reason, PromptTokens: uint32(f.Prompt), CompletionTokens: uint32(f.Completion)}}
	return i.call(call, m, nil, nil)
}
