//go:build !unix

package plugins

import "os"

// alive says whether there is a process.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Release()
	}
	return err == nil
}
