package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
)

// hookBounds are what hooks may add to a decode step, in percent of it: the scripts of
// workbench/bench/hooks that read nothing, and those that read candidates.
var hookBounds = []struct {
	hook  string
	bound float64
}{
	{"empty", 1}, {"edits only", 1}, {"observe routing", 1}, {"steer every token", 1}, {"steer once", 1},
	{"50 candidates", 5}, {"256 candidates", 5}, {"sampler of 50", 5},
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

// hookCosts measures what hooks add to a decode step of the demo model.
func hookCosts(ctx context.Context) (all []line, err error) {
	command := exec.CommandContext(ctx, program, "bench", "--hooks", "--json", "--lengths", "64", "--batches", "1,8", "--tokens", "64", "--time", "4s")
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
	for _, streams := range []int{1, 8} {
		for _, b := range hookBounds {
			row, err := rowOf(report.Hooks, b.hook, "script", streams)
			if err != nil {
				return nil, err
			}
			all = append(all, line{fmt.Sprintf("hook, %s, %d streams", b.hook, streams), "%", row.Percent, b.bound, false})
		}
	}
	row, err := rowOf(report.Hooks, "wait for 1 ms", "Go", 8) // one after the other they would add 8 ms
	return append(all, line{"hooks side by side, 8 of 1 ms each", "ms", row.Cost / 1e3, 3, false}), err
}

func rowOf(rows []hookCost, name, by string, streams int) (hookCost, error) {
	for _, r := range rows {
		switch {
		case r.Hook != name || r.By != by || r.Streams != streams:
		case r.Off != "":
			r.Cost, r.Percent = math.NaN(), math.NaN() // no bound is kept
			return r, nil
		default:
			return r, nil
		}
	}
	return hookCost{}, fmt.Errorf("the report has no hook %s by %s with %d streams", name, by, streams)
}
