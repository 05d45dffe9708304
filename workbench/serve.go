package workbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/web"
	"github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/live"
	"github.com/roundhouse-ai/roundhouse/workbench/metrics"
	"github.com/roundhouse-ai/roundhouse/workbench/openai"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Serve answers HTTP requests until SIGINT or SIGTERM; a second signal ends the
// program at once.
func (a *App) Serve(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from the first signal on, signals do what they usually do
	return a.serve(ctx, func(ctx context.Context, _ *engine.Model, _ *hooks.Owner, _ string) error {
		<-ctx.Done()
		return nil
	})
}

// Run serves, and with a terminal on standard input also talks with the model
// that it serves; the end of the talk is the end of the server. Without a
// terminal it is Serve.
func (a *App) Run(ctx context.Context) error {
	if !term.IsTerminal(a.In) || !term.IsTerminal(a.Out) {
		return a.Serve(ctx)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if a.Config.Origin("log.level").Source == "default" {
		quiet := a.Config.Log
		quiet.Level = "warn" // a line for every request would tear the talk apart
		a.Log = NewLog(a.Err, quiet)
	}
	return a.serve(ctx, func(ctx context.Context, model *engine.Model, owner *hooks.Owner, url string) error {
		return a.talk(ctx, model, owner, ChatOptions{Pages: url + openai.PagesAt})
	})
}

// serve opens the listener, loads the model while health checks are answered,
// and calls work with the server's address; when work returns it stops the server, then
// the model and its hooks.
func (a *App) serve(ctx context.Context, work working) error {
	listen := withHost(a.Config.Listen)
	if err := openai.CheckListen(listen, a.Config.APIKey != ""); err != nil {
		return UsageError{err}
	}
	folder, err := a.checkedFolder()
	if err != nil {
		return err
	}
	hub := events.New(a.Log.With(slog.String("part", "hooks")))
	owner, err := a.hooks(hub)
	if err != nil {
		return err
	}
	return errors.Join(a.serveWith(ctx, listen, folder, hub, owner, work), owner.Close())
}

// working is what goes on while a server serves, at an address.
type working func(ctx context.Context, model *engine.Model, owner *hooks.Owner, url string) error

// serveWith is serve with hooks, which it leaves unused.
func (a *App) serveWith(ctx context.Context, listen string, folder Folder, hub *events.Hub, owner *hooks.Owner, work working) error {
	counters := metrics.New(a.Version.Version, a.Version.Commit)
	counters.SetHooks(owner)
	counters.SetPlugins(pluginStates(owner.Plugins()))
	watching := live.New(live.Options{Feed: hub, Vectors: owner.Vectors})
	server, err := a.server(counters.Handler(), hub, owner, watching)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen; port 0 picks a free one", err)
	}
	ctx, stop := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { hub.Close(); watching.Close() }) // whoever watches would keep the server from ending
	served := make(chan error, 1)
	go func() {
		defer stop() // without a server there is nothing to work for
		served <- server.Serve(ctx, listener)
	}()
	url := urlOf(listener.Addr())
	fmt.Fprintln(a.Out, url)
	model, err := a.open(ctx, folder, server.SetProgress)
	if err == nil {
		counters.SetSource(model)
		owner.SetModel(model.HookModel(), model.HookTokenizer())
		watching.SetModel(model.HookModel(), model)
		server.SetModel(counted{model, counters})
		if note := model.Info().Note; note != "" {
			a.Log.Info(note)
		}
		a.Log.Info("ready", "model", folder.Name, "url", url, "context", model.Info().Context, "backend", model.Info().Backend.Name)
		fmt.Fprintf(a.Err, "pages for a browser: %s%s (a chat, the experts at work, the engine)\n", url, openai.PagesAt)
		fmt.Fprintln(a.Err, curl(url, folder.Name, a.Config.APIKey != ""))
		err = a.watched(ctx, stop, model, func(ctx context.Context, model *engine.Model) error { return work(ctx, model, owner, url) })
	} else if ctx.Err() != nil {
		err = nil // stopped while loading, as asked
	}
	stop()
	err = errors.Join(err, <-served)
	if model != nil {
		err = errors.Join(err, model.Close())
	}
	return err
}

// watched calls work, and stops it and the server when the model's device is lost:
// the streams have ended by then, their clients are told, and only a new process can
// go on.
func (a *App) watched(ctx context.Context, stop func(), model *engine.Model, work func(context.Context, *engine.Model) error) error {
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-model.Lost():
			a.Log.Error("the device is lost: every answer ends, then the server", "error", model.Err())
			stop()
		case <-ctx.Done():
		}
	})
	err := work(ctx, model)
	stop()
	watch.Wait()
	if err == nil {
		err = model.Err()
	}
	return err
}

// counted is a model whose requests are told to the metrics.
type counted struct {
	*engine.Model
	counters *metrics.Metrics
}

// GenerateChoices implements openai.Model.
func (c counted) GenerateChoices(ctx context.Context, req engine.Request, n int, emit func(choice int, t engine.Token) error) []engine.Outcome {
	outcomes := c.Model.GenerateChoices(ctx, req, n, emit)
	c.counters.Observe(outcomes)
	return outcomes
}

func (a *App) server(counters http.Handler, hub *events.Hub, owner *hooks.Owner, watching *live.Hub) (*openai.Server, error) {
	settings := a.Config.Server
	return openai.New(openai.Config{
		Key: a.Config.APIKey, Hosts: settings.AllowedHosts, Origins: settings.AllowedOrigins,
		MaxBody: int64(settings.MaxBody), Grace: time.Duration(settings.ShutdownGrace),
		SpecialTokens: a.Config.Chat.SpecialTokens, Version: a.Version, Metrics: counters,
		Hooks: serverHooks{owner}, Scripts: serverScripts{owner}, Plugins: serverPlugins{owner.Plugins()}, Events: hub, Live: serverLive{watching}, Pages: http.StripPrefix(strings.TrimSuffix(openai.PagesAt, "/"), web.Handler()), Log: a.Log.With(slog.String("part", "http")),
	})
}

// serverLive is the live hub as the server wants it.
type serverLive struct{ *live.Hub }

// Watch implements openai.Live.
func (l serverLive) Watch(request string, first, n int, r *engine.Request, pace *float64, setPace func(k int, perSecond *float64) error) openai.Watch {
	return l.Attach(request, first, n, r, live.Pace{PerSecond: pace, Set: setPace})
}

// withHost gives an address without a host, such as :8480, the loopback host:
// to be reached by other machines is never what was left out.
func withHost(listen string) string {
	if strings.HasPrefix(listen, ":") {
		return "127.0.0.1" + listen
	}
	return listen
}

// urlOf is where this machine reaches the server.
func urlOf(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// curl is a command line to try the server with.
func curl(url, model string, key bool) string {
	name, err := json.Marshal(model)
	if err != nil {
		name = []byte(`""`) // strings can always be marshalled
	}
	body := fmt.Sprintf(`{"model":%s,"messages":[{"role":"user","content":"Tell me a story about a brave rabbit and a lantern."}]}`, name)
	command := "curl " + url + "/v1/chat/completions -H 'Content-Type: application/json'"
	if key {
		command += ` -H "Authorization: Bearer $ROUNDHOUSE_API_KEY"`
	}
	return command + " -d '" + strings.ReplaceAll(body, "'", `'\''`) + "'"
}
