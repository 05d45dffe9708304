package host

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// answering is a hook that adopts a reply, as an instance does, whatever is in it.
type answering struct {
	hook.None
	far   *Instance
	reply *pb.Reply
	event hook.Events
}

func (a *answering) Spec() hook.Spec {
	return hook.Spec{Name: "fuzz", Events: hook.OnPrompt | hook.OnLogits | hook.OnSample, Hold: 4}
}
func (a *answering) Close() {}

func (a *answering) Start(c *hook.Call) error { return a.answer(c, 0) }

// answer adopts the reply, where it is to be the answer to this event.
func (a *answering) answer(c *hook.Call, event hook.Events) error {
	if a.event != event {
		return nil
	}
	return a.far.adopt(c, a.reply)
}

func (a *answering) Prompt(c *hook.Call, p *hook.Prompt) error {
	if m := a.reply.GetPrompt(); a.event == hook.OnPrompt && m != nil {
		p.IDs = m.GetIds()
	}
	return a.answer(c, hook.OnPrompt)
}

func (a *answering) Logits(c *hook.Call, l *hook.Logits) error {
	if a.event == hook.OnLogits {
		if err := wire.ToEdits(l.Edits, a.reply.GetEdits(), a.reply.GetSettings(), a.far.sequences); err != nil {
			return err
		}
	}
	return a.answer(c, hook.OnLogits)
}

func (a *answering) Sample(c *hook.Call, _ *hook.Candidates) (int32, bool, error) {
	if a.event != hook.OnSample {
		return 0, false, nil
	}
	return a.reply.GetChosen(), a.reply.Chosen != nil, a.answer(c, hook.OnSample)
}

// FuzzReply has a chain take any reply: it answers with a fault, or with something that can be
// drawn from.
func FuzzReply(f *testing.F) {
	gate := float32(2)
	for _, m := range []*pb.Reply{
		{Edits: []*pb.Edit{{Kind: pb.EditKind_EDIT_KIND_BAN, Ids: []int32{1, -1}}, {Kind: pb.EditKind_EDIT_KIND_SCALE, Value: 2}}, Settings: &pb.Settings{}},
		{Steering: &pb.Steering{Layers: map[uint32]*pb.LayerSteering{1: {Ban: []uint32{2}, Gate: &gate, Bias: map[uint32]float32{3: 1}}}, Vectors: []*pb.Vector{{Values: make([]byte, 16), Scale: 1}}}},
		{Prompt: &pb.TokenIDs{Ids: []int32{1}}, Sequences: []*pb.TokenIDs{{Ids: []int32{2}}}},
		{Chosen: proto.Int32(5), Stop: "why", Inject: []int32{1}, Rewind: &pb.Rewind{Position: 2}},
		{Notices: []*pb.Notice{{Name: "x", Value: &pb.Notice_Json{Json: "{}"}}}, Spec: &pb.Spec{Events: []pb.Event{4}}, Fault: &pb.Fault{Kind: "bad_id"}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint8(hook.OnLogits))
		f.Add(data, uint8(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, event uint8) {
		m := &pb.Reply{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		if _, err := wire.ToSpec("fuzz", m.GetSpec()); err != nil && err.Error() == "" {
			t.Error("an error that says nothing")
		}
		plugin := &Plugin{host: &Host{}, installed: &installed{name: "fuzz"}}
		a := &answering{far: &Instance{plugin: plugin, env: Env{Model: small}}, reply: m, event: hook.Events(event)}
		chain, err := hook.NewChain(hook.Options{Shape: small.Shape, Tokens: small.Tokens}, a)
		if err != nil {
			return
		}
		defer chain.Close()
		ids, err := chain.Prompt([]int32{1, 2})
		if err != nil {
			return
		}
		row := make(hook.Plain, small.Tokens)
		beside := make([]hook.Source, len(chain.Sequences()))
		for n := range beside {
			beside[n] = row
		}
		for step, position := 0, len(ids); step < 4; step++ {
			if _, err := chain.Steer(position - 1); err != nil {
				return
			}
			v, err := chain.Logits(hook.At{Position: position}, row, row, beside...)
			if err == nil && !v.Decided && !v.Rewind && v.Stop == "" {
				drawable := false
				for id := range int32(small.Tokens) {
					drawable = drawable || v.Edits == nil || v.Edits.Allows(id)
				}
				if !drawable {
					t.Fatalf("nothing is left to draw: %v", m)
				}
				v, err = chain.Sample(hook.At{Position: position}, choosing(row), nil)
			}
			if err != nil || v.Stop != "" {
				return
			}
			if v.Decided && (v.ID < 0 || int(v.ID) >= small.Tokens) {
				t.Fatalf("token %d is chosen: %v", v.ID, m)
			}
			if position++; v.Rewind {
				if v.To > position {
					t.Fatalf("rewind to %d of %d: %v", v.To, position, m)
				}
				position = v.To
			}
		}
	})
}

// FuzzManifest reads any plugin.toml: it is an error, or a command.
func FuzzManifest(f *testing.F) {
	f.Add("command = [\"./x\"]\nmtls = false\n")
	f.Add("command = [\"\"]")
	f.Add("command = 5")
	f.Add("[a]\nb = 1")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "plugin.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readManifest(dir, "x")
		if err == nil && (len(p.command) == 0 || p.command[0] == "") {
			t.Errorf("%q gives %+v", text, p)
		}
	})
}
