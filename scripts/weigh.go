package scripts

import (
	"fmt"
	"reflect"
	"runtime/metrics"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// How much the memory of the process may grow while a machine runs for longer than
// watch: the more, the longer it runs, for others take some too. A text that doubles is
// stopped when it has taken up to four times as much, and all streams wait while memory
// of that size is copied. Where there is no budget, calls may last, and a false alarm
// would spoil an experiment.
const (
	swellAtOnce = 16 << 20
	swellAMilli = 1 << 20 // more for each millisecond
	swellAtMost = 64 << 20
	swellAtAll  = 256 << 20 // without a budget
)

func swell(spent time.Duration) uint64 {
	return min(swellAtOnce+uint64(spent/time.Millisecond)*swellAMilli, swellAtMost)
}

// heapBytes is what lies on the heap, garbage included.
func heapBytes() uint64 { return sample("/memory/classes/heap/objects:bytes") }

// allocated is what was ever taken of the heap.
func allocated() uint64 { return sample("/gc/heap/allocs:bytes") }

func sample(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// scale weighs what a machine holds between its calls. goja does not say, so the scale
// goes through all that can be reached: not all of it (what closures of Go hold, and
// what a piece of a text keeps of the whole), but what scripts make.
type scale struct {
	most  int    // bytes
	heavy string // what was too much; "" for nothing

	roots []*goja.Object // what is kept of the machine outside of it
	calls int
	taken uint64 // allocated when it was weighed last
	when  time.Time
	took  time.Duration
}

// When to weigh: not at every call, and not for more than a part of the time.
const (
	weighCalls = 16                     // so many calls later,
	weighLong  = 500 * time.Microsecond // or after one that took so long,
	weighTaken = 8 << 20                // if the process took so many bytes,
	weighPart  = 10                     // and so many times as long as the last time took has gone by,
	weighMust  = 4                      // or the process took so many times as much.
	maxKept    = 4 << 20                // bytes of a text that it may hold: longer ones cannot be copied in time
	maxThings  = 1 << 18                // things that a machine may hold
)

// fault is that of a machine that holds too much; nil for none.
func (s *scale) fault() error {
	if s.heavy == "" {
		return nil
	}
	return faultf(hook.OutOfMemory, "the script holds %s", s.heavy)
}

// check weighs the machine where it is time to, after a call that took some time.
func (s *scale) check(rt *goja.Runtime, took time.Duration) {
	if s.calls++; s.calls%weighCalls != 0 && took < weighLong || s.heavy != "" {
		return
	}
	taken := allocated() - s.taken
	if taken < weighTaken || taken < weighMust*weighTaken && time.Since(s.when) < weighPart*s.took {
		return
	}
	began := time.Now()
	w := weighing{seen: map[unsafe.Pointer]struct{}{}, most: s.most}
	w.reach(reflect.ValueOf(rt))
	for _, o := range s.roots {
		w.reach(reflect.ValueOf(o))
	}
	w.run()
	s.taken, s.when, s.took = allocated(), time.Now(), time.Since(began)
	switch {
	case w.longest > maxKept:
		s.heavy = fmt.Sprintf("a text of %d MiB, where %d may be", w.longest>>20, maxKept>>20)
	case w.bytes > s.most:
		s.heavy = fmt.Sprintf("more than %d MiB", s.most>>20)
	case len(w.seen) > maxThings:
		s.heavy = fmt.Sprintf("more than %d values", maxThings)
	}
}

// weighing goes through what can be reached, each thing once.
type weighing struct {
	seen    map[unsafe.Pointer]struct{}
	todo    []reflect.Value
	bytes   int
	longest int // of the texts
	most    int
}

func (w *weighing) run() {
	for len(w.todo) > 0 && w.bytes <= w.most && len(w.seen) <= maxThings {
		last := len(w.todo) - 1
		v := w.todo[last]
		w.todo = w.todo[:last]
		w.reach(v)
	}
}

// first says whether something is met for the first time.
func (w *weighing) first(p unsafe.Pointer) bool {
	if p == nil {
		return false
	}
	if _, met := w.seen[p]; met {
		return false
	}
	w.seen[p] = struct{}{}
	return true
}

// reach counts what a value refers to, and keeps for later what that refers to.
func (w *weighing) reach(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if ours(v.Type().Elem()) && w.first(v.UnsafePointer()) {
			w.bytes += int(v.Type().Elem().Size())
			w.todo = append(w.todo, v.Elem())
		}
	case reflect.Interface:
		if e := v.Elem(); e.IsValid() {
			if e.Kind() != reflect.Pointer {
				w.bytes += int(e.Type().Size())
			}
			w.reach(e)
		}
	case reflect.String:
		if text := v.String(); len(text) > 0 && w.first(unsafe.Pointer(unsafe.StringData(text))) {
			w.bytes += len(text)
			w.longest = max(w.longest, len(text))
		}
	case reflect.Slice:
		if w.first(v.UnsafePointer()) {
			w.bytes += v.Cap() * int(v.Type().Elem().Size())
			if v.Type().Elem().Kind() == reflect.Uint16 { // a text with other letters than those of ASCII
				w.longest = max(w.longest, 2*v.Len())
			}
			w.each(v)
		}
	case reflect.Array:
		w.each(v)
	case reflect.Map:
		if w.first(v.UnsafePointer()) {
			w.bytes += v.Len() * (16 + int(v.Type().Elem().Size()+v.Type().Key().Size()))
			for i := v.MapRange(); i.Next(); {
				w.todo = append(w.todo, i.Key(), i.Value())
			}
		}
	case reflect.Struct:
		for _, i := range referring(v.Type()) {
			w.reach(v.Field(i))
		}
	}
}

func (w *weighing) each(v reflect.Value) {
	if !refers(v.Type().Elem()) {
		return
	}
	for i := range v.Len() {
		w.reach(v.Index(i))
	}
}

// ours says whether a type is one of values of JavaScript, handles among them, and not
// of compiled code, which machines share.
func ours(t reflect.Type) bool {
	if t == handleType.Elem() {
		return true
	}
	if path := t.PkgPath(); path != "" && !strings.HasPrefix(path, "github.com/dop251/goja") {
		return false
	}
	return t != reflect.TypeFor[goja.Program]() && t.Name() != "objectTemplate" && refers(t)
}

// refers says whether values of a type can refer to others.
func refers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.String, reflect.Slice, reflect.Map:
		return true
	case reflect.Array:
		return refers(t.Elem())
	case reflect.Struct:
		return true
	}
	return false
}

// plans are the fields of types that refer to something.
var plans sync.Map // of reflect.Type to []int

func referring(t reflect.Type) []int {
	if plan, ok := plans.Load(t); ok {
		return plan.([]int)
	}
	var plan []int
	for i := range t.NumField() {
		if refers(t.Field(i).Type) {
			plan = append(plan, i)
		}
	}
	plans.Store(t, plan)
	return plan
}
