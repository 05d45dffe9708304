package scripts

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hook/rehearse"
)

// shown is a course on its way to a test.
type shown struct {
	course *rehearse.Course
	spell  func(rehearse.Step) string
	size   int // ids and bytes that were shown
	layers map[*hook.Steering]goja.Value
	empty  goja.Value // an array, and an object, of which one will do
	none   goja.Value
}

// maxShown bounds what a test is shown of a run: ids of edits, bytes of steering.
const maxShown = 1 << 20

// everyStep stands for the index of a step where all are meant.
const everyStep = -2

// show makes of a course what a test sees.
func (v *vm) show(k *kind, course *rehearse.Course, spell func(rehearse.Step) string) goja.Value {
	s := &shown{course: course, spell: spell, layers: map[*hook.Steering]goja.Value{}, empty: v.frozen(v.rt.NewArray()), none: v.frozen(v.rt.NewObject())}
	return v.record(k, s)
}

// record makes a plain object of the properties of a kind; those that are nil are left
// out.
func (v *vm) record(k *kind, what any) *goja.Object {
	o := v.rt.NewObject()
	for of := k; of != nil; of = of.extends {
		for _, m := range of.members {
			if m.of == nil {
				continue
			}
			if x := m.of(v, what); x != nil {
				_ = o.DefineDataProperty(m.name(), v.value(x), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
			}
		}
	}
	return o
}

// frozen keeps an object that is shown more than once from being changed.
func (v *vm) frozen(o *goja.Object) goja.Value {
	freeze, _ := goja.AssertFunction(v.natives.freeze)
	return call(freeze, goja.Undefined(), o)
}

// numbersOf is an array of numbers.
func numbersOf[T int32 | float32](v *vm, list []T) goja.Value {
	out := make([]any, len(list))
	for i, x := range list {
		switch x := any(x).(type) {
		case float32:
			out[i] = decimal(x)
		default:
			out[i] = x
		}
	}
	return v.rt.NewArray(out...)
}

// decimal is the number that has the fewest digits of those that are x in 32 bits: 0.8
// stays 0.8.
func decimal(x float32) float64 {
	d, err := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
	if err != nil {
		return float64(x)
	}
	return d
}

// spend counts what is shown.
func (s *shown) spend(v *vm, n int) {
	if s.size += n; s.size > maxShown {
		v.throw(faultf(hook.BadValue, "the edits and steering of the run are too many to be shown: %d ids and bytes at most", maxShown))
	}
}

// kept lists the steps whose tokens were not taken back.
func (s *shown) kept() (list []rehearse.Step) {
	start := len(s.course.Prompt)
	for _, step := range s.course.Steps {
		list = list[:min(len(list), step.Position-start)]
		if step.ID >= 0 {
			list = append(list, step)
		}
	}
	return list
}

func (s *shown) ids() (ids []int32) {
	for _, step := range s.kept() {
		ids = append(ids, step.ID)
	}
	return ids
}

// recorded are the tokens of a recording.
func (s *shown) recorded() (ids []int32) {
	for _, step := range s.kept() {
		if step.Told != nil {
			ids = append(ids, step.Told.ID)
		}
	}
	return ids
}

func (s *shown) text() string {
	var text strings.Builder
	for _, step := range s.kept() {
		text.WriteString(s.spell(step))
	}
	return text.String()
}

// shownStep is a step of a course on its way to a test.
type shownStep struct {
	*rehearse.Step
	index   int
	run     *shown
	notices []*rehearse.Notice
}

func (s *shown) steps(v *vm) goja.Value {
	notices := map[int][]*rehearse.Notice{}
	for i := range s.course.Notices {
		n := &s.course.Notices[i]
		notices[n.Step] = append(notices[n.Step], n)
	}
	out := make([]any, len(s.course.Steps))
	for i := range out {
		out[i] = v.record(stepKind, &shownStep{&s.course.Steps[i], i, s, notices[i]})
	}
	return v.rt.NewArray(out...)
}

// logged is the name of notices that are lines of the log.
const logged = "log"

// told is the value of a notice.
func (v *vm) told(value any) goja.Value {
	if text, ok := value.(json.RawMessage); ok {
		return v.parsed(string(text))
	}
	return v.rt.ToValue(value)
}

func (s *shown) events(v *vm) goja.Value {
	var out []any
	for i := range s.course.Notices {
		if n := &s.course.Notices[i]; n.Name != logged {
			out = append(out, v.record(eventKind, n))
		}
	}
	return v.rt.NewArray(out...)
}

// log lists the lines of the log of a step, or of all.
func (s *shown) log(v *vm, step int) goja.Value {
	var out []any
	for _, n := range s.course.Notices {
		if n.Name == logged && (step == everyStep || n.Step == step) {
			out = append(out, n.Value)
		}
	}
	if out == nil {
		return s.empty
	}
	return v.rt.NewArray(out...)
}

func (s *shownStep) events(v *vm) goja.Value {
	var out *goja.Object
	for _, n := range s.notices {
		if n.Name == logged {
			continue
		}
		if out == nil {
			out = v.rt.NewObject()
		}
		_ = out.DefineDataProperty(n.Name, v.told(n.Value), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
	}
	if out == nil {
		return s.run.none
	}
	return out
}

func (s *shownStep) scale() float64 {
	if s.Edits == nil {
		return 1
	}
	return decimal(s.Edits.Scale)
}

func (s *shownStep) bias(v *vm) goja.Value {
	var out *goja.Object
	if s.Edits != nil {
		s.run.spend(v, len(s.Edits.Bias))
		for _, b := range s.Edits.Bias {
			if math.IsInf(float64(b.Value), -1) {
				continue
			}
			if out == nil {
				out = v.rt.NewObject()
			}
			_ = out.Set(index(int(b.ID)), decimal(b.Value))
		}
	}
	if out == nil {
		return s.run.none
	}
	return out
}

// banned lists the ids that were banned one by one.
func (s *shownStep) banned(v *vm) goja.Value {
	ids := map[int32]bool{}
	for _, e := range s.List {
		if e.Op == hook.Ban || e.Op == hook.Bias && math.IsInf(float64(e.Value), -1) {
			s.run.spend(v, len(e.IDs))
			for _, id := range e.IDs {
				ids[id] = true
			}
		}
	}
	if len(ids) == 0 {
		return s.run.empty
	}
	return numbersOf(v, slices.Sorted(maps.Keys(ids)))
}

// only lists what only left, less what was banned.
func (s *shownStep) only(v *vm) any {
	said := slices.ContainsFunc(s.List, func(e hook.Edit) bool { return e.Op == hook.Only })
	if !said || s.Edits == nil {
		return nil
	}
	var ids []int32
	for i, word := range s.Edits.Mask {
		for bit := range int32(32) {
			if word>>bit&1 == 1 {
				ids = append(ids, int32(32*i)+bit)
			}
		}
	}
	s.run.spend(v, len(ids))
	return numbersOf(v, ids)
}

// steered is steering as the API has it; nil for none.
func (s *shown) steered(v *vm, steering *hook.Steering) any {
	if steering == nil {
		return nil
	}
	if known, ok := s.layers[steering]; ok {
		return known
	}
	form := map[string]any{}
	text, err := json.Marshal(steering)
	if err == nil {
		err = json.Unmarshal(text, &form)
	}
	if err != nil {
		v.throw(err)
	}
	vectors, _ := form["vectors"].([]any)
	for _, of := range vectors {
		if vector, ok := of.(map[string]any); ok && vector["name"] != nil {
			delete(vector, "values")
		}
	}
	s.spend(v, len(text))
	out := v.deepFrozen(v.plain(form))
	s.layers[steering] = out
	return out
}

// deepFrozen freezes plain data: several steps have it.
func (v *vm) deepFrozen(value goja.Value) goja.Value {
	o, ok := value.(*goja.Object)
	if !ok {
		return value
	}
	for _, name := range o.Keys() {
		v.deepFrozen(o.Get(name))
	}
	return v.frozen(o)
}
