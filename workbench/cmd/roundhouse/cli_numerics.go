//go:build unix

package main

import "github.com/roundhouse-ai/roundhouse/workbench"

type numericsCmd struct {
	modelArg
	Text   string `required:"" placeholder:"FILE" complete:"FILE" help:"Text to read, of the kind that the model is used for."`
	Tokens int    `default:"4096" help:"How many tokens of it (default ${default})."`
	With   string `default:"fast" enum:"fast,int8" complete:"fast int8" help:"Which to hold beside exact: fast (16 bit, the default) or int8."`
	Window int    `default:"512" help:"Tokens that are read in one go (default ${default})."`
	jsonFlag
}

func (*numericsCmd) Help() string {
	return `Reads a text with fp32 activations and with rounded ones and compares the predictions after every token. Exit code 1 if they differ by more than the handbook allows fast numerics, which int8 does on most models.`
}

func (c *numericsCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error {
		return a.Numerics(e.background, workbench.NumericsOptions{Text: c.Text, Tokens: c.Tokens, Window: c.Window, With: c.With, JSON: c.JSON})
	})
}
