package host

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// handling is a plugin whose logits handler does something each time.
type handling struct {
	do func(*plugins.Call, *plugins.Logits) error
}

func (h *handling) Logits(c *plugins.Call, l *plugins.Logits) error { return h.do(c, l) }

func serveHandling(do func(*plugins.Call, *plugins.Logits) error) func() {
	return func() { servePlugin(func(*plugins.Sequence) (any, error) { return &handling{do}, nil }) }
}

// closing is one whose Close takes long.
type closing struct{ handling }

func (*closing) Close() error { time.Sleep(time.Minute); return nil }

// slowFaults take too long.
var slowFaults = []fault{
	{name: "hang", what: "Waits for ever in a handler", kinds: []string{"over_budget"}, serve: serveDoing(func() error { select {} })},
	{name: "spin", what: "Computes for ever in a handler", kinds: []string{"over_budget"}, serve: serveDoing(func() error {
		for n := 0; ; n++ {
		}
	})},
	{name: "slow", what: "Takes three budgets for every token", kinds: []string{"over_budget"},
		serve: serveHandling(func(*plugins.Call, *plugins.Logits) error { time.Sleep(3 * budget); return nil })},
	{name: "slow-sometimes", what: "Takes one and a half budgets for one token in eight: the late replies are ignored, and the next count", kinds: []string{"over_budget"},
		serve: serveHandling(func(c *plugins.Call, l *plugins.Logits) error {
			if c.Position%8 == 0 {
				time.Sleep(3 * budget / 2)
			}
			return l.Bias([]int32{2}, 1)
		}),
		check: func(t *testing.T, p *Plugin) {
			if s := p.Stat(); s.Late < 4 || s.Faults < 4 || s.Faults > 20 {
				t.Errorf("%+v", s)
			}
		}},
	{name: "begin-late", what: "Takes a minute to begin a choice", kinds: []string{"over_budget"},
		serve: func() {
			servePlugin(func(*plugins.Sequence) (any, error) { time.Sleep(time.Minute); return nil, errors.New("late") })
		}},
	{name: "begin-fails", what: "Begins no choice", kinds: []string{"exception"},
		serve: func() { servePlugin(func(*plugins.Sequence) (any, error) { return nil, errors.New("not today") }) }},
	{name: "close-hangs", what: "Takes a minute to end a choice", kinds: []string{"nothing"},
		serve: func() {
			servePlugin(func(*plugins.Sequence) (any, error) {
				return &closing{handling{func(*plugins.Call, *plugins.Logits) error { return nil }}}, nil
			})
		}},
	{name: "asks-on", what: "Asks without end, and takes no answer", kinds: []string{"over_budget"},
		serve: asksOn},
	{name: "asks-on-large", what: "The same of a model with 151,936 tokens", kinds: []string{"over_budget"}, model: &large,
		serve: asksOn},
	{name: "many", what: "Serves 64 choices at once, and takes a while for each token", kinds: []string{"nothing", "over_budget"}, beside: 63,
		serve: serveHandling(func(_ *plugins.Call, l *plugins.Logits) error {
			time.Sleep(time.Millisecond)
			return l.Bias([]int32{2}, 1)
		})},
	{name: "ignores-end", what: "Does not end when it is told to", kinds: []string{"nothing"},
		serve: func() {
			go func() { // behind the server's end
				for range time.Tick(time.Millisecond) {
				}
			}()
			serveHandling(func(*plugins.Call, *plugins.Logits) error { return nil })()
			forever()
		}},
}

// flood begins with the first choice.
func flood(tell func()) func() {
	return func() {
		servePlugin(func(*plugins.Sequence) (any, error) {
			go func() {
				for {
					tell()
				}
			}()
			return &doing{func() error { time.Sleep(budget / 2); return nil }}, nil
		})
	}
}

// loudFaults say too much.
var loudFaults = []fault{
	{name: "flood-log", what: "Logs without end", kinds: []string{"nothing", "over_budget"}, serve: flood(func() { plugins.Log("all is well") })},
	{name: "flood-metric", what: "Tells metrics without end, of ever new names", kinds: []string{"nothing", "over_budget"},
		serve: flood(func() { plugins.Metric("m"+time.Now().Format("150405_000000000"), 1) }),
		check: func(t *testing.T, p *Plugin) {
			if n := len(p.Stat().Metrics); n > maxMetrics {
				t.Errorf("%d metrics", n)
			}
		}},
	{name: "flood-event", what: "Tells events without end", kinds: []string{"nothing", "over_budget"}, serve: flood(func() { _ = plugins.Event("again", 1) })},
	{name: "flood-huge", what: "Logs lines of 30 MB, again and again", kinds: []string{"nothing", "over_budget"},
		serve: func() {
			(&raw{watch: func(stream pb.PluginService_WatchServer) error {
				text := strings.Repeat("x", 30<<20)
				for {
					if err := stream.Send(&pb.WatchResponse{Report: &pb.WatchResponse_Log{Log: &pb.Log{Message: text}}}); err != nil {
						return err
					}
				}
			}}).serve()
		}},
	{name: "stderr", what: "Writes 50 MB to stderr", kinds: []string{"nothing", "over_budget"},
		serve: serveDoing(func() error {
			line := append(bytes.Repeat([]byte("e"), 99), '\n')
			go func() {
				for range 500000 {
					_, _ = os.NewFile(2, "stderr").Write(line)
				}
			}()
			return nil
		}),
		check: func(t *testing.T, p *Plugin) {
			if n := len(p.Logs(0)); n < 100 || n > maxLines {
				t.Errorf("%d lines are kept", n)
			}
		}},
	{name: "stdout", what: "Prints lines of 1 MB where only its handshake belongs, behind it", kinds: []string{"nothing", "over_budget"},
		serve: serveDoing(func() error {
			line := append(bytes.Repeat([]byte("o"), 1<<20), '\n')
			for range 4 {
				if _, err := os.NewFile(1, "stdout").Write(line); err != nil {
					return err
				}
			}
			return nil
		}),
		check: logged("stdout", "ooo")},
	{name: "print", what: "Prints as programs do, once it serves: its log has it", kinds: []string{"nothing"},
		serve: serveDoing(func() error {
			_, err := os.Stdout.WriteString("a print\n")
			_, err2 := os.Stderr.WriteString("a complaint\n")
			return errors.Join(err, err2)
		}),
		check: func(t *testing.T, p *Plugin) {
			logged("info", "a print")(t, p)
			logged("stderr", "a complaint")(t, p)
		}},
	{name: "notices", what: "Tells 10,000 notices of one token", kinds: []string{"nothing", "over_budget"},
		serve: replying(func(r *pb.Reply) {
			for range 10000 {
				r.Notices = append(r.Notices, &pb.Notice{Name: "n", Value: &pb.Notice_Number{Number: 1}})
			}
		})},
	{name: "notice-text", what: "Tells a notice of 20 MB of text", kinds: []string{"nothing", "over_budget"},
		serve: replying(func(r *pb.Reply) {
			r.Notices = []*pb.Notice{{Name: "n", Value: &pb.Notice_Text{Text: strings.Repeat("x", 20<<20)}}}
		})},
	{name: "notice-json", what: "Tells a notice of 20 MB of JSON", kinds: []string{"bad_value", "over_budget"},
		serve: replying(func(r *pb.Reply) {
			r.Notices = []*pb.Notice{{Name: "n", Value: &pb.Notice_Json{Json: "[" + strings.Repeat("[],", 7<<20) + "0]"}}}
		})},
}

// logged says whether a plugin's log has a line.
func logged(level, text string) func(*testing.T, *Plugin) {
	return func(t *testing.T, p *Plugin) {
		within(t, "its log with "+text, func() bool {
			for _, l := range p.Logs(0) {
				if l.Level == level && strings.Contains(l.Text, text) {
					return true
				}
			}
			return false
		})
	}
}

// replying serves a raw plugin that changes the reply to the third token's logits.
func replying(change func(*pb.Reply)) func() {
	return func() { (&raw{reply: func(_ *pb.Step, r *pb.Reply) { change(r) }}).serve() }
}

// asksOn asks without end, and takes no answer.
func asksOn() {
	(&raw{step: func(stream pb.PluginService_SequenceServer, _ *pb.Step) error {
		for {
			if err := stream.Send(asked(&pb.Read{What: &pb.Read_Full{Full: &pb.Full{}}})); err != nil {
				return err
			}
		}
	}}).serve()
}
