package sample

import (
	"math"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// finish does one token: draw on the device, choice on the host.
func finish(t testing.TB, w *Work, s *Sampler, position int, logits []float32) ops.Sample {
	t.Helper()
	var out ops.Sample
	drawn := s.Draw(position, 5)
	Device(w, &out, &drawn, logits, s.tokens)
	if err := s.Choose(&out, func() ([]float32, error) { return logits, nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// Draws of the host's samplers follow the reference's distribution: chi-square
// at fixed seeds over 20,000 draws. XTC runs by chance, so its distribution is
// the mixture of both.
func TestHostDrawsFollowTheReference(t *testing.T) {
	logits := row(rand.New(rand.NewPCG(41, 42)), 400, 2)
	w := NewWork(simd.Best())
	for name, p := range map[string]Params{
		"typical":     {Temperature: 1, TopK: 50, Typical: .8},
		"top-n-sigma": {Temperature: 1.3, TopNSigma: 1.5},
		"xtc":         {Temperature: 1, TopK: 40, XTCProbability: .3, XTCThreshold: .05},
		"dynamic":     {Temperature: 1, DynamicRange: .5, TopP: .9},
		"mirostat":    {Temperature: 1, Mirostat: Mirostat{Tau: 2.5}},
		"custom":      {Temperature: 1.5, TopP: .9, MinP: .02, Order: []Stage{StageMinP, StageTopP, StageTemperature}},
	} {
		p.Seed = 43
		s, err := New(p, 0, len(logits), len(logits))
		if err != nil {
			t.Fatal(err)
		}
		n, counts, want := 20000, make([]int, len(logits)), make([]float64, len(logits))
		if testing.Short() {
			n = 3000
		}
		for position := range n {
			counts[finish(t, w, s, position, logits).Token.ID]++
		}
		mixed, text := []float32{0, 1}, plainText{}
		for i, share := range []float64{1 - float64(p.XTCProbability), float64(p.XTCProbability)} {
			part := p
			part.XTCProbability = mixed[i]
			for id, q := range newPlain(&part, logits, text).run(&part, text, &ops.Sampling{}, s.mu).probabilities() {
				want[id] += share * q
			}
		}
		chi, bins, restWant, restGot := 0.0, 0, 0.0, 0.0
		for id, q := range want {
			e := q * float64(n)
			switch {
			case q == 0 && counts[id] > 0:
				t.Fatalf("%s: drew id %d, which the chain leaves out", name, id)
			case e >= 10:
				chi += (float64(counts[id]) - e) * (float64(counts[id]) - e) / e
				bins++
			default:
				restWant, restGot = restWant+e, restGot+float64(counts[id])
			}
		}
		if restWant >= 10 {
			chi += (restGot - restWant) * (restGot - restWant) / restWant
			bins++
		}
		// Mean k, variance 2k: five deviations is p < 1e-5.
		if k := float64(bins - 1); bins < 3 || chi > k+5*math.Sqrt(2*k) {
			t.Errorf("%s: chi-square %.1f over %d bins", name, chi, bins)
		}
	}
}

// A row's sample has the same bits alone, after other rows in the same scratch,
// and from several threads at once.
func TestRowsDoNotDependOnOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(51, 52))
	const rows = 24
	var logits [rows][]float32
	var params [rows]Params
	for i := range rows {
		logits[i] = row(random, 3000, 3)
		params[i] = []Params{
			{}, {Temperature: 1}, {Temperature: .8, TopK: 40, TopP: .95, MinP: .01, Repetition: 1.1},
			{Temperature: 1, TopK: 40, XTCProbability: .5, XTCThreshold: .1}, {Temperature: 1, TopNSigma: 1}, {Temperature: 2, TopP: .9},
		}[i%6]
		params[i].Seed = uint64(i)
	}
	one := func(w *Work, i int) ops.Sample {
		s, err := New(params[i], uint32(i), 2900, 3000)
		if err != nil {
			t.Error(err)
			return ops.Sample{}
		}
		s.Prompt([]int32{1, 2, 3, int32(i)})
		return finish(t, w, s, i, logits[i])
	}
	for _, level := range simd.Levels() {
		var alone [rows]ops.Sample
		for i := range rows {
			alone[i] = one(NewWork(level), i)
		}
		shared := NewWork(level)
		for _, i := range random.Perm(rows) {
			if got := one(shared, i); !reflect.DeepEqual(got, alone[i]) {
				t.Errorf("%v: row %d differs after others: %+v, want %+v", level, i, got.Token, alone[i].Token)
			}
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				w := NewWork(level)
				for i := range rows {
					if got := one(w, i); !reflect.DeepEqual(got, alone[i]) {
						t.Errorf("%v: row %d differs beside others", level, i)
					}
				}
			})
		}
		group.Wait()
	}
}

// A clone draws what the original would have, and neither moves the other: a
// rewind to a clone gives the same text again.
func TestCloneRewinds(t *testing.T) {
	random := rand.New(rand.NewPCG(61, 62))
	var rows [][]float32
	for range 40 {
		rows = append(rows, row(random, 500, 2))
	}
	w := NewWork(simd.Best())
	for _, p := range []Params{
		{Temperature: 1, Repetition: 1.3, Presence: .5, PenaltyLastN: 7, DRY: DRY{Multiplier: 1, AllowedLength: 1}, Seed: 1},
		{Temperature: 1, Mirostat: Mirostat{Tau: 4}, Frequency: .2, Seed: 2},
	} {
		s, err := New(p, 1, 500, 500)
		if err != nil {
			t.Fatal(err)
		}
		s.Prompt([]int32{4, 5, 4, 5, 6})
		write := func(s *Sampler, from int) (ids []int32) {
			for i := from; i < len(rows); i++ {
				id := finish(t, w, s, i, rows[i]).Token.ID
				s.Accept(id)
				ids = append(ids, id)
			}
			return ids
		}
		saved := s.Clone()
		first := write(s, 0)
		again := saved.Clone()
		if got := write(again, 0); !slices.Equal(got, first) {
			t.Errorf("%+v: the clone wrote %v, the original %v", p, got, first)
		}
		if got := write(saved, 0); !slices.Equal(got, first) {
			t.Errorf("%+v: a clone of the clone moved it", p)
		}
	}
}

// In steady state a device's row allocates nothing, and a window's draw nothing.
func TestDrawsAllocateNothing(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector makes sync.Pool forget")
	}
	logits := row(rand.New(rand.NewPCG(71, 72)), 20000, 3)
	w := NewWork(simd.Best())
	for _, p := range []Params{
		{Temperature: .8, TopK: 40, TopP: .95, MinP: .01, Repetition: 1.1}, {Temperature: 1}, {Temperature: 1, TopP: .9},
		{Temperature: 1, TopK: 40, XTCProbability: 1, XTCThreshold: .05}, {Temperature: 1, Typical: .9},
	} {
		s, err := New(p, 0, len(logits), len(logits))
		if err != nil {
			t.Fatal(err)
		}
		s.Prompt([]int32{1, 2, 3})
		var out ops.Sample
		fetch := func() ([]float32, error) { return logits, nil }
		drawn, position := s.Draw(0, 20), 0
		got := testing.AllocsPerRun(20, func() {
			position++
			drawn = s.Draw(position, 20)
			Device(w, &out, &drawn, logits, len(logits))
			if err := s.Choose(&out, fetch); err != nil {
				t.Error(err)
			}
		})
		if got > 0 {
			t.Errorf("%+v: %v allocations a draw", p, got)
		}
	}
}
