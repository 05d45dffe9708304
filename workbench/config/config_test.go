package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLaterSourceWins(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "roundhouse.toml", "listen = \"127.0.0.1:1\"\napi_key = 'k'\n\n[engine]\n  threads = 2\nstreams = 3\n[server]\nmax_body = '4MiB'\n")
	e, err := Load(Sources{
		Dir:     dir,
		Environ: []string{"ROUNDHOUSE_ENGINE_THREADS=5", "ROUNDHOUSE_LISTEN=127.0.0.1:2", "ROUNDHOUSE_MODELS_DIRS=/a, /b", "ROUNDHOUSE_ENGINE_IGNORE_MEMORY=1"},
		Flags:   []Flag{{Name: "--listen", Path: "listen", Value: "127.0.0.1:3"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Listen, want.APIKey, want.Engine.Threads, want.Engine.Streams = "127.0.0.1:3", "k", 5, 3
	want.Engine.IgnoreMemory = true
	want.Server.MaxBody, want.Models.Dirs = 4<<20, []string{"/a", "/b"}
	if diff := cmp.Diff(want, e.Config); diff != "" {
		t.Error(diff)
	}
	for setting, origin := range map[string]string{
		"listen": "--listen", "engine.threads": "$ROUNDHOUSE_ENGINE_THREADS",
		"engine.streams": path + ":6:1", "api_key": path + ":2:1", "log.level": "default",
	} {
		if got := e.Origin(setting).String(); got != origin {
			t.Errorf("%s comes from %s, want %s", setting, got, origin)
		}
	}
	for _, v := range e.Values() {
		if v.Setting == "api_key" && v.Text() != `"(set)"` {
			t.Errorf("the key is shown: %s", v.Text())
		}
	}
}

func TestFindOrder(t *testing.T) {
	work, home := t.TempDir(), t.TempDir()
	src := Sources{Dir: work, Environ: []string{"XDG_CONFIG_HOME=" + home}}
	if path, _, err := Find(src); path != "" || err != nil {
		t.Fatalf("found %q, %v in empty folders", path, err)
	}
	user := write(t, home, "roundhouse/config.toml", "")
	if path, implicit, _ := Find(src); path != user || implicit {
		t.Errorf("found %q, want the user's file", path)
	}
	local := write(t, work, "roundhouse.toml", "")
	if path, implicit, _ := Find(src); path != local || !implicit {
		t.Errorf("found %q, want the working directory's file", path)
	}
	src.File = write(t, work, "other.toml", "")
	if path, implicit, _ := Find(src); path != src.File || implicit {
		t.Errorf("found %q, want the file asked for", path)
	}
	src.File = filepath.Join(work, "missing.toml")
	if _, err := Load(src); err == nil || !strings.Contains(err.Error(), "missing.toml") {
		t.Errorf("a missing file that was asked for gave %v", err)
	}
}

func TestErrorsNameThePlace(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":      {"\nlistn = 'x'\n", `:2:1: unknown setting "listn", did you mean "listen"?`},
		"wrong section":    {"max_body = '1MiB'\n", `:1:1: unknown setting "max_body", did you mean "server.max_body"?`},
		"key in section":   {"[engine]\n thread = 1\n", `:2:2: unknown setting "engine.thread", did you mean "engine.threads"?`},
		"unknown section":  {"[engin]\nthreads = 1\n", `:1:2: unknown section "engin", did you mean "engine"?`},
		"inline table":     {"engine = { threds = 1 }\n", `:1:12: unknown setting "engine.threds", did you mean "engine.threads"?`},
		"nothing near":     {"zzzzzzzz = 1\n", "`roundhouse config init` writes a file with all of them"},
		"section as key":   {"[listen]\n", `:1:2: unknown section "listen"`},
		"key as section":   {"engine = 3\n", ":1:"},
		"wrong type":       {"[engine]\nthreads = 'two'\n", ":2:11: "},
		"out of range":     {"[engine]\n\nthreads = -1\n", ":3:1: engine.threads: -1 is outside 0 to 4096"},
		"not a multiple":   {"[engine]\nprefill_chunk = 100\n", ":2:1: engine.prefill_chunk: 100 is not a multiple of 64"},
		"size":             {"[server]\nmax_body = 'big'\n", `"big" is not a size`},
		"duration":         {"[server]\nshutdown_grace = 'long'\n", `"long" is not a duration`},
		"grace":            {"[server]\nshutdown_grace = '2h'\n", "2h0m0s is outside 0s to 1h"},
		"choice":           {"[chat]\nspecial_tokens = 'yes'\n", `"yes" is none of text, allow`},
		"level":            {"[log]\nlevel = 'loud'\n", ":2:1: log.level:"},
		"overcommit":       {"[engine]\novercommit = 'yes'\n", `:2:1: engine.overcommit: "yes" is none of off, swap, rebuild`},
		"kernels":          {"[engine]\nkernels = 'sse'\n", `:2:1: engine.kernels: "sse" is none of auto, portable, avx2, avx512`},
		"numerics":         {"[engine]\nnumerics = 'loose'\n", `:2:1: engine.numerics: "loose" is none of auto, exact, fast, int8`},
		"cache tokens":     {"[engine]\ncache_tokens = -1\n", ":2:1: engine.cache_tokens: -1 is outside 0 to 1073741824"},
		"queue":            {"[engine]\nqueue = -1\n", ":2:1: engine.queue: -1 is outside 0 to 1048576"},
		"queue has moved":  {"[server]\nqueue = 5\n", `unknown setting "server.queue", did you mean "engine.queue"?`},
		"format":           {"[log]\nformat = 'xml'\n", `"xml" is none of text, json`},
		"address":          {"listen = 'localhost'\n", `"localhost" is not an address: write HOST:PORT`},
		"port":             {"listen = 'localhost:99999'\n", `"99999" is not a port`},
		"host":             {"[server]\nallowed_hosts = ['http://a']\n", `"http://a" is not a host name`},
		"origin":           {"[server]\nallowed_origins = ['a.example']\n", `"a.example" is not an origin`},
		"control":          {"model = \"a\\u0007b\"\n", ":1:1: model: contains control characters"},
		"duplicate":        {"listen = ':1'\nlisten = ':2'\n", ":2:1:"},
		"syntax":           {"listen = \n", ":1:"},
		"two findings":     {"[log]\nlevel = 'loud'\nformat = 'xml'\n", "log.format"},
		"array of tables":  {"[[engine]]\nthreads = 1\n", ":1:"},
		"implicit scripts": {"[scripts]\ndir = 'x'\n", `"scripts" runs code, which a file that was only found must not: name the file with --config`},
		"implicit plugins": {"plugins.list = []\n", `"plugins.list" runs code`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, "roundhouse.toml", c.text)
			_, err := Load(Sources{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), path+":") {
				t.Errorf("got %v\nwant it to begin with the path and contain %s", err, c.want)
			}
		})
	}
}

func TestErrorsOfEnvironmentAndFlags(t *testing.T) {
	_, err := Load(Sources{Dir: t.TempDir(),
		Environ: []string{"ROUNDHOUSE_ENGINE_STREAMS=many"},
		Flags:   []Flag{{Name: "--threads", Path: "engine.threads", Value: "x"}}})
	want := "$ROUNDHOUSE_ENGINE_STREAMS: engine.streams: \"many\" is not a whole number\n--threads: \"x\" is not a whole number"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	_, err = Load(Sources{Dir: t.TempDir(), Flags: []Flag{{Name: "--threads", Path: "engine.threads", Value: "-4"}}})
	if err == nil || err.Error() != "--threads: -4 is outside 0 to 4096" {
		t.Errorf("got %v", err)
	}
	e, err := Load(Sources{Dir: t.TempDir(), Environ: []string{"ROUNDHOUSE_LISTN=:1", "ROUNDHOUSE_PORT=tcp://10.0.0.1:80",
		"ROUNDHOUSE_SHARED=/x", "ROUNDHOUSE_SOAK=1m", "ROUNDHOUSE_GPU=1", "ROUNDHOUSE_HOST_KERNELS=asan", "ROUNDHOUSE_KERNELS=/x"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"$ROUNDHOUSE_LISTN is not a setting and has no effect; did you mean $ROUNDHOUSE_LISTEN?",
		"$ROUNDHOUSE_PORT is not a setting and has no effect",
	}, e.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestFileIsBounded(t *testing.T) {
	path := write(t, t.TempDir(), "big.toml", strings.Repeat("# padding\n", maxFile/8))
	if _, err := Load(Sources{File: path}); err == nil || !strings.Contains(err.Error(), "larger than 64 KiB") {
		t.Errorf("got %v", err)
	}
}

// The template is a valid file, and with every # of a setting removed it gives
// the defaults again.
func TestTemplateIsTheDefaults(t *testing.T) {
	var live strings.Builder
	for line := range strings.Lines(Template()) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "# "), " = "); ok && !strings.Contains(name, " ") {
			line = strings.TrimPrefix(line, "# ")
		}
		live.WriteString(line)
	}
	for _, text := range []string{Template(), live.String()} {
		e, err := Load(Sources{File: write(t, t.TempDir(), "c.toml", text)})
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		want := Default()
		if text != Template() {
			want.Models.Dirs, want.Server.AllowedHosts, want.Server.AllowedOrigins = []string{}, []string{}, []string{}
			want.Scripts.Use = []string{}
			want.Plugins.Allow, want.Plugins.Use, want.Plugins.Pins, want.Plugins.Env = []string{}, []string{}, []string{}, []string{}
			if o := e.Origin("engine.queue"); o.Source != "file" {
				t.Errorf("engine.queue comes from %v", o)
			}
		}
		if diff := cmp.Diff(want, e.Config); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEverySettingIsCheckedAndExplained(t *testing.T) {
	for _, s := range settings {
		if checks[s.Path] == nil || s.Help == "" {
			t.Errorf("%s has no check or no help", s.Path)
		}
	}
	if len(checks) != len(settings) {
		t.Errorf("%d checks for %d settings", len(checks), len(settings))
	}
}

func TestSizeAndDuration(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "7": 7, "1 KB": 1000, "16MiB": 16 << 20, "2GiB": 2 << 30, "5B": 5} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q gives %d, %v; want %d", text, s, err, want)
		}
		shown, _ := s.MarshalText()
		var again Size
		if err := again.UnmarshalText(shown); err != nil || again != s {
			t.Errorf("%q is shown as %q, which reads %d, %v", text, shown, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "9999999999GiB", "0x10"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, s)
		}
	}
	var d Duration
	if err := d.UnmarshalText([]byte("1m30s")); err != nil || d != Duration(90*time.Second) {
		t.Errorf("got %v, %v", d, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(Template()))
	for _, text := range []string{
		"listen = 'x'", "[engine]\nthreads=1", "engine = {threads = 1, x = {y = [1,2]}}", "[[engine]]\n[engine.x]",
		"a.b.c.\"d\\u0041\" = 1979-05-27T07:32:00Z", "server.max_body = '1MiB'\nserver.max_body = 2", "x = [[[[[[", "= 1", "\xff = 1",
		"'' = 1", "models.dirs = ['a', 'b',\n# c\n]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFile {
			return
		}
		for _, implicit := range []bool{true, false} {
			e := &Effective{Config: Default(), origins: map[string]Origin{}}
			if err := e.decode("f.toml", data, implicit); err != nil {
				if !strings.HasPrefix(err.Error(), "f.toml:") {
					t.Errorf("error without its place: %v", err)
				}
				continue
			}
			if err := e.validate(); err != nil {
				continue
			}
			// What is in force can be written as a file again.
			var b strings.Builder
			for _, v := range e.Values() {
				b.WriteString(v.Setting + " = " + v.Text() + "\n")
			}
			again := &Effective{Config: Default(), origins: map[string]Origin{}}
			if err := again.decode("again.toml", []byte(b.String()), false); err != nil {
				t.Errorf("%v in\n%s", err, b.String())
			}
		}
	})
}
