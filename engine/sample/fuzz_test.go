package sample

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cpu/simd"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// arbitrary makes parameters of bytes: all fields, any bits.
func arbitrary(data []byte) Params {
	next := func() uint32 {
		var word [4]byte
		n := copy(word[:], data)
		data = data[n:]
		return binary.LittleEndian.Uint32(word[:])
	}
	float := func() float32 {
		// Half of the time a tame number, so that chains run.
		if bits := next(); bits&1 == 1 {
			return float32(bits>>8) / (1 << 24) * 2
		}
		return math.Float32frombits(next())
	}
	p := Params{
		Temperature: float(), TopK: int(int16(next())), TopP: float(), MinP: float(), Seed: uint64(next()), Typical: float(), TopNSigma: float(),
		XTCProbability: float(), XTCThreshold: float(), DRY: DRY{float(), float(), int(int8(next())), nil}, Mirostat: Mirostat{float(), float()},
		DynamicRange: float(), DynamicExponent: float(), Repetition: float(), Presence: float(), Frequency: float(), PenaltyLastN: int(int8(next())),
	}
	for range next() % 4 {
		p.Bias = append(p.Bias, ops.Bias{ID: int32(next() % 300), Value: float()})
		p.DRY.Breakers = append(p.DRY.Breakers, int32(next()%300))
		p.Mask = append(p.Mask, next())
	}
	for range next() % 9 {
		p.Order = append(p.Order, append(DefaultOrder, "other")[next()%9])
	}
	return p
}

// FuzzParams: parameters are refused with a *ParamError, or a token is drawn
// that the mask allows.
func FuzzParams(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x00\x00\xff temperature and so on, as bytes of any kind"))
	logits := make([]float32, 280)
	for i := range logits {
		logits[i] = float32(i%17) - float32(i%5)
	}
	w := NewWork(simd.Best())
	f.Fuzz(func(t *testing.T, data []byte) {
		p := arbitrary(data)
		s, err := New(p, 0, 270, len(logits))
		var refused *ParamError
		if err != nil {
			if !errors.As(err, &refused) || refused.Field == "" || refused.Message == "" {
				t.Fatalf("%+v: %v is no *ParamError", p, err)
			}
			return
		}
		s.Prompt([]int32{1, 2, 1, 2, 1})
		for position := range 3 {
			var out ops.Sample
			drawn := s.Draw(position, 2)
			Device(w, &out, &drawn, logits, 270)
			err := s.Choose(&out, func() ([]float32, error) { return logits, nil })
			if errors.Is(err, ErrBanned) {
				return
			}
			if err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
			id := out.Token.ID
			if id < 0 || id >= 270 || p.Mask != nil && (int(id) >= 32*len(p.Mask) || p.Mask[id/32]>>(id%32)&1 == 0) {
				t.Fatalf("%+v: drew %d", p, id)
			}
			if !(out.Chosen <= 1e-6) {
				t.Fatalf("%+v: a log-probability of %v", p, out.Chosen)
			}
			s.Accept(id)
		}
	})
}

// FuzzChoose: whatever the logits, there is a token or a typed error. Levels
// agree on the token, but where a cut goes by a sum: that may fall on either
// side of a border which the sum hits.
func FuzzChoose(f *testing.F) {
	bits := func(v ...float32) (data []byte) {
		for _, v := range v {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		return data
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	f.Add(uint8(0), bits(1, 2, 3))
	f.Add(uint8(1), bits(nan, 1))
	f.Add(uint8(2), bits(inf, 1, -inf))
	f.Add(uint8(3), bits(-inf, -inf))
	f.Add(uint8(4), bits(math.MaxFloat32, -math.MaxFloat32, 0))
	f.Add(uint8(5), bits(7, 7, 7, 7, 7, 7, 7))
	params := []Params{
		{}, {Temperature: 1}, {Temperature: .01, TopP: .5}, {Temperature: 1, MinP: 1}, {Temperature: 2, TopK: 3, Repetition: .5},
		{Temperature: 1, TopNSigma: .1}, {Temperature: 1, Typical: .1}, {Temperature: 1, XTCProbability: 1}, {Temperature: 3, Mirostat: Mirostat{Tau: 5}},
		{Temperature: 1, DynamicRange: 1}, {Temperature: .5, DRY: DRY{Multiplier: 1000, Base: 1000, AllowedLength: 1}, Order: []Stage{StageTemperature, StageDRY}},
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		if len(data) < 4 || len(data) > 4096 {
			return
		}
		// Repeated, so that kernels see full blocks.
		logits := make([]float32, 700)
		for i := range logits {
			logits[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[i%(len(data)/4)*4:]))
		}
		p := params[int(kind)%len(params)]
		var first ops.Sample
		for i, level := range simd.Levels() {
			w := NewWork(level)
			s, err := New(p, 0, 690, len(logits))
			if err != nil {
				t.Fatal(err)
			}
			s.Prompt([]int32{1, 2, 1, 2, 1})
			drawn := s.Draw(5, 3)
			var out ops.Sample
			Device(w, &out, &drawn, logits, 690)
			err = s.Choose(&out, func() ([]float32, error) { return logits, nil })
			switch {
			case errors.Is(err, ErrLogits) || errors.Is(err, ErrBanned):
				if len(out.Candidates) > 0 && errors.Is(err, ErrLogits) {
					t.Fatalf("candidates of a row without a distribution: %v", out.Candidates)
				}
			case err != nil:
				t.Fatal(err)
			case out.Token.ID < 0 || out.Token.ID >= 690 || math.IsInf(float64(logits[out.Token.ID]), -1):
				t.Fatalf("drew %d of logit %v", out.Token.ID, logits[max(out.Token.ID, 0)])
			}
			if i == 0 {
				first = out
			} else if out.Token.ID != first.Token.ID && drawn.Window == 0 && p.TopP == 0 {
				t.Fatalf("%v draws %d, %v %d", level, out.Token.ID, simd.Levels()[0], first.Token.ID)
			}
		}
	})
}

// Every number has bounds, and NaN is within none of them.
func TestParamsAreBounded(t *testing.T) {
	refuse := func(p Params, field string) {
		t.Helper()
		_, err := New(p, 0, 90, 100)
		var refused *ParamError
		if !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%+v: %v, want a *ParamError of %s", p, err, field)
		}
	}
	var walk func(v func(*Params) reflect.Value, of reflect.Type, prefix string) int
	walk = func(v func(*Params) reflect.Value, of reflect.Type, prefix string) (count int) {
		for i := range of.NumField() {
			field := func(p *Params) reflect.Value { return v(p).Field(i) }
			switch name := prefix + of.Field(i).Name; of.Field(i).Type.Kind() {
			case reflect.Struct:
				count += walk(field, of.Field(i).Type, name+".")
			case reflect.Float32:
				for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -101, 1e5} {
					p := Params{}
					field(&p).SetFloat(bad)
					refuse(p, name)
					count++
				}
			case reflect.Int:
				p := Params{}
				field(&p).SetInt(-1)
				refuse(p, name)
				count++
			}
		}
		return count
	}
	if n := walk(func(p *Params) reflect.Value { return reflect.ValueOf(p).Elem() }, reflect.TypeFor[Params](), ""); n < 80 {
		t.Errorf("only %d cases: the walk does not see the fields", n)
	}
	nan := float32(math.NaN())
	refuse(Params{Bias: []ops.Bias{{ID: 1, Value: nan}}}, "Bias")
	refuse(Params{Bias: []ops.Bias{{ID: 1, Value: float32(math.Inf(1))}}}, "Bias")
	refuse(Params{Bias: []ops.Bias{{ID: 100}}}, "Bias")
	refuse(Params{Bias: []ops.Bias{{ID: -1}}}, "Bias")
	refuse(Params{Bias: []ops.Bias{{ID: 2}, {ID: 2}}}, "Bias")
	refuse(Params{DRY: DRY{Breakers: []int32{5, 4}}}, "DRY.Breakers")
	refuse(Params{DRY: DRY{Breakers: []int32{100}}}, "DRY.Breakers")
	refuse(Params{Mask: make([]uint32, 5)}, "Mask")
	refuse(Params{Order: []Stage{"mirostat"}}, "Order")
	refuse(Params{Order: []Stage{StageTopK, StageTopK}}, "Order")
}

func TestErrorsSayWhatFailed(t *testing.T) {
	w, nan := NewWork(simd.Best()), float32(math.NaN())
	for _, p := range []Params{{Temperature: 1}, {Temperature: 1, TopNSigma: 1}} {
		for _, c := range []struct {
			logits []float32
			mask   []uint32
			want   error
		}{
			{[]float32{1, nan, 2}, nil, ErrLogits},
			{[]float32{1, float32(math.Inf(1)), 2}, nil, ErrLogits},
			{[]float32{float32(math.Inf(-1)), float32(math.Inf(-1)), float32(math.Inf(-1))}, nil, ErrLogits},
			{[]float32{1, 2, 3}, []uint32{4}, ErrBanned}, // the one allowed is padding
		} {
			p.Mask = c.mask
			s, err := New(p, 0, 2, 3)
			if err != nil {
				t.Fatal(err)
			}
			drawn := s.Draw(7, 2)
			var out ops.Sample
			Device(w, &out, &drawn, c.logits, 2)
			if err := s.Choose(&out, nil); !errors.Is(err, c.want) {
				t.Errorf("%v: %v, want %v", c.logits, err, c.want)
			}
			if out.Token.ID != -1 {
				t.Errorf("%v: token %d", c.logits, out.Token.ID)
			}
		}
	}
	gone := errors.New("the device is gone")
	s, err := New(Params{Temperature: 1, TopNSigma: 1}, 0, 300, 300)
	if err != nil {
		t.Fatal(err)
	}
	drawn := s.Draw(0, 0)
	var out ops.Sample
	logits := make([]float32, 300)
	Device(w, &out, &drawn, logits, 300)
	if err := s.Choose(&out, func() ([]float32, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("an error of row became %v", err)
	}
	if err := s.Choose(&out, func() ([]float32, error) { return logits[:10], nil }); err == nil {
		t.Error("a short row was taken")
	}
	for _, c := range []struct{ tokens, vocab int }{{0, 5}, {6, 5}, {-1, 5}, {1, math.MaxInt32 + 1}} {
		if _, err := New(Params{}, 0, c.tokens, c.vocab); err == nil {
			t.Errorf("%d tokens of %d rows were accepted", c.tokens, c.vocab)
		}
	}
}
