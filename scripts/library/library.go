// Package library carries scripts that show what hooks can do, to be used by name or
// copied and changed. Each is one file with its parameters on top; what each does, and
// how that was measured, is in workbench/docs/library.md.
//
//	script, err := host.Load(ctx, library.FS, "watermark.ts")
package library

import "embed"

// FS holds the scripts, name.ts each, and below vectors the steering vectors that
// they are shown with.
//
//go:embed *.ts
var FS embed.FS
