package inspect

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/roundhouse-ai/roundhouse/engine/ops"
)

// maxPatterns bounds the regular expressions of extra_config; published models
// have none, and each is tried on up to 74,000 modules.
const maxPatterns = 64

// claim is what the config says about modules.
type claim struct {
	Bits     *int   `json:"bits"`
	Group    *int   `json:"group_size"`
	DataType string `json:"data_type"`
}

// quantised says whether the claim is one of fewer than 16 bits.
func (c claim) quantised() bool {
	switch c.DataType {
	case "fp", "float", "float16", "bfloat16", "float32":
		return false
	}
	return c.Bits == nil || *c.Bits < 16
}

// claims compares what the config says with what the tensors are. The tensors
// are right; a difference is worth a note.
func (x *inspection) claims() {
	x.unusual()
	if x.quant == nil {
		return
	}
	all := x.readClaims()
	if all == nil {
		return
	}
	for _, k := range x.kinds {
		if k.Layout == "vector" {
			continue
		}
		differs, example, want := 0, "", ""
		for _, m := range k.modules {
			c, named := all.of(m.name)
			if text := disagreement(c, named, m.matrix); text != "" {
				if differs++; differs == 1 {
					example, want = m.name, text
				}
			}
		}
		if differs > 0 {
			x.note("%s: the config says %s, the tensors are %s (%d modules, the first is %s); the tensors count",
				k.Name, want, stored(k.Kind), differs, example)
		}
	}
}

func stored(k Kind) string {
	if k.Group == 0 {
		return "unquantised"
	}
	return bitsText(k.Bits) + " with groups of " + number(int64(k.Group))
}

// disagreement says what the config claims, "" when the module agrees.
// Unquantised modules disagree only if the config names them.
func disagreement(c claim, named bool, m *ops.Matrix) string {
	quantised := m != nil && m.Layout != ops.Dense
	switch {
	case !quantised && named && c.quantised() && c.Bits != nil:
		return bitsText(*c.Bits)
	case !quantised:
		return ""
	case !c.quantised():
		return "unquantised"
	case c.Bits != nil && *c.Bits != m.Bits:
		return bitsText(*c.Bits)
	case c.Group != nil && *c.Group != m.Group && !(m.Groups() == 1 && (*c.Group == -1 || *c.Group > m.K)):
		return "groups of " + number(int64(*c.Group))
	}
	return ""
}

type claimSet struct {
	global   claim
	exact    map[string]claim
	patterns []pattern // longest first
}

type pattern struct {
	*regexp.Regexp
	claim claim
}

// readClaims reads global settings and extra_config; nil when the config speaks
// of modules in another way (dynamic of plain GPTQ exports, whose expressions
// match more than they mean).
func (x *inspection) readClaims() *claimSet {
	var outer struct {
		Quant json.RawMessage `json:"quantization_config"`
	}
	data := x.raw
	if err := json.Unmarshal(data, &outer); err == nil && len(outer.Quant) > 0 && string(outer.Quant) != "null" {
		data = outer.Quant
	} else if data, err = readBounded(x.fsys, "quantization_config.json"); err != nil {
		return nil
	}
	var said struct {
		claim
		Extra   map[string]claim `json:"extra_config"`
		Dynamic json.RawMessage  `json:"dynamic"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		x.note("quantization_config: extra_config cannot be compared with the tensors: %v", err)
		return nil
	}
	if len(said.Dynamic) > 0 {
		return nil
	}
	set := &claimSet{global: said.claim, exact: said.Extra}
	var expressions []string
	for key := range said.Extra {
		if strings.ContainsAny(key, `*+?[](){}|^$\`) {
			expressions = append(expressions, key)
		}
	}
	if len(expressions) > maxPatterns {
		x.note("quantization_config: extra_config has %d expressions, more than %d are not compared with the tensors", len(expressions), maxPatterns)
		return nil
	}
	slices.SortFunc(expressions, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, key := range expressions {
		compiled, err := regexp.Compile(key)
		if err != nil {
			x.note("quantization_config: extra_config has the expression %q, which cannot be read", key)
			continue
		}
		set.patterns = append(set.patterns, pattern{compiled, said.Extra[key]})
	}
	return set
}

// of looks a module up: its exact name, else the longest expression that occurs
// in it, else the global settings, which also fill in what an entry leaves out.
func (s *claimSet) of(module string) (c claim, named bool) {
	c, named = s.exact[module]
	for i := 0; !named && i < len(s.patterns); i++ {
		if s.patterns[i].MatchString(module) {
			c, named = s.patterns[i].claim, true
		}
	}
	if c.Bits == nil {
		c.Bits = s.global.Bits
	}
	if c.Group == nil {
		c.Group = s.global.Group
	}
	return c, named
}

// unusual notes what differs from the usual checkpoint, but runs.
func (x *inspection) unusual() {
	forms := map[string][]string{}
	for _, k := range x.kinds {
		forms[k.Name] = append(forms[k.Name], stored(k.Kind))
		if k.Name == "mlp.gate" && k.Group > 0 {
			x.note("the router (mlp.gate) is quantised to %s, as in the uploads of September 2025", bitsText(k.Bits))
		}
	}
	for _, k := range x.kinds {
		if all := forms[k.Name]; len(all) > 1 {
			x.note("%s is stored in %d ways: %s", k.Name, len(all), strings.Join(all, "; "))
			delete(forms, k.Name)
		}
	}
	dtypes := map[string]string{"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
	if x.r.Config == nil || dtypes[x.r.Config.DType] == "" {
		return
	}
	for _, k := range x.kinds {
		if k.Name == "model.embed_tokens" && k.DType != dtypes[x.r.Config.DType] {
			x.note("config.json says %s, the tensors are %s; the tensors count", x.r.Config.DType, k.DType)
		}
	}
}
