// Command gen writes roundhouse.d.ts.
package main

import (
	"log"
	"os"

	"github.com/roundhouse-ai/roundhouse/scripts"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: gen FILE")
	}
	if err := os.WriteFile(os.Args[1], []byte(scripts.Declarations()), 0o644); err != nil {
		log.Fatal(err)
	}
}
