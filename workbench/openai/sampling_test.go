package openai

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/ops"
	"github.com/roundhouse-ai/roundhouse/engine/sample"
	"github.com/roundhouse-ai/roundhouse/workbench/docs"
)

// drawn is the sampling that fields ask for.
func drawn(t *testing.T, m *fake, fields string) (engine.Sampling, []Warning, error) {
	t.Helper()
	f, bad := parse([]byte(chatBody(fields)))
	if bad != nil {
		t.Fatal(bad)
	}
	req, err := readChatRequest(f, m)
	if err != nil {
		return engine.Sampling{}, nil, err
	}
	return req.request.Sampling, *f.warnings, nil
}

func TestSamplingFields(t *testing.T) {
	m := newFake(t, plainTemplate)
	banned := float32(math.Inf(-1))
	for fields, change := range map[string]func(*engine.Sampling){
		``: func(*engine.Sampling) {},
		`"frequency_penalty":0.0,"presence_penalty":0,"logit_bias":{},"mirostat":0,"allowed_token_ids":[],"bad_words":[]`: func(*engine.Sampling) {},
		`"presence_penalty":-2,"frequency_penalty":0.5`:                                                                   func(s *engine.Sampling) { s.Presence, s.Frequency = -2, 0.5 },
		`"repetition_penalty":1.1`:                         func(s *engine.Sampling) { s.Repetition = 1.1 },
		`"repeat_penalty":1.1`:                             func(s *engine.Sampling) { s.Repetition = 1.1 },
		`"repeat_penalty":1.1,"repetition_penalty":1.1`:    func(s *engine.Sampling) { s.Repetition = 1.1 },
		`"repeat_penalty":1.1,"repeat_last_n":64`:          func(s *engine.Sampling) { s.Repetition, s.PenaltyLastN = 1.1, 64 },
		`"repeat_penalty":1.1,"repeat_last_n":-1`:          func(s *engine.Sampling) { s.Repetition = 1.1 },
		`"repeat_penalty":1.1,"repeat_last_n":0`:           func(*engine.Sampling) {},
		`"typical_p":0.5,"top_n_sigma":1.5`:                func(s *engine.Sampling) { s.Typical, s.TopNSigma = 0.5, 1.5 },
		`"typical_p":0,"top_n_sigma":-1`:                   func(s *engine.Sampling) { s.Typical = math.SmallestNonzeroFloat32 },
		`"xtc_probability":0.5`:                            func(s *engine.Sampling) { s.XTCProbability, s.XTCThreshold = 0.5, defaultXTCThreshold },
		`"xtc_probability":0.5,"xtc_threshold":0.2`:        func(s *engine.Sampling) { s.XTCProbability, s.XTCThreshold = 0.5, 0.2 },
		`"mirostat":2`:                                     func(s *engine.Sampling) { s.Mirostat.Tau = 5 },
		`"mirostat":2,"mirostat_tau":4,"mirostat_eta":0.2`: func(s *engine.Sampling) { s.Mirostat = sample.Mirostat{Tau: 4, Eta: 0.2} },
		`"dynatemp_range":0.5,"dynatemp_exponent":2`:       func(s *engine.Sampling) { s.DynamicRange, s.DynamicExponent = 0.5, 2 },
		`"dynatemp_range":2`:                               func(s *engine.Sampling) { s.DynamicRange = 0.7 }, // down to 0
		`"samplers":["penalties","top_k","temperature"]`:   func(s *engine.Sampling) { s.Order = []sample.Stage{"top_k", "temperature"} },
		`"logit_bias":{"17":-100,"5":2.5}`:                 func(s *engine.Sampling) { s.Bias = []ops.Bias{{ID: 5, Value: 2.5}, {ID: 17, Value: -100}} },
		`"bad_words":["A"],"logit_bias":{"5":1}`: func(s *engine.Sampling) {
			s.Bias = []ops.Bias{{ID: 5, Value: 1}, {ID: m.id("A"), Value: banned}, {ID: m.id(" A"), Value: banned}}
		},
		`"allowed_token_ids":[0,33,33]`:                     func(s *engine.Sampling) { s.Mask = make([]uint32, 12); s.Mask[0], s.Mask[1] = 1, 2 },
		`"dry_multiplier":0,"dry_sequence_breakers":["\n"]`: func(*engine.Sampling) {},
		`"dry_multiplier":0.8,"dry_base":2,"dry_allowed_length":3,"dry_sequence_breakers":["A"],"dry_penalty_last_n":9`: func(s *engine.Sampling) {
			s.DRY, s.PenaltyLastN = sample.DRY{Multiplier: 0.8, Base: 2, AllowedLength: 3, Breakers: breakers(m.tokenizer, []string{"A"})}, 9
		},
		`"dry_multiplier":0.8,"dry_penalty_last_n":9,"repeat_last_n":64`: func(s *engine.Sampling) {
			s.DRY, s.PenaltyLastN = sample.DRY{Multiplier: 0.8, Breakers: breakers(m.tokenizer, defaultBreakers)}, 9
		},
	} {
		want := m.info.Defaults
		change(&want)
		got, warnings, err := drawn(t, m, fields)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", fields, warnings, err)
			continue
		}
		got.Seed = want.Seed
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", fields, diff)
		}
	}
}

// id is the id of a text of one token.
func (f *fake) id(text string) int32 { return f.tokenizer.Encode(text, 0)[0] }

func TestBreakersAreTokensThatContainThem(t *testing.T) {
	m := newFake(t, plainTemplate)
	ids := breakers(m.tokenizer, []string{"\n"})
	if !slices.Contains(ids, m.id("\n")) || !slices.IsSorted(ids) {
		t.Errorf("%v", ids)
	}
	for _, id := range ids {
		if !strings.Contains(string(m.tokenizer.Bytes(id)), "\n") {
			t.Errorf("token %d: %q", id, m.tokenizer.Bytes(id))
		}
	}
}

func TestSamplingRefusals(t *testing.T) {
	m := newFake(t, plainTemplate)
	for fields, want := range map[string]string{
		`"logit_bias":{"384":1}`:                        "logit_bias: has the key \"384\": keys are token ids from 0 to 383",
		`"logit_bias":{"-1":1}`:                         "logit_bias: has the key",
		`"logit_bias":{"a":1}`:                          "logit_bias: has the key",
		`"logit_bias":{"5":101}`:                        "logit_bias: of token 5 must be between -100 and 100, not 101",
		`"logit_bias":{"5":"x"}`:                        "logit_bias: must be an object of numbers",
		`"logit_bias":[5]`:                              "logit_bias: must be an object of numbers",
		`"logit_bias":{"5":1,"05":2}`:                   "logit_bias: has token 5 twice",
		`"logit_bias":{` + manyIDs(maxBias+1) + `}`:     "entries, at most 1024",
		`"presence_penalty":2.1`:                        "presence_penalty: must be between -2 and 2",
		`"frequency_penalty":-2.1`:                      "frequency_penalty: must be between",
		`"repetition_penalty":0`:                        "repetition_penalty: must be between 0.01 and 10",
		`"repetition_penalty":1.2,"repeat_penalty":1.3`: "repeat_penalty: and repetition_penalty differ",
		`"typical_p":1.1`:                               "typical_p: must be between",
		`"top_n_sigma":-2`:                              "top_n_sigma: must be between",
		`"xtc_probability":2`:                           "xtc_probability: must be between",
		`"xtc_threshold":-1`:                            "xtc_threshold: must be between",
		`"dry_multiplier":-1`:                           "dry_multiplier: must be between",
		`"dry_base":0.5`:                                "dry_base: must be between",
		`"dry_allowed_length":0`:                        "dry_allowed_length: must be between",
		`"dry_sequence_breakers":[""]`:                  "dry_sequence_breakers: has a text of 0 bytes",
		`"dry_sequence_breakers":[1]`:                   "dry_sequence_breakers: must be a string or a list of strings",
		`"dry_penalty_last_n":-2`:                       "dry_penalty_last_n: must be between",
		`"dry_multiplier":1,"repeat_penalty":1.1,"repeat_last_n":5,"dry_penalty_last_n":6`: "dry_penalty_last_n: and repeat_last_n differ",
		`"mirostat":1`:                                     "mirostat: is 1: only version 2",
		`"mirostat":3`:                                     "mirostat: must be 0 or 2",
		`"mirostat":2,"mirostat_tau":0`:                    "mirostat_tau: must be between",
		`"mirostat":2,"mirostat_eta":2`:                    "mirostat_eta: must be between",
		`"dynatemp_range":-1`:                              "dynatemp_range: must be between",
		`"dynatemp_exponent":0`:                            "dynatemp_exponent: must be between",
		`"samplers":[]`:                                    "samplers: names no stage",
		`"samplers":["penalties"]`:                         "samplers: names no stage",
		`"samplers":"kfypmxt"`:                             "samplers: must be a list of texts",
		`"samplers":["magic"]`:                             `samplers: has "magic": stages are dry, top_n_sigma, temperature, top_k, typical_p, top_p, min_p, xtc`,
		`"samplers":["top_k","top_k"]`:                     "samplers: has top_k twice",
		`"samplers":["top_k","penalties"]`:                 "samplers: has penalties not in the first place",
		`"bad_words":["` + strings.Repeat("zq", 20) + `"]`: "bad_words: cannot have text 0: it is several tokens",
		`"bad_words":[""]`:                                 "bad_words: has a text of 0 bytes",
		`"allowed_token_ids":[376]`:                        "allowed_token_ids: has id 376: ids that can be drawn lie in 0 to",
		`"allowed_token_ids":[-1]`:                         "allowed_token_ids: has id -1",
		`"allowed_token_ids":["a"]`:                        "allowed_token_ids: must be a list of token ids",
		`"bad_words":["A"],"allowed_token_ids":[` + fmt.Sprint(m.id("A")) + `]`: "allowed_token_ids: are all banned by bad_words",
		`"priority":99999999`:          "priority: must be between",
		`"timeout":0`:                  "timeout: must be between",
		`"timeout":1e9`:                "timeout: must be between",
		`"logprobs_mode":"raw_logits"`: "logprobs_mode: must be raw_logprobs or processed_logprobs",
		`"min_tokens":3`:               "min_tokens: min_tokens is not supported",
	} {
		_, _, err := drawn(t, m, fields)
		if err == nil || !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v\nwant %s", fields[:min(len(fields), 80)], err, want)
		}
	}
}

func manyIDs(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"%d":1`, i))
	}
	return strings.Join(all, ",")
}

// A field that another one makes idle is warned of.
func TestIdleFieldsAreWarnedOf(t *testing.T) {
	m := newFake(t, plainTemplate)
	for fields, want := range map[string]string{
		`"mirostat":2,"top_p":0.5,"temperature":1`:     "top_p",
		`"samplers":["temperature"],"min_p":0.1`:       "min_p",
		`"samplers":["top_k"],"temperature":0.5`:       "temperature",
		`"mirostat_tau":4`:                             "mirostat",
		`"samplers":["temperature","min_p"],"min_p":0`: "",
	} {
		_, warnings, err := drawn(t, m, fields)
		got := ""
		if len(warnings) == 1 {
			got = warnings[0].Param
		}
		if err != nil || len(warnings) > 1 || got != want {
			t.Errorf("%s: %+v, %v", fields, warnings, err)
		}
	}
}

func TestScheduleFields(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	status, body := post(t, web.URL+"/v1/chat/completions", chatBody(`"priority":-3,"timeout":30,"logprobs_mode":"processed_logprobs"`))
	r := m.last()
	if left := time.Until(r.Deadline); status != 200 || r.Priority != 3 || r.Logprobs != engine.OfChain || left < 20*time.Second || left > 30*time.Second {
		t.Errorf("%d %s: %+v", status, body, r)
	}
	m.hang = make(chan struct{})
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		status, body = post(t, web.URL+path, `{"model":"org/fake","prompt":"hi","messages":[{"role":"user","content":"hi"}],"timeout":0.01}`)
		wantError(t, status, body, http.StatusRequestTimeout, "timeout")
	}
}

// What the engine refuses about a parameter is the client's to mend.
func TestParamErrors(t *testing.T) {
	m := newFake(t, plainTemplate)
	_, web := newTest(t, m, Config{})
	for _, m.full = range []error{
		fmt.Errorf("request: %w", &sample.ParamError{Field: "TopNSigma", Value: 3, Message: "it lies in 0 to 2"}),
		fmt.Errorf("position 3: %w", sample.ErrBanned),
	} {
		status, body := post(t, web.URL+"/v1/chat/completions", hello)
		if e := wantError(t, status, body, 400, "invalid_value"); e.Param != nil || e.Message == "" {
			t.Errorf("%s", body)
		}
	}
}

// checkSampling is what every accepted request keeps to.
func checkSampling(tb testing.TB, m *fake, s engine.Sampling) {
	tb.Helper()
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Float32 && (math.IsNaN(f.Float()) || math.Abs(f.Float()) > 100) {
			tb.Fatalf("%s is %v", v.Type().Field(i).Name, f)
		}
	}
	ascending := func(n int, id func(int) int32) {
		for i := range n {
			if id(i) < 0 || int(id(i)) >= m.info.Vocab || i > 0 && id(i-1) >= id(i) {
				tb.Fatalf("ids are not ascending within the vocabulary: %+v", s)
			}
		}
	}
	ascending(len(s.Bias), func(i int) int32 { return s.Bias[i].ID })
	ascending(len(s.DRY.Breakers), func(i int) int32 { return s.DRY.Breakers[i] })
	if s.Order != nil && len(s.Order) == 0 || len(s.Order) > len(sample.DefaultOrder) || s.PenaltyLastN < 0 || s.TopK < 0 {
		tb.Fatalf("out of range: %+v", s)
	}
}

// The handbook's page names every field that is taken, and no other.
func TestPageNamesEveryField(t *testing.T) {
	// What has no line of the form below: the prompt has four forms, and messages and tools are lists of objects.
	taken := map[string]bool{"prompt": true, "messages": true, "tools": true, "tool_choice": true}
	for _, file := range []string{"params.go", "sampling.go", "chat.go", "completions.go", "prompt.go", "hooks.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bf\.(?:take|number|whole)\("(\w+)"`).FindAllSubmatch(source, -1) {
			taken[string(m[1])] = true
		}
	}
	page, err := docs.Files.ReadFile("api.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	_, fields, _ := strings.Cut(string(page), "\n## Fields")
	fields, _, _ = strings.Cut(fields, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(fields, -1) {
		listed[m[1]] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(taken)), slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("fields of the code (-) and of api.md (+):\n%s", diff)
	}
}

// A bug while one of several answers is taken apart ends the request, not the
// program.
func TestPanicOfAChoiceIsAnswered(t *testing.T) {
	m := newFake(t, plainTemplate)
	defer func() {
		if recover() == nil {
			t.Error("the panic was swallowed")
		}
	}()
	_, _ = complete(t.Context(), m, engine.Request{Prompt: []int32{1}}, 3, func() splitter { return bug{} }, observers{}, func(int, update) error { return nil })
}

// bug is a splitter that panics.
type bug struct{ plain }

func (bug) push(string) []piece { panic("a bug") }
