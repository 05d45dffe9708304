package simd

import (
	"encoding/binary"
)

// Read reads data once, as fast as one core can, and returns the exclusive or
// of what it read, folded to 64 bits: the roofline that products are held
// against. Bytes past the last whole 256 are not read.
func (l Level) Read(data []byte) uint64 {
	n := len(data) &^ 255
	if n == 0 {
		return 0
	}
	return kernelsOf[l].read(data[:n])
}

func readPortable(data []byte) uint64 {
	var a, b, c, d uint64
	for ; len(data) >= 32; data = data[32:] {
		a ^= binary.LittleEndian.Uint64(data)
		b ^= binary.LittleEndian.Uint64(data[8:])
		c ^= binary.LittleEndian.Uint64(data[16:])
		d ^= binary.LittleEndian.Uint64(data[24:])
	}
	return a ^ b ^ c ^ d
}
