package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// A stop of the tour is one command of a console block and what the page says
// it prints. A line "..." stands for any lines, and "..." within a line for any
// text.
type stop struct {
	command string
	prints  []string
}

// stops reads the ```console blocks between <!-- tour --> and <!-- /tour -->.
// A command follows "$ " and goes on with lines that start with "> ".
func stops(page string) ([]stop, error) {
	_, page, found := strings.Cut(page, "<!-- tour -->")
	page, _, closed := strings.Cut(page, "<!-- /tour -->")
	if !found || !closed {
		return nil, errors.New("the page has no <!-- tour --> ... <!-- /tour -->")
	}
	var all []stop
	inside := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case strings.HasPrefix(line, "$ "):
			all = append(all, stop{command: line[2:]})
		case len(all) == 0:
			return nil, fmt.Errorf("a console block starts with %q instead of a command", line)
		case strings.HasPrefix(line+" ", "> ") && len(all[len(all)-1].prints) == 0:
			all[len(all)-1].command += "\n" + strings.TrimPrefix(line[1:], " ")
		default:
			all[len(all)-1].prints = append(all[len(all)-1].prints, line)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the tour has no command")
	}
	return all, nil
}

// matches reports whether the output is what the page shows.
func (s stop) matches(output []string) bool {
	return len(s.prints) == 0 || match(s.prints, output)
}

func match(want, got []string) bool {
	for len(want) > 0 {
		if want[0] == "..." {
			for skip := range len(got) + 1 {
				if match(want[1:], got[skip:]) {
					return true
				}
			}
			return false
		}
		if len(got) == 0 || !matchLine(want[0], got[0]) {
			return false
		}
		want, got = want[1:], got[1:]
	}
	return len(got) == 0
}

func matchLine(want, got string) bool {
	parts := strings.Split(strings.TrimRight(want, " "), "...")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + " *$").MatchString(got)
}

const (
	tourTime = 10 * time.Minute
	done     = "<<tour:done>>"
)

// tour types the commands of a page into one bash, as a reader would, and
// compares what it prints. A command that fails ends the tour.
func tour(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("name the page")
	}
	page, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	all, err := stops(string(page))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	ctx, cancel := context.WithTimeout(ctx, tourTime)
	defer cancel()

	// A server that the tour started in the background ends with the shell.
	shell := group(ctx, "bash", "--noprofile", "--norc")
	input, err := shell.StdinPipe()
	if err != nil {
		return err
	}
	output, err := shell.StdoutPipe()
	if err != nil {
		return err
	}
	shell.Stderr = shell.Stdout
	if err := shell.Start(); err != nil {
		return err
	}
	walked := walk(all, input, bufio.NewReader(output))
	_ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM)
	_ = shell.Wait() // ended by the signal
	if walked == nil {
		fmt.Printf("%d commands of %s ran as written\n", len(all), args[0])
	}
	return errors.Join(walked, context.Cause(ctx))
}

func walk(all []stop, input io.Writer, output *bufio.Reader) error {
	for _, s := range all {
		fmt.Println("$", s.command)
		// The shell's own input is the tour: a command must not read it.
		if _, err := fmt.Fprintf(input, "{ %s\n} </dev/null\nprintf '\\n%s %%d\\n' $?\n", s.command, done); err != nil {
			return err
		}
		var printed []string
		code := ""
		for code == "" {
			line, err := output.ReadString('\n')
			if err != nil {
				return fmt.Errorf("%q: the shell ended: %w", s.command, err)
			}
			line = strings.TrimRight(line, "\n")
			if rest, found := strings.CutPrefix(line, done+" "); found {
				code = rest
				continue
			}
			fmt.Println(line)
			printed = append(printed, line)
		}
		// The mark stands on its own line; the empty one before it is ours.
		if n := len(printed); n > 0 && printed[n-1] == "" {
			printed = printed[:n-1]
		}
		if code != "0" {
			return fmt.Errorf("%q: exit code %s", s.command, code)
		}
		if !s.matches(printed) {
			return fmt.Errorf("%q printed\n%s\nand the page says\n%s", s.command, strings.Join(printed, "\n"), strings.Join(s.prints, "\n"))
		}
	}
	return nil
}
