package drivertest

import (
	"errors"
	"unsafe"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// The reference does the whole of a draw in rh_sample_select; the other kernels
// prove that what they would read and write is there.

// sampleScan marks what the scan of a device writes, so that nothing relies on what
// lay there before.
func sampleScan(m Memory, a kernels.SampleArgs) error {
	rows, err := Slice[kernels.SampleRow](m, a.Block, int(a.Rows))
	partials, partialErr := Slice[kernels.SamplePartial](m, a.Partials, int(a.Rows*a.Blocks))
	peaks, peakErr := Slice[uint32](m, a.Peaks, int(2*a.Rows*a.Groups))
	if err := errors.Join(err, partialErr, peakErr); err != nil {
		return err
	}
	clear(partials)
	clear(peaks)
	for _, row := range rows {
		if row.Edited < 0 {
			continue
		}
		edited, err := Slice[float32](m, a.Edited+4*uint64(row.Edited)*uint64(a.Tokens), int(a.Tokens))
		if err != nil {
			return err
		}
		clear(edited)
	}
	return nil
}

func sampleRace(m Memory, a kernels.SampleArgs) error {
	_, err := Slice[kernels.SampleRace](m, a.Races, int(a.Rows))
	_, runnerErr := Slice[kernels.SampleRunner](m, a.Runners, int(a.Rows*a.Blocks))
	return errors.Join(err, runnerErr)
}

func sampleSelect(m Memory, a kernels.SampleArgs) error {
	rows, err := Slice[kernels.SampleRow](m, a.Block, int(a.Rows))
	drawn, drawnErr := Slice[int32](m, a.Drawn, int(a.Rows))
	if err := errors.Join(err, drawnErr); err != nil {
		return err
	}
	work := sample.NewWork(simd.Best())
	var out ops.Sample
	for i := range rows {
		logits, err := Slice[float32](m, a.Logits+4*uint64(i)*uint64(a.Vocabulary), int(a.Vocabulary))
		if err != nil {
			return err
		}
		p, err := parameters(m, a, &rows[i])
		if err != nil {
			return err
		}
		sample.Device(work, &out, &p, logits, int(a.Tokens))
		drawn[i] = out.Token.ID
		if err := report(m, a.Results+uint64(i)*kernels.SampleResultBytes, &out, logits); err != nil {
			return err
		}
	}
	return nil
}

// parameters reads a row's parameters from the device's layout.
func parameters(m Memory, a kernels.SampleArgs, row *kernels.SampleRow) (ops.Sampling, error) {
	p := ops.Sampling{
		Repetition: row.Repetition, Presence: row.Presence, Frequency: row.Frequency,
		Temperature: row.Temperature, TopK: int(row.TopK), TopP: row.TopP, MinP: row.MinP,
		Seed: row.Seed, Choice: row.Choice, Position: row.Position, Attempt: row.Attempt,
		Candidates: kernels.SampleTop, Watch: row.Watch, Window: int(row.Window),
	}
	if row.Edited < 0 {
		return p, nil
	}
	seen, err := Slice[kernels.SampleSeen](m, a.Block+uint64(row.Seen), int(row.SeenCount))
	bias, biasErr := Slice[kernels.SampleBias](m, a.Block+uint64(row.Bias), int(row.BiasCount))
	mask, maskErr := Slice[uint32](m, a.Block+uint64(row.Mask), int(row.MaskWords))
	for _, s := range seen {
		p.Seen = append(p.Seen, ops.Count{ID: s.ID, Output: s.Output})
	}
	for _, b := range bias {
		p.Bias = append(p.Bias, ops.Bias(b))
	}
	if row.Masked != 0 {
		p.Mask = append([]uint32{}, mask...)
	}
	return p, errors.Join(err, biasErr, maskErr)
}

// report writes a row's result in the device's layout.
func report(m Memory, to uint64, out *ops.Sample, logits []float32) error {
	head, err := Slice[kernels.SampleResult](m, to, 1)
	to += uint64(unsafe.Sizeof(kernels.SampleResult{}))
	candidates, candidateErr := Slice[kernels.SamplePick](m, to, kernels.SampleTop)
	window, windowErr := Slice[kernels.SamplePick](m, to+8*kernels.SampleTop, kernels.SampleTop)
	plain, plainErr := Slice[float32](m, to+16*kernels.SampleTop, kernels.SampleTop)
	if err := errors.Join(err, candidateErr, windowErr, plainErr); err != nil {
		return err
	}
	head[0] = kernels.SampleResult{
		LogSumExp: out.LogSumExp, Watched: out.Watched.Logit, Candidates: int32(len(out.Candidates)), ID: out.Token.ID,
		Logit: out.Token.Logit, Chosen: out.Chosen, WindowSumExp: out.WindowSumExp, Window: int32(len(out.Window)),
	}
	for i, c := range out.Candidates {
		candidates[i] = kernels.SamplePick{ID: c.ID, Logit: c.Logit}
	}
	for i, c := range out.Window {
		window[i], plain[i] = kernels.SamplePick{ID: c.ID, Logit: c.Logit}, logits[c.ID]
	}
	return nil
}
