//go:build nodemo

package demo

import "io/fs"

func embedded() (fs.FS, bool) { return nil, false }
