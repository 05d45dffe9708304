//go:build unix

package main

import "github.com/roundhouse-ai/roundhouse/workbench"

type pluginsCmd struct {
	Dir     string            `setting:"plugins.dir" placeholder:"DIR" complete:"DIR" help:"Folder of plugins (default: plugins beside the user's configuration file)."`
	List    pluginsListCmd    `cmd:"" help:"List the plugins, whether they are allowed, and how they fare."`
	Check   pluginsCheckCmd   `cmd:"" help:"Try all that a host does to a plugin."`
	Logs    pluginsLogsCmd    `cmd:"" help:"Print what a plugin of a running server wrote."`
	Restart pluginsRestartCmd `cmd:"" help:"Have a running server start a plugin anew."`
}

func (*pluginsCmd) Help() string {
	return `Plugins are programs of their own that look into the token loop and change it, in any language. Those that plugins.allow of the configuration names are started with the server: plugins.md of the handbook says how they are written and kept.`
}

// liveFlag is what verbs share that ask a running server.
type liveFlag struct {
	Server string `placeholder:"ADDR" help:"Address of the server (default: that of the configuration)."`
}

type pluginsListCmd struct {
	liveFlag
	jsonFlag
}

func (*pluginsListCmd) Help() string {
	return `How plugins fare is there where a server runs.`
}

func (c *pluginsListCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.PluginsList(e.background, c.Server, c.JSON) })
}

type pluginsCheckCmd struct {
	Plugin string            `arg:"" complete:"DIR" help:"Plugin: its program or folder, or a name of the folder of plugins."`
	Param  map[string]string `placeholder:"NAME=VALUE" help:"Parameter of its answers, where it must have some; may be repeated."`
	jsonFlag
}

func (*pluginsCheckCmd) Help() string {
	return `Starts the plugin by itself, without a model, and plays answers to it: every event that it declares, many at once, with pauses and cancels, messages that make no sense, and the end of the host. A plugin in any language can be checked. Exit code 1 if a line fails. It is started whether it is allowed or not.`
}

func (c *pluginsCheckCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.PluginsCheck(e.background, c.Plugin, c.Param, c.JSON) })
}

type pluginsLogsCmd struct {
	Name  string `arg:"" help:"Plugin."`
	Lines int    `placeholder:"N" default:"100" help:"So many lines at most, 1000 are kept."`
	liveFlag
	jsonFlag
}

func (c *pluginsLogsCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.PluginsLogs(e.background, c.Server, c.Name, c.Lines, c.JSON) })
}

type pluginsRestartCmd struct {
	Name string `arg:"" help:"Plugin."`
	liveFlag
}

func (*pluginsRestartCmd) Help() string {
	return `Answers that use the plugin go on without it; all others do not notice. A plugin that ended too often is tried again at once.`
}

func (c *pluginsRestartCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.PluginsRestart(e.background, c.Server, c.Name) })
}
