//go:build !nodemo

package library

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

var update = flag.Bool("update", false, "write the transcript of hot reload anew")

// edition is what a file was changed to while a stream ran.
type edition struct {
	name, text string
	at         int // tokens that the reader had by then
}

// editions of a script: the third does not compile.
var editions = []edition{
	{"calm", `import { script } from "roundhouse";

export default script({
  api: 1,
  hooks({ state, emit }) {
    const st = state(() => ({ tokens: 0 }));
    return {
      logits(l) {
        l.temperature(0.5);
      },
      token() {
        st.tokens++;
      },
      finish() {
        emit("tokens", st.tokens);
      },
    };
  },
});
`, 0},
	{"wild", `import { script } from "roundhouse";

export default script({
  api: 1,
  migrate: (old) => ({ seen: old.tokens }), // what the version before kept, in another form
  hooks({ state, emit }) {
    const st = state(() => ({ seen: 0 }));
    return {
      logits(l) {
        l.temperature(1.4).minP(0.05);
      },
      token() {
        st.seen++;
      },
      finish() {
        emit("tokens", st.seen);
      },
    };
  },
});
`, 100},
	{"broken", `import { script } from "roundhouse";

export default script({
  api: 1,
  hooks() {
    return {
      logits(l) {
        l.temperature(;
      },
    };
  },
});
`, 200},
	{"mended", `import { script } from "roundhouse";

export default script({
  api: 1,
  migrate: (old) => old,
  hooks({ state, emit }) {
    const st = state(() => ({ seen: 0 }));
    return {
      logits(l) {
        l.temperature(0.9);
      },
      token() {
        st.seen++;
      },
      finish() {
        emit("tokens", st.seen);
      },
    };
  },
});
`, 300},
}

// following is a stream of a script that follows its files, and what became of it.
type following struct {
	ids     []int32
	changes []scripts.Change
	report  hook.Report
	kept    float64 // tokens that the script has counted
	gaps    []float64
}

const (
	followed = 400
	reader   = 6 * time.Millisecond // what the reader takes for a token
)

// follow runs a stream, whose reader calls back with how many tokens it has.
func follow(t *testing.T, m *engine.Model, script *scripts.Script, prompt []int32, has func(tokens int)) following {
	t.Helper()
	f := following{kept: -1}
	var instance *scripts.Instance
	var last time.Time
	req := engine.Request{Prompt: prompt, MaxTokens: followed, IgnoreEOS: true, Sampling: engine.Sampling{Temperature: 1, Seed: 4}, Hooks: &engine.Hooking{
		OnError: hook.Fail, Budget: time.Second,
		Start: func(uint32) ([]hook.Hook, error) {
			var err error
			instance, err = script.Start(scripts.Env{Model: m.HookModel(), Tokenizer: m.HookTokenizer()})
			return []hook.Hook{instance}, err
		},
		Notify: func(_ uint32, n hook.Notice) {
			if x, ok := n.Value.(float64); ok && n.Name == "tokens" {
				f.kept = x
			}
		},
	}}
	result, err := m.Generate(t.Context(), req, func(k engine.Token) error {
		if f.ids = append(f.ids, k.ID); len(f.ids) > 1 {
			f.gaps = append(f.gaps, k.Drawn.Sub(last).Seconds()*1000)
		}
		last = k.Drawn
		has(len(f.ids))
		time.Sleep(reader)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.changes, f.report = instance.Changes(), result.Hooks
	return f
}

// spread is the longest and the median time between two tokens, in milliseconds.
func (f following) spread() (longest, median float64) {
	sorted := slices.Sorted(slices.Values(f.gaps))
	return sorted[len(sorted)-1], sorted[len(sorted)/2]
}

// A script is edited while a stream runs: each version that works decides the tokens from
// the first on that follows its being compiled, a broken one leaves the one before at
// work, state goes from version to version, and the stream does not wait.
func TestHotReload(t *testing.T) {
	m, err := model()
	if err != nil {
		t.Fatal(err)
	}
	prompt, err := m.HookTokenizer().Encode(story)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mood.ts")
	save := func(e edition) {
		if err := os.WriteFile(file+".new", []byte(e.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	save(editions[0])
	var mu sync.Mutex
	var told []scripts.Reload
	reports := func() []scripts.Reload {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told)
	}
	store, err := scripts.Open(filepath.Dir(file), scripts.Options{Report: func(r scripts.Reload) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	script, err := store.Get("mood")
	if err != nil {
		t.Fatal(err)
	}

	alone := follow(t, m, script, prompt, func(int) {})
	next, saved := 1, []int{0}
	edited := follow(t, m, script, prompt, func(tokens int) {
		// Where compiling takes long, what comes next waits until it was seen.
		if next < len(editions) && tokens >= editions[next].at && len(reports()) == next-1 {
			save(editions[next])
			next, saved = next+1, append(saved, tokens)
		}
	})

	outcomes := reports()
	if len(edited.changes) != 3 || len(outcomes) != 3 || edited.report.Degraded > 0 {
		t.Fatalf("versions at work: %v; reports: %v; %+v", edited.changes, outcomes, edited.report)
	}
	for i, edit := range []int{0, 1, 3} { // the third never was
		change, e := edited.changes[i], editions[edit]
		if want := digest(t, e); change.Digest != want || edit > 0 && outcomes[edit-1].Digest != want {
			t.Errorf("%s is %s; at work was %s, reports: %v", e.name, want, change.Digest, outcomes)
		}
		if edit > 0 && change.From < len(prompt)+saved[edit] {
			t.Errorf("%s decides token %d, and was saved at %d", e.name, change.From-len(prompt), saved[edit])
		}
	}
	broken := outcomes[1].Err
	if broken == nil || !strings.Contains(broken.Error(), "mood.ts:8:23: ") {
		t.Errorf("the broken version: %v", broken)
	}
	until := edited.changes[1].From - len(prompt)
	if !slices.Equal(edited.ids[:until], alone.ids[:until]) || slices.Equal(edited.ids, alone.ids) {
		t.Errorf("until token %d the text is not that of the first version alone, or it is to the end", until)
	}
	if edited.kept != followed || alone.kept != followed {
		t.Errorf("the script counted %v of %d tokens, and %v alone", edited.kept, followed, alone.kept)
	}
	for name, f := range map[string]following{"alone": alone, "edited": edited} {
		longest, median := f.spread()
		t.Logf("%s: longest time between two tokens %.1f ms, median %.1f ms (a reader takes one every %v)", name, longest, median, reader)
	}
	if *update && !t.Failed() {
		page := transcript(edited, alone, len(prompt), saved, broken.Error())
		if err := os.WriteFile("../docs/hot-reload.md", []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// digest is what an edition's bundle has, compiled by itself.
func digest(t *testing.T, e edition) string {
	t.Helper()
	script, err := host.LoadSource(t.Context(), "mood.ts", e.text)
	if err != nil {
		t.Fatal(err)
	}
	return script.Info().Digest
}

// transcript is the page of the handbook.
func transcript(edited, alone following, prompt int, saved []int, broken string) string {
	var b strings.Builder
	b.WriteString("<!-- Code generated by go test ./workbench/library -run TestHotReload -update; DO NOT EDIT. -->\n# Editing a script while a stream runs\n\n")
	fmt.Fprintf(&b, "A transcript: one stream of %d tokens on the demo model, whose reader takes a token every %d ms, and `mood.ts` in the folder of scripts, saved three more times meanwhile. The test that makes this page\n", followed, reader.Milliseconds())
	b.WriteString("(`TestHotReload`) holds the program to all of it but the times. Tokens are those of the answer, counted from 0.\n\n")
	b.WriteString("| the reader has | what happens | decides from token on | time before that token | version (sha-256 of the bundle) |\n| ---: | --- | ---: | ---: | --- |\n")
	at := 0
	for i, e := range editions {
		if e.name == "broken" {
			fmt.Fprintf(&b, "| %d tokens | *%s* is saved: `%s`; the version before goes on, and an event `script_fault` says why | - | - | - |\n", saved[i], e.name, strings.ReplaceAll(broken, "|", `\|`))
			continue
		}
		c := edited.changes[at]
		what, from, gap := "the stream begins with *"+e.name+"*", 0, "-"
		if at > 0 {
			what = fmt.Sprintf("*%s* is saved, compiled beside the stream, and takes over between two tokens", e.name)
			from = c.From - prompt
			gap = fmt.Sprintf("%.1f ms", edited.gaps[from-1])
		}
		fmt.Fprintf(&b, "| %d tokens | %s | %d | %s | `%.12s…` |\n", saved[i], what, from, gap, c.Digest)
		at++
	}
	longest, median := edited.spread()
	unedited, usual := alone.spread()
	fmt.Fprintf(&b, "\nThe longest time between two tokens was %.1f ms, the median %.1f ms; of the same stream with no edits, %.1f ms and %.1f ms: no token waits for a compiler. Files are looked at\n", longest, median, unedited, usual)
	b.WriteString("every 200 ms, and the stream is up to 16 tokens ahead of its reader: the distance between a save and the first token that it decides is mostly that.\n")
	fmt.Fprintf(&b, "The first %d tokens are those that *calm* alone gives, bit for bit. Every position's version is known afterwards: replies list them under `roundhouse.scripts` as `digest` and `changes`.\n\n", edited.changes[1].From-prompt)
	fmt.Fprintf(&b, "State goes over: *calm* kept `{ tokens }`, *wild* takes it in another form, and at the end the script has counted all %d tokens.\n", followed)
	for _, e := range editions {
		fmt.Fprintf(&b, "\n## %s\n\n```%s\n%s```\n", e.name, map[bool]string{true: "text", false: "ts"}[e.name == "broken"], e.text)
	}
	return b.String()
}
