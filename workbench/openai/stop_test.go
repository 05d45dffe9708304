package openai

import (
	"strconv"
	"strings"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
)

// A stop text ends the answer before it, at every place of the answer: within
// a token, over the border of two, over several.
func TestStopTextsAtEverySplit(t *testing.T) {
	folder, ok := demo.FS()
	if !ok {
		t.Skip("this build has no demo model")
	}
	m, err := engine.Open(t.Context(), folder, engine.Options{Name: "org/fake", Context: 128, Streams: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, web := newTest(t, m, Config{})
	const fields = `"temperature":0,"max_tokens":12`
	whole, _ := ask(t, web.URL, fields)
	text := *whole.Message.Content
	if len(text) < 20 || whole.FinishReason != "length" {
		t.Fatalf("too little to cut: %q, %s", text, whole.FinishReason)
	}
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for i := 1; i < len(text); i += stride {
		stop := text[i:min(i+1+i%5, len(text))] // 1 to 5 bytes, of this ASCII text
		status, body := post(t, web.URL+"/v1/chat/completions", chatBody(fields+`,"stop":["~",`+strconv.Quote(stop)+`]`))
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		c := decode[ChatCompletion](t, body).Choices[0]
		want, _, _ := strings.Cut(text, stop)
		if *c.Message.Content != want || c.FinishReason != "stop" || c.StopReason != stop {
			t.Errorf("stop %q: %q, %s, %v", stop, *c.Message.Content, c.FinishReason, c.StopReason)
		}
	}
}
