package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds a configuration file in bytes.
const maxFile = 64 << 10

// Sources says where Load looks. Nothing else is read.
type Sources struct {
	File    string   // the file asked for; "" looks in the usual places
	Dir     string   // working directory, "" for the process's own
	Environ []string // as os.Environ gives it
	Flags   []Flag
}

// Flag is one setting given on the command line.
type Flag struct {
	Name  string // as typed: "--listen"
	Path  string // of the setting
	Value string
}

// Origin says where a value came from.
type Origin struct {
	Source       string `json:"source"`          // "default", "file", "environment", "flag"
	Name         string `json:"name,omitempty"`  // path, variable or flag
	Line, Column int    `json:"-"`               // in a file, from 1
	Where        string `json:"where,omitempty"` // all of it in one string
}

func (o Origin) String() string {
	if o.Source == "file" && o.Line > 0 {
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Column)
	}
	if o.Source == "environment" {
		return "$" + o.Name
	}
	if o.Name != "" {
		return o.Name
	}
	return o.Source
}

// Effective is the configuration in force.
type Effective struct {
	Config
	// File is the file that was read, "" for none.
	File string
	// Warnings names environment variables that look like settings and are
	// none. They are no errors because container platforms invent some, such
	// as ROUNDHOUSE_PORT for a service called roundhouse.
	Warnings []string

	origins map[string]Origin
}

// Load reads all sources and validates the result. The error joins all findings.
func Load(src Sources) (*Effective, error) {
	e := &Effective{Config: Default(), origins: map[string]Origin{}}
	path, implicit, err := Find(src)
	if err != nil {
		return nil, err
	}
	if path != "" {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		if err := e.decode(path, data, implicit); err != nil {
			return nil, err
		}
		e.File = path
	}
	if err := errors.Join(e.environment(src.Environ), e.flags(src.Flags)); err != nil {
		return nil, err
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	return e, nil
}

// Find returns the file that Load reads, "" when there is none. implicit says
// that it was neither asked for nor is it the user's own: it came with a folder.
func Find(src Sources) (path string, implicit bool, err error) {
	if src.File != "" {
		if _, err := os.Stat(src.File); err != nil {
			return "", false, fmt.Errorf("configuration file: %w", err)
		}
		return src.File, false, nil
	}
	for _, candidate := range Places(src) {
		_, err := os.Stat(candidate)
		if err == nil {
			return candidate, candidate != UserFile(src.Environ), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", false, fmt.Errorf("configuration file: %w", err)
		}
	}
	return "", false, nil
}

// Places lists where a file is looked for when none is asked for.
func Places(src Sources) []string {
	places := []string{filepath.Join(src.Dir, "roundhouse.toml")}
	if home := UserFile(src.Environ); home != "" {
		places = append(places, home)
	}
	return places
}

// UserFile is the user's own configuration file, "" when there is no home.
func UserFile(environ []string) string {
	if dir := lookup(environ, "XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "roundhouse", "config.toml")
	}
	if home := lookup(environ, "HOME"); home != "" {
		return filepath.Join(home, ".config", "roundhouse", "config.toml")
	}
	return ""
}

func lookup(environ []string, name string) (value string) {
	for _, pair := range environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("configuration file %s is larger than %d KiB: is it the right file?", path, maxFile>>10)
	}
	return data, nil
}

// reserved are ROUNDHOUSE_ names that are no settings and mean something elsewhere.
var reserved = []string{
	envPrefix + "SHARED",       // tests: the folder of models and goldens
	envPrefix + "SOAK",         // tests: how long the load runs
	envPrefix + "GPU",          // tests: 1 runs them on the machine's GPU
	envPrefix + "HOST_KERNELS", // tests: 1 or asan runs the kernels' sources on the CPU
	envPrefix + "KERNELS",      // the CUDA engine: a folder of images in place of those compiled in
}

func (e *Effective) environment(environ []string) error {
	var errs []error
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(reserved, name) {
			continue
		}
		s, ok := settingByEnv(name)
		if !ok {
			e.Warnings = append(e.Warnings, unknownVariable(name))
			continue
		}
		origin := Origin{Source: "environment", Name: name}
		if err := s.parse(&e.Config, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", origin, s.Path, err))
		}
		e.origins[s.Path] = origin
	}
	return errors.Join(errs...)
}

func settingByEnv(name string) (Setting, bool) {
	for _, s := range settings {
		if s.Env() == name {
			return s, true
		}
	}
	return Setting{}, false
}

func unknownVariable(name string) string {
	best, score := "", max(2, len(name)/5)+1
	for _, s := range settings {
		if d := distance(name, s.Env()); d < score {
			best, score = s.Env(), d
		}
	}
	text := "$" + name + " is not a setting and has no effect"
	if best != "" {
		text += "; did you mean $" + best + "?"
	}
	return text
}

func (e *Effective) flags(flags []Flag) error {
	var errs []error
	for _, f := range flags {
		s, ok := settingAt(f.Path)
		if !ok {
			return fmt.Errorf("flag %s sets %q, which is not a setting: this is a bug", f.Name, f.Path)
		}
		if err := s.parse(&e.Config, f.Value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, err))
		}
		e.origins[s.Path] = Origin{Source: "flag", Name: f.Name}
	}
	return errors.Join(errs...)
}

// Origin says where the value of a setting came from.
func (e *Effective) Origin(path string) Origin {
	if o, ok := e.origins[path]; ok {
		return o
	}
	return Origin{Source: "default"}
}

// ScriptsDir is the folder of scripts in force: the one that is set, or scripts beside
// the user's own configuration file; "" when there is no home.
func (c *Config) ScriptsDir(environ []string) string {
	if c.Scripts.Dir != "" {
		return c.Scripts.Dir
	}
	if file := UserFile(environ); file != "" {
		return filepath.Join(filepath.Dir(file), "scripts")
	}
	return ""
}

// PluginsDir is the folder of plugins in force: the one that is set, or plugins beside the
// user's own configuration file; "" when there is no home. It is never the working folder.
func (c *Config) PluginsDir(environ []string) string {
	if c.Plugins.Dir != "" {
		return c.Plugins.Dir
	}
	if file := UserFile(environ); file != "" {
		return filepath.Join(filepath.Dir(file), "plugins")
	}
	return ""
}

// VectorsDir is the folder of steering vectors in force: the one that is set, or vectors in
// the folder of scripts; "" when there is none.
func (c *Config) VectorsDir(environ []string) string {
	if c.Scripts.Vectors != "" {
		return c.Scripts.Vectors
	}
	if dir := c.ScriptsDir(environ); dir != "" {
		return filepath.Join(dir, "vectors")
	}
	return ""
}
