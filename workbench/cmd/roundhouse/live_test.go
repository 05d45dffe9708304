//go:build unix

package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/roundhouse-ai/roundhouse/workbench/live"
)

// The frames of a running server are the routing that its replies have; what is steered is
// in them; others get in neither without a key nor from other pages.
func TestServeLive(t *testing.T) {
	p := start(t, "serve", "--listen", "127.0.0.1:0", "--api-key", "secret")
	p.ready()
	url := "ws" + strings.TrimPrefix(p.url, "http") + "/roundhouse/v1/live"
	dial := func(header http.Header, protocols ...string) (*websocket.Conn, int) {
		conn, answer, err := (&websocket.Dialer{Subprotocols: append([]string{live.Subprotocol}, protocols...)}).Dial(url, header) //nolint:bodyclose // websocket has read it, and says that it need not be closed
		if err != nil && answer == nil {
			t.Fatal(err)
		}
		return conn, answer.StatusCode
	}
	key := "roundhouse.key." + hex.EncodeToString([]byte("secret"))
	for name, status := range map[string]int{
		"no key": func() int { _, s := dial(nil); return s }(), "a wrong key": func() int { _, s := dial(nil, "roundhouse.key.00"); return s }(),
	} {
		if status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	if _, status := dial(http.Header{"Origin": {"https://evil.example"}}, key); status != http.StatusForbidden {
		t.Errorf("another page: %d", status)
	}
	conn, _ := dial(http.Header{"Origin": {p.url}}, key)
	defer conn.Close()
	body := `{"model": "demo", "prompt": "Once upon a time", "max_tokens": 40, "temperature": 0, "ignore_eos": true, "roundhouse": {"return": ["routing"]}}`
	request, err := http.NewRequest(http.MethodPost, p.url+"/v1/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer secret")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v: %s", err, text)
	}
	var reply struct {
		Choices []struct {
			Extension struct {
				Tokens []struct {
					ID      int32
					Routing struct {
						Position int
						IDs      [][]uint16
						Weights  [][]float32
					}
				}
			} `json:"roundhouse"`
		}
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		t.Fatal(err)
	}
	tokens, frames := reply.Choices[0].Extension.Tokens, 0
	for frames < len(tokens) {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		kind, data, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if kind == websocket.TextMessage {
			if strings.Contains(string(data), "dropped") {
				t.Fatalf("%s", data)
			}
			continue
		}
		list, err := live.ParseTokens(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			want := tokens[frames]
			if f.ID != want.ID || f.Position != want.Routing.Position+1 || !slices.Equal(f.Routing.IDs, slices.Concat(want.Routing.IDs...)) || !slices.Equal(f.Routing.Weights, slices.Concat(want.Routing.Weights...)) {
				t.Fatalf("frame %+v of %+v, reply %+v", f, f.Routing, want)
			}
			frames++
		}
	}
	if frames != 40 {
		t.Errorf("%d frames", frames)
	}
	t.Logf("evidence: frames that are another token, position or routing than the reply's %d: %d frames <= 0", len(tokens), len(tokens)-frames) // any ended the test
}
