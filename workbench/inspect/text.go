package inspect

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// maxListed bounds the findings and notes that are printed; --json has more.
const maxListed = 200

// WriteText prints the report as tables. The error is the writer's.
func (r *Report) WriteText(w io.Writer) error {
	p := &printer{w: w}
	p.config(r)
	p.kinds(r)
	p.files(r)
	p.rest(r)
	p.list("Notes", r.Notes)
	p.list("Findings", r.Findings)
	if len(r.Findings) == 0 {
		p.printf("\nNo problems found.\n")
	}
	return p.err
}

// printer keeps the first error of its writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// table prints rows under a header.
func (p *printer) table(title string, header []string, align []tw.Align, rows [][]string) {
	p.printf("\n%s\n", title)
	if p.err != nil {
		return
	}
	var text strings.Builder
	table := tablewriter.NewTable(&text,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders: tw.BorderNone, Symbols: tw.NewSymbols(tw.StyleASCII),
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithHeaderAutoWrap(tw.WrapNone), tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithAlignment(align), tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithPadding(tw.Padding{Left: "", Right: "  ", Overwrite: true}),
	)
	table.Header(header)
	if err := table.Bulk(rows); err != nil {
		p.err = err
		return
	}
	if p.err = table.Render(); p.err != nil {
		return
	}
	for line := range strings.Lines(text.String()) {
		p.printf("%s\n", strings.TrimRight(line, " \n"))
	}
}

func (p *printer) config(r *Report) {
	c := r.Config
	if c == nil {
		p.printf("config.json cannot be used; what the tensors tell:\n")
		for _, l := range r.Layers {
			p.printf("  layers: %d of %s%s\n", l.Count, l.Kind, indices(l))
		}
		return
	}
	p.printf("%s, %s: hidden %d, vocabulary %d, context %d%s\n", c.ModelType, c.DType, c.Hidden, c.Vocab, c.Context,
		map[bool]string{true: ", tied embeddings"}[c.Tied])
	for _, l := range r.Layers {
		p.printf("  layers: %d of %s%s", l.Count, l.Kind, indices(l))
		if l.Kind == "gated attention" {
			p.printf(": %d heads, %d KV heads of %d, rotary %d\n", c.Heads, c.KVHeads, c.HeadDim, c.RotaryDims)
		} else {
			p.printf(": %d key heads of %d, %d value heads of %d\n", c.KeyHeads, c.KeyDim, c.ValueHeads, c.ValueDim)
		}
	}
	p.printf("  %d experts of width %d, %d for a token, shared expert of width %d\n", c.Experts, c.ExpertWidth, c.TopK, c.SharedWidth)
	if q := c.Quantisation; q != nil {
		p.printf("  the config says: %s, %s, %d bits, groups of %d, symmetric %t\n", orDash(q.Method), orDash(q.Packing), q.Bits, q.Group, q.Symmetric)
	} else {
		p.printf("  not quantised\n")
	}
}

func indices(l Layers) string {
	if l.Kind != "gated attention" || l.Count == 0 {
		return ""
	}
	text := make([]string, 0, 4)
	for i, index := range l.Indices {
		if i < 3 || i == l.Count-1 {
			text = append(text, strconv.Itoa(index))
		} else if i == 3 {
			text = append(text, "..")
		}
	}
	return " (" + strings.Join(text, ", ") + ")"
}

func (p *printer) kinds(r *Report) {
	header := []string{"Kind", "Modules", "Shape", "Layout", "Type", "Bits", "Group", "Zeros", "Bytes", "Negative scales"}
	align := []tw.Align{tw.AlignLeft, tw.AlignRight, tw.AlignRight, tw.AlignLeft, tw.AlignLeft, tw.AlignRight, tw.AlignRight, tw.AlignLeft, tw.AlignRight, tw.AlignRight}
	var rows, scales [][]string
	for _, k := range r.Kinds {
		shape, negative := "", ""
		if k.Inputs > 0 {
			shape = fmt.Sprintf("%d x %d", k.Inputs, k.Outputs)
		}
		if s := k.Scales; s != nil {
			negative = percent(s.Negative)
			scales = append(scales, []string{k.Name, number(s.Count), float(s.Min), float(s.Max), percent(s.Negative), number(s.Zeros), number(s.Subnormals)})
		}
		zeros := k.Zeros
		if k.StoredZeros != "" && k.StoredZeros != "minus one" {
			zeros += " (stored: " + k.StoredZeros + ")"
		}
		rows = append(rows, []string{k.Name, number(int64(k.Modules)), shape, k.Layout, k.DType, blank(k.Bits), blank(k.Group), zeros, number(k.Bytes), negative})
	}
	rows = append(rows, []string{"in all", "", "", "", "", "", "", "", number(r.Bytes), ""})
	if slices.ContainsFunc(r.Kinds, func(k Kind) bool { return k.Kernel != "" }) {
		header, align = append(header, "Kernel"), append(align, tw.AlignLeft)
		for i := range rows[:len(r.Kinds)] {
			rows[i] = append(rows[i], r.Kinds[i].Kernel)
		}
		rows[len(r.Kinds)] = append(rows[len(r.Kinds)], "")
	}
	title := "Tensors by kind (shape: inputs x outputs)"
	if !r.Verified && len(scales) > 0 {
		title = "Tensors by kind (shape: inputs x outputs; negative scales: of a sample)"
	}
	p.table(title, header, align, rows)
	if !r.Verified {
		return
	}
	right := func(n int) []tw.Align {
		a := []tw.Align{tw.AlignLeft}
		for range n {
			a = append(a, tw.AlignRight)
		}
		return a
	}
	if len(scales) > 0 {
		p.table("Scales, all read", []string{"Kind", "Scales", "Smallest", "Largest", "Negative", "Zeros", "Subnormal"}, right(6), scales)
	}
	var nan, inf int64
	for _, k := range r.Kinds {
		nan, inf = nan+k.NaN, inf+k.Inf
	}
	p.printf("\nEvery tensor was read: %d NaN, %d Inf.\n", nan, inf)
}

func (p *printer) files(r *Report) {
	var rows [][]string
	for _, f := range r.Files {
		remark := ""
		switch {
		case f.Damaged:
			remark = "damaged, left out above"
		case f.Unlisted:
			remark = "not in the index"
		}
		hash := f.HeaderSHA256
		rows = append(rows, []string{f.Name, number(f.Size), number(int64(f.Tensors)), hash[:min(12, len(hash))], remark})
	}
	p.table("Files", []string{"Name", "Bytes", "Tensors", "Header SHA-256", "Remark"},
		[]tw.Align{tw.AlignLeft, tw.AlignRight, tw.AlignRight, tw.AlignLeft, tw.AlignLeft}, rows)
}

func (p *printer) rest(r *Report) {
	p.printf("\n")
	if m := r.MTP; m.Present {
		bits := make([]string, len(m.Bits))
		for i, b := range m.Bits {
			bits[i] = strconv.Itoa(b)
		}
		p.printf("MTP        present, %s bits, %s\n", strings.Join(bits, " and "), bytesText(m.Bytes))
	} else {
		p.printf("MTP        none\n")
	}
	if t := r.Tokenizer; t != nil {
		p.printf("Tokenizer  %d tokens, %d of them added; %d rows of the embedding are never produced\n", t.Size, t.Added, t.Unused)
	} else {
		p.printf("Tokenizer  none that can be used\n")
	}
	switch {
	case !r.Template.Present:
		p.printf("Template   none\n")
	case r.Template.Parses:
		p.printf("Template   present, can be run\n")
	default:
		p.printf("Template   present, cannot be run\n")
	}
	if m := r.Memory; m != nil {
		p.printf("Memory     weights %s; %s for a token of context, %s for a sequence", bytesText(m.Weights), bytesText(m.PerToken), bytesText(m.PerSequence))
		if m.Draft > 0 {
			p.printf("; drafting adds %s for a token", bytesText(m.Draft))
		}
		if m.Available > 0 {
			p.printf("; %s are free here", bytesText(m.Available))
		}
		p.printf("\n")
	}
}

func (p *printer) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	p.printf("\n%s (%d)\n", title, len(lines))
	for i, line := range lines {
		if i == maxListed {
			p.printf("  and %d more: --json has them all\n", len(lines)-i)
			break
		}
		p.printf("  - %s\n", strings.ReplaceAll(line, "\n", "\n    "))
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func blank(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func bitsText(n int) string { return strconv.Itoa(n) + " bits" }

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }

func float(v float32) string { return strconv.FormatFloat(float64(v), 'g', 4, 32) }

// number groups digits by thousands.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if left := len(digits) - i; i > 0 && left%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
