//go:build unix

// Command roundhouse serves, talks with and looks into Qwen3-Next models in
// AutoRound quantisation. `roundhouse --help` lists the verbs.
//
// This package parses arguments and turns errors into exit codes. What the
// verbs do is in package workbench.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/scripts/worker"
	"github.com/roundhouse-ai/roundhouse/workbench"
	"github.com/roundhouse-ai/roundhouse/workbench/config"
)

// version is set by the linker (Makefile); without it the module's is shown.
var version string

// Exit codes, as --help lists them.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitDeviceLost = 70
)

func main() {
	// A script that comes with a request runs in a child, which is the program itself.
	// Nothing is parsed or configured for it.
	if len(os.Args) > 1 && os.Args[1] == worker.Verb {
		os.Exit(report(worker.Main(os.Args[2:], os.Stdin, os.Stdout)))
	}
	os.Exit(run(os.Args[1:], nil))
}

// run parses arguments, runs the verb and returns the exit code. d is the driver of
// CUDA, nil for the machine's own.
func run(args []string, d driver.Driver) int {
	grammar := new(cli)
	parser, err := newParser(grammar)
	if err != nil {
		fmt.Fprintln(os.Stderr, "roundhouse:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		err = parsed.Run(&environment{cli: grammar, parsed: parsed, background: context.Background(), driver: d})
	} else {
		err = workbench.UsageError{Err: err}
	}
	return report(err)
}

// report prints an error and returns its exit code.
func report(err error) int {
	code := exitCode(err)
	if err != nil && !errors.Is(err, workbench.ErrFindings) {
		fmt.Fprintln(os.Stderr, "roundhouse:", err)
	}
	if code == exitUsage {
		fmt.Fprintln(os.Stderr, "`roundhouse --help` lists the verbs, `roundhouse VERB --help` what each takes")
	}
	return code
}

func exitCode(err error) int {
	var usage workbench.UsageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, engine.ErrDeviceLost):
		return exitDeviceLost
	default:
		return exitFailed
	}
}

func newParser(grammar *cli) (*kong.Kong, error) {
	return kong.New(grammar,
		kong.Name("roundhouse"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 80, NoAppDescFormat: true}),
	)
}

const description = `An inference workbench for Qwen3-Next in AutoRound quantisation.

Without MODEL the verbs use the embedded demo model. MODEL is a folder, or
org/name in models.dirs or the Hugging Face cache; nothing is downloaded.

Exit codes: 0 done; 1 failed, or findings; 2 wrong usage; 70 the device was lost.`

// environment is what verbs get from the command line.
type environment struct {
	cli        *cli
	parsed     *kong.Context
	background context.Context
	driver     driver.Driver
}

// sources are the configuration's sources as this command line names them.
func (e *environment) sources() config.Sources {
	src := config.Sources{File: e.cli.Config, Environ: os.Environ()}
	for _, part := range e.parsed.Path {
		var value *kong.Value
		name := ""
		switch {
		case part.Flag != nil:
			value, name = part.Flag.Value, "--"+part.Flag.Name
		case part.Positional != nil:
			value, name = part.Positional, strings.ToUpper(part.Positional.Name)
		default:
			continue
		}
		if path := value.Tag.Get("setting"); path != "" {
			text := fmt.Sprint(value.Target.Interface())
			if list, ok := value.Target.Interface().([]string); ok {
				text = strings.Join(list, ",")
			}
			src.Flags = append(src.Flags, config.Flag{Name: name, Path: path, Value: text})
		}
	}
	return src
}

// app loads the configuration.
func (e *environment) app() (*workbench.App, error) {
	effective, err := config.Load(e.sources())
	if err != nil {
		return nil, workbench.UsageError{Err: err}
	}
	a := e.plain()
	a.Config = effective
	a.Log = workbench.NewLog(os.Stderr, effective.Log)
	for _, warning := range effective.Warnings {
		a.Log.Warn(warning)
	}
	return a, nil
}

// plain is an app without a configuration.
func (e *environment) plain() *workbench.App {
	return &workbench.App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Driver: e.driver, Version: workbench.NewVersion(version), NoColor: e.cli.NoColor}
}

// with loads the configuration and runs a verb.
func (e *environment) with(verb func(*workbench.App) error) error {
	a, err := e.app()
	if err != nil {
		return err
	}
	return verb(a)
}
