// Package conformance checks a running server with unmodified Go clients. It
// is a module of its own, so that the program does not depend on them; run.sh
// starts the servers.
package conformance

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	sashabaranov "github.com/sashabaranov/go-openai"
)

const model = "demo"

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run workbench/conformance/run.sh", name)
	}
	return value
}

func official(t *testing.T, url, key string) openai.Client {
	t.Helper()
	return openai.NewClient(option.WithBaseURL(env(t, url)+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

func ask() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:       model,
		Messages:    []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Tell me a story.")},
		MaxTokens:   openai.Int(12),
		Temperature: openai.Float(0),
	}
}

func TestModels(t *testing.T) {
	c := official(t, "ROUNDHOUSE_URL", "none")
	list, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Data) != 1 || list.Data[0].ID != model {
		t.Errorf("%+v", list.Data)
	}
	if m, err := c.Models.Get(t.Context(), model); err != nil || m.ID != model {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestChatStreamEqualsWhole(t *testing.T) {
	c := official(t, "ROUNDHOUSE_URL", "none")
	whole, err := c.Chat.Completions.New(t.Context(), ask())
	if err != nil {
		t.Fatal(err)
	}
	params := ask()
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	defer stream.Close()
	var sum openai.ChatCompletionAccumulator
	for stream.Next() {
		if !sum.AddChunk(stream.Current()) {
			t.Fatalf("the accumulator refused %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := sum.Choices[0].Message.Content, whole.Choices[0].Message.Content; got != want || want == "" {
		t.Errorf("stream %q, whole %q", got, want)
	}
	if sum.Usage.CompletionTokens != whole.Usage.CompletionTokens || whole.Usage.CompletionTokens != 12 {
		t.Errorf("usage %+v, %+v", sum.Usage, whole.Usage)
	}
}

func TestCompletionsOfTokenIDs(t *testing.T) {
	c := official(t, "ROUNDHOUSE_URL", "none")
	for _, prompt := range []openai.CompletionNewParamsPromptUnion{
		{OfString: openai.String("Once upon a time")},
		{OfArrayOfTokens: []int64{100, 101, 102}},
		{OfArrayOfTokenArrays: [][]int64{{100}, {101, 102}}},
	} {
		got, err := c.Completions.New(t.Context(), openai.CompletionNewParams{
			Model: model, Prompt: prompt, MaxTokens: openai.Int(4), Logprobs: openai.Int(2),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, choice := range got.Choices {
			if len(choice.Logprobs.Tokens) == 0 || len(choice.Logprobs.Tokens) != len(choice.Logprobs.TokenLogprobs) {
				t.Errorf("%+v", choice.Logprobs)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	c := official(t, "ROUNDHOUSE_URL", "none")
	params := ask()
	params.Model = "gpt-4"
	_, err := c.Chat.Completions.New(t.Context(), params)
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != 404 || e.Code != "model_not_found" {
		t.Errorf("%v", err)
	}
	params = ask()
	params.MaxTokens = openai.Int(1 << 28)
	if _, err = c.Chat.Completions.New(t.Context(), params); !errors.As(err, &e) || e.StatusCode != 400 || e.Code != "context_length_exceeded" {
		t.Errorf("%v", err)
	}
	keyed := official(t, "ROUNDHOUSE_KEYED_URL", "wrong")
	if _, err = keyed.Models.List(t.Context()); !errors.As(err, &e) || e.StatusCode != 401 {
		t.Errorf("%v", err)
	}
	keyed = official(t, "ROUNDHOUSE_KEYED_URL", env(t, "ROUNDHOUSE_KEY"))
	if _, err := keyed.Models.List(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCancelFreesTheServer(t *testing.T) {
	c := official(t, "ROUNDHOUSE_URL", "none")
	for range 8 { // more than the streams that can exist at once
		ctx, cancel := context.WithCancel(t.Context())
		params := ask()
		params.MaxTokens = openai.Int(2000)
		stream := c.Chat.Completions.NewStreaming(ctx, params, option.WithJSONSet("ignore_eos", true))
		if !stream.Next() {
			t.Fatal(stream.Err())
		}
		cancel()
		stream.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Chat.Completions.New(ctx, ask()); err != nil {
		t.Errorf("the server is still busy: %v", err)
	}
}

func TestBiasPenaltiesAndChoices(t *testing.T) {
	c := official(t, "ROUNDHOUSE_URL", "none")
	one, err := c.Chat.Completions.New(t.Context(), ask())
	if err != nil {
		t.Fatal(err)
	}
	params := ask()
	params.N = openai.Int(3)
	params.Temperature = openai.Float(1)
	params.Seed = openai.Int(4)
	params.PresencePenalty, params.FrequencyPenalty = openai.Float(1), openai.Float(0.5)
	params.LogitBias = map[string]int64{"5": -100, "6": 3}
	several, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if len(several.Choices) != 3 || several.Usage.PromptTokens != one.Usage.PromptTokens || several.Usage.CompletionTokens != 36 {
		t.Errorf("%d choices, usage %+v, alone %+v", len(several.Choices), several.Usage, one.Usage)
	}
	params.LogitBias = map[string]int64{"5": 101}
	var e *openai.Error
	if _, err = c.Chat.Completions.New(t.Context(), params); !errors.As(err, &e) || e.StatusCode != 400 || e.Param != "logit_bias" {
		t.Errorf("%v", err)
	}
}

func TestFullQueue(t *testing.T) {
	c := official(t, "ROUNDHOUSE_TIGHT_URL", "none")
	params := ask()
	params.MaxTokens = openai.Int(1000)
	long := func() *ssestream.Stream[openai.ChatCompletionChunk] {
		return c.Chat.Completions.NewStreaming(t.Context(), params, option.WithJSONSet("ignore_eos", true))
	}
	running := long()
	defer running.Close()
	if !running.Next() {
		t.Fatal(running.Err())
	}
	waiting := long()
	defer waiting.Close()
	refused := long()
	defer refused.Close()
	var e *openai.Error
	if refused.Next() || !errors.As(refused.Err(), &e) || e.StatusCode != 429 || e.Code != "queue_full" || e.Response.Header.Get("Retry-After") == "" {
		t.Errorf("%v", refused.Err())
	}
}

// go-openai decodes strictly: a field of the wrong type is an error.
func TestSashabaranov(t *testing.T) {
	config := sashabaranov.DefaultConfig("none")
	config.BaseURL = env(t, "ROUNDHOUSE_URL") + "/v1"
	c := sashabaranov.NewClientWithConfig(config)
	request := sashabaranov.ChatCompletionRequest{
		Model: model, MaxTokens: 12, LogProbs: true, TopLogProbs: 2,
		Messages: []sashabaranov.ChatCompletionMessage{{Role: "user", Content: "Tell me a story."}},
	}
	whole, err := c.CreateChatCompletion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Choices[0].Message.Content == "" || len(whole.Choices[0].LogProbs.Content) != whole.Usage.CompletionTokens {
		t.Errorf("%+v", whole)
	}
	request.StreamOptions = &sashabaranov.StreamOptions{IncludeUsage: true}
	stream, err := c.CreateChatCompletionStream(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var tokens int
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if chunk.Usage != nil {
			tokens = chunk.Usage.CompletionTokens
		}
	}
	if tokens != 12 {
		t.Errorf("%d tokens in the stream's usage", tokens)
	}
	_, err = c.CreateCompletion(t.Context(), sashabaranov.CompletionRequest{Model: "none", Prompt: "x"})
	var e *sashabaranov.APIError
	if !errors.As(err, &e) || e.HTTPStatusCode != 404 || e.Code != "model_not_found" {
		t.Errorf("%v", err)
	}
}
