package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/roundhouse-ai/roundhouse/plugins"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// TestMain is also the plugins that are checked: the program is this test, and its last
// argument says which.
func TestMain(m *testing.M) {
	if os.Getenv(wire.CookieKey) == "" {
		os.Exit(m.Run())
	}
	subjects[os.Args[len(os.Args)-1]].serve()
}

// subject is a plugin to check, and the lines that it fails.
type subject struct {
	serve func()
	fails []string
	says  string // part of the first one's detail
	whole bool   // all lines are run, and not only the first that fails
}

var subjects = map[string]subject{
	"good": {whole: true, serve: func() {
		p := sdk(func(s *plugins.Sequence) (any, error) { return &good{s: s}, nil })
		p.Spec = plugins.Spec{Lag: 1, Hold: 4, Budget: 500 * time.Millisecond, CaptureAll: true, Hidden: []int{3, 40}, Route: []int{2}}
		p.Riding = plugins.Riding{Top: 8, Entropy: true, ModelTop: 2}
		p.Params = plugins.Params{"word": {Type: "string", Default: " fox"}, "heat": {Type: "number", Default: 0.5}}
		p.Request = func(_ context.Context, body json.RawMessage, _ map[string]any) (json.RawMessage, error) {
			return body, nil
		}
		plugins.Serve(p)
	}},
	"observer": {whole: true, serve: func() {
		p := sdk(func(*plugins.Sequence) (any, error) { return &observer{}, nil })
		p.Observer = true
		plugins.Serve(p)
	}},
	"idle": {whole: true, serve: func() { plugins.Serve(sdk(func(*plugins.Sequence) (any, error) { return idle{}, nil })) }},
	"exits": {whole: true, fails: []string{"handshake"}, says: "nobody can start me", serve: func() {
		fmt.Fprintln(os.Stderr, "nobody can start me")
		os.Exit(1)
	}},
	"noisy": {fails: []string{"standard output"}, says: "here I am", serve: logits(func(*plugins.Call, *plugins.Logits) error {
		_, err := os.NewFile(1, "stdout").WriteString("here I am\n")
		return err
	})},
	"slow": {fails: []string{"small model, logits"}, says: "more than its budget", serve: logits(func(*plugins.Call, *plugins.Logits) error {
		time.Sleep(25 * time.Millisecond)
		return nil
	})},
	"wrong-token": {whole: true, fails: []string{"small model, logits", "32 choices at once", "memory"}, says: "bias of token 9999", serve: logits(func(c *plugins.Call, l *plugins.Logits) error {
		if c.Position < 10 {
			return nil
		}
		return l.Bias([]int32{9999}, 1)
	})},
	"leaky": {fails: []string{"memory"}, says: "it has grown by", serve: logits(func(*plugins.Call, *plugins.Logits) error {
		leak = append(leak, slices.Repeat([]byte{1}, 64<<10))
		return nil
	})},
	"impatient": {fails: []string{"a slow host"}, says: "its process ended", serve: func() {
		var last atomic.Int64
		logits(func(*plugins.Call, *plugins.Logits) error {
			own := time.Now().UnixNano()
			last.Store(own)
			time.AfterFunc(100*time.Millisecond, func() {
				if last.Load() == own && choices.Load() > 0 {
					os.Exit(7)
				}
			})
			return nil
		})()
	}},
	"alone": {fails: []string{"32 choices at once"}, says: "one at a time", serve: logits(func(*plugins.Call, *plugins.Logits) error {
		if choices.Load() > 1 {
			return errors.New("one at a time")
		}
		return nil
	})},
	"clings": {fails: []string{"an end in order"}, says: "was killed", serve: func() {
		logits(func(*plugins.Call, *plugins.Logits) error { return nil })()
		select {}
	}},
	"lists": {fails: []string{"bodies of requests"}, says: "a body is an object", serve: func() {
		p := sdk(func(*plugins.Sequence) (any, error) { return idle{}, nil })
		p.Request = func(context.Context, json.RawMessage, map[string]any) (json.RawMessage, error) {
			return json.RawMessage(`[1]`), nil
		}
		plugins.Serve(p)
	}},
	"agrees": {whole: true, says: "as if nothing were wrong", serve: func() { serveRaw(&agreeing{}) }, fails: []string{
		"a step before Begin", "a message that holds nothing", "a message of a kind that nobody knows", "an event that nobody knows",
		"parameters that are no JSON", "Begin twice", "a host that dies"}},
	"stays":   {fails: []string{"a choice that is closed in the midst of a step"}, says: "has not ended its stream", serve: func() { serveRaw(&agreeing{stays: true}) }},
	"fragile": {fails: []string{"an event that nobody knows"}, says: "its process ended", serve: func() { serveRaw(&agreeing{fragile: true}) }},
	"nan":     {fails: []string{"small model, logits"}, says: "not_a_number", serve: func() { serveRaw(&agreeing{nan: true}) }},
}

// leak is what a plugin keeps for ever, and choices how many it has.
var (
	leak    [][]byte
	choices atomic.Int64
)

func sdk(begin func(*plugins.Sequence) (any, error)) *plugins.Plugin {
	return &plugins.Plugin{Name: "subject", Version: "1", New: begin}
}

type idle struct{}

// handling is a plugin of one handler.
type handling struct {
	do func(*plugins.Call, *plugins.Logits) error
}

func (h *handling) Logits(c *plugins.Call, l *plugins.Logits) error { return h.do(c, l) }

func (h *handling) Close() error { choices.Add(-1); return nil }

func logits(do func(*plugins.Call, *plugins.Logits) error) func() {
	return func() {
		plugins.Serve(sdk(func(*plugins.Sequence) (any, error) { choices.Add(1); return &handling{do}, nil }))
	}
}

// good has all handlers, and is right.
type good struct {
	s      *plugins.Sequence
	ids    []int32
	beside int
	back   bool
}

func (g *good) Start(c *plugins.Call) (err error) {
	if g.ids, err = g.s.Encode(g.s.Params["word"].(string)); err != nil {
		return err
	}
	v, err := g.s.Vector("any")
	if err != nil || len(v) != g.s.Model.Shape.Hidden {
		return fmt.Errorf("a vector of %d values: %w", len(v), err)
	}
	texts, err := g.s.Vocabulary()
	if err != nil || len(texts) != g.s.Model.Tokens {
		return fmt.Errorf("%d texts: %w", len(texts), err)
	}
	g.beside, err = c.Sequence([]int32{1, 2})
	return err
}

func (g *good) Prompt(_ *plugins.Call, p *plugins.Prompt) error {
	p.IDs = append(p.IDs, 9)
	return nil
}

func (g *good) Logits(c *plugins.Call, l *plugins.Logits) error {
	other, err := l.Beside(g.beside)
	if err != nil {
		return err
	}
	h, err := other.Entropy()
	row, err2 := l.Full()
	p, err3 := l.Model().Prob(7)
	top, err4 := l.Top(4)
	if len(row) != g.s.Model.Tokens || len(top) != 4 {
		return fmt.Errorf("%d logits, %d on top", len(row), len(top))
	}
	return errors.Join(err, err2, err3, err4, l.Bias(g.ids, -h), l.Ban([]int32{top[0].ID}), l.Scale(1.1), l.Set(plugins.Temperature, g.s.Params["heat"].(float64)),
		l.Add(g.beside, .1), c.Emit("p", float64(p)), c.Steer.Bias([]int{1}, []int32{511}, 1))
}

func (g *good) Sample(c *plugins.Call, s *plugins.Candidates) (int32, bool, error) {
	list, err := s.Top()
	if err != nil {
		return 0, false, err
	}
	return list[c.Position%2].ID, true, nil
}

func (g *good) Token(c *plugins.Call, t *plugins.Token) error {
	if t.Position == 12 && !g.back {
		g.back = true
		return c.Rewind(11, false)
	}
	return nil
}

func (g *good) Routing(c *plugins.Call, r *plugins.Routing) error {
	_, err := r.Counts(4)
	return err
}

func (g *good) Hidden(c *plugins.Call, h *plugins.Hidden) error {
	_, err := h.Read()
	_, err2 := h.Lens(3)
	return errors.Join(err, err2)
}

func (g *good) Route(_ *plugins.Call, r *plugins.Router) error {
	values, err := r.Read()
	if err != nil {
		return err
	}
	values[5] += 2
	return r.Write(values)
}

func (g *good) Finish(c *plugins.Call, f *plugins.Finish) error { return c.Emit("end", f.Reason) }

// observer only looks.
type observer struct{ seen int }

func (o *observer) Token(*plugins.Call, *plugins.Token) error { o.seen++; return nil }

func (o *observer) Finish(c *plugins.Call, _ *plugins.Finish) error {
	return c.Emit("seen", float64(o.seen))
}

// agreeing speaks the protocol itself, and says yes to everything.
type agreeing struct {
	pb.UnimplementedPluginServiceServer
	stays, fragile, nan bool
}

// Describe implements the service, as those below.
func (a *agreeing) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{Api: 1, Name: "agreeing", Spec: &pb.Spec{Events: []pb.Event{pb.Event_EVENT_LOGITS}}}, nil
}

func (a *agreeing) Watch(_ *pb.WatchRequest, stream pb.PluginService_WatchServer) error {
	<-stream.Context().Done()
	return nil
}

func (a *agreeing) Sequence(stream pb.PluginService_SequenceServer) error {
	for {
		m, err := stream.Recv()
		if err != nil && a.stays {
			<-stream.Context().Done()
		}
		if err != nil {
			return err
		}
		if m.GetReadResult() != nil {
			continue
		}
		if m.GetStep().GetEvent() == 99 && a.fragile {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		r := &pb.Reply{Step: m.GetStep().GetId()}
		if m.GetStep() != nil && a.nan {
			r.Edits = []*pb.Edit{{Kind: pb.EditKind_EDIT_KIND_BIAS, Ids: []int32{1}, Value: float32(nan())}}
		}
		if err := stream.Send(&pb.SequenceResponse{Message: &pb.SequenceResponse_Reply{Reply: r}}); err != nil {
			return err
		}
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

// serveRaw serves without the SDK.
func serveRaw(s pb.PluginServiceServer) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
		VersionedPlugins: map[int]plugin.PluginSet{wire.Protocol: {wire.Name: &rawPlugin{service: s}}},
		GRPCServer:       plugin.DefaultGRPCServer,
		Logger:           hclog.NewNullLogger(),
	})
}

type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	service pb.PluginServiceServer
}

// GRPCServer implements plugin.GRPCPlugin.
func (p *rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterPluginServiceServer(s, p.service)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin.
func (*rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this end serves")
}

// install makes a folder of a plugin of this test's.
func install(t *testing.T, name string) (dir string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	text := fmt.Sprintf("command = [%q, %q]\n", program, name)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o700), os.WriteFile(filepath.Join(dir, name, "plugin.toml"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Each subject fails the lines that it is to fail, and no others.
func TestCheck(t *testing.T) {
	for name, s := range subjects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := 0
			c := &checker{Options: Options{Dir: install(t, name), Name: name, Told: func(Line) { told++ }}}
			if !s.whole {
				c.only = s.fails[0]
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := c.check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, l := range r.Lines {
				if l.OK {
					continue
				}
				if failed = append(failed, l.Name); len(failed) == 1 && !strings.Contains(l.Detail, s.says) {
					t.Errorf("%s says %q, want %q", l.Name, l.Detail, s.says)
				}
			}
			if s.whole && !slices.Equal(failed, s.fails) || !s.whole && !slices.Contains(failed, s.fails[0]) {
				t.Errorf("failed: %q, want %q; all: %+v", failed, s.fails, r.Lines)
			}
			if r.Failed() != (len(s.fails) > 0) || told != len(r.Lines) {
				t.Errorf("%v, %d lines told of %d", r.Failed(), told, len(r.Lines))
			}
			if name == "good" && len(r.Lines) < 35 {
				t.Errorf("%d lines", len(r.Lines))
			}
		})
	}
}
