package host

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// shared matches the declaration of dynamic shared memory up to its semicolon.
const shared = `extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\([^)]*\)\s*)?([\w:<>]+(?:\s+\w+)*?)\s+(\w+)\s*\[\s*\]\s*`

var (
	include     = regexp.MustCompile(`(?m)^\s*#\s*include\s+"([^"]+)"`)
	declaration = regexp.MustCompile(`(?m)^RH_KERNEL\((\w+), rh::(\w+), (\d+), (\d+)\)`)
	dynamic     = regexp.MustCompile(shared + `;`)
	outside     = regexp.MustCompile(`(?m)^` + shared + `;\s*?$`) // of any function
	assembly    = regexp.MustCompile(`\basm\b\s*(volatile\b)?\s*\(`)
)

// translate turns CUDA C++ into C++ where macros do not reach: dynamic shared
// memory, inline PTX, and the list of the kernels.
func translate(name string, text []byte) ([]byte, error) {
	out := []byte(fmt.Sprintf("#line 1 %q\n", name))
	for {
		at := assembly.FindIndex(text)
		if at == nil {
			break
		}
		end, err := closing(text, at[1]-1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		call, err := assemble(string(text[at[1]:end]))
		if err != nil {
			return nil, fmt.Errorf("%s: asm(%s): %w", name, text[at[1]:end], err)
		}
		lines := bytes.Count(text[at[0]:end], []byte("\n")) // so that the numbers of later lines stay
		out = append(append(append(out, text[:at[0]]...), call...), strings.Repeat("\n", lines)...)
		text = text[end+1:]
	}
	out = append(out, text...)
	out = outside.ReplaceAll(out, []byte("#define $2 (reinterpret_cast<$1 *>(::rh::host::dynamic_shared))"))
	out = dynamic.ReplaceAll(out, []byte("RH_DYNAMIC_SHARED($1, $2);"))
	for _, kernel := range declaration.FindAllSubmatch(out, -1) {
		out = fmt.Appendf(out, "static const rh::host::Kernel list_%[1]s(\"%[1]s\", sizeof(rh::%[2]s), [](const void *a) { ::%[1]s(*static_cast<const rh::%[2]s *>(a)); });\n", kernel[1], kernel[2])
	}
	return out, nil
}

// closing is where the parenthesis at a place closes, strings passed over.
func closing(text []byte, at int) (int, error) {
	depth, quoted := 0, false
	for i := at; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			if depth--; depth == 0 {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("a parenthesis does not close")
}

// split cuts text at a separator that stands in no string and no parenthesis.
func split(text string, separator byte) []string {
	var parts []string
	depth, quoted, from := 0, false, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		case c == separator && depth == 0:
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	return append(parts, text[from:])
}

var (
	quoted     = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	constraint = regexp.MustCompile(`(?s)^\s*(?:\[\w+\]\s*)?"([^"]*)"\s*\((.*)\)\s*$`)
	place      = regexp.MustCompile(`%(\d+)`)
	comment    = regexp.MustCompile(`//[^\n]*`)
)

// assemble turns an asm statement, template and operands, into calls of the
// functions of device/ptx_host.cuh, in a block.
func assemble(statement string) ([]byte, error) {
	statement = comment.ReplaceAllString(statement, "")
	parts := split(statement, ':') // C++'s own :: stands between parentheses
	var template strings.Builder
	for _, m := range quoted.FindAllStringSubmatch(parts[0], -1) {
		text, err := strconv.Unquote(`"` + m[1] + `"`)
		if err != nil {
			return nil, err
		}
		template.WriteString(text)
		template.WriteByte(' ')
	}
	var operands []string
	for _, list := range parts[1:min(len(parts), 3)] {
		if strings.TrimSpace(list) == "" {
			continue
		}
		for _, operand := range split(list, ',') {
			m := constraint.FindStringSubmatch(operand)
			if m == nil {
				return nil, fmt.Errorf("operand %q", operand)
			}
			operands = append(operands, "("+strings.TrimSpace(m[2])+")")
		}
	}
	var out bytes.Buffer
	out.WriteString("do {")
	for _, instruction := range strings.Split(template.String(), ";") {
		line, err := emulate(strings.TrimSpace(instruction), operands)
		if err != nil {
			return nil, err
		}
		out.WriteString(line)
	}
	out.WriteString(" } while (0)")
	return out.Bytes(), nil
}

// emulate is the C++ of one instruction.
func emulate(instruction string, operands []string) (string, error) {
	instruction = strings.TrimSpace(strings.Join(strings.Fields(instruction), " "))
	opening := ""
	for strings.HasPrefix(instruction, "{") || strings.HasPrefix(instruction, "}") { // a block of registers
		opening += " " + instruction[:1]
		instruction = strings.TrimSpace(instruction[1:])
	}
	if instruction == "" {
		return opening, nil
	}
	if names, ok := strings.CutPrefix(instruction, ".reg "); ok {
		kind, list, _ := strings.Cut(names, " ")
		types := map[string]string{
			".pred": "bool", ".b16": "uint16_t", ".u16": "uint16_t", ".f16": "uint16_t", ".b32": "uint32_t", ".u32": "uint32_t", ".s32": "int32_t",
			".f16x2": "uint32_t", ".f32": "float", ".b64": "uint64_t", ".u64": "uint64_t",
		}
		if types[kind] == "" {
			return "", fmt.Errorf("registers of %s", kind)
		}
		return fmt.Sprintf("%s %s %s;", opening, types[kind], list), nil
	}
	if strings.HasPrefix(instruction, "@") {
		guard, rest, _ := strings.Cut(instruction[1:], " ")
		guard = place.ReplaceAllStringFunc(guard, func(p string) string { return operand(p, operands) })
		opening += " if (" + guard + ")"
		instruction = rest
	}
	code, list, _ := strings.Cut(instruction, " ")
	var args []string
	if list = strings.TrimSpace(list); list != "" {
		for _, arg := range split(list, ',') {
			arg = strings.TrimSpace(arg)
			if inner, ok := strings.CutPrefix(arg, "{"); ok {
				for _, one := range strings.Split(strings.TrimSuffix(inner, "}"), ",") {
					args = append(args, expression(strings.TrimSpace(one), operands))
				}
				continue
			}
			if inner, ok := strings.CutPrefix(arg, "["); ok {
				arg, offset, _ := strings.Cut(strings.TrimSuffix(inner, "]"), "+")
				e := "::rh::host::ptx::address(" + expression(strings.TrimSpace(arg), operands) + ")"
				if offset != "" {
					e += " + " + expression(strings.TrimSpace(offset), operands)
				}
				args = append(args, e)
				continue
			}
			args = append(args, expression(arg, operands))
		}
	}
	name, args := function(code, args)
	return fmt.Sprintf("%s ::rh::host::ptx::%s(%s);", opening, name, strings.Join(args, ", ")), nil
}

func operand(p string, operands []string) string {
	n, err := strconv.Atoi(strings.TrimPrefix(p, "%"))
	if err != nil || n >= len(operands) {
		return "no_operand_" + strings.TrimPrefix(p, "%")
	}
	return operands[n]
}

var special = map[string]string{
	"%laneid": "::rh::host::lane()", "%tid.x": "threadIdx.x", "%ctaid.x": "blockIdx.x", "%ntid.x": "blockDim.x", "%nctaid.x": "gridDim.x",
}

var hexFloat = regexp.MustCompile(`^0[fF]([0-9a-fA-F]{8})$`)

func expression(text string, operands []string) string {
	text = strings.ReplaceAll(text, "%%", "%")
	if s, ok := special[text]; ok {
		return s
	}
	if m := hexFloat.FindStringSubmatch(text); m != nil {
		return "__uint_as_float(0x" + m[1] + "u)"
	}
	return place.ReplaceAllStringFunc(text, func(p string) string { return operand(p, operands) })
}

// function names what emulates an instruction. What only hints at a cache, an
// order or a scope is left out, and so is an operand that is a cache's policy.
func function(code string, args []string) (string, []string) {
	parts := strings.Split(strings.ReplaceAll(code, "::", "."), ".")
	drop := map[string]bool{}
	switch parts[0] {
	case "ld", "st", "ldu", "atom", "red":
		for _, hint := range strings.Fields("global shared const local cta gpu sys cluster nc volatile relaxed acquire release acq_rel weak cg ca cs cv lu wb wt " +
			"L1 L2 no_allocate evict_first evict_last evict_normal evict_unchanged cache_hint 64B 128B 256B noftz") {
			drop[hint] = true
		}
		if strings.Contains(code, "cache_hint") && len(args) > 0 {
			args = args[:len(args)-1]
		}
	case "cp":
		for _, hint := range strings.Fields("L2 64B 128B 256B cta cache_hint") {
			drop[hint] = true
		}
		if strings.Contains(code, "cache_hint") && len(args) > 0 {
			args = args[:len(args)-1]
		}
	case "prefetch", "prefetchu", "applypriority":
		return "prefetch", args[:1]
	case "createpolicy":
		return "createpolicy", args
	case "fence", "membar":
		return "fence", nil
	default:
		drop = map[string]bool{"ftz": true, "cta": true}
		if parts[0] == "bar" || parts[0] == "barrier" {
			drop["aligned"], drop["cta"] = true, true
		}
	}
	kept := parts[:0]
	for _, p := range parts {
		if !drop[p] {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "_"), args
}
