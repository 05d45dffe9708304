package plugins

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// far is this end's side of a sequence: what arrives, and how handlers ask.
type far struct {
	stream pb.PluginService_SequenceServer
	server *server

	mu     sync.Mutex
	moved  *sync.Cond
	steps  []*pb.SequenceRequest // that wait
	asking bool
	result *pb.ReadResult
	err    error // there is nothing more to come
}

// maxWaiting is how many steps may wait before no more are read: the host then notices that
// an observer is slow. While a handler asks, its answer is read past them.
const maxWaiting = 256

func newFar(stream pb.PluginService_SequenceServer, s *server) *far {
	f := &far{stream: stream, server: s}
	f.moved = sync.NewCond(&f.mu)
	return f
}

// read sorts what arrives, until the stream ends.
func (f *far) read() {
	for {
		m, err := f.stream.Recv()
		f.mu.Lock()
		switch {
		case f.err != nil:
			err = f.err
		case err != nil:
			f.err = err
		case m.GetReadResult() != nil:
			f.result = m.GetReadResult()
		default:
			f.steps = append(f.steps, m)
		}
		f.moved.Broadcast()
		for f.err == nil && len(f.steps) >= maxWaiting && !f.asking {
			f.moved.Wait()
		}
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// stop lets read end: nobody takes steps any more.
func (f *far) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = cmp.Or(f.err, io.EOF)
	f.moved.Broadcast()
}

// next returns the next step: io.EOF behind the last.
func (f *far) next() (*pb.SequenceRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.steps) == 0 && f.err == nil {
		f.moved.Wait()
	}
	if len(f.steps) == 0 {
		return nil, f.err
	}
	m := f.steps[0]
	f.steps = f.steps[1:]
	f.moved.Broadcast()
	return m, nil
}

// ask asks the host.
func (f *far) ask(read *pb.Read) (*pb.ReadResult, error) {
	if f.stream == nil {
		return nil, errors.New("there is no host to ask: this plugin is played within a test")
	}
	f.mu.Lock()
	f.asking, f.result = true, nil
	f.moved.Broadcast()
	f.mu.Unlock()
	err := f.stream.Send(&pb.SequenceResponse{Message: &pb.SequenceResponse_Read{Read: read}})
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asking = false }()
	for f.result == nil && f.err == nil && err == nil {
		f.moved.Wait()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask the host: %w", err)
	case f.result == nil && errors.Is(f.err, io.EOF):
		return nil, context.Canceled
	case f.result == nil:
		return nil, f.err
	case f.result.GetFault() != nil:
		return nil, wire.ToFault(f.result.GetFault())
	}
	return f.result, nil
}

func (f *far) encode(text string) ([]int32, error) {
	r, err := f.ask(&pb.Read{What: &pb.Read_Encode{Encode: &pb.Encode{Text: text}}})
	return r.GetIds(), err
}

func (f *far) decode(ids []int32) (string, error) {
	r, err := f.ask(&pb.Read{What: &pb.Read_Decode{Decode: &pb.Decode{Ids: ids}}})
	return r.GetText(), err
}

func (f *far) vector(name string) ([]float32, error) {
	r, err := f.ask(&pb.Read{What: &pb.Read_Vector{Vector: &pb.SteeringVector{Name: name}}})
	if err != nil {
		return nil, err
	}
	return wire.ToFloats(r.GetFloats(), -1)
}

// vocabularyPart is how many tokens one message has.
const vocabularyPart = 32768

func (f *far) vocabulary(m Model) ([][]byte, error) {
	if f.server == nil {
		_, err := f.ask(nil)
		return nil, err
	}
	f.server.mu.Lock()
	texts := f.server.vocabulary[m.Name]
	f.server.mu.Unlock()
	if len(texts) == m.Tokens {
		return texts, nil
	}
	texts = nil
	for len(texts) < m.Tokens {
		part := &pb.Vocabulary{First: int32(len(texts)), Count: uint32(min(vocabularyPart, m.Tokens-len(texts)))}
		r, err := f.ask(&pb.Read{What: &pb.Read_Vocabulary{Vocabulary: part}})
		if err != nil {
			return nil, err
		}
		if len(r.GetTexts()) != int(part.Count) {
			return nil, fmt.Errorf("the host sent %d texts of %d tokens", len(r.GetTexts()), part.Count)
		}
		texts = append(texts, r.GetTexts()...)
	}
	f.server.mu.Lock()
	f.server.vocabulary[m.Name] = texts
	f.server.mu.Unlock()
	return texts, nil
}

// row is a row of logits at the host: what rode along, and the rest by asking.
type row struct {
	*far
	source   pb.Source
	sequence uint32
	top      []hook.Candidate
	entropy  *float32
	full     []float32
}

// Top implements hook.Source.
func (r *row) Top(k int) ([]hook.Candidate, error) {
	if k <= len(r.top) {
		return r.top[:k], nil
	}
	m, err := r.ask(&pb.Read{What: &pb.Read_Top{Top: &pb.Top{K: uint32(k), Source: r.source, Sequence: r.sequence}}})
	if err != nil {
		return nil, err
	}
	return wire.ToCandidates(m.GetCandidates())
}

// number asks for one number.
func (r *row) number(read *pb.Read) (float32, error) {
	m, err := r.ask(read)
	if err != nil {
		return 0, err
	}
	values, err := wire.ToFloats(m.GetFloats(), 1)
	if err != nil {
		return 0, err
	}
	return values[0], nil
}

// Logprob implements hook.Source.
func (r *row) Logprob(id int32) (float32, error) {
	return r.number(&pb.Read{What: &pb.Read_Logprobs{Logprobs: &pb.Logprobs{Ids: []int32{id}, Source: r.source, Sequence: r.sequence}}})
}

// Entropy implements hook.Source.
func (r *row) Entropy() (float32, error) {
	if r.entropy != nil {
		return *r.entropy, nil
	}
	return r.number(&pb.Read{What: &pb.Read_Entropy{Entropy: &pb.Entropy{Source: r.source, Sequence: r.sequence}}})
}

// Row implements hook.Source.
func (r *row) Row() ([]float32, error) {
	if r.full != nil {
		return r.full, nil
	}
	m, err := r.ask(&pb.Read{What: &pb.Read_Full{Full: &pb.Full{Source: r.source, Sequence: r.sequence}}})
	if err != nil {
		return nil, err
	}
	return wire.ToFloats(m.GetFloats(), -1)
}

// chooser is the sampler at the host.
type chooser struct {
	*far
	list []hook.Candidate
}

// Candidates implements hook.Chooser.
func (c *chooser) Candidates(n int) ([]hook.Candidate, error) {
	return c.list[:min(n, len(c.list))], nil
}

// Draw implements hook.Chooser.
func (c *chooser) Draw() (int32, error) {
	m, err := c.ask(&pb.Read{What: &pb.Read_Draw{Draw: &pb.Draw{}}})
	if err != nil {
		return 0, err
	}
	if len(m.GetIds()) != 1 {
		return 0, errors.New("the host drew no token")
	}
	return m.GetIds()[0], nil
}

// lens reads a residual as if it were the last.
type lens struct {
	*far
	hook.Plain // of what lens does not have
}

// Top implements hook.Source.
func (l lens) Top(k int) ([]hook.Candidate, error) {
	m, err := l.ask(&pb.Read{What: &pb.Read_Lens{Lens: &pb.Lens{K: uint32(k)}}})
	if err != nil {
		return nil, err
	}
	return wire.ToCandidates(m.GetCandidates())
}
