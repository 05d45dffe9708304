package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/roundhouse-ai/roundhouse/kernels"
)

// Layout of a fat binary, as fatbinary 13.0 writes it: a header of 16 bytes, then
// for each architecture a header and its code.
const (
	fatMagic     = 0xba55ed50
	fatHeader    = 16
	entryPTX     = 1
	entryCubin   = 2
	entryMinimum = 64
	archSpecific = 1 << 20 // the "a" of 90a, in an entry's flags
	maxCode      = 64 << 20
)

// unpackImage returns the code of every architecture by its name in archs,
// decompressed.
func unpackImage(data []byte) (map[string][]byte, error) {
	le := binary.LittleEndian
	if len(data) < fatHeader || le.Uint32(data) != fatMagic || le.Uint64(data[8:]) != uint64(len(data)-fatHeader) {
		return nil, errors.New("not a whole fat binary")
	}
	parts := map[string][]byte{}
	for rest := data[fatHeader:]; len(rest) > 0; {
		if len(rest) < entryMinimum {
			return nil, errors.New("an entry is cut short")
		}
		head, size, packed := uint64(le.Uint32(rest[4:])), le.Uint64(rest[8:]), uint64(le.Uint32(rest[16:]))
		if head < entryMinimum || head > uint64(len(rest)) || size > uint64(len(rest))-head || packed > size {
			return nil, errors.New("an entry reaches past the end")
		}
		name := strconv.Itoa(int(le.Uint32(rest[28:])))
		switch le.Uint16(rest) {
		case entryPTX:
			name = "compute_" + name
		case entryCubin:
			name = "sm_" + name
			if le.Uint64(rest[40:])&archSpecific != 0 {
				name += "a"
			}
		default:
			return nil, fmt.Errorf("an entry of unknown kind %d", le.Uint16(rest))
		}
		code := rest[head : head+size]
		if packed > 0 {
			var err error
			if code, err = unzstd(code[:packed], le.Uint64(rest[56:])); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if _, twice := parts[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		parts[name] = code
		rest = rest[head+size:]
	}
	return parts, nil
}

// unzstd decompresses a frame with what the standard library has: debug/elf reads
// compressed sections, so the frame is given a file with one section around it.
func unzstd(frame []byte, size uint64) ([]byte, error) {
	if size > maxCode {
		return nil, fmt.Errorf("%d bytes of code, more than %d", size, maxCode)
	}
	const head, section, chunk = 64, 64, 24
	var b bytes.Buffer
	write := func(values any) { _ = binary.Write(&b, binary.LittleEndian, values) } // a Buffer takes all
	names := "\x00code\x00"
	write(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Version: uint32(elf.EV_CURRENT), Ehsize: head, Shoff: head, Shentsize: section, Shnum: 3, Shstrndx: 2,
	})
	write(elf.Section64{})
	write(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_COMPRESSED), Off: head + 3*section, Size: chunk + uint64(len(frame))})
	write(elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: head + 3*section + chunk + uint64(len(frame)), Size: uint64(len(names))})
	write(elf.Chdr64{Type: uint32(elf.COMPRESS_ZSTD), Size: size, Addralign: 1})
	b.Write(frame)
	b.WriteString(names)
	file, err := elf.NewFile(bytes.NewReader(b.Bytes()))
	if err != nil {
		return nil, err
	}
	return file.Section("code").Data()
}

// checkImage proves that an image has every architecture and every kernel in it.
func checkImage(data []byte, want []kernels.Kernel) error {
	parts, err := unpackImage(data)
	if err != nil {
		return err
	}
	if len(parts) != len(archs) {
		return fmt.Errorf("%d architectures, not %d", len(parts), len(archs))
	}
	for _, arch := range archs {
		code, ok := parts[arch]
		switch {
		case !ok:
			err = errors.New("missing")
		case strings.HasPrefix(arch, "compute_"):
			err = checkPTX(code, want)
		default:
			err = checkCubin(code, want)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return nil
}

// Attributes in a kernel's .nv.info section.
const (
	attrParameter  = 0x17
	attrParameters = 0x19 // bytes in all
	formatSized    = 4
)

// checkCubin proves that machine code has the kernels that are wanted and no
// other, each with one argument of the size of its struct, and nothing in it that
// depends on where it was compiled.
func checkCubin(code []byte, want []kernels.Kernel) error {
	file, err := elf.NewFile(bytes.NewReader(code))
	if err != nil {
		return err
	}
	symbols, err := file.Symbols()
	if err != nil {
		return err
	}
	var names []string
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && elf.ST_BIND(s.Info) == elf.STB_GLOBAL {
			names = append(names, s.Name)
		}
		if strings.Contains(s.Name, "_INTERNAL_") {
			return fmt.Errorf("%s: a device variable in an anonymous namespace is named after the file's path; give the namespace a name", s.Name)
		}
	}
	for _, section := range file.Sections {
		if strings.Contains(section.Name, "debug_line") {
			return fmt.Errorf("section %s holds paths: compile without -lineinfo", section.Name)
		}
	}
	if err := sameKernels(names, want); err != nil {
		return err
	}
	for _, kernel := range want {
		section := file.Section(".nv.info." + kernel.Name)
		if section == nil {
			return fmt.Errorf("%s has no .nv.info", kernel.Name)
		}
		info, err := section.Data()
		if err != nil {
			return err
		}
		count, size, err := parameters(info)
		if err != nil {
			return fmt.Errorf("%s: %w", kernel.Name, err)
		}
		if count != 1 || size != kernel.ArgSize {
			return fmt.Errorf("%s takes %d arguments of %d bytes, but %s in args.go has %d", kernel.Name, count, size, kernel.Args, kernel.ArgSize)
		}
	}
	return nil
}

// parameters reads how many parameters a kernel has and their bytes in all from
// records {u8 format, u8 attribute, u16 value or length}.
func parameters(info []byte) (count, size int, err error) {
	le := binary.LittleEndian
	for len(info) > 0 {
		if len(info) < 4 {
			return 0, 0, errors.New(".nv.info is cut short")
		}
		format, attr, n := info[0], info[1], int(le.Uint16(info[2:]))
		info = info[4:]
		if attr == attrParameters {
			size = n
		}
		if attr == attrParameter {
			count++
		}
		if format != formatSized {
			continue
		}
		if n > len(info) {
			return 0, 0, errors.New(".nv.info is cut short")
		}
		info = info[n:]
	}
	return count, size, nil
}

var entry = regexp.MustCompile(`(?s)\.entry (\w+)\((.*?)\)`)
var ptxParam = regexp.MustCompile(`\.param \.align \d+ \.b8 \w+\[(\d+)\]`)

// lines finds the directives that hold paths; .local is none of them.
var lines = regexp.MustCompile(`(?m)^\s*\.(loc|file)\s`)

// checkPTX is checkCubin for PTX.
func checkPTX(code []byte, want []kernels.Kernel) error {
	if lines.Match(code) {
		return errors.New("PTX holds paths: compile without -lineinfo")
	}
	var names []string
	sizes := map[string]int{}
	for _, found := range entry.FindAllSubmatch(code, -1) {
		name := string(found[1])
		names = append(names, name)
		if params := ptxParam.FindAllSubmatch(found[2], -1); len(params) == 1 {
			sizes[name], _ = strconv.Atoi(string(params[0][1]))
		}
	}
	if err := sameKernels(names, want); err != nil {
		return err
	}
	for _, kernel := range want {
		if sizes[kernel.Name] != kernel.ArgSize {
			return fmt.Errorf("%s takes %d bytes in PTX, but %s in args.go has %d", kernel.Name, sizes[kernel.Name], kernel.Args, kernel.ArgSize)
		}
	}
	return nil
}

func sameKernels(names []string, want []kernels.Kernel) error {
	var wanted []string
	for _, kernel := range want {
		wanted = append(wanted, kernel.Name)
	}
	slices.Sort(names)
	slices.Sort(wanted)
	if !slices.Equal(names, wanted) {
		return fmt.Errorf("kernels %v, but the source declares %v", names, wanted)
	}
	return nil
}
