package scripts

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hook/rehearse"
)

// Bounds of a choice that is made up.
const (
	maxRows    = 4096
	maxScores  = 1 << 24 // logits of all rows
	maxRouted  = 1 << 22 // experts of all rows
	maxPrompt  = 1 << 16
	maxLayers  = 1 << 10
	maxExperts = 1 << 12
	maxHidden  = 1 << 16
)

// usualTokens is how many tokens there are where nothing says otherwise: scripts look at
// the best few hundred.
const usualTokens = 1024

// stage is a choice that is made up, on its way from the options of run to a scene.
type stage struct {
	v          *vm
	rows       []stagedRow
	prompt     []int32
	routing    []routed // of the prompt
	vocabulary rehearse.Vocabulary
	model      hook.Model
	request    hook.Request
	params     map[string]any
	known      map[*goja.Object]*scores // lists that several rows have
	least      stageSize
}

// stageSize is how large a model must be.
type stageSize struct{ tokens, layers, experts, k int }

// stagedRow is a row as the options say it.
type stagedRow struct {
	logits, model *scores // nil for none
	token         *int32
	routing       routed
}

// scores are logits of the first tokens, or of some.
type scores struct {
	dense  []float32
	sparse []hook.Candidate
	source hook.Source // made of them once
}

// routed are experts by layer.
type routed map[int]routedLayer

type routedLayer struct {
	ids     []int32
	weights []float32
}

// fields returns the fields of an object that a test makes, and refuses others than its
// kind has.
func (v *vm) fields(k *kind, value goja.Value) map[string]goja.Value {
	out := map[string]goja.Value{}
	if value == nil || goja.IsUndefined(value) {
		return out
	}
	o, ok := value.(*goja.Object)
	if !ok {
		v.throw(faultf(hook.BadValue, "%s is %s: it is an object", k.name, kindOf(value)))
	}
	var names []string
	for _, m := range k.members {
		names = append(names, m.name())
	}
	for _, name := range o.Keys() {
		if !slices.Contains(names, name) {
			v.throw(faultf(hook.BadValue, "%s has no field %.100q: it has %v", k.name, name, names))
		}
		if x := o.Get(name); x != nil && !goja.IsUndefined(x) {
			out[name] = x
		}
	}
	return out
}

// stage reads the options of run.
func (v *vm) stage(options goja.Value) *stage {
	s := &stage{v: v, known: map[*goja.Object]*scores{}, least: stageSize{tokens: 1, layers: 1, experts: 1, k: 1}}
	fields := v.fields(runKind, options)
	if list, ok := fields["vocabulary"].(*goja.Object); ok {
		for _, text := range v.elements("the vocabulary", list, maxPrompt) {
			s.vocabulary = append(s.vocabulary, v.text("a token of the vocabulary", orUndefined(text)))
		}
		s.least.tokens = max(1, len(s.vocabulary))
	}
	s.prompt = []int32{0}
	switch prompt := fields["prompt"].(type) {
	case nil:
	case goja.String:
		var err error
		if s.prompt, err = s.vocabulary.Encode(v.text("the prompt", prompt)); err != nil {
			v.throw(faultf(hook.BadValue, "the prompt: %w", err))
		}
	default:
		s.prompt = v.ids("the prompt", prompt)
	}
	v.atMost("tokens of a prompt", float64(len(s.prompt)), maxPrompt)
	s.needTokens(s.prompt...)
	s.rows = make([]stagedRow, 1)
	if list, ok := fields["steps"].(*goja.Object); ok {
		rows := v.elements("the steps", list, maxRows)
		s.rows = make([]stagedRow, len(rows))
		for i, row := range rows {
			s.rows[i] = s.row(row)
		}
	}
	if list, ok := fields["promptRouting"].(*goja.Object); ok {
		for _, row := range v.elements("the routing of the prompt", list, maxRows) {
			s.routing = append(s.routing, s.routed(row))
		}
	}
	s.setModel(fields["model"])
	s.setRequest(fields["request"])
	if seed, ok := fields["seed"]; ok {
		s.request.Seed = uint64(v.natural("the seed", seed, 1<<53-1))
	}
	s.params = v.params(fields["params"])
	return s
}

// natural takes a whole number from 0 to most.
func (v *vm) natural(what string, value goja.Value, most float64) int {
	x := v.number(what, value)
	if x != math.Trunc(x) || x < 0 || x > most {
		v.throw(faultf(hook.BadValue, "%s is %v: it is a whole number from 0 to %v", what, x, most))
	}
	return int(x)
}

// params are parameters as a request would have them; nil for none.
func (v *vm) params(value goja.Value) (params map[string]any) {
	if value == nil || goja.IsUndefined(value) {
		return nil
	}
	if err := json.Unmarshal([]byte(v.json(value)), &params); err != nil {
		v.throw(faultf(hook.BadValue, "params is %s: it is an object", kindOf(value)))
	}
	return params
}

func (s *stage) needTokens(ids ...int32) {
	for _, id := range ids {
		if id < 0 || id >= maxArray {
			s.v.throw(faultf(hook.BadID, "token %d: ids lie in 0 to %d", id, maxArray-1))
		}
		s.least.tokens = max(s.least.tokens, int(id)+1)
	}
}

// row reads a row.
func (s *stage) row(value goja.Value) (row stagedRow) {
	s.v.step()
	fields := s.v.fields(rowKind, value)
	row.logits, row.model, row.routing = s.scores(fields["logits"]), s.scores(fields["model"]), s.routed(fields["routing"])
	if token, ok := fields["token"]; ok {
		id := s.v.id("the token", s.v.number("the token", token))
		s.needTokens(id)
		row.token = &id
	}
	return row
}

// scores reads logits; nil for none.
func (s *stage) scores(value goja.Value) *scores {
	o, ok := value.(*goja.Object)
	if !ok {
		if value != nil {
			s.v.throw(faultf(hook.BadValue, "logits is %s: it is a list, or an object of logits by token", kindOf(value)))
		}
		return nil
	}
	if known := s.known[o]; known != nil {
		return known
	}
	out := &scores{}
	if isList(o) {
		out.dense = s.v.floats("the logits", o)
		s.least.tokens = max(s.least.tokens, len(out.dense))
	} else {
		for _, name := range o.Keys() {
			s.v.step()
			id, err := strconv.ParseInt(name, 10, 32)
			if err != nil {
				s.v.throw(faultf(hook.BadID, "logits of %.100q: a token is its id", name))
			}
			s.needTokens(int32(id))
			out.sparse = append(out.sparse, hook.Candidate{ID: int32(id), Logit: float32(s.v.number("a logit", o.Get(name)))})
		}
	}
	for _, x := range out.dense {
		s.checkLogit(x)
	}
	for _, c := range out.sparse {
		s.checkLogit(c.Logit)
	}
	s.known[o] = out
	return out
}

func (s *stage) checkLogit(x float32) {
	if !(x <= math.MaxFloat32) {
		s.v.throw(faultf(hook.NotANumber, "a logit is %v: it is a number, or -Infinity", x))
	}
}

// routed reads experts by layer.
func (s *stage) routed(value goja.Value) routed {
	if value == nil {
		return nil
	}
	o, ok := value.(*goja.Object)
	if !ok || isList(o) {
		s.v.throw(faultf(hook.BadValue, "routing is %s: it is an object with the experts of each layer", kindOf(value)))
	}
	out := routed{}
	for _, name := range o.Keys() {
		layer, err := strconv.Atoi(name)
		if err != nil || layer < 0 || layer >= maxLayers {
			s.v.throw(faultf(hook.BadID, "routing of layer %.100q: layers lie in 0 to %d", name, maxLayers-1))
		}
		var l routedLayer
		ids := o.Get(name)
		if with, ok := ids.(*goja.Object); ok && !isList(with) {
			l.weights, ids = s.v.floats("the weights", orUndefined(with.Get("weights"))), orUndefined(with.Get("ids"))
		}
		if l.ids = s.v.ids("the experts", ids); l.weights == nil {
			for range l.ids {
				l.weights = append(l.weights, 1/float32(len(l.ids)))
			}
		}
		if len(l.ids) != len(l.weights) || len(l.ids) > hook.MaxK {
			s.v.throw(faultf(hook.BadValue, "layer %d has %d experts and %d weights: there are as many of both, %d at most", layer, len(l.ids), len(l.weights), hook.MaxK))
		}
		for _, id := range l.ids {
			if id < 0 || id >= maxExperts {
				s.v.throw(faultf(hook.BadID, "expert %d: ids lie in 0 to %d", id, maxExperts-1))
			}
			s.least.experts = max(s.least.experts, int(id)+1)
		}
		s.least.layers, s.least.k = max(s.least.layers, layer+1), max(s.least.k, len(l.ids))
		out[layer] = l
	}
	return out
}

// setModel makes the model as large as it must be, or as the options say.
func (s *stage) setModel(value goja.Value) {
	fields := s.v.fields(runModelKind, value)
	if eos, ok := fields["eos"]; ok {
		s.model.EOS = s.v.ids("eos", eos)
		s.needTokens(s.model.EOS...)
	}
	s.model.Name = "test"
	if name, ok := fields["name"]; ok {
		s.model.Name = s.v.text("the name of the model", name)
	}
	size := func(name string, least, usual, most int) int {
		value, ok := fields[name]
		if !ok {
			return max(least, usual)
		}
		n := s.v.natural("model."+name, value, float64(most))
		if n < least {
			s.v.throw(faultf(hook.BadValue, "model.%s is %d, and the rest of the run has %d", name, n, least))
		}
		return n
	}
	s.model.Tokens = size("tokens", s.least.tokens, usualTokens, maxArray)
	k := size("topK", s.least.k, 2, hook.MaxK)
	s.model.Shape = hook.Shape{K: k, Layers: size("layers", s.least.layers, 4, maxLayers),
		Experts: size("experts", max(s.least.experts, k), 8, maxExperts), Hidden: size("hidden", 1, 4, maxHidden)}
}

// setRequest reads what the script may know of the request.
func (s *stage) setRequest(value goja.Value) {
	s.request = hook.Request{ID: "test", MaxTokens: len(s.rows), Choices: 1}
	fields := s.v.fields(runRequestKind, value)
	if id, ok := fields["id"]; ok {
		s.request.ID = s.v.text("the id of the request", id)
	}
	for name, to := range map[string]*int{"maxTokens": &s.request.MaxTokens, "choice": &s.request.Choice, "choices": &s.request.Choices} {
		if n, ok := fields[name]; ok {
			*to = s.v.natural("request."+name, n, math.MaxInt32)
		}
	}
	if body, ok := fields["body"]; ok {
		if err := json.Unmarshal([]byte(s.v.json(body)), &s.request.Body); err != nil {
			s.v.throw(faultf(hook.BadValue, "the body of the request: %w", err))
		}
	}
}

// scene is what the options come to.
func (s *stage) scene() *rehearse.Scene {
	n := s.model.Shape.Layers * s.model.Shape.K * (len(s.rows) + len(s.routing))
	s.v.atMost("experts of all rows", float64(n), maxRouted)
	scene := &rehearse.Scene{Model: s.model, Seed: s.request.Seed, Choice: s.request.Choice, Prompt: s.prompt,
		Text: func(id int32) string { return s.vocabulary.Decode([]int32{id}) }}
	for i, r := range s.routing {
		scene.Routing = append(scene.Routing, s.record(i, true, r))
	}
	alike := &scores{dense: make([]float32, s.model.Tokens)}
	total := 0
	rows := make([]rehearse.Row, len(s.rows))
	for i, row := range s.rows {
		if row.logits == nil {
			row.logits = alike
		}
		if row.model == nil {
			row.model = row.logits
		}
		rows[i] = rehearse.Row{Entry: s.source(row.logits, &total), Model: s.source(row.model, &total), Drawn: row.token}
		if row.routing != nil {
			record := s.record(len(s.prompt)+i, false, row.routing)
			rows[i].Routing = &record
		}
	}
	scene.Rows = rehearse.Made(rows)
	return scene
}

// source is where logits are read from. Tokens that they do not name cannot be drawn.
func (s *stage) source(from *scores, total *int) hook.Source {
	if from.source != nil {
		return from.source
	}
	never := float32(math.Inf(-1))
	if n := len(from.sparse); n > 0 && n < hook.MaxCandidates {
		list := slices.DeleteFunc(slices.Clone(from.sparse), func(c hook.Candidate) bool { return c.Logit == never })
		slices.SortFunc(list, func(a, b hook.Candidate) int {
			return cmp.Or(cmp.Compare(b.Logit, a.Logit), cmp.Compare(a.ID, b.ID))
		})
		row := make(hook.Plain, len(list))
		for i, c := range list {
			row[i] = c.Logit
		}
		for i := range list {
			list[i].Logprob, _ = row.Logprob(int32(i)) // of a row on the host
		}
		if len(list) > 0 {
			from.source = (&hook.RecordedRow{Top: list}).Source(s.model.Tokens)
			return from.source
		}
	}
	*total += s.model.Tokens
	s.v.atMost("logits in all rows", float64(*total), maxScores)
	row := slices.Repeat([]float32{never}, s.model.Tokens)
	copy(row, from.dense)
	for _, c := range from.sparse {
		row[c.ID] = c.Logit
	}
	from.source = hook.Plain(row)
	return from.source
}

// record is the routing of the row at a position.
func (s *stage) record(position int, prompt bool, from routed) hook.Record {
	shape := s.model.Shape
	r := hook.Record{Position: position, Prompt: prompt, Layers: shape.Layers, K: shape.K, IDs: make([]uint16, shape.Layers*shape.K), Weights: make([]float32, shape.Layers*shape.K)}
	for i := range r.IDs {
		r.IDs[i] = hook.NoExpert
	}
	for layer, l := range from {
		for i, id := range l.ids {
			r.IDs[layer*shape.K+i], r.Weights[layer*shape.K+i] = uint16(id), l.weights[i]
		}
	}
	return r
}

// env is what the script may know.
func (s *stage) env(vectors func(string) ([]float32, error)) Env {
	env := Env{Params: s.params, Model: s.model, Request: s.request, Vectors: vectors, Now: time.Unix(0, 0).UTC()}
	if s.vocabulary != nil {
		env.Tokenizer = s.vocabulary
	}
	return env
}
