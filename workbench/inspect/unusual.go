package inspect

import "strings"

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

func stored(k Kind) string {
	if k.Group == 0 {
		return "unquantised"
	}
	return bitsText(k.Bits) + " with groups of " + number(int64(k.Group))
}
