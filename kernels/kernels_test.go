package kernels

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func TestImagesAreWhole(t *testing.T) {
	manifest, err := Images()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, image := range manifest.Images {
		data, err := image.Data()
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != image.SHA256 {
			t.Errorf("%s.fatbin is not the one of the manifest: run `go run ./kernels/build`", image.Name)
		}
		for _, kernel := range image.Kernels {
			args, ok := Lookup(kernel.Args)
			if !ok || int(args.Size()) != kernel.ArgSize {
				t.Errorf("%s: %s has another size in args.go: run `go run ./kernels/build`", kernel.Name, kernel.Args)
			}
			used[kernel.Args] = true
		}
	}
	for _, family := range Families {
		for name := range family.Structs {
			if strings.HasSuffix(name, "Args") && !used[name] {
				t.Errorf("no kernel takes %s", name)
			}
		}
	}
}

func TestStructsAreFullAndOfOneFamily(t *testing.T) {
	seen := map[string]string{}
	for _, family := range Families {
		for name, args := range family.Structs {
			if seen[name] != "" {
				t.Errorf("%s is in the families %s and %s", name, seen[name], family.Name)
			}
			seen[name] = family.Name
			if _, err := Fields(args); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestFieldsRefuseWhatCPlusPlusLaysOutOtherwise(t *testing.T) {
	for want, args := range map[string]any{
		"gap before B": struct {
			A uint32
			B uint64
		}{},
		"gap at its end": struct {
			A uint64
			B uint32
		}{},
		"is a bool":      struct{ A bool }{},
		"is a int":       struct{ A int }{},
		"is a *uint32":   struct{ A *uint32 }{},
		"is a struct":    struct{ A struct{ B uint32 } }{},
		"is a [2]uint32": struct{ A [2]uint32 }{},
	} {
		if _, err := Fields(reflect.TypeOf(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: %v, want %q", args, err, want)
		}
	}
	fields, err := Fields(reflect.TypeFor[RMSNormArgs]())
	if err != nil || fields[8] != (Field{"out_stride", 52, 4}) {
		t.Errorf("out_stride: %v, %v", fields, err)
	}
}

func TestBytesAreTheStructItself(t *testing.T) {
	args := FillArgs{Dst: 1, N: 2, Value: 0xcafe}
	raw := Bytes(&args)
	if len(raw) != 24 || binary.NativeEndian.Uint32(raw[16:]) != 0xcafe {
		t.Errorf("% x", raw)
	}
	args.Value = 7
	if binary.NativeEndian.Uint32(raw[16:]) != 7 {
		t.Error("Bytes made a copy")
	}
}
