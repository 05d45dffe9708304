package kernels

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unsafe"
)

// The structs below mirror include/rh/abi.cuh member by member: one a kernel,
// passed by value. A device address is a uint64; padding is a member, so that
// every byte of a struct has a name. The build proves offsets and sizes, a test
// compares sizes with the images, and the driver is asked again at load.

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

// RMSNormArgs is the argument of rh_rmsnorm_generic: a zero-centred RMSNorm of
// Rows rows of N values, out = x * rsqrt(mean(x^2) + eps) * (1 + w).
type RMSNormArgs struct {
	X         uint64 // float32[rows][x_stride]
	W         uint64 // float32[n]
	Out       uint64 // float32[rows][out_stride]; may be x itself
	Rows      uint32
	N         uint32
	XStride   uint32 // elements
	OutStride uint32
	Eps       float32
	Pad       uint32
}

// Structs are the argument structs that kernels may name, by the name they have
// in abi.cuh.
var Structs = map[string]reflect.Type{
	"FillArgs":    reflect.TypeFor[FillArgs](),
	"CopyArgs":    reflect.TypeFor[CopyArgs](),
	"EchoArgs":    reflect.TypeFor[EchoArgs](),
	"RMSNormArgs": reflect.TypeFor[RMSNormArgs](),
}

// Bytes is an argument struct as a launch passes it. The bytes are those of
// args itself, not a copy.
func Bytes[Args any](args *Args) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(args)), unsafe.Sizeof(*args))
}

// A Field is one member of an argument struct: its name in C++, its place and
// its width in bytes.
type Field struct {
	Name         string
	Offset, Size uintptr
}

// Fields lists the members of an argument struct in order. A member that is no
// plain number, or a gap between members, is an error: C++ and Go would fill it
// each in their own way.
func Fields(args reflect.Type) ([]Field, error) {
	var fields []Field
	end := uintptr(0)
	for i := range args.NumField() {
		field := args.Field(i)
		switch field.Type.Kind() {
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int32, reflect.Int64, reflect.Float32:
		default:
			return nil, fmt.Errorf("%s.%s is a %s: arguments are plain numbers of a fixed width", args.Name(), field.Name, field.Type)
		}
		if field.Offset != end {
			return nil, fmt.Errorf("%s has a gap before %s, at byte %d: spell the padding out", args.Name(), field.Name, end)
		}
		end = field.Offset + field.Type.Size()
		fields = append(fields, Field{snake(field.Name), field.Offset, field.Type.Size()})
	}
	if end != args.Size() {
		return nil, fmt.Errorf("%s has a gap at its end, at byte %d: spell the padding out", args.Name(), end)
	}
	return fields, nil
}

// snake turns OutStride into out_stride.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
