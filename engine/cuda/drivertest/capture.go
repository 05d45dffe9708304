package drivertest

import (
	"slices"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// A node is an operation of a graph and those that it comes after.
type node struct {
	operation
	after []int
}

// A graph is nodes in the order of their capture, in which each comes behind those
// that it is after.
type graph struct {
	nodes   []node
	replays int
}

// A streamCapture makes a graph of what is put into its streams: the one that began it
// and those that waited for an event recorded in it.
type streamCapture struct {
	origin  *stream
	nodes   []node
	tips    map[*stream][]int // what the next operation of a stream comes after
	events  map[*event][]int  // recorded in the capture: no time outside it
	spoiled bool
}

func (c *streamCapture) put(s *stream, o operation) {
	c.nodes = append(c.nodes, node{o, c.tips[s]})
	c.tips[s] = []int{len(c.nodes) - 1}
}

func (c *streamCapture) record(e *event, s *stream) { c.events[e] = slices.Clone(c.tips[s]) }

// leave takes a stream that is destroyed out of its capture, which comes to nothing.
func (c *streamCapture) leave(s *stream) {
	if c == nil {
		return
	}
	c.spoiled = true
	delete(c.tips, s)
	if s == c.origin {
		c.end()
	}
}

// end lets the streams of a capture go.
func (c *streamCapture) end() {
	for s := range c.tips {
		s.capture = nil
	}
	c.origin.capture = nil
}

// joined says whether the origin waits for everything that the others do.
func (c *streamCapture) joined() bool {
	followed := make([]bool, len(c.nodes))
	for _, n := range c.nodes {
		for _, before := range n.after {
			followed[before] = true
		}
	}
	for _, tip := range c.tips[c.origin] {
		followed[tip] = true
	}
	return !slices.Contains(followed, false)
}

// capturing is the capture in which an event was recorded last.
func (f *Fake) capturing(e *event) *streamCapture {
	for _, s := range f.streams {
		if s.capture != nil {
			if _, ok := s.capture.events[e]; ok {
				return s.capture
			}
		}
	}
	return nil
}

// join makes a stream wait for an event of a capture, and belong to it from then.
func (f *Fake) join(s *stream, e *event, from *streamCapture) error {
	if s.capture == nil {
		s.capture = from
	}
	c := s.capture
	if c != from {
		for _, spoiled := range []*streamCapture{c, from} {
			if spoiled != nil {
				spoiled.spoiled = true
			}
		}
		return &driver.Error{Code: driver.CaptureIsolation, Call: "cuStreamWaitEvent", Detail: "stream and event do not belong to the same capture"}
	}
	for _, before := range c.events[e] {
		if !slices.Contains(c.tips[s], before) {
			c.tips[s] = append(slices.Clone(c.tips[s]), before)
		}
	}
	if _, ok := c.tips[s]; !ok {
		c.tips[s] = nil
	}
	return nil
}

// BeginCapture implements driver.Driver.
func (f *Fake) BeginCapture(to driver.Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream("cuStreamBeginCapture_v2", to)
	if err != nil {
		return err
	}
	if s.capture != nil {
		return &driver.Error{Code: driver.InvalidValue, Call: "cuStreamBeginCapture_v2", Detail: "the stream captures already"}
	}
	s.capture = &streamCapture{origin: s, tips: map[*stream][]int{s: nil}, events: map[*event][]int{}}
	return nil
}

// EndCapture implements driver.Driver.
func (f *Fake) EndCapture(to driver.Stream) (driver.Graph, error) {
	const call = "cuStreamEndCapture"
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter(call, context)
	s, ok := f.streams[to]
	if !ok {
		return 0, f.wrong(call, driver.InvalidHandle, "stream %#x is unknown", to)
	}
	c := s.capture
	if c == nil {
		return 0, &driver.Error{Code: driver.InvalidValue, Call: call, Detail: "the stream does not capture"}
	}
	if c.origin != s {
		c.spoiled = true
		return 0, &driver.Error{Code: driver.CaptureUnmatched, Call: call, Detail: "another stream began this capture"}
	}
	c.end()
	if err != nil {
		return 0, err
	}
	if c.spoiled {
		return 0, &driver.Error{Code: driver.CaptureInvalidated, Call: call, Detail: "a call that a capture does not allow was made meanwhile"}
	}
	if !c.joined() {
		return 0, &driver.Error{Code: driver.CaptureUnjoined, Call: call, Detail: "a stream took part whose work the first one does not wait for"}
	}
	handle := driver.Graph(f.next())
	f.graphs[handle] = &graph{nodes: c.nodes}
	return handle, nil
}

// order is an order in which a device may do the nodes: that of the capture, or
// the last captured first, wherever there is a choice.
func (g *graph) order(backwards bool) []operation {
	operations := make([]operation, 0, len(g.nodes))
	if !backwards {
		for _, n := range g.nodes {
			operations = append(operations, n.operation)
		}
		return operations
	}
	waits, next := make([]int, len(g.nodes)), make([][]int, len(g.nodes))
	var free []int // in rising order
	for i, n := range g.nodes {
		waits[i] = len(n.after)
		for _, before := range n.after {
			next[before] = append(next[before], i)
		}
		if waits[i] == 0 {
			free = append(free, i)
		}
	}
	for len(free) > 0 {
		i := free[len(free)-1]
		free = free[:len(free)-1]
		operations = append(operations, g.nodes[i].operation)
		for _, later := range next[i] {
			if waits[later]--; waits[later] == 0 {
				at, _ := slices.BinarySearch(free, later)
				free = slices.Insert(free, at, later)
			}
		}
	}
	return operations
}

// Replay implements driver.Driver.
func (f *Fake) Replay(g driver.Graph, to driver.Stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.stream("cuGraphLaunch", to)
	if err != nil {
		return err
	}
	captured, ok := f.graphs[g]
	if !ok {
		return f.wrong("cuGraphLaunch", driver.InvalidHandle, "graph %#x is unknown", g)
	}
	if s.capture != nil {
		s.capture.spoiled = true
		return &driver.Error{Code: driver.CaptureUnsupported, Call: "cuGraphLaunch", Detail: "the stream captures"}
	}
	for _, o := range captured.order(captured.replays%2 == 1) {
		o.Stream, o.Replay = to, true
		f.put(s, o)
	}
	captured.replays++
	return nil
}

// DestroyGraph implements driver.Driver.
func (f *Fake) DestroyGraph(g driver.Graph) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.enter("cuGraphExecDestroy", context)
	if _, ok := f.graphs[g]; !ok {
		return f.wrong("cuGraphExecDestroy", driver.InvalidHandle, "graph %#x is unknown", g)
	}
	delete(f.graphs, g)
	return err
}
