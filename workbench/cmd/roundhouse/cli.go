//go:build unix

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/roundhouse-ai/roundhouse/workbench"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
	"github.com/roundhouse-ai/roundhouse/workbench/synth"
)

// cli is the grammar of the command line. A setting tag names the setting of
// package config that a flag or argument overrides; a complete tag names what
// shells may offer (words, or FILE and DIR).
type cli struct {
	Config    string `placeholder:"FILE" complete:"FILE" help:"Read this configuration and no other."`
	LogLevel  string `setting:"log.level" placeholder:"LEVEL" complete:"debug info warn error" help:"Log debug, info (default), warn or error."`
	LogFormat string `setting:"log.format" placeholder:"FORMAT" complete:"text json" help:"Log as text (default) or json."`
	NoColor   bool   `help:"No colours; NO_COLOR in the environment does the same."`

	Run        runCmd        `cmd:"" help:"Serve a model, and talk with it if this is a terminal."`
	Serve      serveCmd      `cmd:"" help:"Serve a model over HTTP as OpenAI's API does."`
	Chat       chatCmd       `cmd:"" help:"Talk with a model."`
	Models     modelsCmd     `cmd:"" help:"List the models on this machine."`
	Inspect    inspectCmd    `cmd:"" help:"Describe a model folder and everything wrong with it."`
	Check      checkCmd      `cmd:"" help:"See whether a model works, without reference values."`
	Parity     parityCmd     `cmd:"" help:"Compare a model with reference values."`
	Numerics   numericsCmd   `cmd:"" help:"Measure what fast numerics changes about a model's predictions."`
	Bench      benchCmd      `cmd:"" help:"Measure a model: prefill, decode, memory."`
	Doctor     doctorCmd     `cmd:"" help:"Report on program, machine, settings and model."`
	Synth      synthCmd      `cmd:"" help:"Write a model folder of random weights, as large as the real one."`
	Demo       demoCmd       `cmd:"" help:"The embedded demo model."`
	Scripts    scriptsCmd    `cmd:"" help:"Scripts: hooks in the token loop."`
	Plugins    pluginsCmd    `cmd:"" help:"Plugins: hooks that are programs of their own."`
	Settings   configCmd     `cmd:"" name:"config" help:"The configuration."`
	Debug      debugCmd      `cmd:"" help:"Parts of the program on JSON lines."`
	Version    versionCmd    `cmd:"" help:"Say which program this is."`
	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
}

// modelArg is the MODEL of most verbs.
type modelArg struct {
	Model string `arg:"" optional:"" setting:"model" complete:"DIR" help:"Folder or org/name; without it the embedded demo."`
}

// engineFlags bound the engine.
type engineFlags struct {
	ModelName    string `setting:"model_name" placeholder:"ID" help:"Id the model answers to (default: its folder's name)."`
	Device       string `setting:"engine.device" placeholder:"DEV" complete:"auto cpu cuda" help:"Run on cpu, cuda or cuda:N (default: auto, the first NVIDIA device, else the CPU)."`
	Threads      int    `setting:"engine.threads" placeholder:"N" help:"Threads (default: one a core)."`
	Context      int    `setting:"engine.context" aliases:"ctx" placeholder:"N" help:"Longest prompt plus answer in tokens (default: the model's limit, 32768 at most)."`
	Chunk        int    `setting:"engine.prefill_chunk" placeholder:"N" help:"Most prompt tokens of one step, a multiple of 64 (default: 512 on a CPU, 2048 on a GPU)."`
	KVType       string `name:"kv-dtype" setting:"engine.kv_type" placeholder:"TYPE" complete:"auto f32 f16 bf16" help:"Keep keys and values as f32, f16 or bf16 (default: auto)."`
	Kernels      string `setting:"engine.kernels" placeholder:"SET" complete:"auto portable avx2 avx512 generic" help:"Kernels: auto (default); portable, avx2, avx512 on a CPU; generic on a GPU."`
	Numerics     string `setting:"engine.numerics" placeholder:"MODE" complete:"auto exact fast int8" help:"Activations: auto (default), exact (fp32), fast (16 bit) or int8."`
	IgnoreMemory bool   `setting:"engine.ignore_memory" help:"Load even if the memory that is free does not suffice."`
}

// serverFlags are what serve and run share.
type serverFlags struct {
	modelArg
	Listen string `setting:"listen" placeholder:"ADDR" help:"Address (default 127.0.0.1:8480); port 0 picks a free one. Without a host: loopback."`
	APIKey string `name:"api-key" setting:"api_key" placeholder:"KEY" help:"Key that clients must send; others on this machine can see flags: $$ROUNDHOUSE_API_KEY is safer."`
	engineFlags
	Streams     int    `setting:"engine.streams" aliases:"slots" placeholder:"N" help:"Sequences that can run at once (default 4)."`
	Queue       int    `setting:"engine.queue" placeholder:"N" help:"Requests that may wait; more get 429 (default 256)."`
	CacheTokens int    `setting:"engine.cache_tokens" placeholder:"N" help:"Positions that the KV cache holds for all streams (default: context times streams)."`
	Overcommit  string `setting:"engine.overcommit" placeholder:"HOW" complete:"off swap rebuild" help:"Admit more than surely fits: off (default), swap or rebuild."`
	scriptFlags
}

// scriptFlags are what serve, run and chat share.
type scriptFlags struct {
	Script  []string `setting:"scripts.use" placeholder:"NAME" help:"Script that every answer has; may be repeated."`
	Scripts string   `setting:"scripts.dir" placeholder:"DIR" complete:"DIR" help:"Folder of scripts (default: scripts beside the user's configuration file)."`
	Plugin  []string `setting:"plugins.use" placeholder:"NAME" help:"Plugin that every answer has, and that is allowed by this; may be repeated."`
	Plugins string   `setting:"plugins.dir" placeholder:"DIR" complete:"DIR" help:"Folder of plugins (default: plugins beside the user's configuration file)."`
	Record  string   `name:"record-hooks" setting:"scripts.record" placeholder:"FILE" complete:"FILE" help:"Record each choice of a script, for its tests: in FILE, then FILE-2, FILE-3; no file is written over."`
}

type serveCmd struct {
	serverFlags
}

func (*serveCmd) Help() string {
	return `Prints its URL on standard output at once; /health says how loading goes. When the model is ready, a curl line to try it with follows on standard error. SIGINT or SIGTERM lets running requests finish; a second signal ends the program.`
}

func (c *serveCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Serve(e.background) })
}

type runCmd struct {
	serverFlags
}

func (*runCmd) Help() string {
	return `Serves as the verb serve does. With a terminal, the verb chat opens on the model that is served; leaving the chat stops the server.`
}

func (c *runCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Run(e.background) })
}

type chatCmd struct {
	modelArg
	Once        *string `placeholder:"TEXT" help:"Print the answer to TEXT and nothing else; - reads it from standard input."`
	System      string  `placeholder:"TEXT" help:"System text."`
	Temperature *string `placeholder:"X" help:"Sampling temperature; 0 takes the most likely token."`
	TopK        *string `placeholder:"N" help:"Draw from the N most likely tokens; 0 for all."`
	TopP        *string `placeholder:"X" help:"Draw from the most likely tokens that hold the share X."`
	MinP        *string `placeholder:"X" help:"Leave out tokens less likely than X times the best."`
	Seed        *string `placeholder:"N" help:"Draw the same answer every time."`
	MaxTokens   *string `placeholder:"N" help:"Longest answer."`
	Stop        *string `placeholder:"TEXT" help:"End the answer before TEXT."`
	Thinking    *string `placeholder:"on|off" complete:"on off" help:"Let the model think first, where its template can."`
	engineFlags
	scriptFlags
}

func (*chatCmd) Help() string {
	return `Lines are messages; /help lists the commands. Ctrl-C stops an answer, ctrl-D leaves. Earlier lines are kept in $XDG_STATE_HOME/roundhouse/history, readable for you alone. If standard input is no terminal, each of its lines is a message. Sampling parameters that are not given are the model's own.`
}

func (c *chatCmd) Run(e *environment) error {
	set := map[string]string{}
	for name, value := range map[string]*string{
		"temperature": c.Temperature, "top_k": c.TopK, "top_p": c.TopP, "min_p": c.MinP,
		"seed": c.Seed, "max_tokens": c.MaxTokens, "stop": c.Stop, "thinking": c.Thinking,
	} {
		if value != nil {
			set[name] = *value
		}
	}
	return e.with(func(a *workbench.App) error {
		return a.Chat(e.background, workbench.ChatOptions{Once: c.Once, System: c.System, Set: set})
	})
}

// jsonFlag is on every verb that reports.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON for programs."`
}

type modelsCmd struct {
	jsonFlag
}

func (*modelsCmd) Help() string {
	return `Looks in models.dirs of the configuration, then in $HF_HUB_CACHE, $HF_HOME/hub and ~/.cache/huggingface/hub. Nothing is downloaded.`
}

func (c *modelsCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Models(c.JSON) })
}

type inspectCmd struct {
	modelArg
	jsonFlag
	Verify bool `help:"Read every tensor: NaN, Inf, ranges of scales."`
}

func (*inspectCmd) Help() string {
	return `Exit code 1 if anything is wrong with the folder; all findings are listed.`
}

func (c *inspectCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Inspect(e.background, c.JSON, c.Verify) })
}

type checkCmd struct {
	modelArg
	jsonFlag
	Limit time.Duration `default:"2m" help:"Time it may take (default ${default})."`
}

func (*checkCmd) Help() string {
	return `For people who own a model and no reference values: perplexity of a text, easy questions, spread of the routing, prefill against single steps. What does not fit in the time is reported as cut short. Exit code 1 unless all pass.`
}

func (c *checkCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Check(e.background, c.Limit, c.JSON) })
}

type parityCmd struct {
	Model  string `arg:"" setting:"model" complete:"DIR" help:"Folder or org/name; demo is the embedded one."`
	Golden string `arg:"" complete:"FILE" help:"Reference values: a .safetensors file with its .json beside it."`
	Worst  bool   `help:"Only the worst tensor of each kind."`
	jsonFlag
}

func (*parityCmd) Help() string {
	return `Prints each tensor's largest absolute and relative deviation, cosine and verdict. Exit code 1 if one misses the tolerance that the reference states.`
}

func (c *parityCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Parity(e.background, c.Golden, c.Worst, c.JSON) })
}

type benchCmd struct {
	modelArg
	jsonFlag
	Lengths []int         `default:"64,512,1536" placeholder:"N,..." help:"Prompt lengths in tokens (default ${default})."`
	Batches []int         `default:"1,4,8" placeholder:"N,..." help:"Streams that decode at once (default ${default})."`
	Tokens  int           `default:"64" placeholder:"N" help:"Tokens that each stream of a run makes (default ${default})."`
	Time    time.Duration `default:"3s" placeholder:"T" help:"Time for each row (default ${default}): as many runs as fit, at least 3."`
	Hooks   bool          `help:"Measure what hooks add to a decode step, after the first of the lengths."`
	synthFlags
	Synthetic string `placeholder:"SHAPE" complete:"demo kernel-test qwen3-next-80b" help:"Measure a model of this shape whose weights are made up where they are needed: no files, no tokenizer."`
	engineFlags
}

// synthFlags choose a synthetic model.
type synthFlags struct {
	Layout string `default:"int4-mixed-2026" placeholder:"LAYOUT" complete:"int4-mixed-2026 int4-mixed-2025 int4" help:"Bits of a synthetic model's modules: int4-mixed-2026, int4-mixed-2025 or int4 (default ${default})."`
	Layers int    `placeholder:"N" help:"Layers of a synthetic model (default: those of the shape)."`
	Seed   uint64 `default:"1" placeholder:"N" help:"Seed of a synthetic model's weights (default ${default})."`
}

type synthCmd struct {
	Dir   string `arg:"" complete:"DIR" help:"Folder to write: new, or empty."`
	Shape string `default:"qwen3-next-80b" placeholder:"SHAPE" complete:"demo kernel-test qwen3-next-80b" help:"Dimensions: qwen3-next-80b (the default, 44 GB), demo (0.9 GB) or kernel-test (25 MB)."`
	synthFlags
}

func (*synthCmd) Help() string {
	return `A whole AutoRound folder in the layout of the published checkpoints: config, index, tensors, and the demo model's tokenizer. Weights are random, scaled so that activations stay sane and routing is spread; the same seed gives the same bytes. What the model says means nothing: it is for measuring loading, memory and speed.`
}

func (c *synthCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error {
		return a.Synth(e.background, c.Dir, synth.Options{Shape: c.Shape, Layout: c.Layout, Layers: c.Layers, Seed: c.Seed})
	})
}

func (*benchCmd) Help() string {
	return `Medians after a warm-up, with the slowest and the fastest run. The last column is the share of the read bandwidth that was measured just before: tokens a second times the bytes that a token touches, by the shapes of the files. tools.md of the handbook has the formula.`
}

func (c *benchCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error {
		return a.Bench(e.background, workbench.BenchOptions{Lengths: c.Lengths, Streams: c.Batches, Tokens: c.Tokens, Time: c.Time, JSON: c.JSON, Hooks: c.Hooks,
			Synthetic: synth.Options{Shape: c.Synthetic, Layout: c.Layout, Layers: c.Layers, Seed: c.Seed}})
	})
}

type doctorCmd struct {
	modelArg
	jsonFlag
	Report string `placeholder:"FILE" complete:"FILE" help:"Write the whole report to FILE, to send to others."`
}

func (*doctorCmd) Help() string {
	return `Measures the memory's read bandwidth, says which kernels will run and why, and what to change. The report holds version, hardware, settings (keys hidden), what inspect and check say, and a hash of each file's header. It holds no prompts. Exit code 1 if anything is wrong.`
}

func (c *doctorCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.Doctor(e.background, c.Report, c.JSON) })
}

type demoCmd struct {
	Extract extractCmd `cmd:"" help:"Write the demo model as a folder."`
}

type extractCmd struct {
	Dir   string `arg:"" complete:"DIR" help:"Folder to write."`
	Force bool   `help:"Replace the model's files in a folder that is not empty; others stay."`
}

func (c *extractCmd) Run(e *environment) error {
	if err := demo.Extract(e.background, c.Dir, c.Force); err != nil {
		return err
	}
	_, err := fmt.Fprintln(os.Stdout, c.Dir)
	return err
}

type configCmd struct {
	Init  configInitCmd  `cmd:"" help:"Write a file with every setting."`
	Path  configPathCmd  `cmd:"" help:"Say which file is read."`
	Check configCheckCmd `cmd:"" help:"Check a file."`
	Show  configShowCmd  `cmd:"" help:"Show every setting and where it came from."`
}

func (*configCmd) Help() string {
	return `Settings come from the defaults, one TOML file (--config, else ./roundhouse.toml, else $XDG_CONFIG_HOME/roundhouse/config.toml), the environment ($ROUNDHOUSE_ENGINE_THREADS for engine.threads) and flags; later wins.`
}

type configInitCmd struct {
	File string `arg:"" optional:"" complete:"FILE" help:"File to write (default: the user's own)."`
}

func (c *configInitCmd) Run(e *environment) error { return e.plain().ConfigInit(c.File) }

type configPathCmd struct{ jsonFlag }

func (c *configPathCmd) Run(e *environment) error {
	return workbench.ConfigPath(e.plain(), e.sources(), c.JSON)
}

type configCheckCmd struct {
	File string `arg:"" optional:"" complete:"FILE" help:"File to check (default: the one that is read)."`
	jsonFlag
}

func (c *configCheckCmd) Run(e *environment) error {
	src := e.sources()
	if c.File != "" {
		src.File = c.File
	}
	return workbench.ConfigCheck(e.plain(), src, c.JSON)
}

type configShowCmd struct{ jsonFlag }

func (c *configShowCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.ConfigShow(c.JSON) })
}

type debugCmd struct {
	Tokenize   tokenizeCmd `cmd:"" help:"Text to token ids."`
	Detokenize tokenizeCmd `cmd:"" help:"Token ids to text."`
	Template   templateCmd `cmd:"" help:"Conversations to prompts."`
}

func (*debugCmd) Help() string {
	return `Each line of standard input is an object; each is answered by one line. A line that cannot be used is answered by {"error": ...}.

tokenize: {"text": "...", "mode": "default"} to {"ids": [...]}; modes are default, special_as_text, all_as_text.

detokenize: {"ids": [...], "skip_special": false} to {"text": "..."}.

template: {"messages": [...], "tools": [...], "documents": [...], "kwargs": {"add_generation_prompt": true}} to {"text": "..."}.`
}

type debugModel struct {
	Model string `setting:"model" placeholder:"MODEL" complete:"DIR" help:"Folder or org/name (default: the embedded demo)."`
}

type tokenizeCmd struct {
	debugModel
	Tokenizer string `placeholder:"FILE" complete:"FILE" help:"A tokenizer.json, without a model."`
}

func (c *tokenizeCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error {
		if e.parsed.Selected().Name == "detokenize" {
			return a.DebugDetokenize(e.background, c.Tokenizer)
		}
		return a.DebugTokenize(e.background, c.Tokenizer)
	})
}

type templateCmd struct {
	debugModel
	Template string `placeholder:"FILE" complete:"FILE" help:"A template, without a model."`
}

func (c *templateCmd) Run(e *environment) error {
	return e.with(func(a *workbench.App) error { return a.DebugTemplate(e.background, c.Template) })
}

type versionCmd struct{ jsonFlag }

func (c *versionCmd) Run(e *environment) error { return e.plain().ShowVersion(c.JSON) }

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" complete:"bash zsh fish" help:"bash, zsh or fish."`
}

func (*completionCmd) Help() string {
	return `bash: source <(roundhouse completion bash)

zsh: roundhouse completion zsh > "${fpath[1]}/_roundhouse"

fish: roundhouse completion fish > ~/.config/fish/completions/roundhouse.fish`
}

func (c *completionCmd) Run(e *environment) error {
	return writeCompletion(os.Stdout, e.parsed.Model, c.Shell)
}
