//go:build !nodemo

package library

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/hook/rehearse"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
)

// backward takes tokens back that are not likely, and ends the text by itself.
const backward = `import { script } from "roundhouse";
export default script({
  api: 1, lag: 1, hold: 8,
  hooks({ state, rewind, stop, emit, random }) {
    const st = state(() => ({ kept: 0 }));
    let backs = 0;
    return {
      sample(c) { return random() < 0.5 ? c.draw() : undefined; },
      token(t) {
        st.kept++;
        if (t.logprob < -2 && backs < 12) { backs++; emit("back", t.id); rewind(t.position); }
        else if (st.kept === 40) stop("enough");
      },
    };
  },
});`

// told is a notice in words. Values are compared as JSON: a replay has them so.
func told(position int, name string, value any) string {
	if name == "log" {
		return fmt.Sprintf("%d %s", position, value)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s %s", position, name, text)
}

// What was recorded on the model leads a script to the same without it: what it tells,
// what it injects and takes back, what it chooses.
func TestReplays(t *testing.T) {
	request := engine.Request{MaxTokens: 80, IgnoreEOS: true, Sampling: engine.Sampling{Temperature: 1, Seed: 5}}
	for _, r := range []run{
		{script: "contrast", prompt: story},
		{script: "entropy-min-p", prompt: story},
		{script: "no-repeat", prompt: story, params: map[string]any{"prompt": true}},
		{script: "watermark", prompt: story},
		{script: "watermark-detect", prompt: story},
		{script: "routing", prompt: story, params: map[string]any{"prompt": true}},
		{script: "ablate", prompt: story, params: map[string]any{"top": 4.0, "after": 20.0}},
		{script: "vector", prompt: story, vectors: vectors},
		{script: "think-budget", prompt: story + "<think>", params: map[string]any{"tokens": 20.0}},
		{script: "backward", folder: fstest.MapFS{"backward.ts": {Data: []byte(backward)}}, prompt: story},
	} {
		t.Run(r.script, func(t *testing.T) {
			r.request, r.record = request, &tape{}
			live := r.do(t)
			size := r.record.Len()
			recording, err := hook.ReadRecording(r.record)
			if err != nil {
				t.Fatal(err)
			}
			folder := r.folder
			if folder == nil {
				folder = library.FS
			}
			script, err := host.Load(t.Context(), folder, r.script+".ts")
			if err != nil {
				t.Fatal(err)
			}
			instance, err := script.Start(scripts.Env{Params: recording.Params, Model: recording.Model, Tokenizer: recording.Tokenizer(), Vectors: r.vectors})
			if err != nil {
				t.Fatal(err)
			}
			course, err := rehearse.Recorded(recording).Play(t.Context(), instance)
			if err != nil {
				t.Fatal(err)
			}
			var ids []int32
			var made []string
			forced, backs := 0, 0
			for _, s := range course.Steps {
				ids = ids[:min(len(ids), s.Position-len(course.Prompt))]
				if s.ID >= 0 {
					ids = append(ids, s.ID)
				}
				if s.Forced {
					forced++
				} else {
					values := hook.Values{}
					if s.Edits != nil {
						values = s.Edits.Values
					}
					made = append(made, edits(s.Position, s.Attempt, s.List, values))
				}
				if s.Rewind >= 0 {
					backs++
				}
			}
			if !slices.Equal(ids, live.ids) {
				t.Errorf("the model's tokens\n%v, again\n%v", live.ids, ids)
			}
			var first, again []string
			for _, n := range live.notices {
				first = append(first, told(n.Position, n.Name, n.Value))
			}
			for _, n := range course.Notices {
				again = append(again, told(n.Position, n.Name, n.Value))
			}
			if !slices.Equal(first, again) {
				t.Errorf("told on the model\n%s\nagain\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
			}
			if !slices.Equal(made, r.record.edits) {
				t.Errorf("edits on the model\n%s\nagain\n%s", strings.Join(r.record.edits, "\n"), strings.Join(made, "\n"))
			}
			if reason := string(live.result.Reason); live.result.StopHook == "" && course.Reason != reason || live.result.StopHook != "" && course.Reason != live.result.StopHook {
				t.Errorf("ended for %q (%q), again for %q", reason, live.result.StopHook, course.Reason)
			}
			if r.script == "backward" && (backs == 0 || live.result.StopHook != "enough") || r.script == "think-budget" && forced == 0 {
				t.Errorf("%d rewinds, %d injected tokens, stopped for %q: too little to show anything", backs, forced, live.result.StopHook)
			}
			t.Logf("%d tokens, %d rows, %d notices, %d rewinds, %d injected; the recording has %d kB a token", len(ids), len(made), len(first), backs, forced, size/1000/len(ids))
		})
	}
}
