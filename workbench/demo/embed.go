//go:build !nodemo

package demo

import (
	"embed"
	"io/fs"
)

//go:embed model
var files embed.FS

func embedded() (fs.FS, bool) {
	fsys, err := fs.Sub(files, "model")
	return fsys, err == nil
}
