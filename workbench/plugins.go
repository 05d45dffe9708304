package workbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins/check"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
	"github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/metrics"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// pluginOptions are those of a host, as the settings say.
func (a *App) pluginOptions() (host.Options, error) {
	s := a.Config.Plugins
	o := host.Options{Dir: a.Config.PluginsDir(os.Environ()), Allow: s.Allow, Env: s.Env, Version: a.Version.Version, Budget: time.Duration(s.Budget)}
	for _, text := range s.Pins {
		pin, err := host.ParsePin(text)
		if err != nil {
			return o, UsageError{fmt.Errorf("plugins.pins: %w", err)}
		}
		o.Pins = append(o.Pins, pin)
	}
	return o, nil
}

// plugins starts the plugins that are allowed; nil where none is.
func (a *App) plugins(hub *events.Hub) (*host.Host, error) {
	o, err := a.pluginOptions()
	if err != nil {
		return nil, err
	}
	// Who names a plugin on the command line allows it.
	flag := a.Config.Origin("plugins.use").Source == "flag"
	for _, name := range a.Config.Plugins.Use {
		if flag && !slices.Contains(o.Allow, name) {
			o.Allow = append(slices.Clone(o.Allow), name)
		}
		if !slices.Contains(o.Allow, name) {
			return nil, UsageError{fmt.Errorf("plugins.use: %q is not in plugins.allow, and is never started", name)}
		}
	}
	if len(o.Allow) == 0 && len(o.Pins) == 0 {
		return nil, nil //nolint:nilnil // a nil host has no plugins
	}
	o.Publish = func(kind string, data any) { hub.Publish(kind, "", data) }
	return host.Open(o)
}

// serverPlugins are the plugins as the server wants them.
type serverPlugins struct{ host *host.Host }

// List implements openai.Plugins.
func (p serverPlugins) List() any {
	list := []host.Stat{}
	for _, one := range p.host.Plugins() {
		list = append(list, one.Stat())
	}
	return list
}

// get finds a plugin.
func (p serverPlugins) get(name string) (*host.Plugin, error) {
	one, err := p.host.Get(name)
	if err != nil {
		return nil, &hooks.Error{Status: http.StatusNotFound, Code: "plugin_not_found", Err: err}
	}
	return one, nil
}

// Logs implements openai.Plugins.
func (p serverPlugins) Logs(name string, n int) (any, error) {
	one, err := p.get(name)
	if err != nil {
		return nil, err
	}
	return one.Logs(n), nil
}

// Restart implements openai.Plugins.
func (p serverPlugins) Restart(name string) error {
	one, err := p.get(name)
	if err == nil {
		one.Restart()
	}
	return err
}

// pluginStates says how plugins fare, for counters.
func pluginStates(h *host.Host) func() []metrics.Plugin {
	return func() (list []metrics.Plugin) {
		for _, p := range h.Plugins() {
			s := p.Stat()
			list = append(list, metrics.Plugin{Name: s.Name, Ready: s.State == host.Ready, Launches: float64(s.Launches), Choices: float64(s.Choices),
				Calls: float64(s.Calls), Faults: float64(s.Faults), Late: float64(s.Late), Lost: float64(s.Lost), Own: s.Metrics})
		}
		return list
	}
}

// live asks a running server; address is that of the configuration where it is "".
func (a *App) live(ctx context.Context, address, method, path string, answer any) error {
	if address == "" {
		address = a.Config.Listen
	}
	base := address
	if !strings.Contains(base, "://") {
		base = "http://" + withHost(base)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return UsageError{fmt.Errorf("--server %q: %w", address, err)}
	}
	if a.Config.APIKey != "" {
		request.Header.Set("Authorization", "Bearer "+a.Config.APIKey)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json") // what the server takes, so that no web page can post
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no server answers at %s; --server names another: %w", base, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("the answer of %s: %w", base, err)
	}
	if reply.StatusCode != http.StatusOK {
		var refused struct{ Error struct{ Message string } }
		if json.Unmarshal(text, &refused) == nil && refused.Error.Message != "" {
			return errors.New(refused.Error.Message)
		}
		return fmt.Errorf("%s answers %s: %.200s", base, reply.Status, text)
	}
	return json.NewDecoder(bytes.NewReader(text)).Decode(answer)
}

// pluginRow is a plugin of the folder, and how it fares where a server runs.
type pluginRow struct {
	Name    string     `json:"name"`
	Allowed bool       `json:"allowed"`
	Live    *host.Stat `json:"live,omitempty"`
}

// PluginsList lists the plugins of the folder and whether they are allowed; of a server
// that runs, how they fare.
func (a *App) PluginsList(ctx context.Context, server string, asJSON bool) error {
	dir := a.Config.PluginsDir(os.Environ())
	names, err := host.Installed(dir)
	if err != nil {
		return err
	}
	var running struct{ Plugins []host.Stat }
	liveErr := a.live(ctx, server, http.MethodGet, "/roundhouse/v1/plugins", &running)
	if liveErr != nil && server != "" {
		return liveErr
	}
	rows := []pluginRow{}
	for _, s := range running.Plugins {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		row := pluginRow{Name: name, Allowed: slices.Contains(a.Config.Plugins.Allow, name)}
		for i := range running.Plugins {
			if running.Plugins[i].Name == name {
				row.Live = &running.Plugins[i]
			}
		}
		rows = append(rows, row)
	}
	if asJSON {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		fmt.Fprintf(a.Err, "there are no plugins in %s\n", term.Printable(dir))
		return nil
	}
	for _, row := range rows {
		state := "not allowed: add it to plugins.allow"
		if row.Allowed {
			state = "allowed"
		}
		if s := row.Live; s != nil {
			state = fmt.Sprintf("%s, version %s, %d launches, %d calls, %d faults, %d late", s.State, s.Version, s.Launches, s.Calls, s.Faults, s.Late)
			if s.Error != "" {
				state += ": " + s.Error
			}
		}
		fmt.Fprintf(a.Out, "%-20s %s\n", row.Name, term.Printable(state))
	}
	return nil
}

// checked is a line of a check, for programs.
type checked struct {
	Name   string  `json:"name"`
	OK     bool    `json:"ok"`
	Detail string  `json:"detail,omitempty"`
	Millis float64 `json:"ms"`
}

// PluginsCheck holds a plugin to the contract: the program or folder at a path, or one of
// the folder of plugins. params are JSON values, or texts.
func (a *App) PluginsCheck(ctx context.Context, plugin string, params map[string]string, asJSON bool) error {
	o := check.Options{Params: map[string]any{}}
	if wire.PlainName(plugin) {
		o.Dir, o.Name = a.Config.PluginsDir(os.Environ()), plugin
	} else {
		o.Path = plugin
	}
	for name, text := range params {
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		o.Params[name] = value
	}
	if !asJSON {
		o.Told = func(l check.Line) {
			mark := "ok  "
			if !l.OK {
				mark = "FAIL"
			}
			detail := ""
			if l.Detail != "" {
				detail = ": " + term.Printable(l.Detail)
			}
			fmt.Fprintf(a.Out, "%s %s%s (%s)\n", mark, l.Name, detail, l.Time.Round(time.Millisecond))
		}
	}
	report, err := check.Run(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		lines := []checked{}
		for _, l := range report.Lines {
			lines = append(lines, checked{l.Name, l.OK, l.Detail, float64(l.Time.Microseconds()) / 1e3})
		}
		if err := a.printJSON(map[string]any{"name": report.Name, "version": report.Version, "ok": !report.Failed(), "lines": lines}); err != nil {
			return err
		}
	}
	if report.Failed() {
		return ErrFindings
	}
	return nil
}

// PluginsLogs prints the newest n lines of a plugin's log.
func (a *App) PluginsLogs(ctx context.Context, server, name string, n int, asJSON bool) error {
	var answer struct{ Lines []host.Line }
	path := fmt.Sprintf("/roundhouse/v1/plugins/%s/logs?n=%d", url.PathEscape(name), n)
	if err := a.live(ctx, server, http.MethodGet, path, &answer); err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(answer.Lines)
	}
	for _, l := range answer.Lines {
		fmt.Fprintf(a.Out, "%s %-6s %s\n", l.Time.Format(time.RFC3339), l.Level, term.Printable(l.Text))
	}
	return nil
}

// PluginsRestart has a server end a plugin's process and start another.
func (a *App) PluginsRestart(ctx context.Context, server, name string) error {
	var answer struct{ Restarting string }
	if err := a.live(ctx, server, http.MethodPost, "/roundhouse/v1/plugins/"+url.PathEscape(name)+"/restart", &answer); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%s is started anew\n", term.Printable(name))
	return nil
}
