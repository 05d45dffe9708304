package openai

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine"
)

const (
	maxChoices  = 128  // n, as OpenAI
	maxTop      = 20   // alternatives a token, as OpenAI's chat
	maxStops    = 32   // stop texts; OpenAI allows 4
	maxStopText = 1024 // bytes of each
	maxStopIDs  = 256
)

// params are what both endpoints share.
type params struct {
	n            int
	stream       bool
	includeUsage bool // a last chunk with the usage
	tokenIDs     bool // return_token_ids
	logprobs     bool
	top          int // alternatives to each token, with logprobs
	request      engine.Request
}

// model checks the model's name.
func (f *fields) model(info engine.Info) *Error {
	var name string
	if !f.take("model", &name) {
		if f.err != nil {
			return f.err
		}
		return invalid("model", "name a model; this server has: %s", info.Name)
	}
	if name != info.Name {
		return refuse(http.StatusNotFound, "model_not_found", "model", "there is no model %.128q here; this server has: %s", name, info.Name)
	}
	return nil
}

// params takes the shared parameters. Values not given are those of the
// model's generation_config.json.
func (f *fields) params(info engine.Info) params {
	p := params{n: 1}
	f.take("stream", &p.stream)
	f.streamOptions(&p)
	if f.take("n", &p.n) {
		between(f, "n", &p.n, 1, maxChoices)
	}
	f.take("return_token_ids", &p.tokenIDs)
	f.take("ignore_eos", &p.request.IgnoreEOS)
	f.stops(&p.request, info)
	p.request.Sampling = f.sampling(info.Defaults)
	return p
}

func (f *fields) streamOptions(p *params) {
	var raw json.RawMessage
	if !f.take("stream_options", &raw) {
		return
	}
	if !p.stream {
		f.fail("is only allowed with stream: true", "stream_options")
		return
	}
	o, err := f.object("stream_options", raw)
	if err == nil {
		o.take("include_usage", &p.includeUsage)
		delete(o.raw, "include_obfuscation") // padding against eavesdroppers: ours is off
		err = o.rest()
	}
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) stops(r *engine.Request, info engine.Info) {
	var stop texts
	if f.take("stop", &stop) {
		r.Stop = stop
		if len(stop) > maxStops {
			f.fail(fmt.Sprintf("has %d texts, at most %d are possible", len(stop), maxStops), "stop")
		}
		for _, s := range stop {
			if s == "" || len(s) > maxStopText {
				f.fail(fmt.Sprintf("has a text of %d bytes: each must have 1 to %d", len(s), maxStopText), "stop")
			}
		}
	}
	if f.take("stop_token_ids", &r.StopIDs) {
		if len(r.StopIDs) > maxStopIDs {
			f.fail(fmt.Sprintf("has %d ids, at most %d are possible", len(r.StopIDs), maxStopIDs), "stop_token_ids")
		}
		if i := slices.IndexFunc(r.StopIDs, func(id int32) bool { return id < 0 || int(id) >= info.Vocab }); i >= 0 {
			f.fail(fmt.Sprintf("has id %d: ids lie in 0 to %d", r.StopIDs[i], info.Vocab-1), "stop_token_ids")
		}
	}
}

func (f *fields) sampling(defaults engine.Sampling) engine.Sampling {
	var temperature, topP, minP *float64
	var seed *int64
	s := defaults
	f.take("temperature", &temperature)
	between(f, "temperature", temperature, 0, 2)
	s.Temperature = float32Of(temperature, s.Temperature)

	f.take("top_p", &topP)
	between(f, "top_p", topP, 0, 1)
	s.TopP = float32Of(topP, s.TopP)
	if topP != nil && s.TopP == 0 {
		// 0 is "off" to the engine, and "as few as possible" to OpenAI.
		s.TopP = math.SmallestNonzeroFloat32
	}

	k := s.TopK
	if f.take("top_k", &k) {
		between(f, "top_k", &k, -1, math.MaxInt32)
		s.TopK = max(k, 0) // -1 is vLLM's "off"
	}

	f.take("min_p", &minP)
	between(f, "min_p", minP, 0, 1)
	s.MinP = float32Of(minP, s.MinP)

	f.take("seed", &seed)
	if seed != nil {
		s.Seed = uint64(*seed)
	} else {
		s.Seed = rand.Uint64N(1 << 53) // JavaScript reads it exactly
	}
	return s
}

// room checks that prompt and answer fit, before anything is sent.
func room(prompt []int32, r engine.Request, info engine.Info) error {
	if need := len(prompt) + max(r.MaxTokens, 1); need > info.Context {
		return &engine.ContextError{Prompt: len(prompt), MaxTokens: max(r.MaxTokens, 1), Limit: info.Context}
	}
	return nil
}
