package workbench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/workbench/bench"
	"github.com/roundhouse-ai/roundhouse/workbench/live"
)

// watcherCount is how many pages look on where what they cost is measured.
const watcherCount = 20

// benchWatchers is a case of pages that look on: they get every token with all its experts over
// sockets of this machine, which they read in this process. stop ends them.
func benchWatchers(ctx context.Context, model *engine.Model) (c bench.HookCase, stop func(), err error) {
	hub := live.New(live.Options{})
	hub.SetModel(model.HookModel(), model)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		hub.Close()
		return c, nil, err
	}
	server := &http.Server{Handler: hub, ReadHeaderTimeout: 10 * time.Second}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) }) // until it is closed
	var pages []*websocket.Conn
	stop = func() {
		for _, page := range pages {
			_ = page.Close() // they have done their work
		}
		hub.Close()
		_ = server.Close()
		running.Wait()
	}
	for range watcherCount {
		page, _, err := (&websocket.Dialer{Subprotocols: []string{live.Subprotocol}}).DialContext(ctx, "ws://"+listener.Addr().String(), nil) //nolint:bodyclose // websocket has read it, and says that it need not be closed
		if err != nil {
			stop()
			return c, nil, fmt.Errorf("a page that looks on: %w", err)
		}
		pages = append(pages, page)
		running.Go(func() {
			for {
				if _, _, err := page.ReadMessage(); err != nil {
					return
				}
			}
		})
	}
	return bench.HookCase{Name: fmt.Sprintf("%d pages look on", watcherCount), By: "live", Watch: func(r *engine.Request) (func(engine.Token), func(engine.Result)) {
		watch := hub.Attach("bench", 0, 1, r, live.Pace{})
		return func(t engine.Token) { watch.Token(0, t) }, func(result engine.Result) { watch.End(0, "length", result) }
	}}, stop, nil
}
