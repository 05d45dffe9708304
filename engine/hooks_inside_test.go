package engine

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// away is how far values are from what the formulas say.
func away(got []float32, want []float64) (worst float64) {
	for i, v := range got {
		worst = max(worst, math.Abs(float64(v)-want[i]))
	}
	return worst
}

// Hooks read the residual that the formulas have behind a layer, and what they write to
// it or to the logits of a router does what it does in the formulas: from the prompt's
// first row on or its last, at both lags, beside a stream that none of it touches.
func TestHooksInsideFollowTheFormulas(t *testing.T)         { onEach(t, hooksInsideFollowTheFormulas) }
func TestHooksInsideFollowTheFormulasOnDevice(t *testing.T) { onEach(t, hooksInsideFollowTheFormulas) }

func hooksInsideFollowTheFormulas(t *testing.T, o Options) {
	m, reference := small(t, o, 2)
	prompt := make([]int32, 70)
	for i := range prompt {
		prompt[i] = int32(i * 7 % 53)
	}
	vector, router := make([]float64, 48), map[int]float64{2: 1.5, 5: -2}
	for i := range vector {
		vector[i] = .7 * math.Sin(float64(i))
	}
	beside := Request{Prompt: prompt[:9], MaxTokens: 40, IgnoreEOS: true}
	alone, _ := generated(t, m, beside)
	worst, bound := 0.0, 1e-3
	for name, edit := range map[string]*intervention{"read": nil, "write": {vector: vector}, "route": {router: router}, "both": {vector: vector, router: router}} {
		for _, all := range []bool{false, true} {
			for lag := hook.MinLag; lag <= hook.DefaultLag; lag++ {
				t.Run(fmt.Sprintf("%s, all %v, lag %d", name, all, lag), func(t *testing.T) {
					f := newFormulas(reference.c, reference.w)
					from := len(prompt) - 1
					if all {
						from = 0
					}
					position := 0
					f.edit = func(layer int) *intervention {
						if edit == nil || position < from || layer == 1 {
							return nil
						}
						return edit
					}
					residuals := map[[2]int][]float32{}
					looks := func() hook.Hook { // a hook that only reads, behind those that write
						return &goHook{spec: hook.Spec{Name: "look", Lag: lag, Hidden: []int{0, 1, 2}, CaptureAll: all}, hidden: func(_ *hook.Call, h *hook.Hidden) (err error) {
							at := [2]int{h.Position, h.Layer}
							if residuals[at] != nil {
								return fmt.Errorf("row %d is told twice", h.Position)
							}
							residuals[at], err = h.Read()
							return err
						}}
					}
					writes := func() hook.Hook {
						g := &goHook{spec: hook.Spec{Name: "write", CaptureAll: all}}
						if edit.vector != nil {
							g.spec.Hidden, g.spec.Write = []int{0, 2}, true
							g.hidden = func(_ *hook.Call, h *hook.Hidden) error {
								x, err := h.Read()
								if err != nil {
									return err
								}
								for i := range x {
									x[i] += float32(vector[i])
								}
								return h.Write(x)
							}
						}
						if edit.router != nil {
							g.spec.Route = []int{0, 2}
							g.route = func(_ *hook.Call, r *hook.Router) error {
								x, err := r.Read()
								if err != nil {
									return err
								}
								for e, v := range router {
									x[e] += float32(v)
								}
								return r.Write(x)
							}
						}
						return g
					}
					hooks := []func() hook.Hook{looks}
					if edit != nil {
						hooks = append(hooks, writes)
					}
					var wait sync.WaitGroup
					wait.Go(func() {
						if got, _ := generated(t, m, beside); !slices.Equal(idsOf(got), idsOf(alone)) {
							t.Errorf("the other stream drew %v, alone %v", idsOf(got), idsOf(alone))
						}
					})
					tokens, result := generated(t, m, Request{Prompt: prompt, MaxTokens: 12, Candidates: 20, IgnoreEOS: true, Hooks: hooksOf(hooks...)})
					wait.Wait()
					var logits []float64
					told := 0
					compare := func() {
						for layer := range 3 {
							if x := residuals[[2]int{position, layer}]; x != nil {
								told++
								worst = max(worst, away(x, f.behind[layer]))
							} else if position >= from {
								t.Errorf("row %d, layer %d: nobody was told", position, layer)
							}
						}
					}
					for i, id := range prompt {
						position = i
						logits = f.token(id, i)
						compare()
					}
					for n, token := range tokens {
						for _, candidate := range token.Candidates {
							worst = max(worst, math.Abs(float64(candidate.Logit)-logits[candidate.ID]))
						}
						if position = len(prompt) + n; n < len(tokens)-1 {
							logits = f.token(token.ID, position)
							compare()
						}
					}
					if worst > bound || told != len(residuals) {
						t.Errorf("off by %g; %d residuals of %d were looked for", worst, told, len(residuals))
					}
					for _, u := range result.Hooks.Hooks {
						if rows := len(prompt) + 11 - from; u.Name == "write" && u.Written != rows*2*(len(edit.vector)/48+len(edit.router)/2) {
							t.Errorf("the report of %d rows is %+v", rows, u)
						}
					}
				})
			}
		}
	}
	t.Logf("inside the forward pass: worst difference %.2g, bound %g", worst, bound)
}

// The lens of the last layer is the model's own distribution of the next token; of
// another it is what the formulas' head makes of it.
func TestLensFollowsTheFormulas(t *testing.T)         { onEach(t, lensFollowsTheFormulas) }
func TestLensFollowsTheFormulasOnDevice(t *testing.T) { onEach(t, lensFollowsTheFormulas) }

func lensFollowsTheFormulas(t *testing.T, o Options) {
	m, reference := small(t, o, 3)
	prompt := []int32{5, 9, 2, 40, 17, 3, 3, 8}
	for lag := hook.MinLag; lag <= hook.DefaultLag; lag++ {
		seen := map[[2]int][]hook.Candidate{}
		req := Request{Prompt: prompt, MaxTokens: 15, Candidates: 8, IgnoreEOS: true, Hooks: hooksOf(func() hook.Hook {
			return &goHook{spec: hook.Spec{Name: "lens", Lag: lag, Hidden: []int{1, 2}}, hidden: func(_ *hook.Call, h *hook.Hidden) (err error) {
				seen[[2]int{h.Position, h.Layer}], err = h.Lens(8)
				return err
			}}
		})}
		tokens, result := generated(t, m, req)
		if r := result.Hooks; r.Degraded > 0 || r.Hooks[0].Reads["lens"] != 2*15 || !r.Uncaptured {
			t.Errorf("lag %d: the report is %+v", lag, r)
		}
		f, worst := newFormulas(reference.c, reference.w), 0.0
		for i, id := range append(slices.Clone(prompt), idsOf(tokens[:14])...) {
			f.token(id, i)
			if i < len(prompt)-1 {
				continue
			}
			want := f.linear("lm_head", f.norm("model.norm.weight", f.behind[1], 1))
			for _, c := range seen[[2]int{i, 1}] {
				worst = max(worst, math.Abs(float64(c.Logit)-want[c.ID]))
			}
			next := tokens[i-len(prompt)+1]
			for n, c := range seen[[2]int{i, 2}] {
				if own := next.Candidates[n]; own.ID != c.ID || math.Abs(float64(own.Logit-c.Logit)) > 1e-5 || math.Abs(float64(own.Logprob-c.Logprob)) > 1e-5 {
					t.Fatalf("lag %d, row %d: the lens has %+v, the model %+v", lag, i, c, own)
				}
			}
		}
		if len(seen) != 2*15 || worst > 1e-3 {
			t.Errorf("lag %d: %d lenses of %v, off by %g", lag, len(seen), slices.Collect(maps.Keys(seen)), worst)
		}
	}
}
