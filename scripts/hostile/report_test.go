package hostile

import (
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"
)

// The default budget is 2 ms: other tests run beside this one.
var (
	budget     = flag.Duration("budget", 10*time.Millisecond, "budget of a call")
	reportFile = flag.String("report", "", "write what was measured to this file, as JSON")
)

// Report is what `make hostile` makes a page of.
type Report struct {
	Budget  float64 // of a call, ms
	Limit   int     // of a worker, MiB
	Alone   float64 // the other stream's longest gap between two tokens without an attack, ms
	Attacks []Row
}

// Row is an attack in process and in a worker.
type Row struct {
	Name, What      string
	Process, Worker Measured
}

// Measured is what became of an attack.
type Measured struct {
	Stopped string
	Longest float64 // of its calls, ms
	Gap     float64 // the longest of the other stream, ms
	Peak    int64   // MiB: of the heap in process, above what it was before; resident of a worker
}

func (o outcome) measured() Measured {
	return Measured{o.stopped, ms(o.longest), ms(o.gap), o.peak >> 20}
}

// alone is the longest gap of the other stream when there is no attack.
func alone(t *testing.T) time.Duration {
	end := beside(t)
	time.Sleep(200 * time.Millisecond)
	gap, _ := end()
	return gap
}

func (r *Report) write(t *testing.T) {
	if *reportFile == "" {
		return
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err == nil {
		err = os.WriteFile(*reportFile, text, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}
