package kernels

// FillArgs is the argument of rh_smoke_fill: dst[i] = value for i < n.
type FillArgs struct {
	Dst   uint64 // uint32[n]
	N     uint64
	Value uint32
	Pad   uint32
}

// CopyArgs is the argument of rh_smoke_copy: dst[i] = src[i] for i < n.
type CopyArgs struct {
	Dst uint64 // uint32[n]
	Src uint64 // uint32[n], apart from dst
	N   uint64
}

// EchoArgs is the argument of rh_smoke_echo, which writes eight words: Wide
// (low, high), Word, Real's bits, Half, Byte<<8|Last, and Step's two words.
type EchoArgs struct {
	Out  uint64 // uint32[8]
	Step uint64 // uint32[2]
	Wide uint64
	Word uint32
	Real float32
	Half uint16
	Byte uint8
	Last uint8
	Pad  uint32
}
