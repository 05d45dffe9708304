package chat

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// outputCase is one line of the tool-call goldens.
type outputCase struct {
	id, text string
	opts     OutputOptions
	want     Output
}

func readOutputs(t testing.TB, dir, name, ext string) []outputCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "tools.json"))
	if err != nil {
		t.Fatal(err)
	}
	tools, err := DecodeJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	var list []outputCase
	for _, m := range readLines(t, filepath.Join(dir, name+ext)) {
		c := outputCase{id: field[String](m, "id").text, text: field[String](m, "text").text}
		c.opts.InReasoning = bool(field[Bool](m, "in_reasoning"))
		if name == "xml" {
			c.opts.Style = XMLCalls
		}
		if field[String](m, "tools").text != "" {
			c.opts.Tools = tools
		}
		expected := field[*Map](m, "expected")
		c.want.Content = field[String](expected, "content").text
		c.want.Reasoning = field[String](expected, "reasoning_content").text
		for _, v := range field[*List](expected, "tool_calls").All() {
			call := v.(*Map)
			c.want.Calls = append(c.want.Calls, ToolCall{field[String](call, "name").text, field[String](call, "arguments").text})
		}
		for _, v := range field[*List](expected, "unparsed").All() {
			c.want.Unparsed = append(c.want.Unparsed, v.(String).text)
		}
		list = append(list, c)
	}
	return list
}

// sameOutput compares arguments as values, and leaves Between out.
func sameOutput(t *testing.T, got, want Output) string {
	normal := func(o Output) Output {
		o.Between = nil
		calls := append([]ToolCall(nil), o.Calls...)
		for i, c := range calls {
			if !json.Valid([]byte(c.Arguments)) {
				t.Errorf("arguments are not JSON: %s", c.Arguments)
			}
			v, err := decodeJSON(c.Arguments)
			if err != nil {
				t.Error(err)
				continue
			}
			if calls[i].Arguments, err = EncodeJSON(v); err != nil {
				t.Error(err)
			}
		}
		o.Calls = calls
		return o
	}
	return cmp.Diff(normal(want), normal(got))
}

// pushAll parses the pieces, and checks that the deltas add up to the output.
func pushAll(t testing.TB, pieces []string, opts OutputOptions) Output {
	t.Helper()
	p := NewParser(opts)
	var sum Output
	add := func(deltas []Delta) {
		for _, d := range deltas {
			sum.Reasoning += d.Reasoning
			sum.Content += d.Content
			if d.Call != nil {
				sum.Calls = append(sum.Calls, *d.Call)
			}
		}
	}
	for _, piece := range pieces {
		add(p.Push(piece))
	}
	add(p.Finish())
	out := p.Output()
	if sum.Reasoning != out.Reasoning || sum.Content != out.Content || !reflect.DeepEqual(sum.Calls, out.Calls) {
		t.Fatalf("deltas add up to %+v, the output is %+v", sum, out)
	}
	return out
}

// cuts are ways to cut a text.
func cuts(text string, random *rand.Rand) map[string][]string {
	ways := map[string][]string{"whole": {text}}
	for _, name := range []string{"random 1", "random 2", "random 3"} {
		rest := text
		for rest != "" {
			n := 1 + random.IntN(min(len(rest), 24))
			ways[name] = append(ways[name], rest[:n])
			rest = rest[n:]
		}
	}
	for i := range len(text) {
		ways["bytes"] = append(ways["bytes"], text[i:i+1])
	}
	return ways
}

func checkOutputs(t *testing.T, cases []outputCase) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range cases {
		whole := ParseOutput(c.text, c.opts)
		if diff := sameOutput(t, whole, c.want); diff != "" {
			t.Errorf("%s: %q (-want +got):\n%s", c.id, c.text, diff)
			continue
		}
		for name, pieces := range cuts(c.text, random) {
			if got := pushAll(t, pieces, c.opts); !reflect.DeepEqual(got, whole) {
				t.Errorf("%s, %s: (-whole +cut):\n%s", c.id, name, cmp.Diff(whole, got))
			}
		}
	}
}

func TestOutputGoldens(t *testing.T) {
	for _, name := range []string{"json", "xml"} {
		t.Run(name, func(t *testing.T) { checkOutputs(t, readOutputs(t, "testdata/toolcalls", name, ".jsonl.gz")) })
	}
}

func TestOutputGoldensShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: the committed copy of these goldens was tested")
	}
	for _, name := range []string{"json", "xml"} {
		t.Run(name, func(t *testing.T) {
			checkOutputs(t, readOutputs(t, filepath.Join(dir, "goldens", "toolcalls"), name, ".jsonl"))
		})
	}
}

const (
	goodJSON = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"
	goodXML  = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
)

// TestOutputBeside holds what the goldens leave open.
func TestOutputBeside(t *testing.T) {
	tools := NewList(NewMap())
	f := ToolCall{"f", `{"a": 1}`}
	text := ToolCall{"f", `{"a": "1"}`}
	for _, c := range []struct {
		name string
		text string
		opts OutputOptions
		want Output
	}{
		{"broken then good", "A\n<tool_call>{bad}</tool_call>\n" + goodJSON, OutputOptions{},
			Output{Content: "A", Calls: []ToolCall{f}, Unparsed: []string{"<tool_call>{bad}</tool_call>"}}},
		{"broken, text, good", "A<tool_call>{bad}</tool_call>B\n" + goodJSON + "\nC\n" + goodJSON + "\n", OutputOptions{},
			Output{Content: "AB", Calls: []ToolCall{f, f}, Unparsed: []string{"<tool_call>{bad}</tool_call>"}, Between: []string{"\nC\n"}}},
		{"mention then prose", "Use <tool_call> so.\n\nBye\n", OutputOptions{}, Output{Content: "Use <tool_call> so.\n\nBye\n"}},
		{"only white space", " \n\t ", OutputOptions{}, Output{}},
		{"unclosed thought with two calls", "Hm\n" + goodJSON + "\n" + goodJSON, OutputOptions{InReasoning: true},
			Output{Reasoning: "Hm", Calls: []ToolCall{f, f}}},
		{"unclosed thought, first call broken", "Hm\n<tool_call>{\n" + goodJSON, OutputOptions{InReasoning: true},
			Output{Reasoning: "Hm\n<tool_call>{", Calls: []ToolCall{f}}},
		{"unclosed thought, call within a line", "Hm " + goodJSON, OutputOptions{InReasoning: true}, Output{Reasoning: "Hm " + goodJSON}},
		{"thought is a call", goodJSON, OutputOptions{InReasoning: true}, Output{Calls: []ToolCall{f}}},
		{"closed thought with a call", "Hm\n" + goodJSON + "\n</think>ok", OutputOptions{InReasoning: true},
			Output{Reasoning: "Hm\n" + goodJSON, Content: "ok"}},
		{"xml good, prose, broken", goodXML + "\nx\n<tool_call>\nno\n</tool_call>", OutputOptions{Style: XMLCalls},
			Output{Calls: []ToolCall{text}, Between: []string{"\nx\n"}, Unparsed: []string{"<tool_call>\nno\n</tool_call>"}}},
		{"xml value cut off after a whole call", goodXML + "\n<tool_call>\n<function=f>\n<parameter=a>\n2", OutputOptions{Style: XMLCalls},
			Output{Calls: []ToolCall{text}, Unparsed: []string{"<tool_call>\n<function=f>\n<parameter=a>\n2"}}},
		// </parameter> counts only before the call's own tags (rule 4), so the
		// first value reaches into the second call.
		{"xml next call before the function is closed", strings.Replace(goodXML, "</function>\n</tool_call>", "", 1) + goodXML, OutputOptions{Style: XMLCalls},
			Output{Calls: []ToolCall{{"f", `{"a": "1\n</parameter>\n<tool_call>\n<function=f>\n<parameter=a>\n1"}`}}}},
		{"xml prose after the function", "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\nDone", OutputOptions{Style: XMLCalls},
			Output{Calls: []ToolCall{text}, Between: []string{"\nDone"}}},
	} {
		c.opts.Tools = tools
		for name, pieces := range cuts(c.text, rand.New(rand.NewPCG(3, 4))) {
			if got := pushAll(t, pieces, c.opts); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s, %s (-want +got):\n%s", c.name, name, cmp.Diff(c.want, got))
			}
		}
	}
}

// TestOutputPrompt checks that text goes out as soon as nothing can change it.
func TestOutputPrompt(t *testing.T) {
	p := NewParser(OutputOptions{Tools: NewList(NewMap()), InReasoning: true})
	for _, step := range []struct {
		push string
		want []Delta
	}{
		{"\nI", []Delta{{Reasoning: "I"}}},
		{" think.\n", []Delta{{Reasoning: " think."}}},
		{"\nMore</", []Delta{{Reasoning: "\n\nMore"}}},
		{"b></thi", []Delta{{Reasoning: "</b>"}}},
		{"nk>\n", nil},
		{"\nHel", []Delta{{Content: "Hel"}}},
		{"lo <tool", []Delta{{Content: "lo "}}},
		{"s>\n", []Delta{{Content: "<tools>"}}},
		{"\n<tool_call>\n{\"name\": \"f\", \"argu", nil},
		{"ments\": {}}\n</tool_call>", []Delta{{Call: &ToolCall{"f", "{}"}}}},
		{"\nmore", nil},
	} {
		if got := p.Push(step.push); !reflect.DeepEqual(got, step.want) {
			t.Errorf("after %q (-want +got):\n%s", step.push, cmp.Diff(step.want, got))
		}
	}
	if got := p.Finish(); got != nil {
		t.Errorf("at the end: %+v", got)
	}
}

func TestCallStyle(t *testing.T) {
	for name, want := range map[string]CallStyle{
		"Qwen3-Next-80B-A3B-Instruct": JSONCalls, "Qwen3-8B": JSONCalls,
		"Qwen3-Coder-Next": XMLCalls, "Qwen3.6-27B": XMLCalls,
	} {
		source, err := os.ReadFile("testdata/templates/" + name + ".jinja")
		if err != nil {
			t.Fatal(err)
		}
		template, err := Parse(string(source))
		if err != nil {
			t.Fatal(err)
		}
		if got := template.CallStyle(); got != want {
			t.Errorf("%s: style %d, want %d", name, got, want)
		}
	}
	if !StartsInReasoning("<|im_start|>assistant\n<think>\n") || StartsInReasoning("<think>\n\n</think>\n\n") {
		t.Error("StartsInReasoning is wrong")
	}
}

// TestOutputLong reads 1 MB in small pieces: no byte may be read again with
// every push.
func TestOutputLong(t *testing.T) {
	long := strings.Repeat("x < y && z\n", 100_000)
	quoted, err := EncodeJSON(NewString(long))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		opts OutputOptions
	}{
		"json":      {"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": " + quoted + "}}\n</tool_call>", OutputOptions{}},
		"xml":       {"<tool_call>\n<function=f>\n<parameter=a>\n" + long + "\n</parameter>\n</function>\n</tool_call>", OutputOptions{Style: XMLCalls}},
		"blank":     {strings.Repeat(" \n", 500_000), OutputOptions{}},
		"thought":   {"\n" + goodJSON + long, OutputOptions{InReasoning: true}},
		"broken":    {"<tool_call>no" + long, OutputOptions{}},
		"unclosed":  {strings.Repeat("<tool_call>\n<function=f>\n<parameter=a>\n", 20_000), OutputOptions{Style: XMLCalls}},
		"openings":  {strings.Repeat("\n<tool_call>\n", 80_000), OutputOptions{InReasoning: true}},
		"functions": {strings.Repeat("<function=f>\n", 80_000), OutputOptions{Style: XMLCalls}},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.Tools = NewList(NewMap())
			var pieces []string
			for rest := c.text; rest != ""; {
				n := min(4, len(rest))
				pieces = append(pieces, rest[:n])
				rest = rest[n:]
			}
			p := NewParser(c.opts)
			for _, piece := range pieces {
				p.Push(piece)
			}
			p.Finish()
			out := p.Output()
			if name == "json" || name == "xml" {
				v, err := decodeJSON(out.Calls[0].Arguments)
				if err != nil {
					t.Fatal(err)
				}
				if got := field[String](v.(*Map), "a").text; got != long {
					t.Errorf("the argument has %d bytes, want %d", len(got), len(long))
				}
			}
		})
	}
}

// FuzzOutput cuts any text anywhere: the output is that of the whole text.
func FuzzOutput(f *testing.F) {
	for _, name := range []string{"json", "xml"} {
		for i, c := range readOutputs(f, "testdata/toolcalls", name, ".jsonl.gz") {
			if len(c.text) < 500 {
				f.Add(c.text, c.opts.InReasoning, name == "xml", uint64(i))
			}
		}
	}
	data, err := os.ReadFile("testdata/toolcalls/tools.json")
	if err != nil {
		f.Fatal(err)
	}
	tools, err := DecodeJSON(data)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, inReasoning, xml bool, seed uint64) {
		opts := OutputOptions{Tools: tools, InReasoning: inReasoning}
		if xml {
			opts.Style = XMLCalls
		}
		whole := ParseOutput(text, opts)
		for _, c := range whole.Calls {
			if v, err := decodeJSON(c.Arguments); err != nil || !is[*Map](v) || c.Name == "" {
				t.Fatalf("call %+v: %v", c, err)
			}
		}
		for name, pieces := range cuts(text, rand.New(rand.NewPCG(seed, 0))) {
			if got := pushAll(t, pieces, opts); !reflect.DeepEqual(got, whole) {
				t.Fatalf("%s (-whole +cut):\n%s", name, cmp.Diff(whole, got))
			}
		}
	})
}
