package live

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

var model = hook.Model{Name: "small", Tokens: 16, Shape: hook.Shape{Layers: 4, Experts: 8, K: 2, MaxK: 2, Hidden: 4}}

// feed has a few events.
type feed []string

func (f feed) Subscribe(ctx context.Context, _ string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, text := range f {
			if !yield([]byte(text)) {
				return
			}
		}
		<-ctx.Done()
	}
}

// watcher is a client.
type watcher struct {
	t      *testing.T
	conn   *websocket.Conn
	hello  Hello
	tokens []*Token // of the message of the moment
}

// source has counters.
type source struct{}

func (source) Stats() engine.Stats { return engine.Stats{Running: 3, GeneratedTokens: 9} }

func (source) Memory() []engine.MemoryShare {
	return []engine.MemoryShare{{Name: "weights", Bytes: 7}}
}

func open(t *testing.T, o Options) (*Hub, string) {
	t.Helper()
	h := New(o)
	h.SetModel(model, source{})
	web := httptest.NewServer(h)
	t.Cleanup(func() {
		h.Close()
		web.Close()
	})
	return h, "ws" + strings.TrimPrefix(web.URL, "http")
}

func watch(t *testing.T, url string) *watcher {
	t.Helper()
	conn, _, err := (&websocket.Dialer{Subprotocols: []string{Subprotocol}}).Dial(url, nil) //nolint:bodyclose // websocket has read it, and says that it need not be closed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w := &watcher{t: t, conn: conn}
	w.message(&w.hello)
	return w
}

func (w *watcher) read() (kind int, data []byte) {
	w.t.Helper()
	if err := w.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	kind, data, err := w.conn.ReadMessage()
	if err != nil {
		w.t.Fatal(err)
	}
	return kind, data
}

// message reads a message, and its op.
func (w *watcher) message(into any) {
	w.t.Helper()
	kind, data := w.read()
	if kind != websocket.TextMessage {
		w.t.Fatalf("a frame where a message belongs: %x", data)
	}
	if err := json.Unmarshal(data, into); err != nil {
		w.t.Fatalf("%v: %s", err, data)
	}
}

// token reads a frame.
func (w *watcher) token() *Token {
	w.t.Helper()
	if len(w.tokens) == 0 {
		kind, data := w.read()
		if kind != websocket.BinaryMessage {
			w.t.Fatalf("a message where a frame belongs: %s", data)
		}
		var err error
		if w.tokens, err = ParseTokens(data); err != nil {
			w.t.Fatal(err)
		}
	}
	t := w.tokens[0]
	w.tokens = w.tokens[1:]
	return t
}

func (w *watcher) send(c Command) {
	w.t.Helper()
	if err := w.conn.WriteJSON(c); err != nil {
		w.t.Fatal(err)
	}
}

// subscribed subscribes, and waits until it counts.
func (w *watcher) subscribed(h *Hub, c Command) {
	w.t.Helper()
	c.Op = "subscribe"
	w.send(c)
	w.send(Command{Op: "none", ID: 77}) // its error comes behind
	var f Failed
	if w.message(&f); f.ID != 77 {
		w.t.Fatalf("%+v", f)
	}
}

// token is one of a stream.
func token(n int) engine.Token {
	r := &hook.Record{Position: 2 + n, Layers: 4, K: 2}
	for i := range 8 {
		r.IDs, r.Weights = append(r.IDs, uint16((i+n)%8)), append(r.Weights, float32(i)/8)
	}
	return engine.Token{ID: int32(n), Text: fmt.Sprint("t", n), Logprob: -1, Routing: r, Candidates: []ops.Candidate{{ID: 3, Logprob: -.5}, {ID: 4, Logprob: -2}}}
}

// Frames are what the engine handed out, token for token.
func TestFramesAreTheTokens(t *testing.T) {
	h, url := open(t, Options{})
	w := watch(t, url)
	if diff := cmp.Diff(&Model{"small", 4, 8, 2, 16}, w.hello.Model); diff != "" || w.hello.Protocol != 1 || len(w.hello.Streams) != 0 {
		t.Fatalf("%+v", w.hello)
	}
	w.subscribed(h, Command{Layers: []int{3, 1, 1}, Candidates: 1})
	r := engine.Request{Prompt: []int32{1, 2, 3}}
	tap := h.Attach("a", 0, 2, &r, Pace{})
	if !r.Routing || r.Hooks == nil || r.Candidates != 1 { // as many as somebody wants
		t.Errorf("%+v", r)
	}
	var s Stream
	for choice := range 2 {
		if w.message(&s); s.Request != "a" || s.Choice != choice || s.State != "running" || s.Prompt != 3 || !s.Routed {
			t.Fatalf("%+v", s)
		}
	}
	for n := range 50 {
		tap.Token(1, token(n))
	}
	for n := range 50 {
		got, sent := w.token(), token(n)
		want := &Token{Seq: got.Seq, Handle: s.Handle, Position: 3 + n, ID: int32(n), Logprob: -1, Text: sent.Text, Layers: []int{1, 3},
			Candidates: []hook.Candidate{{ID: 3, Logprob: -.5}}, Routing: &hook.Record{Position: 3 + n, Layers: 2, K: 2,
				IDs: append(slices.Clone(sent.Routing.IDs[2:4]), sent.Routing.IDs[6:8]...), Weights: append(slices.Clone(sent.Routing.Weights[2:4]), sent.Routing.Weights[6:8]...)}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	tap.End(1, "stop", engine.Result{Completion: 50})
	if w.message(&s); s.State != "ended" || s.Reason != "stop" || s.Made != 50 {
		t.Errorf("%+v", s)
	}
	// A stream that is not asked for is not told of; one without routing has none.
	w.subscribed(h, Command{Streams: []string{"b"}})
	tap.Token(0, token(0))
	other := h.Attach("b", 0, 1, &engine.Request{Prompt: []int32{1}}, Pace{})
	if w.message(&s); s.Request != "b" {
		t.Fatalf("%+v", s)
	}
	other.Token(0, engine.Token{ID: 5, Forced: true})
	if got := w.token(); got.ID != 5 || !got.Forced || got.Routing != nil || got.Position != 1 || got.Candidates != nil {
		t.Errorf("%+v", got)
	}
}

// Where nobody watches, requests stay as they are, and their streams are there for who comes
// later.
func TestNobodyWatches(t *testing.T) {
	h, url := open(t, Options{})
	r := engine.Request{Prompt: []int32{1}}
	tap := h.Attach("a", 0, 1, &r, Pace{})
	if r.Routing || r.Hooks != nil || r.Candidates != 0 {
		t.Errorf("%+v", r)
	}
	tap.Token(0, engine.Token{ID: 1})
	w := watch(t, url)
	if len(w.hello.Streams) != 1 || w.hello.Streams[0].Routed {
		t.Fatalf("%+v", w.hello)
	}
	w.send(Command{Op: "steer", ID: 4, Handle: w.hello.Streams[0].Handle, Steer: json.RawMessage(`{}`)})
	var f Failed
	if w.message(&f); f.ID != 4 || !strings.Contains(f.Message, "nobody watched") {
		t.Errorf("%+v", f)
	}
	(*Watch)(nil).Token(0, engine.Token{})
	(*Watch)(nil).End(0, "", engine.Result{})
}

// Who is slow loses the oldest frames, and is told exactly how many.
func TestSlowWatchersLoseFrames(t *testing.T) {
	h, url := open(t, Options{})
	w := watch(t, url)
	w.subscribed(h, Command{})
	tap := h.Attach("a", 0, 1, &engine.Request{}, Pace{})
	text := strings.Repeat("x", 1000) // more than the buffers of a socket hold
	const sent = 4 * maxFrames
	for n := range sent {
		tap.Token(0, engine.Token{ID: int32(n), Text: text})
	}
	tap.End(0, "length", engine.Result{Completion: sent})
	got, dropped, total, last := 0, uint64(0), uint64(0), -1
	for {
		kind, data := w.read()
		if kind == websocket.BinaryMessage {
			frames, err := ParseTokens(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				if int(f.ID) <= last {
					t.Fatalf("token %d behind %d", f.ID, last)
				}
				last = int(f.ID)
				got++
			}
			continue
		}
		var m struct {
			Op, State     string
			Frames, Total uint64
		}
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.Op == "dropped" {
			dropped, total = dropped+m.Frames, m.Total
		}
		if m.State == "ended" {
			break
		}
	}
	// The message that the stream begins is a frame of the ring, and may be lost too.
	if lost := sent - got; dropped == 0 || total != dropped || int(dropped) != lost && int(dropped) != lost+1 {
		t.Errorf("%d of %d tokens came, %d frames were told to be dropped", got, sent, dropped)
	}
	t.Logf("evidence: drops of a slow watcher, told more or fewer than the %d of %d that did not come: %d frames <= 1", sent-got, sent, int(dropped)-(sent-got)) // 1: the stream's begin
}

// A client that comes back gets what it missed.
func TestResume(t *testing.T) {
	h, url := open(t, Options{})
	w := watch(t, url)
	w.subscribed(h, Command{})
	tap := h.Attach("a", 0, 1, &engine.Request{}, Pace{})
	var s Stream
	w.message(&s)
	tap.Token(0, token(0))
	first := w.token()
	w.conn.Close()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		h.mu.RLock()
		one := h.sessions[w.hello.Session]
		h.mu.RUnlock()
		one.mu.Lock()
		left := one.conn == nil
		one.mu.Unlock()
		if left {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the hub does not notice that the client has left")
		}
	}
	for n := 1; n < 10; n++ {
		tap.Token(0, token(n))
	}
	again := watch(t, fmt.Sprintf("%s?session=%s&seq=%d", url, w.hello.Session, first.Seq))
	if !again.hello.Resumed || again.hello.Session != w.hello.Session || len(again.hello.Streams) != 1 {
		t.Fatalf("%+v", again.hello)
	}
	for n := 1; n < 10; n++ {
		if got := again.token(); got.ID != int32(n) {
			t.Fatalf("token %d, want %d", got.ID, n)
		}
	}
	if fresh := watch(t, url+"?session=nobody"); fresh.hello.Resumed || fresh.hello.Session == w.hello.Session {
		t.Errorf("%+v", fresh.hello)
	}
}

// A command reaches a stream's chain, and is answered with where it is in force from.
func TestSteer(t *testing.T) {
	h, url := open(t, Options{Feed: feed{`{"seq":1}`}})
	w := watch(t, url)
	r := engine.Request{Prompt: []int32{1, 2, 3}}
	tap := h.Attach("a", 0, 1, &r, Pace{})
	var s Stream
	w.message(&s)
	hooks, err := r.Hooks.Start(0)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := hook.NewChain(hook.Options{Shape: model.Shape, Tokens: model.Tokens, OnError: hook.Fail}, hooks...)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	for _, bad := range []struct{ steer, says string }{{`{"layers":{"9":{"ban":[1]}}}`, "layer 9"}, {`5`, "cannot unmarshal"}, {`{"layers":{"1":{"ban":[0,1,2,3,4,5,6]}}}`, "fewer than"}} {
		w.send(Command{Op: "steer", ID: 3, Handle: s.Handle, Steer: json.RawMessage(bad.steer)})
		var f Failed
		if w.message(&f); f.ID != 3 || !strings.Contains(f.Message, bad.says) {
			t.Errorf("%s: %+v", bad.steer, f)
		}
	}
	w.send(Command{Op: "steer", ID: 5, Handle: s.Handle, Steer: json.RawMessage(`{"layers":{"2":{"ban":[6]}}}`)})
	w.subscribed(h, Command{}) // the command has arrived
	if _, err := chain.Prompt(r.Prompt); err != nil {
		t.Fatal(err)
	}
	row := make(hook.Plain, model.Tokens)
	from := -1
	for position := 3; position < 8; position++ {
		if _, err := chain.Logits(hook.At{Position: position}, row, row); err != nil {
			t.Fatal(err)
		}
		steer, err := chain.Steer(position)
		if err != nil {
			t.Fatal(err)
		}
		if steer != nil && slices.Equal(steer.Layer(2).Ban, []int32{6}) && from < 0 {
			from = position
		}
		chain.Token(hook.Token{Position: position, ID: 1})
		tap.Token(0, engine.Token{ID: 1})
	}
	var told Steered
	for range 20 {
		kind, data := w.read()
		if kind == websocket.TextMessage && strings.Contains(string(data), "steered") {
			if err := json.Unmarshal(data, &told); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if told.ID != 5 || told.Handle != s.Handle || told.From != from || from != 5 {
		t.Errorf("%+v, and the chain has it from %d on", told, from)
	}
	w2 := watch(t, url)
	if text, err := json.Marshal(w2.hello.Streams[0].Steer); err != nil || string(text) != `{"layers":{"2":{"ban":[6]}}}` {
		t.Errorf("%s, %v", text, err)
	}
	w2.send(Command{Op: "subscribe", Stats: true})
	var counters Stats
	if w2.message(&counters); counters.Op != "stats" || counters.Running != 3 || counters.Made != 9 || counters.Watchers != 2 || len(counters.Phases) != ops.Phases {
		t.Errorf("%+v", counters)
	}
	if diff := cmp.Diff([]Memory{{"weights", 7}}, counters.Memory); diff != "" || len(counters.Hooks) != 0 {
		t.Errorf("%s %+v", diff, counters.Hooks)
	}
	w2.send(Command{Op: "subscribe", Events: true})
	var e Event
	if w2.message(&e); e.Op != "event" || string(e.Event) != `{"seq":1}` {
		t.Errorf("%+v", e)
	}
}

// Nonsense is answered, and too much of it ends the connection; others do not notice.
func TestNonsense(t *testing.T) {
	h, url := open(t, Options{})
	w := watch(t, url)
	for _, text := range []string{"", "{", "5", `{"op":"fly"}`, `{"op":"subscribe","candidates":-1}`, `{"op":"steer","handle":99}`, `{"op":"subscribe","layers":[` + strings.Repeat("1,", 300) + `1]}`} {
		if err := w.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		var f Failed
		if w.message(&f); f.Op != "error" || f.Message == "" {
			t.Errorf("%s: %+v", text, f)
		}
	}
	if err := w.conn.WriteMessage(websocket.BinaryMessage, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	var f Failed
	if w.message(&f); !strings.Contains(f.Message, "commands are JSON") {
		t.Errorf("%+v", f)
	}
	other := watch(t, url)
	if err := w.conn.WriteMessage(websocket.TextMessage, make([]byte, maxCommand+1)); err == nil {
		_ = w.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, _, err := w.conn.ReadMessage(); err == nil {
			t.Error("a message that is too large is taken")
		}
	}
	other.subscribed(h, Command{})
	_, answer, err := (&websocket.Dialer{Subprotocols: []string{"chat"}}).Dial(url, nil) //nolint:bodyclose // websocket has read it, and says that it need not be closed
	if !errors.Is(err, websocket.ErrBadHandshake) || answer.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("another subprotocol: %v", err)
	}
}

// The frames that TypeScript is tested with are those of this program: -update writes them
// anew.
func TestSampleFrames(t *testing.T) {
	one := token(3)
	var samples []sample
	for _, f := range []*Token{
		{Seq: 5, Handle: 7, Position: 12, ID: 300, Logprob: -.5, Text: "é\n"},
		{Seq: 1 << 40, Handle: 1, Position: 3, ID: -1, Forced: true, Layers: []int{0, 2}, Routing: one.Routing, Candidates: []hook.Candidate{{ID: 3, Logprob: -.25}, {ID: 9, Logprob: -4}}, Text: "t"},
		{Seq: 2, Layers: []int{1}, Routing: one.Routing, Text: ""},
	} {
		data := f.Append(binary.LittleEndian.AppendUint64(nil, f.Seq))
		list, err := ParseTokens(data)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d frames, %v", len(list), err)
		}
		got := list[0]
		s := sample{Hex: hex.EncodeToString(data), Seq: got.Seq, Handle: got.Handle, Position: got.Position, ID: got.ID, Logprob: got.Logprob, Forced: got.Forced, Layers: got.Layers, Text: got.Text}
		if got.Routing != nil {
			s.Routed, s.K, s.IDs, s.Weights = true, got.Routing.K, got.Routing.IDs, got.Routing.Weights
		}
		for _, c := range got.Candidates {
			s.Candidates, s.Logprobs = append(s.Candidates, c.ID), append(s.Logprobs, c.Logprob)
		}
		samples = append(samples, s)
	}
	text, err := json.MarshalIndent(samples, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	const name = "testdata/frames.json"
	if *update {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(name); err != nil || string(kept) != string(text) {
		t.Errorf("%s is not what frames are now: %v; a frame of version 1 never changes", name, err)
	}
}

var update = flag.Bool("update", false, "write the sample frames")

// sample is a frame, and what is in it.
type sample struct {
	Hex        string    `json:"hex"`
	Seq        uint64    `json:"seq"`
	Handle     uint32    `json:"handle"`
	Position   int       `json:"position"`
	ID         int32     `json:"id"`
	Logprob    float32   `json:"logprob"`
	Forced     bool      `json:"forced"`
	Routed     bool      `json:"routed"`
	K          int       `json:"k"`
	Layers     []int     `json:"layers"`
	IDs        []uint16  `json:"ids"`
	Weights    []float32 `json:"weights"`
	Candidates []int32   `json:"candidates"`
	Logprobs   []float32 `json:"logprobs"`
	Text       string    `json:"text"`
}

// FuzzParseTokens reads any bytes: an error, or frames that account for all of them.
func FuzzParseTokens(f *testing.F) {
	sample := token(1)
	one := &Token{Handle: 1, Position: 3, ID: 2, Layers: []int{0, 2}, Routing: sample.Routing, Candidates: []hook.Candidate{{ID: 1}}, Text: "é"}
	f.Add(one.Append(make([]byte, seqBytes)))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseTokens(data)
		if err != nil {
			return
		}
		size := 0
		for _, got := range list {
			size += headBytes + len(got.Text) + 8*len(got.Candidates) + 2*len(got.Layers)
			if got.Routing != nil {
				size += 6 * len(got.Routing.IDs)
			}
		}
		if size != len(data) {
			t.Errorf("%d bytes are %d frames of %d bytes", len(data), len(list), size)
		}
	})
}

// A watcher slows a stream down, and what it has slowed down goes on when it is gone.
func TestPace(t *testing.T) {
	h, url := open(t, Options{})
	w := watch(t, url)
	w.subscribed(h, Command{})
	var mu sync.Mutex
	var set []float64
	number := func(x float64) *float64 { return &x }
	pace := Pace{PerSecond: number(30), Set: func(k int, perSecond *float64) error {
		mu.Lock()
		defer mu.Unlock()
		if *perSecond < 0 {
			return errors.New("too slow")
		}
		set = append(set, float64(k), *perSecond)
		return nil
	}}
	tap := h.Attach("a", 2, 1, &engine.Request{}, pace)
	var s Stream
	if w.message(&s); s.Pace == nil || *s.Pace != 30 {
		t.Fatalf("%+v", s)
	}
	w.send(Command{Op: "pace", ID: 1, Handle: s.Handle, PerSecond: number(0)})
	if w.message(&s); s.Pace == nil || *s.Pace != 0 {
		t.Errorf("%+v", s)
	}
	var done Paced
	if w.message(&done); done.Op != "paced" || done.ID != 1 || done.Handle != s.Handle {
		t.Errorf("%+v", done)
	}
	for _, bad := range []Command{{Handle: s.Handle, PerSecond: number(-1)}, {Handle: 99}} {
		bad.Op, bad.ID = "pace", 9
		w.send(bad)
		var f Failed
		if w.message(&f); f.Op != "error" || f.ID != 9 {
			t.Errorf("%+v: %+v", bad, f)
		}
	}
	h.mu.RLock()
	session := h.sessions[w.hello.Session]
	h.mu.RUnlock()
	h.end(session)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]float64{0, 0, 0, 30}, set); diff != "" {
		t.Error(diff)
	}
	tap.End(0, "stop", engine.Result{})
}

// What hooks have cost is added up by their names, the dearest first.
func TestHookCosts(t *testing.T) {
	h, url := open(t, Options{})
	watch(t, url)
	for n := range 3 {
		tap := h.Attach("a", 0, 1, &engine.Request{}, Pace{})
		tap.End(0, "stop", engine.Result{Completion: 10, Hooks: hook.Report{Hooks: []hook.Usage{
			{Name: "cheap", Calls: 1, Time: time.Millisecond}, {Name: "dear", Calls: 2, Time: time.Second, Waited: time.Second, Edits: 3, Changed: 1, Faults: map[string]int{"lost": n}},
			{Name: Name, Calls: 50},
		}}})
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	want := []HookCost{{"dear", 3, 6, 3, 3, 9, 3, 3, 30}, {"cheap", 3, 3, .003, 0, 0, 0, 0, 30}}
	if diff := cmp.Diff(want, h.hookCosts()); diff != "" {
		t.Error(diff)
	}
}
