package hooks

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

var model = hook.Model{Name: "small", Shape: hook.Shape{Layers: 2, Experts: 8, K: 2, Hidden: 3}, Tokens: 8, EOS: []int32{7}}

// text is a script with nothing in it but what is given.
func text(fields, handlers string) string {
	return `import { script } from "roundhouse";
export default script({ api: 1, ` + fields + ` hooks({ steer, log }) { return { ` + handlers + ` }; } });`
}

func write(t *testing.T, file string, data string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, []byte(data), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func owner(t *testing.T, o Options) *Owner {
	t.Helper()
	owner := New(o)
	owner.SetModel(model, nil)
	t.Cleanup(func() {
		if err := owner.Close(); err != nil {
			t.Error(err)
		}
	})
	return owner
}

// refused asks for something and returns how it is refused.
func refused(t *testing.T, o *Owner, ask Ask) *Error {
	t.Helper()
	_, err := o.Prepare(t.Context(), ask)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%+v: %v is no *Error", ask, err)
	}
	return e
}

func TestNothingIsOpenedBeforeItIsAskedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scripts")
	o := owner(t, Options{Dir: dir})
	if set, err := o.Prepare(t.Context(), Ask{}); set != nil || err != nil || o.Abandoned() != 0 {
		t.Errorf("%v, %v", set, err)
	}
	if e := refused(t, o, Ask{Scripts: []string{"a"}}); e.Status != http.StatusNotFound || !strings.Contains(e.Error(), dir) {
		t.Errorf("%d %v", e.Status, e)
	}
	write(t, filepath.Join(dir, "a.ts"), text("", ""))
	if set, err := o.Prepare(t.Context(), Ask{Scripts: []string{"a"}}); set == nil || err != nil {
		t.Errorf("a folder that came later: %v", err)
	}
	if e := refused(t, owner(t, Options{}), Ask{Scripts: []string{"a"}}); e.Status != http.StatusNotFound || !strings.Contains(e.Error(), "of the library ablate") {
		t.Errorf("%v", e)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "good.ts"), text("", ""))
	write(t, filepath.Join(dir, "bad.ts"), "5 +;")
	write(t, filepath.Join(dir, "needy.ts"), text(`params: { x: { type: "number" } },`, ""))
	for use, want := range map[string]string{"good": "", "bad": "bad.ts:1:", "needy": "must be given", "none": "there are bad, good, needy"} {
		err := owner(t, Options{Dir: dir, Use: []string{use}}).Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", use, err, want)
		}
	}
	if e := refused(t, owner(t, Options{Dir: dir, Use: []string{"none"}}), Ask{}); e.Status != http.StatusInternalServerError || e.Field != "" {
		t.Errorf("a script of every request that is not there: %+v", e)
	}
}

// Reloads of files are told, and a version that does not work is a warning.
func TestReloads(t *testing.T) {
	var mu sync.Mutex
	var told []string
	dir := t.TempDir()
	o := owner(t, Options{Dir: dir, Publish: func(kind, _ string, data any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%s %s", kind, data.(Reloaded).Script))
	}})
	ask := Ask{Scripts: []string{"a"}}
	for i, file := range []string{text("", ""), text("", "logits() {}"), "5 +;"} {
		write(t, filepath.Join(dir, "a.ts"), file)
		set, err := o.Prepare(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Warnings(); (len(got) > 0) != (i == 2) {
			t.Errorf("version %d: warnings %q", i, got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"script_reload a", "script_fault a"}; !slices.Equal(told, want) {
		t.Errorf("%q, want %q", told, want)
	}
}

// What a script that runs changed into is in the report, by choice.
func TestScriptsOfAChoice(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.ts"), text("", `logits(l) { log(1); }`))
	var mu sync.Mutex
	var notes []Noted
	o := owner(t, Options{Dir: dir, Budget: time.Second, Publish: func(_, _ string, data any) {
		if n, ok := data.(Noted); ok {
			mu.Lock()
			defer mu.Unlock()
			notes = append(notes, n)
		}
	}})
	set, err := o.Prepare(t.Context(), Ask{ID: "r", Scripts: []string{"a"}, OnError: "fail", Steer: json.RawMessage(`{"layers":{"0":{"gate":0.5}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	h := set.Hooking(t.Context(), hook.Request{Choices: 2, Body: json.RawMessage(`{"x":1}`)}, 4)
	if h.OnError != hook.Fail || h.Budget != time.Second || h.Steer.Layer(0).Gate != .5 {
		t.Errorf("%+v", h)
	}
	list, err := h.Start(1)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, Notify: func(n hook.Notice) { h.Notify(1, n) }}, list...)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	write(t, filepath.Join(dir, "a.ts"), text("", `logits(l) { log(2); }`))
	position := 3
	for ; len(set.Scripts(5)[0].Changes) == 0; position++ {
		if position > 10000 {
			t.Fatal("the script does not follow its file")
		}
		if _, err := chain.Logits(hook.At{Position: position}, nil, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	use := set.Scripts(5)[0]
	if use.Name != "a" || len(use.Changes) != 1 || use.Changes[position-1] == "" || use.Changes[position-1] == use.Digest || set.Scripts(1) != nil {
		t.Errorf("%+v at %d", use, position)
	}
	mu.Lock()
	defer mu.Unlock()
	if first, last := notes[0], notes[len(notes)-1]; first.Choice != 5 || first.Value != "1" || last.Value != "2" {
		t.Errorf("%+v, %+v", first, last)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err   error
		field string
		want  Error
	}{
		{&scripts.BusyError{Reason: "x"}, "source", Error{Status: 503, Code: "scripts_busy", Retry: retry}},
		{&scripts.LoadError{File: "a.ts"}, "source", Error{Status: 400, Code: "script_broken", Field: "source"}},
		{&scripts.LoadError{File: "a.ts"}, "script", Error{Status: 500, Code: "script_broken", Field: "script"}},
		{&hook.ParamError{Name: "x", Err: errors.New("y")}, "params", Error{Status: 400, Code: "invalid_value", Field: "params.x"}},
		{errors.New("no processes"), "params", Error{Status: 500, Code: "hooks_unavailable"}},
	} {
		e := refuse(fmt.Errorf("around: %w", c.err), c.field)
		status, code, field, again := e.Refusal()
		if got := (Error{Status: status, Code: code, Field: field, Retry: again}); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.err, got, c.want)
		}
	}
}

// tensors is a file of tensors of one type.
func tensors(dtype string, shape string, data []byte, names ...string) string {
	var entries []string
	for i, name := range names {
		entries = append(entries, fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, dtype, shape, i*len(data), (i+1)*len(data)))
	}
	header := "{" + strings.Join(entries, ",") + "}"
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return string(out) + header + strings.Repeat(string(data), len(names))
}

func floatBytes(values ...float32) (out []byte) {
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

func halfBytes(values ...uint16) (out []byte) {
	for _, v := range values {
		out = binary.LittleEndian.AppendUint16(out, v)
	}
	return out
}

func TestVectors(t *testing.T) {
	dir := t.TempDir()
	f32 := floatBytes(1, -.5, 0)
	for name, data := range map[string]string{
		"one":    tensors("F32", "[3]", f32, "any"),
		"two":    tensors("F32", "[3]", f32, "early", "late"),
		"in/one": tensors("BF16", "[3]", halfBytes(0x3f80, 0xbf00, 0), "v"),
		"half":   tensors("F16", "[3]", halfBytes(0x3c00, 0xb800, 0x0001), "v"),
		"flat":   tensors("F32", "[1,3]", f32, "v"),
		"long":   tensors("F32", "[4]", floatBytes(1, 2, 3, 4), "v"),
		"ints":   tensors("I32", "[3]", f32, "v"),
		"nan":    tensors("F32", "[3]", floatBytes(1, float32(math.NaN()), 0), "v"),
		"cut":    "short",
	} {
		write(t, filepath.Join(dir, name+".safetensors"), data)
	}
	outside := filepath.Join(t.TempDir(), "out.safetensors")
	write(t, outside, tensors("F32", "[3]", f32, "v"))
	if err := os.Symlink(outside, filepath.Join(dir, "link.safetensors")); err != nil {
		t.Fatal(err)
	}
	get := newVectors(dir).get(3)
	for name, want := range map[string][]float32{
		"one": {1, -.5, 0}, "one/any": {1, -.5, 0}, "two/late": {1, -.5, 0}, "in/one": {1, -.5, 0}, "in/one/v": {1, -.5, 0}, "half": {1, -.5, 1. / (1 << 24)},
	} {
		if got, err := get(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"two": "name one of them", "two/mid": `["early" "late"]`, "none": "no file for it", "flat": "one dimension", "long": "hidden size is 3", "ints": "of type I32",
		"nan": "NaN", "cut": "5 bytes", "link": "escapes", "../one": "names are made of", "One": "names are made of", "": "names are made of",
	} {
		if got, err := get(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", name, got, err, want)
		}
	}
	if _, err := newVectors("").get(3)("one"); err == nil || !strings.Contains(err.Error(), "scripts.vectors") {
		t.Errorf("%v", err)
	}
	got, _ := get("one")
	got[0] = 99
	if again, _ := get("one"); again[0] != 1 {
		t.Error("what is kept can be written to")
	}
	write(t, filepath.Join(dir, "one.safetensors"), tensors("F32", "[3]", floatBytes(7, 7, 7), "another"))
	if now, err := get("one"); err != nil || now[0] != 7 {
		t.Errorf("a file that changed: %v, %v", now, err)
	}
	o := owner(t, Options{Vectors: dir})
	set, err := o.Prepare(t.Context(), Ask{Steer: json.RawMessage(`{"vectors":[{"name":"half","layer":1,"scale":2}]}`)})
	if err != nil || set.steer.Vectors()[0].Scale != 2 {
		t.Errorf("%+v, %v", set, err)
	}
	if e := refused(t, o, Ask{Steer: json.RawMessage(`{"vectors":[{"name":"long","layer":1}]}`)}); e.Field != "steer.vectors.0" {
		t.Errorf("%+v", e)
	}
}

// Scripts and vectors of the library are found by their names without any folder.
func TestTheLibraryNeedsNoFolder(t *testing.T) {
	o := owner(t, Options{})
	if set, err := o.Prepare(t.Context(), Ask{Scripts: []string{"watermark"}}); err != nil || set == nil {
		t.Errorf("watermark: %v", err)
	}
	if e := refused(t, o, Ask{Scripts: []string{"nowhere"}}); e.Status != http.StatusNotFound || !strings.Contains(e.Error(), "of the library ablate") {
		t.Errorf("a script that is nowhere: %v", e)
	}
	if v, err := newVectors("").find("cheer", 256); err != nil || len(v) != 256 {
		t.Errorf("the vector of the library: %d values, %v", len(v), err)
	}
}
