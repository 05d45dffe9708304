// Package library carries scripts that show what hooks can do, to be used by name or
// copied and changed. Each has its parameters on top; what each does, and how that was
// measured, is in workbench/docs/library.md.
//
//	script, err := host.Load(ctx, library.FS, "watermark.ts")
package library

import "embed"

// FS holds the scripts, name.ts each, with tests of some, name.test.ts, and below vectors
// the steering vectors that they are shown with: name.safetensors with one tensor,
// "vector".
//
//go:embed *.ts vectors/*.safetensors
var FS embed.FS

//go:generate go run ../../workbench/library/cheer ../../workbench/demo/model vectors/cheer.safetensors
