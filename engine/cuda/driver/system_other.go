//go:build !linux || !(amd64 || arm64)

package driver

import "runtime"

// Open says that there is no NVIDIA driver for this platform (ErrNoDevice).
func Open() (Driver, error) {
	return nil, &Error{Call: "open libcuda", Detail: "no NVIDIA driver on this platform (" + runtime.GOOS + "/" + runtime.GOARCH + "): the CUDA engine runs on 64-bit Linux", Kind: ErrNoDevice}
}
