// Package docs is the handbook, embedded so that the program can serve it.
package docs

import "embed"

// Files holds the pages; README.md is the index.
//
//go:embed *.md
var Files embed.FS
