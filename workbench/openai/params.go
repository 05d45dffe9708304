package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

const (
	maxChoices  = 128  // n, as OpenAI
	maxTop      = 20   // alternatives a token, as OpenAI's chat
	maxStops    = 32   // stop texts; OpenAI allows 4
	maxStopText = 1024 // bytes of each
	maxStopIDs  = 256
	maxPriority = 5000         // the engine's
	maxTimeout  = 24 * 60 * 60 // seconds
)

// params are what both endpoints share.
type params struct {
	n            int
	stream       bool
	includeUsage bool // a last chunk with the usage
	tokenIDs     bool // return_token_ids
	logprobs     bool
	top          int // alternatives to each token, with logprobs
	hooks        *hooked
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
func (f *fields) params(info engine.Info, t *tokenizer.Tokenizer) params {
	p := params{n: 1}
	f.take("stream", &p.stream)
	f.streamOptions(&p)
	if f.take("n", &p.n) {
		between(f, "n", &p.n, 1, maxChoices)
	}
	f.take("return_token_ids", &p.tokenIDs)
	f.take("ignore_eos", &p.request.IgnoreEOS)
	f.stops(&p.request, info)
	f.schedule(&p.request)
	p.request.Sampling = f.sampling(info, t)
	return p
}

// schedule takes what the queue and the clock go by.
func (f *fields) schedule(r *engine.Request) {
	var rank int
	if f.take("priority", &rank) {
		between(f, "priority", &rank, -maxPriority, maxPriority)
		r.Priority = -rank // vLLM's lower goes first, the engine's higher
	}
	var seconds float32
	if f.number("timeout", &seconds, 0.001, maxTimeout) {
		r.Deadline = time.Now().Add(time.Duration(float64(seconds) * float64(time.Second)))
	}
	var mode string
	if f.take("logprobs_mode", &mode) {
		switch mode {
		case "raw_logprobs":
		case "processed_logprobs":
			r.Logprobs = engine.OfChain
		default:
			f.fail("must be raw_logprobs or processed_logprobs", "logprobs_mode")
		}
	}
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

// room checks that prompt and answer fit, before anything is sent.
func room(prompt []int32, r engine.Request, info engine.Info) error {
	if need := len(prompt) + max(r.MaxTokens, 1); need > info.Context {
		return &engine.ContextError{Prompt: len(prompt), MaxTokens: max(r.MaxTokens, 1), Limit: info.Context}
	}
	return nil
}
