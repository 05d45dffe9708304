// Package compat holds the program to what workbench/docs/compatibility.md promises: each
// promise is a list in testdata that only grows, and a test.
package compat

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
	pluginv1 "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/workbench/config"
	"github.com/roundhouse-ai/roundhouse/workbench/docs"
	"github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/live"
	"github.com/roundhouse-ai/roundhouse/workbench/openai"
)

var update = flag.Bool("update", false, "add what is new to the lists of promises")

// keeps compares what there is with what was promised. What is gone breaks the promise;
// what is new must be in the list, where -update puts it.
func keeps(t *testing.T, list string, now []string) {
	t.Helper()
	file := "testdata/" + list
	text, err := os.ReadFile(file)
	if err != nil && !(*update && errors.Is(err, os.ErrNotExist)) {
		t.Fatal(err)
	}
	promised := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range promised {
		if line != "" && !slices.Contains(now, line) {
			t.Errorf("%s: %q was promised and is gone: keep it, or begin a new version", list, line)
		}
	}
	missing := 0
	for _, line := range now {
		if !slices.Contains(promised, line) {
			if missing++; !*update {
				t.Errorf("%s: %q is new: go test ./workbench/compat -update promises it", list, line)
			}
		}
	}
	if *update && missing > 0 && !t.Failed() {
		all := slices.Compact(slices.Sorted(slices.Values(append(promised, now...))))
		if err := os.WriteFile(file, []byte(strings.TrimSpace(strings.Join(all, "\n"))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// members lists what scripts see: "Logits.ban(ids: Ids): this".
func members(declarations string) (list []string) {
	var of string
	for line := range strings.Lines(declarations) {
		line = strings.TrimSpace(line)
		if name := regexp.MustCompile(`^export interface (\w+)`).FindStringSubmatch(line); name != nil {
			of = name[1]
			list = append(list, strings.TrimSuffix(line, " {"))
			continue
		}
		if of == "" || line == "" || strings.HasPrefix(line, "/**") || line == "}" {
			if line == "}" {
				of = ""
			}
			continue
		}
		list = append(list, of+"."+strings.TrimSuffix(line, ";"))
	}
	return list
}

// What a script of api 1 uses stays.
func TestScriptAPI1(t *testing.T) { keeps(t, "script-api-1.txt", members(scripts.Declarations())) }

// A script that is written for a newer api is refused, with both versions named.
func TestNewerScriptAPI(t *testing.T) {
	host := scripts.NewHost(scripts.Options{})
	defer host.Close()
	_, err := host.Load(t.Context(), fstest.MapFS{"new.ts": {Data: []byte(`export default { api: 2, hooks() { return {} } };`)}}, "new.ts")
	if err == nil || !strings.Contains(err.Error(), "api 2") || !strings.Contains(err.Error(), "api 1") {
		t.Errorf("a script of api 2: %v", err)
	}
}

// fields lists the fields of JSON: "hook.calls int".
func fields(name string, of reflect.Type) (list []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case tag == "-" || !f.IsExported() && !f.Anonymous:
		case f.Anonymous && tag == "" && inner.Kind() == reflect.Struct:
			list = append(list, fields(name, inner)...)
		default:
			list = append(list, fmt.Sprintf("%s.%s %s", name, tag, f.Type))
		}
	}
	return list
}

// What replies, events and reports say under a name they go on saying.
func TestReplies1(t *testing.T) {
	var list []string
	for name, value := range map[string]any{
		"roundhouse": openai.HookUse{}, "roundhouse.scripts": openai.ScriptUse{}, "choice.roundhouse": openai.ChoiceExtension{},
		"token": openai.TokenData{}, "routing": openai.RoutingData{}, "report": hook.Usage{},
		"event": events.Event{}, "event.hook": hooks.Noted{}, "event.script": hooks.Reloaded{},
		"event.plugin_state": host.Changed{}, "event.plugin_log": host.Logged{}, "event.plugin_event": host.Told{}, "plugins": host.Stat{}, "plugins.lines": host.Line{},
	} {
		list = append(list, fields(name, reflect.TypeOf(value))...)
	}
	keeps(t, "replies-1.txt", list)
}

// What the live protocol says it goes on saying. Frames of tokens, which have no names, are
// held by the test of workbench/live that reads the bytes of an old one.
func TestLive1(t *testing.T) {
	var list []string
	for name, value := range map[string]any{
		"hello": live.Hello{}, "hello.model": live.Model{}, "stream": live.Stream{}, "event": live.Event{}, "stats": live.Stats{}, "stats.phases": live.Phase{},
		"stats.memory": live.Memory{}, "stats.hooks": live.HookCost{}, "dropped": live.Dropped{}, "steered": live.Steered{}, "paced": live.Paced{},
		"error": live.Failed{}, "command": live.Command{},
	} {
		list = append(list, fields(name, reflect.TypeOf(value))...)
	}
	keeps(t, "live-1.txt", list)
	if live.Protocol != 1 || live.Subprotocol != "roundhouse.live.v1" {
		t.Errorf("protocol %d, %s", live.Protocol, live.Subprotocol)
	}
}

// settings lists the settings of a configuration: "engine.device string".
func settings(prefix string, of reflect.Type) (list []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		name := prefix + f.Tag.Get("toml")
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == of.PkgPath() && f.Tag.Get("help") == "" {
			list = append(list, settings(name+".", f.Type)...)
			continue
		}
		list = append(list, name+" "+f.Type.String())
	}
	return list
}

// The messages of plugins only grow: fields keep their numbers and types.
func TestPluginProtocol1(t *testing.T) {
	var list []string
	file := pluginv1.File_roundhouse_plugin_v1_plugin_proto
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			list = append(list, fmt.Sprintf("%s.%s = %d %v %v", m.Name(), f.Name(), f.Number(), f.Cardinality(), f.Kind()))
		}
	}
	for i := range file.Enums().Len() {
		e := file.Enums().Get(i)
		for j := range e.Values().Len() {
			list = append(list, fmt.Sprintf("%s = %d", e.Values().Get(j).Name(), e.Values().Get(j).Number()))
		}
	}
	service := file.Services().Get(0)
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		list = append(list, fmt.Sprintf("%s(%s) %s", m.Name(), m.Input().Name(), m.Output().Name()))
	}
	keeps(t, "plugin-1.txt", list)
}

// A file that was read is read by later versions.
func TestConfig1(t *testing.T) {
	keeps(t, "config-1.txt", settings("", reflect.TypeOf(config.Config{})))
}

// A recording of version 1 is read for ever, and fields that later versions add are
// passed over.
func TestRecording1(t *testing.T) {
	text, err := os.ReadFile("testdata/recording-1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"as it was written": text, "with fields of later versions": bytes.ReplaceAll(text, []byte(`{"position"`), []byte(`{"later":[1],"position"`)),
	} {
		r, err := hook.ReadRecording(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Hook != "steady" || len(r.Prompt) == 0 || len(r.Steps) < 3 || r.Steps[1].Entry == nil || r.Steps[1].Token == nil || r.Finish == nil {
			t.Errorf("%s: it reads as %+v", name, r)
		}
	}
}

// Each promise of the handbook has its test, and each test its promise.
func TestHandbookNamesEachTest(t *testing.T) {
	page, err := docs.Files.ReadFile("compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("compat_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)`).FindAllSubmatch(source, -1) {
		if name := string(m[1]); name != t.Name() {
			there = append(there, name)
		}
	}
	var named []string
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1) {
		named = append(named, string(m[1]))
	}
	slices.Sort(there)
	slices.Sort(named)
	if !slices.Equal(there, named) {
		t.Errorf("the page names %v, there are %v", named, there)
	}
}
