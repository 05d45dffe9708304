//go:build unix

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/workbench"
	"github.com/roundhouse-ai/roundhouse/workbench/config"
)

var update = flag.Bool("update", false, "write the help texts to testdata/help")

// The test binary is also the program: scripts and tests find it in PATH.
func TestMain(m *testing.M) {
	servePlugin()
	testscript.Main(m, map[string]func(){"roundhouse": main, losing: mainLosing})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			for name, value := range map[string]string{
				"HOME": home, "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": "", "HF_HOME": "", "HF_HUB_CACHE": "",
			} {
				env.Setenv(name, value)
			}
			return os.MkdirAll(home, 0o755)
		},
		// exits CODE ARGS... runs the program and demands its exit code.
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE [ARGS...]")
	}
	err := ts.Exec("roundhouse", args[1:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("roundhouse %v exits with %d, want %s", args[1:], code, args[0])
	}
}

// helpOf returns what --help prints for the verb.
func helpOf(t *testing.T, verb []string) (help string) {
	t.Helper()
	t.Setenv("COLUMNS", "80")
	parser, err := newParser(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	parser.Stdout = &out
	type printed struct{}
	parser.Exit = func(int) { panic(printed{}) } // nothing may run after the help
	defer func() {
		if _, ok := recover().(printed); !ok {
			t.Errorf("%v --help went on", verb)
		}
		help = out.String()
	}()
	_, err = parser.Parse(append(verb, "--help"))
	return fmt.Sprint(err)
}

func TestHelp(t *testing.T) {
	parser, err := newParser(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, v := range verbsOf(parser.Model.Node, "", nil) {
		name := strings.ReplaceAll("roundhouse "+v.path, " ", "-")
		file := filepath.Join("testdata", "help", strings.TrimSuffix(name, "-")+".txt")
		seen[file] = true
		got := helpOf(t, strings.Fields(v.path))
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (go test ./workbench/cmd/roundhouse -update writes it anew):\n%s", file, diff)
		}
	}
	files, err := filepath.Glob("testdata/help/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !seen[file] {
			t.Errorf("%s is the help of no verb", file)
		}
	}
}

// Every flag and argument explains itself, and those that override a setting
// name one.
func TestGrammar(t *testing.T) {
	parser, err := newParser(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	overrides := 0
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		var value *kong.Value
		switch node := node.(type) {
		case *kong.Flag:
			value = node.Value
		case *kong.Value:
			value = node
		case *kong.Node:
			if node.Help == "" {
				t.Errorf("verb %s has no help", node.FullPath())
			}
			return next(nil)
		default:
			return next(nil)
		}
		if value.Help == "" {
			t.Errorf("%s has no help", value.Summary())
		}
		if path := value.Tag.Get("setting"); path != "" {
			overrides++
			if !config.Known(path) {
				t.Errorf("%s overrides %q, which is no setting", value.Summary(), path)
			}
		}
		return next(nil)
	})
	if err != nil || overrides < 10 {
		t.Errorf("%d flags override settings, %v", overrides, err)
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		0:  nil,
		1:  fmt.Errorf("wrapped: %w", workbench.ErrFindings),
		2:  fmt.Errorf("wrapped: %w", workbench.UsageError{Err: errors.New("x")}),
		70: fmt.Errorf("wrapped: %w", &driver.Error{Code: driver.IllegalAddress, Call: "cuEventSynchronize"}),
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v exits with %d, want %d", err, got, want)
		}
	}
}

// Shells that are installed accept the completion scripts and complete verbs.
func TestCompletion(t *testing.T) {
	for shell, check := range map[string][]string{
		"bash": {"-c", `source "$0"; COMP_WORDS=(roundhouse config s); COMP_CWORD=2; _roundhouse; echo "${COMPREPLY[@]}"
COMP_WORDS=(roundhouse --log-level ""); COMP_CWORD=2; _roundhouse; echo "${COMPREPLY[@]}"
COMP_WORDS=(roundhouse chat --temp); COMP_CWORD=2; _roundhouse; echo "${COMPREPLY[@]}"`},
		"zsh":  {"-n"},
		"fish": {"-c", `source $argv[1]; for line in "config s" "chat --temp" "completion b"; complete -C "roundhouse $line" | cut -f1; end`},
	} {
		t.Run(shell, func(t *testing.T) {
			script, err := exec.Command("roundhouse", "completion", shell).Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{"serve", "detokenize", "log-level", "extract"} {
				if !bytes.Contains(script, []byte(word)) {
					t.Errorf("the script does not know %q", word)
				}
			}
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed: its script was made, not run", shell)
			}
			file := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(file, script, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(program, append(check, file)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := map[string]string{"bash": "show\ndebug info warn error\n--temperature\n", "fish": "show\n--temperature\nbash\n"}[shell]
			if string(out) != want {
				t.Errorf("completed %q, want %q", out, want)
			}
		})
	}
}
