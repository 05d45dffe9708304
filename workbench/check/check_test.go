package check

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
)

func run(t *testing.T, dir string, opts Options) *Report {
	t.Helper()
	m, err := engine.Open(context.Background(), os.DirFS(dir), engine.Options{Name: filepath.Base(dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	report, err := Run(context.Background(), m, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Parts {
		t.Logf("%-22s %-9s %s (%s) %v", p.Name, p.Verdict, p.Value, p.Bound, p.Took)
	}
	return report
}

func TestTheDemoPasses(t *testing.T) {
	if report := run(t, optest.Demo(t), Options{}); report.Verdict != Pass || len(report.Parts) != 6 {
		t.Errorf("%+v", report)
	}
}

// Random weights predict nothing: perplexity and answers must say so, while the
// two forms still agree.
func TestRandomWeightsFail(t *testing.T) {
	report := run(t, optest.Model(t, "int4-mixed-2026"), Options{})
	want := map[string]Verdict{"perplexity": Fail, "sum": Fail, "prefill against step": Pass}
	for _, p := range report.Parts {
		if v, ok := want[p.Name]; ok && p.Verdict != v {
			t.Errorf("%s: %s, want %s", p.Name, p.Verdict, v)
		}
	}
	if report.Verdict != Fail {
		t.Errorf("verdict %s", report.Verdict)
	}
}

func TestNoTimeIsNoPass(t *testing.T) {
	if report := run(t, optest.Demo(t), Options{Limit: time.Nanosecond}); report.Verdict == Pass {
		t.Errorf("%+v", report)
	}
}
