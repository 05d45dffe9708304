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
	if child, ok := strings.CutPrefix(name, sleeper); ok {
		if child == "impostor" {
			listening(socketDir(), "")
		}
		time.Sleep(time.Minute)
		return
	}
	p := map[string]func() *plugins.Plugin{"all": allPlugin}[name]
	if p == nil {
		fmt.Fprintln(os.Stderr, "no such plugin:", name)
		os.Exit(3)
	}
	plugins.Serve(p())
}
