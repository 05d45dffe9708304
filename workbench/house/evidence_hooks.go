package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
)

// hookCosts are the promises of what hooks add to a decode step of the demo model, in
// percent of it: the scripts of workbench/bench/hooks, which read or do not.
func hookCosts() (all []promise) {
	for _, streams := range []int{1, 8} {
		for _, c := range []struct {
			hook  string
			bound float64
		}{
			{"empty", 1}, {"edits only", 1}, {"observe routing", 1}, {"steer every token", 1}, {"steer once", 1},
			{"50 candidates", 5}, {"256 candidates", 5}, {"sampler of 50", 5},
		} {
			all = append(all, promise{fmt.Sprintf("hook, %s, streams: %d", c.hook, streams), "%", func(context.Context) (percent, bound float64, err error) {
				row, err := hookRow(c.hook, "script", streams)
				return row.Percent, c.bound, err
			}, false})
		}
	}
	return append(all, promise{"hooks of 8 streams, 1 ms each", "ms", waits, false})
}

// waits is what eight hooks that wait add to a step: one after the other they would
// add 8 ms.
func waits(context.Context) (milliseconds, bound float64, err error) {
	row, err := hookRow("wait for 1 ms", "Go", 8)
	return row.Cost / 1e3, 3, err
}

// hookCost is a row of the report of `roundhouse bench --hooks`.
type hookCost struct {
	Hook    string  `json:"hook"`
	By      string  `json:"by"`
	Streams int     `json:"streams"`
	Cost    float64 `json:"cost_us"`
	Percent float64 `json:"cost_percent"`
	Off     string  `json:"off"`
}

// hookReport measures all of them once.
var hookReport = sync.OnceValues(func() ([]hookCost, error) {
	command := exec.CommandContext(context.Background(), program, "bench", "--hooks", "--json", "--lengths", "64", "--batches", "1,8", "--tokens", "64", "--time", "4s")
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", command.Args, err)
	}
	var report struct {
		Hooks []hookCost `json:"hooks"`
	}
	if err := json.Unmarshal(output, &report); err != nil {
		return nil, fmt.Errorf("%v: %w", command.Args, err)
	}
	return report.Hooks, nil
})

func hookRow(name, by string, streams int) (hookCost, error) {
	rows, err := hookReport()
	if err != nil {
		return hookCost{}, err
	}
	for _, r := range rows {
		if r.Hook == name && r.By == by && r.Streams == streams {
			if r.Off != "" {
				return r, fmt.Errorf("the hook was switched off: %s", r.Off)
			}
			return r, nil
		}
	}
	return hookCost{}, fmt.Errorf("the report has no hook %s by %s with %d streams", name, by, streams)
}
