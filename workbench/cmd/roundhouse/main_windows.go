//go:build windows

// Command roundhouse does not run on Windows itself.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "roundhouse: Windows is not supported natively: run the linux/amd64 binary in WSL2 (https://learn.microsoft.com/windows/wsl/install)")
	os.Exit(1)
}
