package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// manifest is what plugin.toml in a plugin's folder says.
type manifest struct {
	// Command starts the plugin: a program, and arguments. A program with a slash in its
	// name is looked up from the plugin's folder, one without in PATH.
	Command []string `toml:"command"`
	// MTLS says that the plugin speaks go-plugin's mutual TLS, as Go plugins do.
	MTLS *bool `toml:"mtls"`
}

// installed is a plugin that is there to be started.
type installed struct {
	name    string
	dir     string // its own folder, or that of all
	command []string
	mtls    bool
}

// maxManifest bounds plugin.toml, in bytes.
const maxManifest = 64 << 10

// find finds a plugin of the folder: NAME/plugin.toml, or the program NAME itself, which
// then is one with mutual TLS.
func find(dir, name string) (*installed, error) {
	if !wire.PlainName(name) {
		return nil, fmt.Errorf("the plugin %.80q: names are made of a-z, 0-9, _ and -, 64 at most", name)
	}
	if dir == "" {
		return nil, fmt.Errorf("the plugin %s: no folder of plugins is set (plugins.dir)", name)
	}
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the plugin %s: neither %s/plugin.toml nor a program of that name is there: %w", name, path, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("the plugin %s: %w", name, err)
	case info.IsDir():
		return readManifest(path, name)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return nil, fmt.Errorf("the plugin %s: %s is no program: chmod +x it, or make a folder with plugin.toml of it", name, path)
	}
	return &installed{name: name, dir: dir, command: []string{path}, mtls: true}, nil
}

func readManifest(dir, name string) (*installed, error) {
	file := filepath.Join(dir, "plugin.toml")
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("the plugin %s: its folder has no plugin.toml, which says how it is started: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("the plugin %s: %w", name, err)
	}
	var m manifest
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&m); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(m.Command) == 0 || m.Command[0] == "" || len(m.Command) > 64 {
		return nil, fmt.Errorf(`%s: command says how the plugin is started, such as ["./%s"] or ["python3", "main.py"]`, file, name)
	}
	p := &installed{name: name, dir: dir, command: slices.Clone(m.Command), mtls: m.MTLS == nil || *m.MTLS}
	if strings.ContainsRune(p.command[0], filepath.Separator) && !filepath.IsAbs(p.command[0]) {
		p.command[0] = filepath.Join(dir, p.command[0])
	}
	return p, nil
}

// names lists what the folder has that could be a plugin, by name.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the folder of plugins: %w", err)
	}
	var list []string
	for _, e := range entries {
		if !wire.PlainName(e.Name()) {
			continue
		}
		if _, err := find(dir, e.Name()); err == nil || e.IsDir() {
			list = append(list, e.Name())
		}
	}
	return list, nil
}

// Pin is a file with what it must hold. A path is taken from the folder of plugins where it
// is not absolute.
type Pin struct {
	Path   string
	SHA256 string // in hexadecimal
}

// ParsePin reads "path=sha256".
func ParsePin(text string) (Pin, error) {
	path, sum, ok := strings.Cut(text, "=")
	if raw, err := hex.DecodeString(sum); !ok || path == "" || err != nil || len(raw) != sha256.Size {
		return Pin{}, fmt.Errorf("the pin %.100q: it is a path, = and the 64 hexadecimal digits of the file's SHA-256, as sha256sum prints them", text)
	}
	return Pin{filepath.Clean(path), strings.ToLower(sum)}, nil
}

// verify says whether the pins of a plugin's files hold; program is the one that is started. Pins of other plugins' files are
// not looked at.
func (p *installed) verify(program, dir string, pins []Pin) error {
	for _, pin := range pins {
		path := pin.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		own := path == program || p.dir != dir && strings.HasPrefix(path, p.dir+string(filepath.Separator)) || slices.Contains(p.command, path)
		if !own {
			continue
		}
		sum, err := digest(path)
		if err != nil {
			return fmt.Errorf("the plugin %s: its pinned file: %w", p.name, err)
		}
		if sum != pin.SHA256 {
			return fmt.Errorf("the plugin %s: %s is not what plugins.pins says: its SHA-256 is %s; if that is meant, change the pin", p.name, path, sum)
		}
	}
	return nil
}

// digest is the SHA-256 of a file.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
