package term

import (
	"fmt"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
)

// Column is a heading of a table. Numbers stand to the right.
type Column struct {
	Name  string
	Right bool
}

// Table writes rows under headings, columns two spaces apart. It draws no
// lines, so that grep and awk can read it too. Control characters in cells are
// written as escapes: names come from files that nobody has vetted.
func Table(w io.Writer, columns []Column, rows [][]string) error {
	headings := make([]string, len(columns))
	align := make([]tw.Align, len(columns))
	for i, c := range columns {
		headings[i], align[i] = c.Name, tw.AlignLeft
		if c.Right {
			align[i] = tw.AlignRight
		}
	}
	var out strings.Builder
	table := tablewriter.NewTable(&out,
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Right: "  ", Overwrite: true}),
		tablewriter.WithRendition(tw.Rendition{Borders: tw.BorderNone, Settings: tw.Settings{
			Separators: tw.SeparatorsNone, Lines: tw.LinesNone,
		}}),
	)
	table.Header(headings)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Printable(cell)
		}
		if err := table.Append(cells); err != nil {
			return fmt.Errorf("table: %w", err)
		}
	}
	if err := table.Render(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	for line := range strings.Lines(out.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// Printable writes control characters, which could move the cursor or recolour
// the screen, as escapes.
func Printable(s string) string {
	return escape(s, func(r rune) bool { return r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f) })
}

// Prose is Printable that leaves line breaks and tabs.
func Prose(s string) string {
	return escape(s, func(r rune) bool {
		return r == '\n' || r == '\t' || r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f)
	})
}

func escape(s string, safe func(rune) bool) string {
	if strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if safe(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}

// Bytes writes a size for people, in powers of ten as disks are sold.
func Bytes(n int64) string {
	switch {
	case n < 1e3:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}
