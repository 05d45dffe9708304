// Command house holds the tools of the Makefile that are more than a line of
// shell: counting tests, running the tour and the fuzz targets, comparing
// generated files, packing releases, measuring what the handbook promises.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// A tool gets its arguments and reports what went wrong; it prints its results.
type tool func(ctx context.Context, args []string) error

var tools = map[string]tool{
	"test":          test,
	"tour":          tour,
	"fuzz":          fuzz,
	"gen-check":     genCheck,
	"dist":          dist,
	"parity":        parity,
	"evidence":      evidence,
	"hostile":       hostile,
	"plugin-faults": pluginFaults,
	"gpu-bundle":    gpuBundle,
}

// group is a command that leads its own process group: when ctx ends, its
// children end with it, and none is left holding its pipes.
func group(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 2 || tools[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "house: name a tool: test, tour, fuzz, gen-check, dist, parity, evidence, hostile, plugin-faults or gpu-bundle; `make help` says what they do")
		os.Exit(2)
	}
	if err := tools[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "house %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
