package parity

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// device opens the models of the tests in this file: the CPU, or with
// ROUNDHOUSE_GPU=1 the machine's GPU.
func device() string {
	if os.Getenv("ROUNDHOUSE_GPU") == "1" {
		return "cuda"
	}
	return "cpu"
}

func run(t *testing.T, model string, goldens fs.FS, golden string, opts engine.Options) *Report {
	t.Helper()
	opts.Name, opts.Numerics = filepath.Base(model), "exact"
	m, err := engine.Open(context.Background(), os.DirFS(model), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	g, err := ReadGolden(goldens, golden)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	report, err := Run(context.Background(), m, g)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func check(t *testing.T, model string, goldens fs.FS, golden string) {
	t.Helper()
	checkOn(t, model, goldens, golden, engine.Options{Device: device()})
}

func checkOn(t *testing.T, model string, goldens fs.FS, golden string, opts engine.Options) {
	t.Helper()
	report := run(t, model, goldens, golden, opts)
	worst := Row{Tolerance: 1} // the one nearest to its tolerance
	for _, row := range report.Rows {
		if row.MaxAbs*worst.Tolerance > worst.MaxAbs*row.Tolerance {
			worst = row
		}
		if !row.OK {
			t.Errorf("%s: max abs %.3g (tolerance %.3g) cosine %.6f %s", row.Tensor, row.MaxAbs, row.Tolerance, row.Cosine, row.Note)
		}
	}
	t.Logf("%d tensors, worst %s: %.2g of %.2g", len(report.Rows), worst.Tensor, worst.MaxAbs, worst.Tolerance)
	if len(report.Rows) == 0 || report.OK == t.Failed() {
		t.Fatalf("report of %d rows says OK %v", len(report.Rows), report.OK)
	}
}

// The goldens that travel with the code. The two asymmetric models hold the same
// matrices in two layouts, so one golden serves both.
func TestGoldensCommitted(t *testing.T) {
	const data = "../ops/optest/testdata"
	goldens, err := shared.Unzip(filepath.Join(data, "goldens"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ model, golden string }{
		{"int4-mixed-2026", "int4-mixed-2026"},
		{"int4-mixed-2026", "int4-mixed-2026-mtp"},
		{"int4-awq", "int4-awq"},
		{"int4-asym-gptq", "int4-awq"},
	} {
		t.Run(test.model+"/"+test.golden, func(t *testing.T) {
			check(t, filepath.Join(data, "models", test.model), goldens, test.golden)
		})
	}
}

// The same through the CUDA engine on a driver without a GPU.
func TestGoldensOnFakeDriver(t *testing.T) {
	const data = "../ops/optest/testdata"
	goldens, err := shared.Unzip(filepath.Join(data, "goldens"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ model, golden string }{
		{"int4-mixed-2026", "int4-mixed-2026"},
		{"int4-mixed-2026", "int4-mixed-2026-mtp"},
		{"int4-awq", "int4-awq"},
		{"int4-asym-gptq", "int4-awq"},
	} {
		t.Run(test.model+"/"+test.golden, func(t *testing.T) {
			fake, err := drivertest.New(drivertest.Options{Memory: 4 << 30})
			if err != nil {
				t.Fatal(err)
			}
			checkOn(t, filepath.Join(data, "models", test.model), goldens, test.golden, engine.Options{Device: "cuda", Driver: fake, Streams: 1, Context: 512, PrefillChunk: 256})
			for _, problem := range fake.Problems() {
				t.Error("driver:", problem)
			}
		})
	}
}

// Every golden of the shared data folder.
func TestGoldensShared(t *testing.T) {
	dir, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: every golden beside the committed ones")
	}
	goldens, err := filepath.Glob(filepath.Join(dir, "goldens", "micro", "*.safetensors"))
	if err != nil || len(goldens) < 10 {
		t.Fatalf("found %d micro goldens: %v", len(goldens), err)
	}
	for _, golden := range goldens {
		name := strings.TrimSuffix(filepath.Base(golden), ".safetensors")
		t.Run(name, func(t *testing.T) {
			check(t, filepath.Join(dir, "models", "micro", strings.TrimSuffix(name, "-mtp")), os.DirFS(filepath.Dir(golden)), name)
		})
	}
	t.Run("demo", func(t *testing.T) {
		check(t, filepath.Join(dir, "models", "demo-int4-mixed"), os.DirFS(filepath.Join(dir, "goldens")), "demo-int4-mixed")
	})
}
