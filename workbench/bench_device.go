package workbench

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/cuda"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Profile is where the time of a decode step goes on a GPU.
type Profile struct {
	Streams int           `json:"streams"`
	Step    time.Duration `json:"step"`
	Phases  []cuda.Cost   `json:"phases"`
}

// onDevice says whether a model runs on a GPU.
func onDevice(m *engine.Model) bool { return strings.HasPrefix(m.Info().Backend.Name, "cuda") }

// profiles measures decode steps of each number of streams.
func profiles(m *engine.Model, streams []int) ([]Profile, error) {
	var all []Profile
	for _, n := range streams {
		step, costs, err := m.Profile(n)
		if err != nil {
			return nil, err
		}
		all = append(all, Profile{n, step, costs})
	}
	return all, nil
}

// printProfiles shows a table for each profile.
func printProfiles(out io.Writer, all []Profile) error {
	for _, p := range all {
		var rows [][]string
		for _, c := range p.Phases {
			rate := "-"
			if c.Time > 0 && p.Streams == 1 {
				rate = fmt.Sprintf("%.2f TB/s", float64(c.Bytes)/c.Time.Seconds()/1e12)
			}
			rows = append(rows, []string{c.Phase, strconv.Itoa(c.Count), micros(c.Time), micros(c.Time / time.Duration(c.Count)), term.Bytes(c.Bytes), rate})
		}
		if _, err := fmt.Fprintf(out, "\na decode step of %d streams: %s us\n\n", p.Streams, micros(p.Step)); err != nil {
			return err
		}
		err := term.Table(out, []term.Column{{Name: "phase"}, {Name: "times", Right: true}, {Name: "us", Right: true}, {Name: "us each", Right: true},
			{Name: "moved for a row", Right: true}, {Name: "rate", Right: true}}, rows)
		if err != nil {
			return err
		}
	}
	return nil
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1e3) }
