package workbench

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/scripts"
	"github.com/roundhouse-ai/roundhouse/scripts/library"
	"github.com/roundhouse-ai/roundhouse/scripts/starter"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// scriptsDir is the folder of scripts in force.
func (a *App) scriptsDir() (string, error) {
	dir := a.Config.ScriptsDir(os.Environ())
	if dir == "" {
		return "", errors.New("there is no home folder for scripts: name a folder with --dir")
	}
	return dir, nil
}

// openScripts opens the folder of scripts in force, and the library where shipped is set.
func (a *App) openScripts(shipped bool) (*scripts.Store, error) {
	dir, err := a.scriptsDir()
	if err != nil {
		return nil, err
	}
	o := scripts.Options{Memory: int(a.Config.Scripts.Memory)}
	if shipped {
		o.Library = library.FS
	}
	store, err := scripts.Open(dir, o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder of scripts at %s: `roundhouse scripts init` makes one, --dir names another", dir)
	}
	return store, err
}

// ScriptsInit writes what a folder of scripts begins with. What is there stays as it
// is, but for the types.
func (a *App) ScriptsInit() error {
	dir, err := a.scriptsDir()
	if err != nil {
		return err
	}
	files, err := starter.Write(dir)
	if err != nil {
		return fmt.Errorf("scripts init: %w", err)
	}
	for _, f := range files {
		fmt.Fprintf(a.Out, "%-9s  %s\n", f.State, term.Printable(filepath.Join(dir, f.Name)))
		if f.State == starter.Kept {
			fmt.Fprintf(a.Err, "%s is not as this program writes it, and was left alone: remove it to have it written anew\n", term.Printable(f.Name))
		}
	}
	return nil
}

// scriptInfo is what a script says of itself.
type scriptInfo struct {
	Name     string      `json:"name"`
	Library  bool        `json:"library,omitempty"` // it comes with the program
	Says     string      `json:"says,omitempty"`    // the name that it gives itself, where it is another
	Digest   string      `json:"digest,omitempty"`
	Priority int         `json:"priority"`
	Lag      int         `json:"lag,omitempty"`
	Hold     int         `json:"hold,omitempty"`
	Top      int         `json:"top,omitempty"`
	Budget   float64     `json:"budget_ms,omitempty"`
	Capture  bool        `json:"capture_all,omitempty"`
	Request  bool        `json:"request,omitempty"` // it sees requests
	Params   hook.Params `json:"params,omitempty"`
	Problems []string    `json:"problems,omitempty"`  // why it cannot be used, each with its place
	NoScript bool        `json:"no_script,omitempty"` // it exports none: others may import it
}

// describe loads a script.
func describe(store *scripts.Store, name string) scriptInfo {
	script, err := store.Get(name)
	var broken *scripts.LoadError
	switch {
	case errors.As(err, &broken):
		return scriptInfo{Name: name, Problems: broken.Lines, NoScript: errors.Is(err, scripts.ErrNoScript)}
	case err != nil:
		return scriptInfo{Name: name, Problems: []string{err.Error()}}
	}
	info := script.Info()
	says := scriptInfo{
		Name: name, Digest: info.Digest, Priority: info.Spec.Priority, Lag: info.Spec.Lag, Hold: info.Spec.Hold, Top: info.Spec.Top,
		Budget: float64(info.Spec.Budget) / float64(time.Millisecond), Capture: info.Spec.CaptureAll, Request: info.Request, Params: info.Params,
	}
	if says.Lag == 0 {
		says.Lag = hook.DefaultLag
	}
	if info.Name != filepath.Base(name) {
		says.Says = info.Name
	}
	return says
}

// serverScripts are the scripts as the server wants them.
type serverScripts struct{ owner *hooks.Owner }

// List implements openai.Scripts.
func (s serverScripts) List() (any, error) {
	store, err := s.owner.Scripts()
	if err != nil {
		return nil, err
	}
	names, err := store.Names()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // who has no folder has the library
		return nil, err
	}
	shipped, err := store.Library()
	if err != nil {
		return nil, err
	}
	list := []scriptInfo{}
	for _, name := range names {
		list = append(list, describe(store, name))
	}
	for _, name := range shipped {
		if slices.Contains(names, name) { // the folder's own goes first
			continue
		}
		one := describe(store, name)
		one.Library = true
		list = append(list, one)
	}
	return list, nil
}

// settings are what a script declares, in words.
func (s *scriptInfo) settings() string {
	words := []string{fmt.Sprintf("lag %d", s.Lag)}
	add := func(there bool, format string, args ...any) {
		if there {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(s.Priority != 0, "priority %d", s.Priority)
	add(s.Hold != 0, "holds %d tokens", s.Hold)
	add(s.Top != 0, "top %d", s.Top)
	add(s.Budget != 0, "budget %v ms", s.Budget)
	add(s.Capture, "routing of prompts")
	add(s.Request, "sees requests")
	add(s.Says != "", "calls itself %s", s.Says)
	return strings.Join(words, ", ")
}

// paramText is a parameter's type, range and default, in words.
func paramText(p hook.Param) string {
	text := p.Type
	if len(p.Enum) > 0 {
		var values []string
		for _, v := range p.Enum {
			values = append(values, fmt.Sprint(v))
		}
		text += ": " + strings.Join(values, " or ")
	}
	switch {
	case p.Minimum != nil && p.Maximum != nil:
		text += fmt.Sprintf(", %v to %v", *p.Minimum, *p.Maximum)
	case p.Minimum != nil:
		text += fmt.Sprintf(", %v or more", *p.Minimum)
	case p.Maximum != nil:
		text += fmt.Sprintf(", %v or less", *p.Maximum)
	}
	switch value := p.Default.(type) {
	case nil:
		return text + "; must be given"
	case string:
		return text + fmt.Sprintf("; %q", value)
	default:
		return text + fmt.Sprintf("; %v", value)
	}
}

// ScriptsList prints the scripts of the folder, or those of the library, and what they
// say of themselves.
func (a *App) ScriptsList(ofLibrary, asJSON bool) (err error) {
	store, err := a.openScripts(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	names, err := store.Names()
	if err != nil {
		return err
	}
	shipped, err := store.Library()
	if err != nil {
		return err
	}
	listed := names
	if ofLibrary {
		listed = shipped
	}
	all := []scriptInfo{}
	for _, name := range listed {
		s := describe(store, name)
		s.Library = ofLibrary
		all = append(all, s)
	}
	if asJSON {
		return a.printJSON(all)
	}
	if len(names) == 0 && !ofLibrary {
		fmt.Fprintln(a.Err, "there are no scripts of your own: `roundhouse scripts init` writes one to begin with")
	}
	if !ofLibrary {
		defer func() {
			fmt.Fprintf(a.Err, "with the program come %s: `roundhouse scripts list --library`\n", strings.Join(shipped, ", "))
		}()
	}
	if len(all) == 0 {
		return nil
	}
	var rows [][]string
	for _, s := range all {
		if s.NoScript {
			rows = append(rows, []string{s.Name, "", "no script", "others may import it"})
			continue
		}
		if len(s.Problems) > 0 {
			rows = append(rows, []string{s.Name, "", "broken", s.Problems[0]})
			for _, line := range s.Problems[1:] {
				rows = append(rows, []string{"", "", "", line})
			}
			continue
		}
		rows = append(rows, []string{s.Name, "", s.settings(), ""})
		for _, name := range slices.Sorted(maps.Keys(s.Params)) {
			rows = append(rows, []string{"", name, paramText(s.Params[name]), s.Params[name].Description})
		}
	}
	return term.Table(a.Out, []term.Column{{Name: "script"}, {Name: "parameter"}, {Name: "declares"}, {Name: "says"}}, rows)
}

// ScriptsCheck bundles and loads scripts of the folder or the library, all of the folder
// where none is named;
// ErrFindings says that some cannot be used.
func (a *App) ScriptsCheck(names []string, asJSON bool) (err error) {
	all := len(names) == 0
	store, err := a.openScripts(!all)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if all {
		if names, err = store.Names(); err != nil {
			return err
		}
	}
	type result struct {
		Name     string   `json:"name"`
		OK       bool     `json:"ok"`
		Problems []string `json:"problems,omitempty"`
	}
	results, broken := []result{}, 0
	for _, name := range names {
		info := describe(store, name)
		if all && info.NoScript {
			continue
		}
		results = append(results, result{name, len(info.Problems) == 0, info.Problems})
		if len(info.Problems) > 0 {
			broken++
		}
	}
	if asJSON {
		err = a.printJSON(results)
	} else {
		style := a.style(a.Out)
		for _, r := range results {
			state := style.Green("ok")
			if !r.OK {
				state = style.Red("broken")
			}
			fmt.Fprintln(a.Out, state, term.Printable(r.Name))
			for _, line := range r.Problems {
				fmt.Fprintln(a.Out, "  "+term.Printable(line))
			}
		}
		fmt.Fprintf(a.Out, "%d of %d scripts can be used\n", len(results)-broken, len(results))
	}
	if err == nil && broken > 0 {
		err = ErrFindings
	}
	return err
}
