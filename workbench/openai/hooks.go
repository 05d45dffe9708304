package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Hooks makes the hooks of requests: of scripts that are named, or come along, and of
// those that every request has.
type Hooks interface {
	// Prepare finds what a request asks for. The set is nil where that is nothing.
	Prepare(ctx context.Context, ask HookAsk) (HookSet, error)
}

// HookAsk is what a request asks of hooks. Nothing in it is vouched for.
type HookAsk struct {
	ID      string   // of the request
	Scripts []string // by name
	Plugins []string // likewise
	// File and Text are a script that came along; Text is "" for none.
	File, Text string
	Params     map[string]any  // of the one script; or by script, each an object
	Steer      json.RawMessage // as hook.ParseSteering reads it; nil for none
	OnError    string          // "disable", "fail", or "" for what the server does
}

// HookSet is the hooks of one request.
type HookSet interface {
	// Rewrite lets scripts change the request's body; it returns the one to go on with.
	Rewrite(ctx context.Context, body []byte) ([]byte, error)
	// Hooking attaches the hooks to choices of the request, which have indices from
	// first on; r.Body is its body.
	Hooking(ctx context.Context, r hook.Request, first int) *engine.Hooking
	// Scripts says which scripts served the choice of an index.
	Scripts(index int) []ScriptUse
	// Warnings is what the client should know of the scripts.
	Warnings() []string
}

// ScriptUse is a script or plugin that served a choice.
type ScriptUse struct {
	Name    string `json:"name"`
	Kind    string `json:"kind,omitempty"`    // "plugin"; left out of scripts
	Version string `json:"version,omitempty"` // of a plugin, in its own form
	Digest  string `json:"digest"`            // of the version that began
	// Changes are the versions that followed, by the position of the first token that
	// each decided.
	Changes map[int]string `json:"changes,omitempty"`
}

// refusal is an error of the layers below that knows what the client is to be told.
// field is the one at fault, below "roundhouse".
type refusal interface {
	error
	Refusal() (status int, code, field string, retry time.Duration)
}

// refused is a refusal as clients see it.
func refused(r refusal) *Error {
	status, code, field, retry := r.Refusal()
	e := refuse(status, code, "", "%s", r)
	if field != "" {
		e.Param = text(hookField + "." + field)
	}
	if status >= http.StatusInternalServerError {
		e.Type = "server_error"
	}
	e.retry = retry
	return e
}

// hookField is the field of requests that is about hooks.
const hookField = "roundhouse"

const (
	maxScripts    = 8       // that a request can name; the engine's bound of hooks
	maxScriptName = 128     // bytes
	maxSource     = 1 << 16 // bytes of a script that comes along
	maxParams     = 64      // parameters of a request, or of a script
	topReturned   = 20      // candidates, where a request does not say
)

// returns is what a request wants to know of its tokens and hooks, and how fast.
type returns struct {
	pace           *float64 // tokens a second; nil for as fast as it goes
	routing, hooks bool
	prompt         bool // the routing of the prompt too
	candidates     int
}

// tokens says whether there is data to return for each token.
func (r returns) tokens() bool { return r.routing || r.candidates > 0 }

// hooked is what a request has of hooks, and wants to know of them.
type hooked struct {
	set     HookSet // nil for none
	back    returns
	body    []byte
	changed bool            // scripts changed the request
	total   int             // choices of the request
	results []engine.Result // of the choices that have ended, by index
	kept    int             // tokens that data is kept of
	live    Live            // nil for none
}

// roundhouse takes the field of hooks. given says whether there is one.
func (f *fields) roundhouse() (ask HookAsk, back returns, given bool) {
	var raw json.RawMessage
	if !f.take("roundhouse", &raw) {
		return ask, back, false
	}
	o, err := f.object(hookField, raw)
	if err != nil {
		f.err = err
		return ask, back, true
	}
	takeNames(o, "script", &ask.Scripts)
	takeNames(o, "plugin", &ask.Plugins)
	takeSource(o, &ask)
	if o.take("params", &ask.Params) && len(ask.Params) > maxParams {
		o.fail(fmt.Sprintf("has %d parameters, at most %d are possible", len(ask.Params), maxParams), "params")
	}
	o.take("steer", &ask.Steer)
	if o.take("on_error", &ask.OnError) && ask.OnError != "disable" && ask.OnError != "fail" {
		o.fail("must be disable or fail", "on_error")
	}
	takeReturns(o, &back)
	if o.take("pace", &back.pace) && !(*back.pace > 0 && *back.pace <= maxPace) { // one that stands still from the start nobody could follow
		o.fail(fmt.Sprintf("must lie above 0, and be at most %d tokens a second", maxPace), "pace")
	}
	o.known("script", "plugin", "source", "params", "steer", "on_error", "return", "candidates", "capture", "pace")
	f.err = o.err
	return ask, back, true
}

// takeNames takes the scripts, or plugins, that are named.
func takeNames(o *fields, field string, names *[]string) {
	if !o.take(field, (*texts)(names)) {
		return
	}
	if len(*names) > maxScripts {
		o.fail(fmt.Sprintf("has %d names, at most %d are possible", len(*names), maxScripts), field)
	}
	for i, name := range *names {
		if name == "" || len(name) > maxScriptName {
			o.fail(fmt.Sprintf("has a name of %d bytes: each must have 1 to %d", len(name), maxScriptName), field)
		}
		if slices.Contains((*names)[:i], name) {
			o.fail("names one twice", field)
		}
	}
}

// takeSource takes the script that comes along.
func takeSource(o *fields, ask *HookAsk) {
	var raw json.RawMessage
	if !o.take("source", &raw) {
		return
	}
	s, err := o.object(o.param("source"), raw)
	if err == nil {
		ask.File = "inline.ts"
		s.take("file", &ask.File)
		if stem, ts := strings.CutSuffix(ask.File, ".ts"); !plainName(stem) && (ts || !plainName(strings.TrimSuffix(ask.File, ".js"))) {
			s.fail("must be a name of a-z, 0-9, _ and - that ends in .ts or .js", "file")
		}
		s.take("text", &ask.Text)
		if ask.Text == "" || len(ask.Text) > maxSource {
			s.fail(fmt.Sprintf("has %d bytes: it must have 1 to %d", len(ask.Text), maxSource), "text")
		}
		s.known("file", "text")
		err = s.err
	}
	if o.err == nil {
		o.err = err
	}
}

// plainName says whether a text can be the name of a file that came along.
func plainName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

// takeReturns takes what is to be returned.
func takeReturns(o *fields, back *returns) {
	var list []string
	o.take("return", &list)
	for _, what := range list {
		switch what {
		case "routing":
			back.routing = true
		case "hooks":
			back.hooks = true
		case "candidates":
			back.candidates = topReturned
		default:
			o.fail(fmt.Sprintf("has %.32q: there are routing, hooks and candidates", what), "return")
		}
	}
	top := back.candidates
	if o.whole("candidates", &top, 1, hook.MaxCandidates) && back.candidates == 0 {
		o.fail(`is only allowed with return: ["candidates"]`, "candidates")
	}
	back.candidates = top
	var capture string
	if !o.take("capture", &capture) {
		return
	}
	if back.prompt = capture == "all"; !back.prompt && capture != "decode" {
		o.fail("must be decode or all", "capture")
	}
	if !back.routing {
		o.fail(`is only allowed with return: ["routing"]`, "capture")
	}
}

// known refuses the fields that nobody took: what is about hooks is never passed over.
func (f *fields) known(names ...string) {
	for _, name := range slices.Sorted(maps.Keys(f.raw)) {
		if string(f.raw[name]) != "null" {
			f.fail("there is no such field: there are "+strings.Join(names, ", "), name)
		}
	}
}

// request reads a request, prepares its hooks and lets its scripts change it: the
// fields are those to go on with.
func (s *Server) request(w http.ResponseWriter, r *http.Request) (*fields, *hooked, error) {
	ctx := r.Context()
	body, err := s.body(w, r)
	if err != nil {
		return nil, nil, err
	}
	f, ask, h, err := s.asked(ctx, body)
	if err != nil || s.cfg.Hooks == nil {
		return f, h, err
	}
	if h.set, err = s.cfg.Hooks.Prepare(ctx, ask); err != nil || h.set == nil {
		return f, h, err
	}
	changed, err := h.set.Rewrite(ctx, body)
	if err == nil && !bytes.Equal(changed, body) {
		f, h, err = s.changed(ctx, ask, changed)
	}
	if err != nil || h.set == nil {
		return f, h, err
	}
	for _, w := range h.set.Warnings() {
		f.warn(hookField+".script", w)
	}
	return f, h, nil
}

// changed reads the request that scripts have made of another.
func (s *Server) changed(ctx context.Context, before HookAsk, body []byte) (*fields, *hooked, error) {
	// What the scripts made of the body is read as if the client had sent it; but for
	// which scripts there are.
	broke := func(err error) error {
		return refuse(http.StatusUnprocessableEntity, "hook_failed", hookField, "a script's request handler made a request that cannot be served: %s", err)
	}
	if int64(len(body)) > s.cfg.MaxBody {
		return nil, nil, broke(fmt.Errorf("it has %d bytes, the limit is %d", len(body), s.cfg.MaxBody))
	}
	f, ask, h, err := s.asked(ctx, body)
	if err != nil {
		return nil, nil, broke(err)
	}
	if !slices.Equal(ask.Scripts, before.Scripts) || ask.File != before.File || ask.Text != before.Text {
		return nil, nil, broke(errors.New("it changes which scripts run"))
	}
	h.changed = true
	h.set, err = s.cfg.Hooks.Prepare(ctx, ask)
	return f, h, err
}

// blame says in an error about a request that the client did not send it so.
func (h *hooked) blame(err error) error {
	var known *Error
	if h.changed && errors.As(err, &known) {
		told := *known
		told.Message = "a script changed the request, and now it cannot be served: " + told.Message
		return &told
	}
	return err
}

// asked reads a body and takes its field of hooks.
func (s *Server) asked(ctx context.Context, body []byte) (*fields, HookAsk, *hooked, error) {
	f, bad := parse(body)
	if bad != nil {
		return nil, HookAsk{}, nil, bad
	}
	ask, back, given := f.roundhouse()
	if f.err != nil {
		return nil, ask, nil, f.err
	}
	if given && s.cfg.Hooks == nil {
		return nil, ask, nil, unsupported(hookField, "this server has no hooks: leave the field out")
	}
	ask.ID = entryOf(ctx).id
	return f, ask, &hooked{back: back, body: body, live: s.cfg.Live}, nil
}

// maxReturned bounds the tokens of a request that data is kept of, where the answer is
// not streamed, and the prompt rows whose routing is returned.
const maxReturned = 4096

// room refuses prompts whose routing would be too much to return, the longest of which
// has so many tokens.
func (h *hooked) room(prompt, choices int) error {
	h.total = choices
	if h.back.prompt && prompt*choices > maxReturned {
		return invalid(hookField+".capture", "the routing of %d prompt tokens for %d answers: %d rows can be returned; send a shorter prompt, or capture: \"decode\"",
			prompt, choices, maxReturned)
	}
	return nil
}

// attach puts the hooks on choices with indices from first on, and asks the engine for
// what is to be returned.
func (h *hooked) attach(ctx context.Context, r *engine.Request, n, first int) {
	r.Routing, r.PromptRouting = h.back.routing, h.back.prompt
	r.Candidates = max(r.Candidates, h.back.candidates)
	if h.set == nil {
		return
	}
	r.Hooks = h.set.Hooking(ctx, hook.Request{ID: entryOf(ctx).id, MaxTokens: r.MaxTokens, Seed: r.Sampling.Seed, Choices: n, Body: json.RawMessage(h.body)}, first)
}
