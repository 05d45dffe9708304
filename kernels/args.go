package kernels

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unsafe"
)

// The structs of args_*.go mirror include/rh/args_*.cuh member by member: one a
// kernel, passed by value. A device address is a uint64; padding is a member, so
// that every byte of a struct has a name. The build proves offsets and sizes, a
// test compares sizes with the images, and the driver is asked again at load.

// Row, Segment and Wanted are the step block's elements, as abi.cuh describes them.
type (
	Row     struct{ ID, Position, Slot, Page, Steer, Segment, Offset, Source int32 }
	Segment struct{ Slot, Start, First, Len, Page, Pad0, Pad1, Pad2 int32 }
	Wanted  struct{ Row, To int32 }
)

// HalfScale is what half activations are multiplied with: kHalfScale of abi.cuh.
const HalfScale = 1.0 / 16

// A Family is the argument structs of one header: args_NAME.cuh and args_NAME.go.
type Family struct {
	Name string
	// Structs that kernels take, by the name they have in the header; and others
	// that cross to the device.
	Structs map[string]reflect.Type
}

// Families lists every struct that crosses from host to device.
var Families = []Family{
	{"abi", structs(Row{}, Segment{}, Wanted{})},
	{"smoke", structs(FillArgs{}, CopyArgs{}, EchoArgs{})},
	{"norm", structs(RMSNormArgs{})},
	{"experts", structs(SelectArgs{}, ExpertsGenericArgs{}, ExpertsArgs{})},
	{"embed", structs(EmbedArgs{})},
	{"linear", structs(LinearArgs{}, LinearGenericArgs{}, Weight{})},
	{"moe", structs(MoeTile{}, MoePlanArgs{}, MoeArgs{}, MoeCombineArgs{})},
	{"sample", structs(SampleArgs{}, SampleRow{}, SampleSeen{}, SampleBias{}, SamplePartial{}, SampleRunner{}, SampleRace{}, SampleResult{}, SamplePick{})},
	{"delta", structs(DeltaArgs{}, ColumnsArgs{})},
	{"attention", structs(AttentionRotateArgs{}, AttentionGenericArgs{}, AttentionGateArgs{},
		AttentionDecodeArgs{}, AttentionMergeArgs{}, AttentionPrefillArgs{})},
	{"repack", structs(RepackArgs{}, RepackPiece{}, RandomArgs{}, RandomPiece{})},
}

// structs maps the types of values by name.
func structs(values ...any) map[string]reflect.Type {
	types := map[string]reflect.Type{}
	for _, v := range values {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	return types
}

// Lookup finds a struct by its name.
func Lookup(name string) (reflect.Type, bool) {
	for _, f := range Families {
		if t, ok := f.Structs[name]; ok {
			return t, true
		}
	}
	return nil, false
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
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64:
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

// snake turns OutStride into out_stride, XStride into x_stride and ID into id.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		word := i > 0 && unicode.IsUpper(r) &&
			(!unicode.IsUpper(rune(name[i-1])) || i+1 < len(name) && unicode.IsLower(rune(name[i+1])))
		if word {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
