package workbench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"github.com/roundhouse-ai/roundhouse/engine/chat"
	"github.com/roundhouse-ai/roundhouse/engine/ops/optest/shared"
	"github.com/roundhouse-ai/roundhouse/engine/tokenizer"
)

// The goldens and tokenizers that the packages of the text keep are complete.
const textData = "../engine/"

// unpacked reads a file, unpacked by its extension.
func unpacked(t testing.TB, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = bytes.NewReader(packed)
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(r)
	case ".gz":
		r, err = gzip.NewReader(r)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return data
}

// through sends lines through a debug verb and decodes what comes out, one
// answer for each.
func through[T any](t *testing.T, lines []byte, answer func(line []byte) (any, error)) []T {
	t.Helper()
	var out bytes.Buffer
	if err := eachLine(context.Background(), bytes.NewReader(lines), &out, answer); err != nil {
		t.Fatal(err)
	}
	var all []T
	for line := range bytes.Lines(out.Bytes()) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%v in %.200s", err, line)
		}
		all = append(all, v)
	}
	return all
}

// jsonLines writes one object a line.
func jsonLines[T any](t *testing.T, list []T) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	for _, v := range list {
		if err := encoder.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// decodeLines reads one object a line.
func decodeLines[T any](t *testing.T, data []byte) []T {
	t.Helper()
	var all []T
	for line := range bytes.Lines(data) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

type encodeCase struct {
	Text          string  `json:"text"`
	IDs           []int32 `json:"ids"`
	SpecialAsText []int32 `json:"ids_special_as_text"`
	AllAsText     []int32 `json:"ids_all_as_text"`
}

type tokenizeLine struct {
	Text string `json:"text"`
	Mode string `json:"mode,omitempty"`
}

type idsAnswer struct {
	IDs []int32 `json:"ids"`
}

type decodeCase struct {
	Decoded string  `json:"decoded"`
	Skipped *string `json:"decoded_skip_special"`
}

func TestDebugTokenizer(t *testing.T) {
	type place struct{ name, tokenizer, encode, decode string }
	own := textData + "tokenizer/testdata/"
	places := []place{
		{"qwen3", own + "qwen3/tokenizer.json.xz", own + "qwen3/encode.jsonl.gz", own + "qwen3/decode.jsonl.gz"},
		{"demo", own + "demo/tokenizer.json.gz", own + "demo/encode.jsonl.gz", own + "demo/decode.jsonl.gz"},
	}
	if dir, ok := shared.Dir(); ok {
		goldens := filepath.Join(dir, "goldens", "tokenizer")
		places = append(places, place{"shared-demo", filepath.Join(dir, "models/demo-int4-mixed/tokenizer.json"),
			filepath.Join(goldens, "demo-encode.jsonl.gz"), filepath.Join(goldens, "demo-decode.jsonl.gz")})
		if !testing.Short() {
			places = append(places, place{"shared-qwen3", filepath.Join(dir, "tokenizer/qwen3/tokenizer.json.xz"),
				filepath.Join(goldens, "qwen3-encode.jsonl.gz"), filepath.Join(goldens, "qwen3-decode.jsonl.gz")})
		}
	} else {
		t.Run("shared", func(t *testing.T) { t.Skip("shared data not found: the committed cases ran alone") })
	}
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			tok, err := tokenizer.Parse(unpacked(t, p.tokenizer))
			if err != nil {
				t.Fatal(err)
			}
			testEncode(t, tok, unpacked(t, p.encode))
			testDecode(t, tok, unpacked(t, p.decode))
		})
	}
}

func testEncode(t *testing.T, tok *tokenizer.Tokenizer, goldens []byte) {
	cases := decodeLines[encodeCase](t, goldens)
	for mode, want := range map[string]func(encodeCase) []int32{
		"":                func(c encodeCase) []int32 { return c.IDs },
		"default":         func(c encodeCase) []int32 { return c.IDs },
		"special_as_text": func(c encodeCase) []int32 { return orElse(c.SpecialAsText, c.IDs) },
		"all_as_text":     func(c encodeCase) []int32 { return orElse(c.AllAsText, c.IDs) },
	} {
		lines := make([]tokenizeLine, len(cases))
		for i, c := range cases {
			lines[i] = tokenizeLine{c.Text, mode}
		}
		got := through[idsAnswer](t, jsonLines(t, lines), func(line []byte) (any, error) { return tokenize(tok, line) })
		if len(got) != len(cases) || len(cases) == 0 {
			t.Fatalf("%d lines for %d", len(got), len(cases))
		}
		for i, c := range cases {
			if diff := cmp.Diff(want(c), got[i].IDs); diff != "" {
				t.Fatalf("mode %q, %q: %s", mode, c.Text, diff)
			}
		}
	}
	// A golden's own line, with fields that the verb does not know, will do too.
	got := through[idsAnswer](t, goldens, func(line []byte) (any, error) { return tokenize(tok, line) })
	for i, c := range cases {
		if diff := cmp.Diff(c.IDs, got[i].IDs); diff != "" {
			t.Fatalf("%q: %s", c.Text, diff)
		}
	}
}

func orElse(ids, otherwise []int32) []int32 {
	if ids == nil {
		return otherwise
	}
	return ids
}

func testDecode(t *testing.T, tok *tokenizer.Tokenizer, goldens []byte) {
	cases := decodeLines[decodeCase](t, goldens)
	got := through[textLine](t, goldens, func(line []byte) (any, error) { return detokenize(tok, line) })
	skipping := bytes.ReplaceAll(goldens, []byte(`{"id"`), []byte(`{"skip_special":true,"id"`))
	skipped := through[textLine](t, skipping, func(line []byte) (any, error) { return detokenize(tok, line) })
	if len(got) != len(cases) || len(skipped) != len(cases) || len(cases) == 0 {
		t.Fatalf("%d and %d lines for %d", len(got), len(skipped), len(cases))
	}
	for i, c := range cases {
		want := c.Decoded
		if got[i].Text != want {
			t.Errorf("line %d: %q, want %q", i, got[i].Text, want)
		}
		if c.Skipped != nil {
			want = *c.Skipped
		}
		if skipped[i].Text != want {
			t.Errorf("line %d without special tokens: %q, want %q", i, skipped[i].Text, want)
		}
	}
}

type renderCase struct {
	Case     string `json:"case"`
	Expected string `json:"expected"`
	Error    *struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
	} `json:"error"`
}

type renderAnswer struct {
	Text  string `json:"text"`
	Error *struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
	} `json:"error"`
}

func TestDebugTemplate(t *testing.T) {
	folders := map[string][2]string{"": {textData + "chat/testdata/templates", textData + "chat/testdata/goldens"}}
	if dir, ok := shared.Dir(); ok {
		folders["shared-"] = [2]string{filepath.Join(dir, "templates"), filepath.Join(dir, "goldens", "chat")}
	} else {
		t.Run("shared", func(t *testing.T) { t.Skip("shared data not found: the committed cases ran alone") })
	}
	for prefix, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder[1], "*.jsonl.gz"))
		if err != nil || len(files) != 16 {
			t.Fatalf("%d files in %s, %v", len(files), folder[1], err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".jsonl.gz")
			t.Run(prefix+name, func(t *testing.T) {
				source, err := os.ReadFile(filepath.Join(folder[0], name+".jinja"))
				if err != nil {
					t.Fatal(err)
				}
				template, err := chat.Parse(string(source))
				if err != nil {
					t.Fatal(err)
				}
				testRender(t, template, unpacked(t, file))
			})
		}
	}
}

func testRender(t *testing.T, template *chat.Template, goldens []byte) {
	cases := decodeLines[renderCase](t, goldens)
	got := through[renderAnswer](t, goldens, func(line []byte) (any, error) {
		return render(context.Background(), template, nil, line)
	})
	if len(got) != len(cases) || len(cases) == 0 {
		t.Fatalf("%d lines for %d", len(got), len(cases))
	}
	for i, c := range cases {
		switch {
		case c.Error == nil && (got[i].Error != nil || got[i].Text != c.Expected):
			t.Errorf("%s: got %+v, want %q", c.Case, got[i], c.Expected)
		case c.Error == nil:
		case got[i].Error == nil:
			t.Errorf("%s: got %q, want error %s", c.Case, got[i].Text, c.Error.Message)
		case got[i].Error.Kind != c.Error.Kind || c.Error.Kind == "raised" && got[i].Error.Message != c.Error.Message:
			t.Errorf("%s: got error %+v, want %+v", c.Case, *got[i].Error, *c.Error)
		}
	}
}

func demoTokenizer(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Parse(unpacked(t, "demo/model/tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Bad lines are answered, and the lines after them too.
func TestBadLines(t *testing.T) {
	tok := demoTokenizer(t)
	answers := through[map[string]any](t, []byte("\n{\n[]\n{}\n{\"text\":1}\n{\"text\":\"a\",\"mode\":\"b\"}\n{\"text\":\"\"}\r\n{\"text\":\"a\"}"),
		func(line []byte) (any, error) { return tokenize(tok, line) })
	if len(answers) != 8 {
		t.Fatalf("%d answers for 8 lines: %v", len(answers), answers)
	}
	for i, answer := range answers {
		if _, failed := answer["error"]; failed != (i < 6) {
			t.Errorf("line %d is answered by %v", i+1, answer)
		}
	}
	if ids, ok := answers[6]["ids"].([]any); !ok || len(ids) != 0 {
		t.Errorf("an empty text is answered by %v", answers[6])
	}
	for line, want := range map[string]string{
		`{}`: `no "ids"`, `{"ids":[-1]}`: "not negative", `{"ids":[3000000000]}`: "cannot unmarshal", `{"ids":[1.5]}`: "cannot unmarshal",
	} {
		if _, err := detokenize(tok, []byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, want %s", line, err, want)
		}
	}
	for line, want := range map[string]string{
		`1`: "not an object", `{`: "not a line of JSON", `{"kwargs":1}`: "kwargs is not an object",
		`{"kwargs":{"add_generation_prompt":1}}`:  "not true or false",
		`{"kwargs":{"continue_final_message":1}}`: "name of a field",
	} {
		if _, err := chatInput([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, want %s", line, err, want)
		}
	}
}

// endless gives one line without end up to a number of bytes, then a short one.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return copy(p, "\n{\"text\":\"a\"}\n"), io.EOF
	}
	n := min(len(p), e.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= n
	return n, nil
}

func TestLongLine(t *testing.T) {
	var out bytes.Buffer
	longest := 0
	err := eachLine(context.Background(), &endless{left: maxLine + 100}, &out, func(line []byte) (any, error) {
		longest = max(longest, len(line))
		return "short", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"error":{"kind":"input","message":"the line is longer than 64 MiB"}}` + "\n\"short\"\n"
	if out.String() != want || longest > 100 {
		t.Errorf("got %s, longest line taken %d", out.String(), longest)
	}
}

// Two programs can talk: an answer comes before the next line.
func TestLinesAnswerAtOnce(t *testing.T) {
	in, ask := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- eachLine(context.Background(), in, out, func(line []byte) (any, error) { return string(line), nil })
	}()
	reader := bufio.NewReader(answers)
	for _, line := range []string{"one", "two"} {
		if _, err := io.WriteString(ask, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := reader.ReadString('\n'); err != nil || got != `"`+line+"\"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if err := ask.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func FuzzLines(f *testing.F) {
	tok := demoTokenizer(f)
	template, err := chat.Parse(string(unpacked(f, "demo/model/chat_template.jinja")))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`{"text":"a <|im_end|>","mode":"all_as_text"}`, `{"ids":[1,2,4072],"skip_special":true}`, "\n\n", "{", `{"text":"\ud800"}`,
		`{"messages":[{"role":"user","content":"a"}],"kwargs":{"add_generation_prompt":true}}`,
		`{"messages":[{"role":"assistant","content":"a"}],"tools":null,"kwargs":{"continue_final_message":"content"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, answer := range []func([]byte) (any, error){
			func(line []byte) (any, error) { return tokenize(tok, line) },
			func(line []byte) (any, error) { return detokenize(tok, line) },
			func(line []byte) (any, error) { return render(context.Background(), template, nil, line) },
		} {
			var out bytes.Buffer
			if err := eachLine(context.Background(), bytes.NewReader(data), &out, answer); err != nil {
				t.Fatal(err)
			}
			want := bytes.Count(data, []byte("\n"))
			if len(data) > 0 && data[len(data)-1] != '\n' {
				want++
			}
			if got := bytes.Count(out.Bytes(), []byte("\n")); got != want {
				t.Errorf("%d answers for %d lines", got, want)
			}
		}
	})
}
