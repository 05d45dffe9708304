//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/drivertest"
	"github.com/roundhouse-ai/roundhouse/kernels"
)

// losing is the program on a GPU that is lost in the step whose number $LOSE_AT_STEP
// is: on the fake driver or, with ROUNDHOUSE_GPU=1, on the machine's GPU.
const losing = "roundhouse-losing"

// demoFolder is the demo model's: a build for machines with a GPU does not embed it.
const demoFolder = "../../demo/model"

func mainLosing() {
	at, err := strconv.Atoi(os.Getenv("LOSE_AT_STEP"))
	var d driver.Driver
	if err == nil {
		if os.Getenv("ROUNDHOUSE_GPU") == "1" {
			d, err = driver.Open()
		} else {
			d, err = drivertest.New(drivertest.Options{})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, losing+":", err)
		os.Exit(exitUsage)
	}
	os.Exit(run(os.Args[1:], &losingDriver{Driver: d, left: at}))
}

// losingDriver counts the steps that decode, each of which replays one graph, and puts
// a wild write before the last.
type losingDriver struct {
	driver.Driver
	left int
}

func (d *losingDriver) Replay(g driver.Graph, s driver.Stream) error {
	if d.left--; d.left == 0 {
		if err := d.writeWildly(s); err != nil {
			return err
		}
	}
	return d.Driver.Replay(g, s)
}

func (d *losingDriver) writeWildly(s driver.Stream) error {
	manifest, err := kernels.Images()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(manifest.Images, func(i kernels.Image) bool { return i.Name == "smoke" })
	image, err := manifest.Images[at].Data()
	if err != nil {
		return err
	}
	module, err := d.Load(image)
	if err != nil {
		return err
	}
	args := kernels.FillArgs{Dst: 0x10, N: 1}
	fill, err := d.Function(module, "rh_smoke_fill", len(kernels.Bytes(&args)))
	if err != nil {
		return err
	}
	return d.Launch(&driver.Launch{Function: fill, Grid: driver.Dim{1, 1, 1}, Block: driver.Dim{32, 1, 1}, Stream: s, Args: kernels.Bytes(&args)})
}

// When the GPU is lost in the middle of a step, a stream that has begun ends with an
// event that says so, who waits gets a 503, and the program ends with code 70.
func TestServeLosesItsDevice(t *testing.T) {
	t.Setenv("LOSE_AT_STEP", "5")
	p := startAs(t, losing, "serve", demoFolder, "--model-name", "demo", "--listen", ":0", "--device", "cuda", "--context", "256", "--streams", "1")
	p.ready()
	request := `{"model":"demo","prompt":"Once","max_tokens":200,"ignore_eos":true`
	first, err := http.Post(p.url+"/v1/completions", "application/json", strings.NewReader(request+`,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	var others sync.WaitGroup
	for range 2 { // they wait for the one place, or come too late
		others.Go(func() {
			answer, err := http.Post(p.url+"/v1/completions", "application/json", strings.NewReader(request+"}"))
			if err != nil {
				return // the server has ended
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), `"code":"device_lost"`) {
				t.Errorf("who waits gets %s: %s, %v", answer.Status, text, err)
			}
		})
	}
	text, err := io.ReadAll(first.Body)
	if err != nil || first.StatusCode != http.StatusOK || !strings.Contains(string(text), `"text":"`) ||
		!strings.Contains(string(text), `"code":"device_lost"`) || strings.Contains(string(text), "[DONE]") {
		t.Errorf("the stream is %s: %s, %v", first.Status, text, err)
	}
	others.Wait()
	if rest, code := p.wait(); rest != "" || code != exitDeviceLost {
		t.Errorf("ended with %d after printing %q\n%s", code, rest, p.errors())
	}
	t.Log(p.errors())
	lines := strings.Split(strings.TrimSpace(p.errors()), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "roundhouse: ") || !strings.Contains(last, "device lost; start the process again") {
		t.Errorf("the last line is %q", last)
	}
}

// So do the other verbs that make tokens.
func TestVerbsLoseTheirDevice(t *testing.T) {
	for _, args := range [][]string{
		{"chat", demoFolder, "--once", "Hello", "--context", "256"},
		{"chat", demoFolder, "--context", "256"},
		{"bench", demoFolder, "--lengths", "8", "--batches", "1", "--tokens", "8", "--time", "1ms", "--context", "64", "--threads", "1"},
	} {
		command := exec.Command(losing, append(args, "--device", "cuda")...)
		command.Env = append(os.Environ(), "LOSE_AT_STEP=3")
		command.Stdin = strings.NewReader("Hello\nHello again\n")
		out, _ := command.CombinedOutput() // the code tells
		t.Logf("%s", out)
		if code := command.ProcessState.ExitCode(); code != exitDeviceLost || strings.Count(string(out), "device lost") != 1 {
			t.Errorf("%v ended with %d: %s", args, code, out)
		}
	}
}
