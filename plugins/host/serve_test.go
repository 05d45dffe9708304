package host

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/plugins"
)

// serve is a plugin of these tests.
func serve(name string) {
	if f := byName(name); f != nil && f.serve != nil {
		f.serve()
		return
	}
	if main := supervised[name]; main != nil {
		main()
		return
	}
	if name == hostName {
		beHost(os.Args[len(os.Args)-2])
	}
	if child, ok := strings.CutPrefix(name, sleeper); ok {
		if child == "impostor" {
			listening(socketDir(), "")
		}
		time.Sleep(time.Minute)
		return
	}
	p := map[string]func() *plugins.Plugin{
		"all": allPlugin, "edits": editsPlugin, "inside": insidePlugin, "writer": writerPlugin,
		"ride-50":  rides("ride-50", plugins.Riding{Top: 50}),
		"ride-256": rides("ride-256", plugins.Riding{Top: 256}),
		"ride-all": rides("ride-all", plugins.Riding{Full: true, Top: 4}),
	}[name]
	if p == nil {
		fmt.Fprintln(os.Stderr, "no such plugin:", name)
		os.Exit(3)
	}
	plugins.Serve(p())
}

// edits only edits.
type edits struct{}

func (edits) Logits(_ *plugins.Call, l *plugins.Logits) error {
	top, err := l.Top(4)
	if err != nil {
		return err
	}
	return l.Bias([]int32{top[0].ID}, -1)
}

func editsPlugin() *plugins.Plugin {
	return &plugins.Plugin{Name: "edits", Riding: plugins.Riding{Top: 4}, New: func(*plugins.Sequence) (any, error) { return edits{}, nil }}
}
