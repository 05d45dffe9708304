package workbench

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
)

// opener is the command of a system that opens an address in the browser.
func opener(system string) string {
	if system == "darwin" {
		return "open"
	}
	return "xdg-open"
}

// browse opens an address in the browser of the person at this machine. The browser goes its
// own way: it may outlive the program.
func browse(ctx context.Context, url string) error {
	name, err := exec.LookPath(opener(runtime.GOOS))
	if err != nil {
		return fmt.Errorf("this machine has no %s to open a browser with", opener(runtime.GOOS))
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, url)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("open a browser: %w", err)
	}
	return cmd.Process.Release()
}
