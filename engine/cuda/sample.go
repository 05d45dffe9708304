package cuda

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// sampler is the recorded draws: parameters go to the device in one block a launch,
// results come back in pinned memory, of which there are two for two steps on their
// way.
type sampler struct {
	b    *Backend
	args ops.SampleArgs
	rows int // most of a step

	blocks, groups int        // of a row
	block          driver.Ptr // parameters of the launches under way
	edited         driver.Ptr // float32 [editedRows][Tokens]
	partials       driver.Ptr
	peaks          driver.Ptr
	races          driver.Ptr
	runners        driver.Ptr
	staging        [2]driver.Host
	results        [2]driver.Host
	step           *ops.Step // of the launches that come next
	parity         int

	scan, choose, race, finish kernel[kernels.SampleArgs]
}

const (
	sampleBlock = 4 << 20 // bytes of parameters of a launch, or what one row may need
	editedRows  = 32      // rows with penalties, bias or mask of a launch
)

// Sample implements ops.Set. A step whose parameters, or edited rows, are more than
// a launch holds is drawn from in several.
func (r *recorder) Sample(a ops.SampleArgs) {
	s := &sampler{b: r.b, args: a}
	if a.Vocabulary < 1 || a.Tokens < 1 || a.Tokens > a.Vocabulary || a.Vocabulary >= 1<<24 || a.Logits.Type != ops.F32 {
		r.note(fmt.Errorf("cuda: draws from %d tokens in rows of %d logits of %v: rows hold 1 to 2^24-1 of F32, tokens among them",
			a.Tokens, a.Vocabulary, a.Logits.Type))
		return
	}
	s.rows = min(int(a.Logits.Len)/a.Vocabulary, maxDrawn)
	s.blocks = (a.Vocabulary + kernels.SampleSpan - 1) / kernels.SampleSpan
	s.groups = (a.Tokens + kernels.SampleGroup - 1) / kernels.SampleGroup
	rows, blocks := int64(s.rows), int64(s.blocks)
	bytes := int64(s.stagingBytes())
	for _, part := range []struct {
		what  string
		at    *driver.Ptr
		bytes int64
	}{
		{"sampling parameters", &s.block, bytes},
		{"edited logits", &s.edited, min(rows, editedRows) * int64(a.Tokens) * 4},
		{"sums of logits", &s.partials, rows * blocks * int64(unsafe.Sizeof(kernels.SamplePartial{}))},
		{"peaks of logits", &s.peaks, rows * 2 * int64(s.groups) * 4},
		{"races", &s.races, rows * int64(unsafe.Sizeof(kernels.SampleRace{}))},
		{"runners", &s.runners, rows * blocks * int64(unsafe.Sizeof(kernels.SampleRunner{}))},
	} {
		buf, err := r.b.scratch.Alloc(part.what, ops.U8, part.bytes)
		r.note(err)
		*part.at = at(buf)
	}
	for parity := range 2 {
		s.staging[parity] = r.pinned(int(bytes))
		s.results[parity] = r.pinned(s.rows * kernels.SampleResultBytes)
	}
	s.scan = find[kernels.SampleArgs](r, "rh_sample_scan", 0)
	s.choose = find[kernels.SampleArgs](r, "rh_sample_select", 0)
	s.race = find[kernels.SampleArgs](r, "rh_sample_race", 0)
	s.finish = find[kernels.SampleArgs](r, "rh_sample_finish", 0)
	r.prepare = append(r.prepare, func(step *ops.Step, parity int) error {
		s.step, s.parity = step, parity
		return s.check(step)
	})
	r.add(ops.PhaseSample, s.run)
	r.collect = append(r.collect, s.collect)
}

// stagingBytes is enough for any one row: two lists of all tokens and a mask.
func (s *sampler) stagingBytes() int {
	most := rowOfSampling + s.args.Tokens*(seenBytes+biasBytes) + (s.args.Tokens+31)/32*4
	return max(sampleBlock, most)
}

const (
	rowOfSampling = int(unsafe.Sizeof(kernels.SampleRow{}))
	seenBytes     = int(unsafe.Sizeof(kernels.SampleSeen{}))
	biasBytes     = int(unsafe.Sizeof(kernels.SampleBias{}))
)

// check refuses what the kernels do not draw.
func (s *sampler) check(step *ops.Step) error {
	if len(step.Sampling) > s.rows || len(step.Samples) != len(step.Sampling) {
		return fmt.Errorf("cuda: %d draws in a step, with room for %d samples and %d rows of logits", len(step.Sampling), len(step.Samples), s.rows)
	}
	for i := range step.Sampling {
		p := &step.Sampling[i]
		if p.Window > kernels.SampleTop || p.Candidates > kernels.SampleTop {
			return fmt.Errorf("cuda: draw %d asks for %d candidates and a window of %d: the device sorts %d", i, p.Candidates, p.Window, kernels.SampleTop)
		}
		last := int32(math.MinInt32)
		for _, seen := range p.Seen {
			if seen.ID <= last && last != math.MinInt32 {
				return fmt.Errorf("cuda: draw %d: tokens seen must ascend, %d follows %d", i, seen.ID, last)
			}
			last = seen.ID
		}
		last = math.MinInt32
		for _, bias := range p.Bias {
			if bias.ID <= last && last != math.MinInt32 {
				return fmt.Errorf("cuda: draw %d: tokens with a bias must ascend, %d follows %d", i, bias.ID, last)
			}
			last = bias.ID
		}
	}
	return nil
}

// edits is what a row's penalties, bias and mask change, cut to its tokens.
type edits struct {
	seen []ops.Count
	bias []ops.Bias
	mask []uint32
	some bool
}

func (s *sampler) edits(p *ops.Sampling) edits {
	var e edits
	if p.Repetition != 0 && p.Repetition != 1 || p.Presence != 0 || p.Frequency != 0 {
		e.seen = within(p.Seen, func(c ops.Count) int32 { return c.ID }, s.args.Tokens)
	}
	e.bias = within(p.Bias, func(b ops.Bias) int32 { return b.ID }, s.args.Tokens)
	e.mask = p.Mask[:min(len(p.Mask), (s.args.Tokens+31)/32)]
	e.some = len(e.seen)+len(e.bias) > 0 || p.Mask != nil
	return e
}

// within cuts a list with ascending ids to those of tokens.
func within[T any](list []T, id func(T) int32, tokens int) []T {
	for len(list) > 0 && id(list[0]) < 0 {
		list = list[1:]
	}
	for len(list) > 0 && int(id(list[len(list)-1])) >= tokens {
		list = list[:len(list)-1]
	}
	return list
}

// run puts the draws of the step into the stream, as many a launch as fit.
func (s *sampler) run(p *pass) error {
	staging := s.staging[s.parity]
	for first := 0; first < len(s.step.Sampling); {
		if first > 0 { // the copy before still reads
			if err := s.b.driver.Synchronise(p.stream); err != nil {
				return err
			}
		}
		rows, bytes, wide := s.fill(staging.Bytes(), s.step.Sampling[first:])
		if rows == 0 {
			return errors.New("cuda: the parameters of one draw do not fit in the staging of a step")
		}
		if err := s.b.driver.CopyIn(s.block, staging.Slice(0, bytes), p.stream); err != nil {
			return err
		}
		if err := s.launch(p, first, rows, wide); err != nil {
			return err
		}
		first += rows
	}
	return nil
}

// launch draws from rows of logits from first on.
func (s *sampler) launch(p *pass, first, rows int, wide bool) error {
	args := kernels.SampleArgs{
		Logits: uint64(at(s.args.Logits)) + uint64(first)*uint64(s.args.Vocabulary)*4, Block: uint64(s.block), Edited: uint64(s.edited),
		Partials: uint64(s.partials), Peaks: uint64(s.peaks), Races: uint64(s.races), Runners: uint64(s.runners),
		Results: uint64(s.results[s.parity].Ptr()) + uint64(first*kernels.SampleResultBytes), Drawn: uint64(s.b.drawn) + uint64(first)*4,
		Rows: uint32(rows), Vocabulary: uint32(s.args.Vocabulary), Tokens: uint32(s.args.Tokens), Blocks: uint32(s.blocks), Groups: uint32(s.groups),
	}
	spans := driver.Dim{uint32(s.blocks), uint32(rows), 1}
	err := s.scan.launch(p, spans, driver.Dim{256, 1, 1}, 0, args)
	if err == nil {
		err = s.choose.launch(p, driver.Dim{uint32(rows), 2, 1}, driver.Dim{1024, 1, 1}, 0, args)
	}
	if err == nil && wide {
		err = s.race.launch(p, spans, driver.Dim{256, 1, 1}, 0, args)
	}
	if err == nil && wide {
		err = s.finish.launch(p, driver.Dim{uint32(rows), 1, 1}, driver.Dim{256, 1, 1}, 0, args)
	}
	return err
}

// fill writes the parameters of as many rows as fit: SampleRow of each, then their
// lists. It says whether one may need the race of the whole row.
func (s *sampler) fill(to []byte, sampling []ops.Sampling) (rows, bytes int, wide bool) {
	edited := 0
	for rows < len(sampling) {
		e := s.edits(&sampling[rows])
		need := rowOfSampling + len(e.seen)*seenBytes + len(e.bias)*biasBytes + len(e.mask)*4
		if bytes+need > len(to) || e.some && edited == editedRows {
			break
		}
		bytes += need
		rows++
		if e.some {
			edited++
		}
	}
	heads := part[kernels.SampleRow](to, 0, rows)
	bytes, edited = rows*rowOfSampling, 0
	for i := range heads {
		e, row := s.edits(&sampling[i]), head(&sampling[i])
		if e.some {
			row.Edited = int32(edited)
			edited++
		}
		row.Seen, row.SeenCount = uint32(bytes), uint32(len(e.seen))
		seen := part[kernels.SampleSeen](to, bytes, len(e.seen))
		for j, c := range e.seen {
			seen[j] = kernels.SampleSeen{ID: c.ID, Output: c.Output}
		}
		bytes += len(seen) * seenBytes
		row.Bias, row.BiasCount = uint32(bytes), uint32(len(e.bias))
		bias := part[kernels.SampleBias](to, bytes, len(e.bias))
		for j, b := range e.bias {
			bias[j] = kernels.SampleBias(b)
		}
		bytes += len(bias) * biasBytes
		row.Mask, row.MaskWords = uint32(bytes), uint32(len(e.mask))
		bytes += 4 * copy(part[uint32](to, bytes, len(e.mask)), e.mask)
		heads[i] = row
		wide = wide || row.Wide != 0
	}
	return rows, bytes, wide
}

// head is a row's parameters without its lists.
func head(p *ops.Sampling) kernels.SampleRow {
	row := kernels.SampleRow{
		Seed: p.Seed, Choice: p.Choice, Position: p.Position, Attempt: p.Attempt,
		Repetition: p.Repetition, Presence: p.Presence, Frequency: p.Frequency,
		Temperature: min(p.Temperature, math.MaxFloat32), Scale: 1, TopP: p.TopP, MinP: p.MinP,
		TopK: int32(max(min(p.TopK, math.MaxInt32), 0)), Window: int32(max(p.Window, 0)), Watch: p.Watch, Edited: -1,
		Masked: flag(p.Mask != nil), TopPOn: flag(p.TopP > 0 && p.TopP < 1), Draws: flag(p.Window <= 0),
	}
	draws := row.Draws != 0 && row.Temperature > 0
	if draws {
		row.Scale = min(1/row.Temperature, math.MaxFloat32)
	}
	row.Sum = flag(row.Window > 0 || draws && row.TopK == 0)
	row.Wide = flag(draws && (row.TopK == 0 || row.TopK > kernels.SampleTop))
	return row
}

// collect turns results in pinned memory into the step's samples.
func (s *sampler) collect(step *ops.Step, parity int) error {
	memory := s.results[parity].Bytes()
	for i := range step.Sampling {
		result(&step.Samples[i], &step.Sampling[i], memory[i*kernels.SampleResultBytes:], s.args.Vocabulary)
	}
	return nil
}

// result reads the result of one row.
func result(out *ops.Sample, p *ops.Sampling, memory []byte, vocabulary int) {
	const candidates = 32
	const window = candidates + kernels.SampleTop*8
	head := part[kernels.SampleResult](memory, 0, 1)[0]
	*out = ops.Sample{
		Token: ops.Candidate{ID: -1}, Watched: ops.Candidate{ID: -1}, LogSumExp: head.LogSumExp, Chosen: head.Chosen,
		Candidates: out.Candidates[:0], Window: out.Window[:0], WindowSumExp: head.WindowSumExp,
	}
	if head.LogSumExp != head.LogSumExp {
		return
	}
	candidate := func(id int32, logit, plain float32) ops.Candidate {
		return ops.Candidate{ID: id, Logit: logit, Logprob: plain - head.LogSumExp}
	}
	if head.ID >= 0 {
		out.Token = candidate(head.ID, head.Logit, head.Logit)
	}
	if p.Watch >= 0 && int(p.Watch) < vocabulary {
		out.Watched = candidate(p.Watch, head.Watched, head.Watched)
	}
	for _, c := range part[kernels.SamplePick](memory, candidates, min(int(head.Candidates), max(p.Candidates, 0))) {
		out.Candidates = append(out.Candidates, candidate(c.ID, c.Logit, c.Logit))
	}
	plain := part[float32](memory, window+kernels.SampleTop*8, int(head.Window))
	for j, c := range part[kernels.SamplePick](memory, window, int(head.Window)) {
		out.Window = append(out.Window, candidate(c.ID, c.Logit, plain[j]))
	}
}
