//go:build !linux

package drivertest

import (
	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
	"github.com/roundhouse-ai/roundhouse/kernels/host"
)

const (
	hostAddress driver.Ptr = 0
	pageSize               = 1
)

type hostDevice struct{}

func startHost(host.Options) (*hostDevice, error)               { return nil, host.ErrUnavailable }
func (*hostDevice) close() error                                { return nil }
func (*hostDevice) alloc(*block) error                          { return nil }
func (*hostDevice) free(*block) error                           { return nil }
func (*hostDevice) launch(*memory, string, driver.Launch) error { return nil }
