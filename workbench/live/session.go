package live

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// frame is a message to a watcher.
type frame struct {
	text bool
	data []byte // of a token: behind its seq
}

// want is what a session subscribed to.
type want struct {
	streams    map[string]bool // nil for all
	layers     []int           // nil for all
	candidates int
	stats      bool
	key        string // the same for those who want the same of a token
}

// of returns the layers that are wanted of so many.
func (w *want) of(layers int) (list []int) {
	for n := range layers {
		if w.layers == nil || slices.Contains(w.layers, n) {
			list = append(list, n)
		}
	}
	return list
}

// session is a watcher, over its connections.
type session struct {
	id   string
	want atomic.Pointer[want]
	stop context.CancelFunc // of its events; nil for none

	mu      sync.Mutex
	moved   chan struct{} // closed at the next change
	awaited bool          // somebody waits for that
	ring    []frame
	first   uint64 // seq of ring[0]
	cursor  uint64 // seq of the next to be sent
	bytes   int
	dropped uint64
	conn    *websocket.Conn // that it is sent to; nil for none
	over    bool
	expiry  *time.Timer // while there is no connection
}

// push puts a frame into the ring; what is oldest goes.
func (s *session) push(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring, s.bytes = append(s.ring, f), s.bytes+len(f.data)
	for len(s.ring) > maxFrames || s.bytes > maxRingBytes && len(s.ring) > 1 {
		s.bytes -= len(s.ring[0].data)
		s.ring[0] = frame{}
		s.ring, s.first = s.ring[1:], s.first+1
	}
	s.tell()
}

// tell wakes who waits for a change; the lock is held.
func (s *session) tell() {
	if s.awaited {
		close(s.moved)
		s.moved, s.awaited = make(chan struct{}), false
	}
}

// send is push for a message.
func (s *session) send(message any) {
	if text, err := json.Marshal(message); err == nil {
		s.push(frame{text: true, data: text})
	}
}

// batch is what is sent at a time: a message, or frames of tokens, one behind the other.
type batch struct {
	kind    int // of the WebSocket
	data    []byte
	missing uint64 // frames before it
	total   uint64 // likewise, of the session
}

// maxBatch is how large a message of frames becomes: one frame more fits behind it.
const maxBatch = 64 << 10

// wait waits until there is something to send; ok is false once the connection is another's,
// or over.
func (s *session) wait(conn *websocket.Conn) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.over || s.conn != conn {
			return false
		}
		if s.cursor < s.first+uint64(len(s.ring)) {
			return true
		}
		s.awaited = true
		moved := s.moved
		s.mu.Unlock()
		<-moved
		s.mu.Lock()
	}
}

// take returns what is to be sent next; nothing where there is none.
func (s *session) take(conn *websocket.Conn) (b batch, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.conn != conn {
		return b, false
	}
	if s.cursor < s.first {
		b.missing = s.first - s.cursor
		s.dropped += b.missing
		s.cursor = s.first
	}
	b.total = s.dropped
	for ; s.cursor < s.first+uint64(len(s.ring)) && len(b.data) < maxBatch; s.cursor++ {
		f := s.ring[s.cursor-s.first]
		if f.text {
			if b.kind == 0 {
				b.kind, b.data = websocket.TextMessage, f.data
				s.cursor++
			}
			break
		}
		b.kind = websocket.BinaryMessage
		b.data = append(binary.LittleEndian.AppendUint64(b.data, s.cursor), f.data...)
	}
	return b, b.kind != 0
}

// upgrader takes any origin: who serves the hub has looked at it.
var upgrader = websocket.Upgrader{
	Subprotocols: []string{Subprotocol}, CheckOrigin: func(*http.Request) bool { return true },
	ReadBufferSize: 4096, WriteBufferSize: 16384, HandshakeTimeout: 10 * time.Second,
}

// Times of a connection.
const (
	writeTime = 10 * time.Second
	pingEvery = 20 * time.Second
	pongTime  = 60 * time.Second
)

// maxCommand bounds a message of a client: steering with vectors of the real shape fits.
const maxCommand = 1 << 20

// ServeHTTP serves one connection.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(websocket.Subprotocols(r), Subprotocol) {
		http.Error(w, "this is a WebSocket of the subprotocol "+Subprotocol, http.StatusUpgradeRequired)
		return
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer func() { _ = conn.Close() }()                           // it may have ended already
	seq, _ := strconv.ParseUint(r.URL.Query().Get("seq"), 10, 64) // without one, everything that is kept
	s, resumed, err := h.session(r.URL.Query().Get("session"), seq, conn)
	if err != nil {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseTryAgainLater, err.Error()), time.Now().Add(writeTime))
		return
	}
	var writing sync.WaitGroup
	writing.Go(func() { h.write(s, conn, resumed) })
	h.read(s, conn)
	h.leave(s, conn)
	writing.Wait()
}

// session finds the session of a client that comes back, or makes one.
func (h *Hub) session(id string, seq uint64, conn *websocket.Conn) (s *session, resumed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false, fmt.Errorf("the server is shutting down")
	}
	if s = h.sessions[id]; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.expiry != nil {
			s.expiry.Stop()
			s.expiry = nil
		}
		if s.conn != nil {
			_ = s.conn.Close() // the client has left it, or has opened another
		}
		s.conn = conn
		// The frame of seq was seen; those of later messages may have been, and come again.
		s.cursor = min(max(seq+1, s.first), s.first+uint64(len(s.ring)))
		if seq+1 < s.first {
			s.cursor = seq + 1 // take counts what is missing
		}
		s.tell()
		return s, true, nil
	}
	if len(h.sessions) >= maxSessions {
		return nil, false, fmt.Errorf("%d watchers are here already, the most there can be", maxSessions)
	}
	s = &session{id: rand.Text(), conn: conn, moved: make(chan struct{}), first: 1, cursor: 1}
	s.want.Store(&want{key: "all"})
	h.sessions[s.id] = s
	h.count.Store(int64(len(h.sessions)))
	return s, false, nil
}

// leave keeps a session for a client that may come back.
func (h *Hub) leave(s *session, conn *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != conn || s.over {
		return
	}
	s.conn = nil
	s.tell()
	s.expiry = time.AfterFunc(resumeFor, func() { h.end(s) })
}

// end ends a session.
func (h *Hub) end(s *session) {
	h.mu.Lock()
	delete(h.sessions, s.id)
	h.release(s)
	h.count.Store(int64(len(h.sessions)))
	h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if s.expiry != nil {
		s.expiry.Stop()
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if s.stop != nil {
		s.stop()
	}
	s.tell()
}

// write sends what there is for the session, until the connection ends.
func (h *Hub) write(s *session, conn *websocket.Conn, resumed bool) {
	defer func() { _ = conn.Close() }() // read ends with it
	if put(conn, websocket.TextMessage, h.hello(s, resumed)) != nil {
		return
	}
	var sent time.Time
	for ; s.wait(conn); sent = time.Now() {
		time.Sleep(time.Until(sent.Add(h.between())))
		for {
			b, ok := s.take(conn)
			if !ok {
				break
			}
			if b.missing > 0 {
				text, _ := json.Marshal(Dropped{"dropped", b.missing, b.total})
				if put(conn, websocket.TextMessage, text) != nil {
					return
				}
			}
			if put(conn, b.kind, b.data) != nil {
				return
			}
		}
	}
}

// What comes is collected before it is sent: no screen shows more than 60 pictures a second, and
// each message costs a call of the system and two goroutines, some 15 us. All watchers together
// take no more of a machine than four that want every picture.
const (
	picturesPerSecond = 60
	messagesPerSecond = 240
)

// between is how long a watcher waits for the next message.
func (h *Hub) between() time.Duration {
	return max(time.Second/picturesPerSecond, time.Duration(h.count.Load())*time.Second/messagesPerSecond)
}

// put writes one message.
func put(conn *websocket.Conn, kind int, data []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	return conn.WriteMessage(kind, data)
}

// hello is the first message.
func (h *Hub) hello(s *session, resumed bool) []byte {
	h.mu.RLock()
	defer h.mu.RUnlock()
	m := Hello{Op: "hello", Protocol: Protocol, Session: s.id, Resumed: resumed, Streams: []Stream{}}
	if h.model != nil {
		m.Model = &Model{h.model.Name, h.model.Shape.Layers, h.model.Shape.Experts, h.model.Shape.K, h.model.Tokens}
	}
	for _, one := range h.streams {
		if one.about.State == "running" {
			m.Streams = append(m.Streams, one.about)
		}
	}
	slices.SortFunc(m.Streams, func(a, b Stream) int { return int(a.Handle) - int(b.Handle) })
	text, _ := json.Marshal(m) // our own types are JSON
	return text
}

// read takes the client's messages until the connection ends, and keeps it alive.
func (h *Hub) read(s *session, conn *websocket.Conn) {
	conn.SetReadLimit(maxCommand)
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(pongTime)) }
	conn.SetPongHandler(alive)
	_ = alive("")
	stop := make(chan struct{})
	var pinging sync.WaitGroup
	pinging.Go(func() {
		tick := time.NewTicker(pingEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTime))
			}
		}
	})
	defer pinging.Wait()
	defer close(stop)
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		_ = alive("")
		var c Command
		if kind != websocket.TextMessage {
			err = fmt.Errorf("a message of %d bytes is no text: commands are JSON", len(data))
		} else {
			err = json.Unmarshal(data, &c)
		}
		if err == nil {
			err = h.do(s, &c)
		}
		if err != nil {
			s.send(Failed{"error", c.ID, err.Error()})
		}
	}
}

// do carries out a command.
func (h *Hub) do(s *session, c *Command) error {
	switch c.Op {
	case "subscribe":
		return h.subscribe(s, c)
	case "steer":
		return h.steer(s, c)
	case "pace":
		if err := h.pace(s, c); err != nil {
			return err
		}
		s.send(Paced{"paced", c.ID, c.Handle})
		return nil
	}
	return fmt.Errorf("the command %.40q: there are subscribe, steer and pace", c.Op)
}

// Bounds of a subscription.
const maxNames = 256

// subscribe changes what a session wants.
func (h *Hub) subscribe(s *session, c *Command) error {
	if len(c.Streams) > maxNames || len(c.Layers) > maxNames || c.Candidates < 0 || c.Candidates > maxCandidates {
		return fmt.Errorf("subscribe to %d streams, %d layers and %d candidates: %d, %d and %d at most", len(c.Streams), len(c.Layers), c.Candidates, maxNames, maxNames, maxCandidates)
	}
	w := &want{candidates: c.Candidates, stats: c.Stats}
	if c.Streams != nil {
		w.streams = map[string]bool{}
		for _, id := range c.Streams {
			w.streams[id] = true
		}
	}
	if c.Layers != nil {
		w.layers = slices.Compact(slices.Sorted(slices.Values(c.Layers)))
	}
	w.key = fmt.Sprint(w.layers == nil, w.layers, w.candidates)
	s.want.Store(w)
	h.follow(s, c.Events)
	return nil
}

// follow has a session get the server's events, or not.
func (h *Hub) follow(s *session, events bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil && !events {
		s.stop()
		s.stop = nil
	}
	if s.stop != nil || !events || s.over || h.closed || h.options.Feed == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	h.running.Go(func() {
		for event := range h.options.Feed.Subscribe(ctx, "") {
			s.send(Event{"event", event})
		}
	})
}
