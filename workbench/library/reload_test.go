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

// A script is edited while a stream runs: each version that works decides the tokens from
// the first on that follows its being compiled, a broken one leaves the one before at
// work, state goes from version to version, and the stream does not wait.
func TestHotReload(t *testing.T) {
	m, err := model()
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
	prompt, err := m.HookTokenizer().Encode(story)
	if err != nil {
		t.Fatal(err)
	}
	const tokens = 400
	var instance *scripts.Instance
	kept := -1.
	var drawn []time.Time
	req := engine.Request{Prompt: prompt, MaxTokens: tokens, IgnoreEOS: true, Sampling: engine.Sampling{Temperature: 1, Seed: 4}, Hooks: &engine.Hooking{
		OnError: hook.Fail, Budget: time.Second,
		Start: func(uint32) ([]hook.Hook, error) {
			var err error
			instance, err = script.Start(scripts.Env{Model: m.HookModel(), Tokenizer: m.HookTokenizer()})
			return []hook.Hook{instance}, err
		},
		Notify: func(_ uint32, n hook.Notice) {
			if x, ok := n.Value.(float64); ok && n.Name == "tokens" {
				kept = x
			}
		},
	}}
	next := 1
	result, err := m.Generate(t.Context(), req, func(k engine.Token) error {
		drawn = append(drawn, k.Drawn)
		if next < len(editions) && len(drawn) == editions[next].at {
			save(editions[next])
			next++
		}
		time.Sleep(6 * time.Millisecond) // a reader
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	changes := instance.Changes()
	mu.Lock()
	defer mu.Unlock()
	if len(changes) != 3 || result.Hooks.Degraded > 0 {
		t.Fatalf("versions at work: %v; report %+v", changes, result.Hooks)
	}
	for i, edit := range []int{0, 1, 3} { // the third never was
		if e := editions[edit]; changes[i].From > 0 && changes[i].From < len(prompt)+e.at {
			t.Errorf("%s decides token %d, and was saved at %d", e.name, changes[i].From-len(prompt), e.at)
		}
	}
	broken := slices.IndexFunc(told, func(r scripts.Reload) bool { return r.Err != nil })
	if broken < 0 || !strings.Contains(told[broken].Err.Error(), "mood.ts:8:") || len(told) != 3 {
		t.Fatalf("reports: %v", told)
	}
	if kept != tokens {
		t.Errorf("the script counted %v of %d tokens", kept, tokens)
	}
	gaps := make([]float64, 0, tokens)
	for i := 1; i < len(drawn); i++ {
		gaps = append(gaps, drawn[i].Sub(drawn[i-1]).Seconds()*1000)
	}
	longest := slices.Max(gaps)
	slices.Sort(gaps)
	t.Logf("longest time between two tokens %.1f ms, median %.1f ms (a reader takes one every 6 ms)", longest, gaps[len(gaps)/2])
	if *update {
		page := transcript(changes, len(prompt), told[broken].Err.Error(), longest, gaps[len(gaps)/2])
		if err := os.WriteFile("../docs/hot-reload.md", []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// transcript is the page of the handbook.
func transcript(changes []scripts.Change, prompt int, broken string, longest, median float64) string {
	var b strings.Builder
	b.WriteString("<!-- Code generated by go test ./workbench/library -run TestHotReload -update; DO NOT EDIT. -->\n# Editing a script while a stream runs\n\n")
	b.WriteString("A transcript: one stream of 400 tokens on the demo model, whose reader takes a token every 6 ms, and `mood.ts` in the folder of scripts, saved three more times meanwhile. The test that makes this page\n")
	b.WriteString("(`TestHotReload`) holds the program to all of it but the times.\n\n")
	b.WriteString("| the reader has | what happens | decides from token on | version (sha-256 of the bundle) |\n| ---: | --- | ---: | --- |\n")
	at := 0
	for _, e := range editions {
		if e.name == "broken" {
			fmt.Fprintf(&b, "| %d tokens | *%s* is saved: `%s`; the version before goes on, and an event `script_fault` says why | - | - |\n", e.at, e.name, strings.ReplaceAll(broken, "|", `\|`))
			continue
		}
		c := changes[at]
		what := fmt.Sprintf("*%s* is saved, compiled beside the stream, and takes over between two tokens", e.name)
		if at == 0 {
			what = fmt.Sprintf("the stream begins with *%s*", e.name)
		}
		fmt.Fprintf(&b, "| %d tokens | %s | %d | `%.12s…` |\n", e.at, what, max(0, c.From-prompt), c.Digest)
		at++
	}
	fmt.Fprintf(&b, "\nThe longest time between two tokens was %.1f ms, the median %.1f ms: nothing waits for a compiler. Files are looked at every 200 ms, and the stream is up to 16 tokens ahead of its reader: the rest of the distance is that.\n", longest, median)
	b.WriteString("Every position's version is known afterwards: replies list them under `roundhouse.scripts` as `digest` and `changes`.\n\nState goes over: *calm* kept `{ tokens }`, *wild* takes it in another form, and at the end the script has counted all 400 tokens.\n")
	for _, e := range editions {
		fmt.Fprintf(&b, "\n## %s\n\n```%s\n%s```\n", e.name, map[bool]string{true: "text", false: "ts"}[e.name == "broken"], e.text)
	}
	return b.String()
}
