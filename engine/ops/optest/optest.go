// Package optest finds the models and goldens that tests compare with: a small
// set committed here, and the large one of the shared data folder.
package optest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
)

// Data returns the path of committed test data.
func Data(parts ...string) string {
	return filepath.Join(append([]string{shared.Root(), "engine", "ops", "optest", "testdata"}, parts...)...)
}

// Model returns the folder of a micro model: the committed copy, else the shared
// one. The test is skipped when neither is there.
func Model(t testing.TB, name string) string {
	t.Helper()
	dir := Data("models", name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	root, ok := shared.Dir()
	if !ok {
		t.Skipf("shared data not found: model %s", name)
	}
	return filepath.Join(root, "models", "micro", name)
}

// Demo returns the folder of the demo model, which the workbench embeds.
func Demo(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(shared.Root(), "workbench", "demo", "model")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	root, ok := shared.Dir()
	if !ok {
		t.Skip("shared data not found: the demo model")
	}
	return filepath.Join(root, "models", "demo-int4-mixed")
}
