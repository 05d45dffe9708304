package chat

import (
	"context"
	"os"
	"strings"
	"testing"
)

// BenchmarkRender is a chat of 50 messages of 2 KB with 3 tools.
func BenchmarkRender(b *testing.B) {
	for _, name := range []string{"Qwen3-Next-80B-A3B-Instruct", "Qwen3-Next-80B-A3B-Thinking", "Qwen3-Coder-Next"} {
		b.Run(name, func(b *testing.B) {
			source, err := os.ReadFile("testdata/templates/" + name + ".jinja")
			if err != nil {
				b.Fatal(err)
			}
			template, err := Parse(string(source))
			if err != nil {
				b.Fatal(err)
			}
			messages := NewList()
			for i := range 50 {
				m := NewMap()
				m.Set("role", NewString([]string{"user", "assistant"}[i%2]))
				m.Set("content", NewString(strings.Repeat("All work and no play. ", 93)))
				messages.items = append(messages.items, m)
			}
			data, err := os.ReadFile("testdata/toolcalls/tools.json")
			if err != nil {
				b.Fatal(err)
			}
			tools, err := DecodeJSON(data)
			if err != nil {
				b.Fatal(err)
			}
			in := Input{Messages: messages, Tools: tools, AddGenerationPrompt: true}
			r, err := template.Render(context.Background(), in)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(r.Text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := template.Render(context.Background(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	source, err := os.ReadFile("testdata/templates/Qwen3-Next-80B-A3B-Instruct.jinja")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(source)))
	for b.Loop() {
		if _, err := Parse(string(source)); err != nil {
			b.Fatal(err)
		}
	}
}
