// Command gen writes roundhouse.d.ts, and the page of the handbook.
package main

import (
	"log"
	"os"

	"github.com/roundhouse-ai/roundhouse/scripts"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: gen TYPES PAGE")
	}
	for i, text := range []string{scripts.Declarations(), scripts.Reference()} {
		if err := os.WriteFile(os.Args[i+1], []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
