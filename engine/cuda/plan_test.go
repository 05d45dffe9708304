package cuda

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/roundhouse-ai/roundhouse/engine/autoround"
	"github.com/roundhouse-ai/roundhouse/engine/cache"
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest"
	"github.com/roundhouse-ai/roundhouse/engine/qwen3next"
	"github.com/roundhouse-ai/roundhouse/engine/safetensors"
)

// round is what a model of round numbers needs: weights 1,000,000, state 10,000 a
// slot, 10 a token of a slot, 20 a row of a chunk.
func round(s Sizes) ([]Share, error) {
	return []Share{{"weights", 1_000_000}, {"state", int64(10_000 * s.Slots)},
		{"keys and values", int64(10 * s.Context * s.Slots)}, {"scratch", int64(20 * s.Chunk)}}, nil
}

func TestPlanShrinksInOrder(t *testing.T) {
	wish := Sizes{Context: 10 << 10, Slots: 4, Chunk: 8192, KV: ops.F16}
	least := func(s Sizes) int64 {
		shares, err := round(s)
		if err != nil {
			t.Fatal(err)
		}
		return (&Plan{Shares: shares}).Need()
	}
	for _, c := range []struct {
		what  string
		want  Sizes
		fixed Fixed
	}{
		{"all", wish, Fixed{}},
		{"half the chunk", Sizes{wish.Context, 4, 4096, ops.F16}, Fixed{}},
		{"the least chunk", Sizes{wish.Context, 4, 512, ops.F16}, Fixed{}},
		{"fewer slots", Sizes{wish.Context, 3, 512, ops.F16}, Fixed{}},
		{"one slot", Sizes{wish.Context, 1, 512, ops.F16}, Fixed{}},
		{"less context", Sizes{7 << 10, 1, 512, ops.F16}, Fixed{}},
		{"the least context", Sizes{1 << 10, 1, 512, ops.F16}, Fixed{}},
		{"a fixed chunk", Sizes{wish.Context, 2, 8192, ops.F16}, Fixed{Chunk: true}},
		{"fixed slots", Sizes{3 << 10, 4, 512, ops.F16}, Fixed{Slots: true}},
		{"fixed context", Sizes{wish.Context, 2, 512, ops.F16}, Fixed{Context: true}},
	} {
		free := least(c.want)
		for _, more := range []int64{0, 5} { // what is left does not reach for the next
			p, err := MakePlan(round, wish, c.fixed, free+more)
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
			} else if p.Sizes != c.want || p.Need() != free {
				t.Errorf("%s: %+v of %d bytes, expected %+v of %d", c.what, p.Sizes, p.Need(), c.want, free)
			}
		}
	}
}

func TestPlanThatFitsNowhere(t *testing.T) {
	wish := Sizes{Context: 4096, Slots: 4, Chunk: 2048, KV: ops.F32}
	for _, c := range []struct {
		fixed Fixed
		free  int64
		want  []string
	}{
		{Fixed{}, 1_030_479, []string{"1024 tokens of context, 1 slots, chunks of 512", "weights", "0.001 GB", "lower --kv-dtype f32 to f16, or free memory"}},
		{Fixed{Context: true, Slots: true, Chunk: true}, 1_244_799, []string{"4096 tokens of context, 4 slots, chunks of 2048", "lower --ctx, --slots, --chunk"}},
	} {
		p, err := MakePlan(round, wish, c.fixed, c.free)
		if p != nil || !errors.Is(err, driver.ErrOutOfMemory) {
			t.Errorf("%+v: %v", p, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
		if p, err := MakePlan(round, wish, c.fixed, c.free+1); err != nil {
			t.Errorf("a byte more: %v, %v", p, err)
		}
	}
	broken := errors.New("broken")
	if _, err := MakePlan(func(Sizes) ([]Share, error) { return nil, broken }, wish, Fixed{}, 1); !errors.Is(err, broken) {
		t.Errorf("the error of need is %v", err)
	}
}

func TestPlanTable(t *testing.T) {
	p, err := MakePlan(func(s Sizes) ([]Share, error) {
		return []Share{{"experts", 39_861_616_640}, {"scratch", int64(s.Chunk) * 1_000_000}}, nil
	}, Sizes{Context: 4096, Slots: 1, Chunk: 8192, KV: ops.F16}, Fixed{}, 44_000_000_000)
	if err != nil {
		t.Fatal(err)
	}
	want := `device memory for 4096 tokens of context, 1 slots, chunks of 4096, keys and values in F16:
  experts                         39.862 GB
  scratch                          4.096 GB
  in all                          43.958 GB
  free                            44.000 GB
  chunk lowered from 8192 to 4096
`
	if p.String() != want {
		t.Errorf("the table is\n%sexpected\n%s", p, want)
	}
}

// realConfig is config.json of the real model, as far as it is read.
const realConfig = `{"architectures":["Qwen3NextForCausalLM"],"model_type":"qwen3_next","decoder_sparse_step":1,"hidden_act":"silu",
"mlp_only_layers":[],"norm_topk_prob":true,"partial_rotary_factor":0.25,"rms_norm_eps":1e-6,"rope_theta":10000000,
"tie_word_embeddings":false,"bos_token_id":151643,"eos_token_id":151645,"hidden_size":2048,"num_hidden_layers":48,
"num_experts":512,"num_experts_per_tok":10,"moe_intermediate_size":512,"shared_expert_intermediate_size":512,
"full_attention_interval":4,"vocab_size":151936,"num_attention_heads":16,"num_key_value_heads":2,"head_dim":256,
"linear_num_key_heads":16,"linear_num_value_heads":32,"linear_conv_kernel_dim":4,"linear_key_head_dim":128,
"linear_value_head_dim":128,"max_position_embeddings":262144,
"quantization_config":{"quant_method":"auto-round","packing_format":"auto_round:auto_gptq","bits":4,"group_size":128,"sym":true,
"data_type":"int","extra_config":{".*self_attn.*":{"bits":8},".*linear_attn.*":{"bits":8},".*shared_expert\\..*":{"bits":8},
".*mlp\\.gate":{"bits":16,"data_type":"float"},".*shared_expert_gate":{"bits":16,"data_type":"float"},
"mtp.layers.0.self_attn.*":{"bits":4}}}}`

// realModel binds the real model's headers; the data is a hole.
func realModel(t testing.TB) (*qwen3next.Config, *qwen3next.Weights) {
	t.Helper()
	dir := t.TempDir()
	if _, err := optest.WriteHeaders(dir); err != nil {
		t.Fatal(err)
	}
	files, err := safetensors.Open(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg, err := qwen3next.ParseConfig([]byte(realConfig), nil)
	if err != nil {
		t.Fatal(err)
	}
	quant, err := autoround.ReadConfig(fstest.MapFS{}, []byte(realConfig))
	if err != nil {
		t.Fatal(err)
	}
	w, err := qwen3next.Bind(files, cfg, quant)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, w
}

// rehearse is what the real model takes on a device, but for what graphs and kernels
// want for themselves.
func rehearse(b *Backend, cfg *qwen3next.Config, w *qwen3next.Weights, s Sizes) ([]Share, error) {
	return b.Rehearse(w.All).Shares(func(b ops.Backend) error {
		rows, wanted := s.Chunk+s.Slots, 64+s.Slots
		memory, err := b.NewArena("buffers", cfg.BufferBytes(rows, wanted))
		if err != nil {
			return err
		}
		buffers, err := qwen3next.NewBuffers(memory, cfg, rows, wanted)
		if err != nil {
			return err
		}
		for _, stack := range []struct {
			name    string
			shape   cache.Shape
			forward func(ops.Set, *qwen3next.Config, *qwen3next.Weights, *cache.Cache, *qwen3next.Buffers)
		}{{"cache", cfg.Shape(), qwen3next.Forward}, {"draft cache", cfg.DraftShape(), qwen3next.Draft}} {
			stack.shape.KV = s.KV
			pages := s.Slots * cache.PagesFor(s.Context)
			memory, err := b.NewArena(stack.name, stack.shape.Bytes(pages, s.Slots))
			if err != nil {
				return err
			}
			kv, err := cache.New(memory, stack.shape, pages, s.Slots)
			if err != nil {
				return err
			}
			_, err = b.Record(rows, func(set ops.Set) error {
				stack.forward(set, cfg, w, kv, buffers)
				return nil
			})
			if err != nil {
				return err
			}
		}
		_, err = b.Record(rows, func(set ops.Set) error {
			set.Sample(ops.SampleArgs{Logits: buffers.Logits, Vocabulary: cfg.Vocab, Tokens: cfg.Vocab})
			return nil
		})
		if err != nil {
			return err
		}
		memory, err = b.NewArena("lens", cfg.LensBytes())
		if err != nil {
			return err
		}
		lens, err := qwen3next.NewLens(memory, cfg)
		if err != nil {
			return err
		}
		_, err = b.Record(qwen3next.LensRows, func(set ops.Set) error {
			lens.Record(set, cfg, w)
			return nil
		})
		return err
	})
}

// The goal is weights plus 2.5 GB with one slot, 4k context and chunks of 8k; the
// driver's context and images take some 0.5 GB of it.
func TestRealModelFitsItsGoal(t *testing.T) {
	w := newTwin(t, Options{Streams: 1})
	cfg, weights := realModel(t)
	shares, err := rehearse(w.device, cfg, weights, Sizes{Context: 4096, Slots: 1, Chunk: 8192, KV: ops.F16})
	if err != nil {
		t.Fatal(err)
	}
	var all, placed int64
	for i, s := range shares {
		if all += s.Bytes; i < 3 {
			placed += s.Bytes
		}
	}
	t.Logf("%v", &Plan{Shares: shares})
	if placed < 43_000_000_000 || placed > 45_000_000_000 {
		t.Errorf("weights take %d bytes", placed)
	}
	if rest := all - placed; rest > 1_950_000_000 {
		t.Errorf("everything but weights takes %d bytes, more than 1.95 GB: %v", rest, shares)
	}
}

// BenchmarkLayout lays out and cuts the 221,000 tensors of the real model; the goal
// is 0.3 s.
func BenchmarkLayout(b *testing.B) {
	_, weights := realModel(b)
	for b.Loop() {
		lay(weights.All, true, 0) // for the size, as place does
		l := lay(weights.All, true, 256)
		l.inFileOrder()
		if batches := cutBatches(l.sources, standardLoading.bufferFor(l.sources)); len(batches) < 1000 {
			b.Fatal(len(batches))
		}
	}
}
