//go:build unix

package main

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unzipTo unpacks NAME.gz into a folder as NAME.
func unzipTo(t *testing.T, dir, file string) string {
	t.Helper()
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unzipped, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, strings.TrimSuffix(filepath.Base(file), ".gz"))
	if err := os.WriteFile(target, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return target
}

// A model agrees with its own golden and with that of no other.
func TestParity(t *testing.T) {
	const data = "../../../engine/ops/optest/testdata/"
	dir := t.TempDir()
	unzipTo(t, dir, data+"goldens/int4-awq.json.gz")
	golden := unzipTo(t, dir, data+"goldens/int4-awq.safetensors.gz")

	out, err := exec.Command("roundhouse", "parity", data+"models/int4-awq", golden).Output()
	if err != nil || !strings.Contains(string(out), "every row is within its tolerance") || strings.Contains(string(out), "MISS") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.Command("roundhouse", "parity", "--worst", "--json", data+"models/int4-awq", golden).Output()
	var report struct {
		OK   bool `json:"ok"`
		Rows []struct {
			Tensor string  `json:"tensor"`
			Cosine float64 `json:"cosine"`
		} `json:"rows"`
	}
	if jsonErr := json.Unmarshal(out, &report); err != nil || jsonErr != nil || !report.OK || len(report.Rows) < 5 || report.Rows[0].Cosine < 0.999 {
		t.Errorf("%v, %v, %+v", err, jsonErr, report)
	}

	command := exec.Command("roundhouse", "parity", data+"models/int4-mixed-2026", golden)
	out, err = command.Output()
	if err == nil || command.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "MISS") {
		t.Errorf("another model: %v\n%s", err, out)
	}
	command = exec.Command("roundhouse", "parity", "--json", data+"models/int4-mixed-2026", golden)
	if out, err = command.Output(); command.ProcessState.ExitCode() != 1 || json.Unmarshal(out, &report) != nil || report.OK {
		t.Errorf("another model as JSON: %v\n%s", err, out)
	}
}
