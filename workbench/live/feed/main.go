// Command feed serves the pages with a made-up model of the real shape: streams whose tokens
// choose experts as fast as asked for, and on demand messages that no server of ours sends.
// The tests of the pages run it; it is also there to look at a page without a large model.
//
//	go run ./workbench/live/feed -rate 1000
//	go run ./workbench/live/feed -hostile
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/web"
	"github.com/roundhouse-ai/roundhouse/workbench/live"
)

// options of the feed.
type options struct {
	listen  string
	rate    float64 // tokens a second, of all streams
	streams int
	life    int // tokens that a stream makes before another takes its place
	shape   hook.Shape
	hostile bool
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "address")
	flag.Float64Var(&o.rate, "rate", 1000, "tokens a second, of all streams together")
	flag.IntVar(&o.streams, "streams", 8, "streams")
	flag.IntVar(&o.life, "life", 1000, "tokens of a stream, before another takes its place")
	flag.IntVar(&o.shape.Layers, "layers", 48, "layers")
	flag.IntVar(&o.shape.Experts, "experts", 512, "experts of a layer")
	flag.IntVar(&o.shape.K, "k", 10, "experts of a token")
	flag.BoolVar(&o.hostile, "hostile", false, "send what cannot be read, and texts that would like to be executed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err) //nolint:gocritic // stop has nothing more to do
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o options) error {
	o.shape.MaxK, o.shape.Hidden = o.shape.K, 1
	hub := live.New(live.Options{})
	hub.SetModel(hook.Model{Name: "made-up", Tokens: 1 << 16, Shape: o.shape}, source{})
	mux := http.NewServeMux()
	mux.Handle("/ui/", http.StripPrefix("/ui", web.Handler()))
	var shown http.Handler = hub
	if o.hostile {
		shown = http.HandlerFunc(hostile)
	}
	mux.Handle("/roundhouse/v1/live", shown)
	for path, body := range map[string]any{
		"/v1/models":             map[string]any{"data": []any{map[string]string{"id": "made-up"}}},
		"/roundhouse/v1/scripts": map[string]any{"scripts": []any{}},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body) // a page that has left
		})
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	fmt.Printf("http://%s/ui/\n", listener.Addr())
	var running sync.WaitGroup
	running.Go(func() {
		<-ctx.Done()
		hub.Close()
		_ = server.Close()
	})
	if !o.hostile {
		running.Go(func() { feed(ctx, hub, o) })
	}
	err = server.Serve(listener)
	running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// source has no counters worth showing.
type source struct{}

func (source) Stats() engine.Stats          { return engine.Stats{} }
func (source) Memory() []engine.MemoryShare { return nil }

// feed makes tokens until ctx ends.
func feed(ctx context.Context, hub *live.Hub, o options) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // nothing here is secret
	type stream struct {
		watch  *live.Watch
		tokens int
	}
	streams := make([]stream, o.streams)
	began, count, made := time.Now(), 0.0, 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for ; count < time.Since(began).Seconds()*o.rate; count++ {
			s := &streams[int(count)%len(streams)]
			if s.watch == nil || s.tokens == o.life {
				if s.watch != nil {
					s.watch.End(0, "length", engine.Result{Completion: s.tokens})
				}
				made++
				s.watch, s.tokens = hub.Attach(fmt.Sprintf("feed-%d", made), 0, 1, &engine.Request{Prompt: make([]int32, 12)}, live.Pace{}), 0
			}
			s.watch.Token(0, token(random, o.shape, 12+s.tokens))
			s.tokens++
		}
	}
}

var words = []string{" the", " fox", " and", ".", " lantern", "\n", " of", " light", " a", " river", " said", " moon"}

// token makes up a token: in each layer a few experts are chosen often, and which they are
// drifts with the position.
func token(random *rand.Rand, shape hook.Shape, position int) engine.Token {
	r := &hook.Record{Position: position - 1, Layers: shape.Layers, K: shape.K,
		IDs: make([]uint16, 0, shape.Layers*shape.K), Weights: make([]float32, 0, shape.Layers*shape.K)}
	for layer := range shape.Layers {
		drift := float64(layer)*37 + float64(position)*0.2
		first := len(r.IDs)
		for len(r.IDs) < first+shape.K {
			near := math.Abs(random.NormFloat64()) * float64(shape.Experts) / 12
			id := uint16(int(drift+near) % shape.Experts)
			seen := false
			for _, other := range r.IDs[first:] {
				seen = seen || other == id
			}
			if !seen {
				r.IDs = append(r.IDs, id)
				r.Weights = append(r.Weights, 1/float32(shape.K))
			}
		}
	}
	return engine.Token{ID: int32(position), Text: words[random.IntN(len(words))], Logprob: -1, Routing: r}
}
