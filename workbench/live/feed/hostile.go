package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/workbench/live"
)

// evil would like to be executed wherever a page takes a text for markup.
const evil = `<script>window.pwned=1</script><img src=x onerror="window.pwned=1">"'><svg onload=window.pwned=1>` + "\u202e\x00"

// hostile sends messages that no server of ours sends, then stays.
func hostile(w http.ResponseWriter, r *http.Request) {
	conn, err := (&websocket.Upgrader{Subprotocols: []string{live.Subprotocol}}).Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer func() { _ = conn.Close() }() // it may have ended already
	for _, m := range messages() {
		if err := conn.WriteMessage(m.kind, m.data); err != nil {
			return
		}
	}
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

// message is one of a WebSocket.
type message struct {
	kind int
	data []byte
}

// messages are what hostile sends: a good beginning, much that is bad, and a good end that
// must still be shown.
func messages() (list []message) {
	text := func(format string, args ...any) {
		list = append(list, message{websocket.TextMessage, fmt.Appendf(nil, format, args...)})
	}
	frame := func(data []byte) { list = append(list, message{websocket.BinaryMessage, data}) }
	hello := `{"op":"hello","protocol":1,"session":"x","resumed":false,"model":{"name":%s,"layers":4,"experts":8,"top_k":2,"tokens":16},"streams":[]}`
	stream := `{"op":"stream","handle":%d,"request":%s,"choice":0,"state":"running","prompt_tokens":3,"completion_tokens":0,"reason":"","steer":%s,"routed":true,"pace":null}`
	text(hello, quoted(evil))
	text(stream, 1, quoted(evil), `{"layers":{"<b>":{"ban":"all"},"1":null,"2":{"bias":{"__proto__":1}}}}`)
	for _, bad := range []string{
		``, `{`, `null`, `5`, `[]`, `"text"`, `{"op":5}`, `{"op":"hello"}`, `{"op":"stats"}`, `{"op":"event"}`, `{"op":"event","event":null}`,
		`{"op":"stats","memory":5,"hooks":"x","phase_seconds":null}`, `{"op":"dropped","frames":"many"}`, `{"op":"stream"}`, `{"op":"stream","handle":"x","steer":7}`,
		`{"op":"hello","model":{"layers":1e9,"experts":1e9},"streams":[]}`, `{"op":"hello","model":{"layers":-1,"experts":0.5},"streams":[null]}`, strings.Repeat("[", 100000),
		`{"op":"error","id":1e300,"message":{}}`, `{"op":"steered","id":null}`,
	} {
		text("%s", bad)
	}
	text(hello, quoted(evil)) // as if the server had begun anew
	text(stream, 1, quoted(evil), "null")
	good := goodFrame()
	for _, cut := range []int{1, 8, 39, 40, len(good) - 1} {
		frame(good[:cut])
	}
	for _, at := range []int{8, 10, 28, 30, 32} { // kind, k, layers, candidates, bytes
		bad := append([]byte(nil), good...)
		binary.LittleEndian.PutUint16(bad[at:], math.MaxUint16)
		frame(bad)
	}
	frame(make([]byte, 9<<20))
	text(`{"op":"event","event":%q}`, strings.Repeat("x", 9<<20))
	text(`{"op":"event","event":{"seq":1,"time":"now","kind":%[1]s,"request":%[1]s,"data":{"value":%[1]s}}}`, quoted(evil))
	// Experts and layers that the model does not have, weights that are none.
	frame(bytesOf(&live.Token{Handle: 1, Position: 3, Text: evil, Layers: []int{3, 900}, Routing: record(901, func(int) (uint16, float32) { return 60000, float32(math.NaN()) })}))
	for n := range 50 {
		frame(bytesOf(&live.Token{Handle: 1, Position: 4 + n, Text: evil, Layers: []int{0, 1, 2, 3}, Routing: record(4, func(j int) (uint16, float32) { return uint16(j), .5 })}))
	}
	return list
}

// quoted is a text as JSON has it.
func quoted(s string) []byte {
	text, _ := json.Marshal(s) // a text always can be
	return text
}

// record is routing of two experts in each layer.
func record(layers int, of func(j int) (uint16, float32)) *hook.Record {
	r := &hook.Record{Layers: layers, K: 2}
	for range layers {
		for j := range 2 {
			id, weight := of(j)
			r.IDs, r.Weights = append(r.IDs, id), append(r.Weights, weight)
		}
	}
	return r
}

func goodFrame() []byte {
	return bytesOf(&live.Token{Handle: 1, Position: 3, Text: "good", Layers: []int{0, 3}, Routing: record(4, func(j int) (uint16, float32) { return uint16(j), .5 })})
}

// bytesOf is a frame as it is sent.
func bytesOf(t *live.Token) []byte { return t.Append(make([]byte, 8)) }
