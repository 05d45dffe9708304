package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func TestFits(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for bound, want := range map[int64]bool{99: false, 100: false, 200: true, 201: true} {
		if got := fits("two files", bound, name, name); got != want {
			t.Errorf("200 bytes fit into %d: %v", bound, got)
		}
	}
}

// Every package whose tests ask for a device is in the bundle, and the runner finds
// each in its folder.
func TestBundleHasEveryDeviceTest(t *testing.T) {
	asking := map[string]bool{}
	err := fs.WalkDir(os.DirFS(root), "engine", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if strings.Contains(string(text), "ROUNDHOUSE_GPU") {
			asking[path.Dir(name)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(asking) < 3 {
		t.Errorf("found %v: the walk does not see the tests", asking)
	}
	runner, err := os.ReadFile(filepath.Join(root, "workbench/gpu/run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for set, folder := range gpuTests {
		delete(asking, folder)
		if entry := "[" + set + "]=" + folder; !strings.Contains(string(runner), entry) {
			t.Errorf("run.sh does not say %s", entry)
		}
	}
	for folder := range asking {
		t.Errorf("tests of %s ask for a device and are not in the bundle: add them to gpuTests and to run.sh", folder)
	}
}

// What the runner makes of a bundle whose tests are scripts.
func TestRunnerMakesOneTable(t *testing.T) {
	for _, tool := range []string{"bash", "xz", "tar", "timeout"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	const script = `#!/bin/sh
for arg; do
  case $arg in
    -test.list) printf '%s\n' TestGood TestBad TestElsewhere; exit ;;
    '^TestGood$') [ "$ROUNDHOUSE_GPU" = 1 ] && [ -e parity.go ] && [ -e "$ROUNDHOUSE_SHARED/link/go.mod" ]; exit ;;
    '^TestBad$') printf '    x_test.go:6: only told\n    x_test.go:7: out of tune\n\026--- FAIL: TestBad/b (0.00s)\n    x_test.go:8: told\n\026--- FAIL: TestBad (0.00s)\n'; exit 1 ;;
    '^TestElsewhere$') printf '    x_test.go:9: not here\n\026--- SKIP: TestElsewhere (0.00s)\n'; exit ;;
  esac
done
`
	dir := t.TempDir()
	fake := filepath.Join(dir, "fake")
	if err := os.WriteFile(fake, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	err := compress(ctx, filepath.Join(dir, "bundle.tar.xz"), "bundle", []packed{{"parity.test", fake, 0o755}, {"roundhouse", fake, 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	err = compress(ctx, filepath.Join(dir, "shared.tar.xz"), "shared", []packed{{"link", "../tree", 0o777 | fs.ModeSymlink}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(sets ...string) (string, int) {
		command := exec.CommandContext(ctx, "bash", append([]string{filepath.Join(root, "workbench/gpu/run.sh")}, sets...)...)
		command.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ROUNDHOUSE_") }), "BUNDLE="+dir, "OUT="+filepath.Join(dir, "out"))
		output, err := command.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(output), command.ProcessState.ExitCode()
	}
	output, code := run("parity")
	if code != 1 || !strings.Contains(output, "1 passed, 1 failed, 1 skipped") {
		t.Errorf("exit code %d after\n%s", code, output)
	}
	summary, err := os.ReadFile(filepath.Join(dir, "out", "summary.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"parity", "TestGood", "PASS"}, {"parity", "TestBad", "FAIL", "x_test.go:7: out of tune"}, {"parity", "TestElsewhere", "SKIP", "x_test.go:9: not here"}} {
		found := slices.ContainsFunc(strings.Split(string(summary), "\n"), func(line string) bool {
			fields := strings.Fields(line)
			return len(fields) > 3 && slices.Equal(append(fields[:3:3], strings.Join(fields[4:], " "))[:len(want)], want)
		})
		if !found {
			t.Errorf("no row %q in\n%s", want, summary)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "logs.tar.xz")); err != nil {
		t.Error(err)
	}
	if output, code := run("cellar"); code != 2 || !strings.Contains(output, "no set is called cellar") {
		t.Errorf("a set that does not exist: exit code %d, %s", code, output)
	}
}
