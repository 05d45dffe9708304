//go:build !linux

package main

// maxrssUnit is what getrusage counts peak memory in: bytes on macOS.
const maxrssUnit = 1
