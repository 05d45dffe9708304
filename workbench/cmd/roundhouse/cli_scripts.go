//go:build unix

package main

import "github.com/roundhouse-ai/roundhouse/workbench"

type scriptsCmd struct {
	Dir   string          `setting:"scripts.dir" placeholder:"DIR" complete:"DIR" help:"Folder of scripts (default: scripts beside the user's configuration file)."`
	Init  scriptsInitCmd  `cmd:"" help:"Write a folder to begin with: types, a script and its test."`
	List  scriptsListCmd  `cmd:"" help:"List the scripts and what they say of themselves."`
	Check scriptsCheckCmd `cmd:"" help:"See whether scripts can be used."`
	Test  scriptsTestCmd  `cmd:"" help:"Run the tests of scripts, without a model."`
}

func (*scriptsCmd) Help() string {
	return `Scripts are TypeScript or JavaScript that looks into the token loop and changes it: hooks.md of the handbook says what they can do.`
}

type scriptsInitCmd struct {
	Folder string `arg:"" optional:"" name:"dir" setting:"scripts.dir" complete:"DIR" help:"Folder to write (default: the folder of scripts in force)."`
}

func (*scriptsInitCmd) Help() string {
	return `Files that are there stay as they are, but for roundhouse.d.ts, which is always that of this program.`
}

func (c *scriptsInitCmd) Run(e *environment) error {
	return e.with((*workbench.App).ScriptsInit)
}

type scriptsListCmd struct {
	Library bool `help:"Those that come with the program."`
	jsonFlag
}

func (c *scriptsListCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.ScriptsList(c.Library, c.JSON) })
}

type scriptsCheckCmd struct {
	Names []string `arg:"" optional:"" name:"name" help:"Scripts to check, as requests name them (default: all; files that export none are left out)."`
	jsonFlag
}

func (*scriptsCheckCmd) Help() string {
	return `Bundles each script with what it imports, runs it up to what it exports, and reads what it declares. Exit code 1 if one cannot be used.`
}

func (c *scriptsCheckCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.ScriptsCheck(c.Names, c.JSON) })
}

type scriptsTestCmd struct {
	Names []string `arg:"" optional:"" name:"name" help:"Scripts whose tests to run (default: all that have some)."`
	Watch bool     `help:"Run them again whenever their files change, until ctrl-C."`
	jsonFlag
}

func (*scriptsTestCmd) Help() string {
	return `The tests of a script, name.ts, are in name.test.ts beside it: they run it on rows of logits that are made up, or that --record-hooks wrote. Neither a model nor a GPU is opened, and no budgets hold. Exit code 1 if one fails. scripts-testing.md of the handbook says how they are written.`
}

func (c *scriptsTestCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error {
		return a.ScriptsTest(e.background, workbench.ScriptsTestOptions{Names: c.Names, Watch: c.Watch, JSON: c.JSON})
	})
}
