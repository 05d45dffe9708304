// Package emit writes what a generator built: name_amd64.s and its Go stubs,
// name_amd64.go, in the folder above.
package emit

import (
	"bytes"
	"fmt"
	"os"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// Func begins a function; doc continues its name.
func Func(c *build.Context, name, signature, doc string) {
	c.Function(name)
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr(signature)
	c.Doc(name + " " + doc)
	c.Pragma("noescape")
}

// Files compiles the functions of c and writes both files. It ends the program
// when something is wrong with them.
func Files(c *build.Context, name string) {
	file, err := c.Result()
	if err == nil {
		err = pass.Compile.Execute(file)
	}
	config := printer.Config{Name: "go generate ./engine/cpu/simd", Pkg: "simd"}
	for suffix, make := range map[string]func(printer.Config) printer.Printer{"_amd64.s": printer.NewGoAsm, "_amd64.go": printer.NewStubs} {
		if err == nil {
			err = write("../"+name+suffix, make(config), file)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func write(path string, p printer.Printer, file *ir.File) error {
	text, err := p.Print(file)
	if err != nil {
		return err
	}
	text = bytes.Replace(text, []byte(". DO NOT EDIT."), []byte("; DO NOT EDIT."), 1)
	return os.WriteFile(path, text, 0o644)
}
