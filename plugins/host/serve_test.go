package host

import (
	"fmt"
	"os"

	"github.com/roundhouse-ai/roundhouse/plugins"
)

// serve is a plugin of these tests.
func serve(name string) {
	p := map[string]func() *plugins.Plugin{"all": allPlugin}[name]
	if p == nil {
		fmt.Fprintln(os.Stderr, "no such plugin:", name)
		os.Exit(3)
	}
	plugins.Serve(p())
}
