// Package config holds every setting of roundhouse in one struct and says where
// each value came from.
//
// Sources in order, later wins: the defaults, one TOML file (the one named by
// --config, else ./roundhouse.toml, else $XDG_CONFIG_HOME/roundhouse/config.toml),
// the environment (ROUNDHOUSE_ENGINE_THREADS for engine.threads), flags. Unknown
// keys are errors with line, column and the nearest valid name.
//
// A file found by chance, in the working directory, may not name scripts or plugins:
// those run code, and only the user's own file, or one that was asked for, may start
// it.
package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Config is every setting. The help tags are what `config init` writes and
// `config show` explains; the toml tags are the names in files.
type Config struct {
	Listen    string  `toml:"listen" help:"Address of the HTTP server; port 0 picks a free one."`
	APIKey    string  `toml:"api_key" secret:"true" help:"Key that clients must send as a bearer token; needed when listen is not a loopback address."`
	Model     string  `toml:"model" help:"Model to serve: a folder, or org/name; empty for the embedded demo."`
	ModelName string  `toml:"model_name" help:"Id the model answers to; empty for its folder's base name."`
	Models    Models  `toml:"models"`
	Engine    Engine  `toml:"engine"`
	Server    Server  `toml:"server"`
	Chat      Chat    `toml:"chat"`
	Scripts   Scripts `toml:"scripts"`
	Plugins   Plugins `toml:"plugins"`
	Log       Log     `toml:"log"`
}

// Models says where model folders are looked for.
type Models struct {
	Dirs []string `toml:"dirs" help:"Folders that hold models as org/name, searched before the Hugging Face cache."`
}

// Engine bounds what the engine uses.
type Engine struct {
	Device       string `toml:"device" help:"\"cpu\", \"cuda\" or \"cuda:N\"; \"auto\" for the first NVIDIA device, or the CPU where there is none."`
	Threads      int    `toml:"threads" help:"Threads of the CPU engine; 0 for one a core."`
	Context      int    `toml:"context" help:"Longest prompt plus completion, in tokens; 0 for the engine's default."`
	Streams      int    `toml:"streams" help:"Sequences that can run at once; 0 for 4."`
	Queue        int    `toml:"queue" help:"Requests that may wait for a stream; more are answered with 429; 0 for 256."`
	CacheTokens  int    `toml:"cache_tokens" help:"Positions that the KV cache holds for all streams together; 0 for context times streams. A smaller one asks for engine.overcommit, or makes requests wait."`
	Overcommit   string `toml:"overcommit" help:"Admit streams before all that they may need is free, and when memory runs out put the newest aside by \"swap\" or \"rebuild\"; \"off\": never."`
	KVType       string `toml:"kv_type" help:"What keys and values are kept in: f32, f16 or bf16; \"auto\" for f16 with fast numerics on a GPU and f32 elsewhere."`
	Kernels      string `toml:"kernels" help:"Kernels of the CPU engine: portable, avx2 or avx512; of the CUDA engine: generic. \"auto\" for the best that the machine runs."`
	Numerics     string `toml:"numerics" help:"\"exact\": fp32 activations; \"fast\": 16 bits; \"int8\": 8 bits; \"auto\" for the backend's default."`
	PrefillChunk int    `toml:"prefill_chunk" help:"Most prompt tokens of one step, a multiple of 64; 0 for 512 on a CPU and 2048 on a GPU."`
	IgnoreMemory bool   `toml:"ignore_memory" help:"Load even if the memory that is free does not suffice."`
}

// Server bounds what clients may do.
type Server struct {
	MaxBody        Size     `toml:"max_body" help:"Largest request body."`
	AllowedHosts   []string `toml:"allowed_hosts" help:"Host names accepted beside loopback names and the listen address."`
	AllowedOrigins []string `toml:"allowed_origins" help:"Browser origins accepted beside the server's own, such as https://app.example."`
	ShutdownGrace  Duration `toml:"shutdown_grace" help:"How long running requests may take to finish after a stop signal."`
}

// Chat says how conversations are read.
type Chat struct {
	SpecialTokens string `toml:"special_tokens" help:"\"text\": what users write never becomes a control token; \"allow\": it may."`
}

// Scripts says which scripts requests may use, and what they may take.
type Scripts struct {
	Dir          string   `toml:"dir" help:"Folder of scripts; empty for scripts beside the user's configuration file."`
	Vectors      string   `toml:"vectors" help:"Folder of steering vectors, safetensors; empty for vectors in the folder of scripts."`
	Use          []string `toml:"use" help:"Scripts that every request has beside those that it names."`
	Budget       Duration `toml:"budget" help:"How long a script may take for a token; 0s for as long as it wants."`
	OnError      string   `toml:"on_error" help:"\"disable\": a script that fails three tokens in a row is switched off; \"fail\": the first failure ends its request."`
	Record       string   `toml:"record" help:"File for a recording of each choice of a script, to test scripts with: the first free one of FILE, FILE-2, ... Unless they are set, budget is then 0s and on_error \"fail\"."`
	Memory       Size     `toml:"memory" help:"Most memory that a script of the folder may hold, as far as it can be seen."`
	Inline       bool     `toml:"inline" help:"Let requests bring scripts as source, which run in a process of their own."`
	InlineMemory Size     `toml:"inline_memory" help:"Most memory of such a process."`
}

// Plugins says which plugins are started, and what they see.
type Plugins struct {
	Dir    string   `toml:"dir" help:"Folder of plugins; empty for plugins beside the user's configuration file."`
	Allow  []string `toml:"allow" help:"Plugins of the folder that are started, and that requests may use. No others ever are."`
	Use    []string `toml:"use" help:"Plugins that every request has beside those that it names."`
	Pins   []string `toml:"pins" help:"Files that must be as they were, each \"path=SHA-256\"; paths are taken from the folder of plugins."`
	Env    []string `toml:"env" help:"Names of environment variables that plugins see, beside PATH, HOME and their like."`
	Budget Duration `toml:"budget" help:"How long a plugin that declares nothing may take for a token."`
}

// Log says what is logged, and how. Prompts are never logged.
type Log struct {
	Level  string `toml:"level" help:"debug, info, warn or error."`
	Format string `toml:"format" help:"text or json."`
}

// Default returns the settings that hold where no source says otherwise.
func Default() Config {
	return Config{
		Listen:  "127.0.0.1:8480",
		Engine:  Engine{Device: "auto", Overcommit: "off", KVType: "auto", Kernels: "auto", Numerics: "auto"},
		Server:  Server{MaxBody: 16 << 20, ShutdownGrace: Duration(15 * time.Second)},
		Chat:    Chat{SpecialTokens: "text"},
		Scripts: Scripts{Budget: Duration(2 * time.Millisecond), OnError: "disable", Memory: 64 << 20, InlineMemory: 256 << 20},
		Plugins: Plugins{Budget: Duration(20 * time.Millisecond)},
		Log:     Log{Level: "info", Format: "text"},
	}
}

// Size is a number of bytes, written "16MiB", "500KB" or plain "4096".
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := strings.TrimSpace(string(text)), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size: write a whole number with B, KB, MB, GB, KiB, MiB or GiB, such as \"16MiB\"", text)
	}
	*s = Size(n * unit)
	return nil
}

// MarshalText writes the size in the largest binary unit that holds it whole.
func (s Size) MarshalText() ([]byte, error) {
	for i := 2; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/u.bytes, u.suffix), nil
		}
	}
	return fmt.Appendf(nil, "%dB", int64(s)), nil
}

// Duration is a time.Duration written as "15s" or "1m30s".
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write one such as \"15s\" or \"1m30s\"", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
