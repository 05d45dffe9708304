package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// release is the compiler's release: a newer nvcc writes PTX that a driver of
// that level cannot compile.
const release = "13.0"

// locks pin the compiler's packages by version and hash, one list a host.
//
//go:embed lock
var locks embed.FS

// platforms are the hosts that the packages exist for, by GOARCH on Linux.
var platforms = map[string]string{"amd64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}

// A toolset is a folder with nvcc, ptxas and fatbinary.
type toolset struct {
	bin     string
	version string // 13.0.88
}

// errNoCompiler says that there is no compiler here and none was fetched.
var errNoCompiler = errors.New("no nvcc " + release + " in $NVCC, on PATH, in the usual folders or in the cache")

// lockHash names the pinned compiler whatever the host, so that a manifest made
// on one host is up to date on the other.
func lockHash() string {
	sum := sha256.New()
	for _, host := range []string{"amd64", "arm64"} {
		text, _ := locks.ReadFile("lock/" + host + ".lock") // embedded
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// compiler finds nvcc. $NVCC is an order: if it does not serve, that is an error.
// Elsewhere a release other than 13.0 is passed over.
func compiler(ctx context.Context, fetch bool) (toolset, error) {
	if asked := os.Getenv("NVCC"); asked != "" {
		tools, err := probe(ctx, asked)
		if err != nil {
			return tools, fmt.Errorf("$NVCC: %w; unset it to use a pinned one", err)
		}
		return tools, nil
	}
	for _, name := range []string{"nvcc", "/usr/local/cuda-13.0/bin/nvcc", "/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc"} {
		if tools, err := probe(ctx, name); err == nil {
			return tools, nil
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return toolset{}, fmt.Errorf("%w: %w", errNoCompiler, err)
	}
	text, err := locks.ReadFile("lock/" + runtime.GOARCH + ".lock")
	if err != nil || runtime.GOOS != "linux" {
		return toolset{}, fmt.Errorf("%w, and none is pinned for %s/%s: install CUDA %s and set $NVCC to its nvcc", errNoCompiler, runtime.GOOS, runtime.GOARCH, release)
	}
	sum := sha256.Sum256(text)
	home := filepath.Join(cache, "roundhouse", "nvcc-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(filepath.Join(home, ".ok")); err != nil {
		if !fetch {
			return toolset{}, fmt.Errorf("%w; `go run ./kernels/build -check` fetches one", errNoCompiler)
		}
		if err := install(ctx, text, home); err != nil {
			return toolset{}, fmt.Errorf("fetch the compiler: %w", err)
		}
	}
	return probe(ctx, filepath.Join(home, "nvidia/cu13/bin/nvcc"))
}

var versionLine = regexp.MustCompile(`release (\d+\.\d+), V([\d.]+)`)

// probe asks a compiler for its version. nvcc finds its headers from the folder
// that it was started in, so links are followed first.
func probe(ctx context.Context, name string) (toolset, error) {
	found, err := exec.LookPath(name)
	if err != nil {
		return toolset{}, err
	}
	if found, err = filepath.EvalSymlinks(found); err != nil {
		return toolset{}, err
	}
	if found, err = filepath.Abs(found); err != nil {
		return toolset{}, err
	}
	out, err := exec.CommandContext(ctx, found, "--version").Output()
	if err != nil {
		return toolset{}, fmt.Errorf("%s --version: %w", found, err)
	}
	version := versionLine.FindSubmatch(out)
	if version == nil || string(version[1]) != release {
		return toolset{}, fmt.Errorf("%s is not of release %s: %q", found, release, version)
	}
	return toolset{bin: filepath.Dir(found), version: string(version[2])}, nil
}

// install downloads the packages of a lock, checks their hashes and unpacks them
// into home, which appears whole or not at all.
func install(ctx context.Context, lock []byte, home string) error {
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(home), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	list, wheels, root := filepath.Join(work, "requirements.lock"), filepath.Join(work, "wheels"), filepath.Join(work, "root")
	if err := os.WriteFile(list, lock, 0o644); err != nil {
		return err
	}
	fmt.Println("fetching nvcc", release, "(105 MB) into", home)
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "-q", "--no-cache-dir", "--no-deps", "--require-hashes",
		"--only-binary=:all:", "--platform", platforms[runtime.GOARCH], "--python-version", "3.11", "-d", wheels, "-r", list)
	if out, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("python3 -m pip download: %w\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(wheels, "*.whl"))
	if err != nil {
		return err
	}
	if want := strings.Count(string(lock), "--hash="); len(files) != want {
		return fmt.Errorf("pip left %d packages, not %d", len(files), want)
	}
	for _, file := range files {
		if err := unpack(file, root); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, ".ok"), nil, 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(home); err != nil { // what an older build left without .ok
		return err
	}
	return os.Rename(root, home)
}

// unneeded is what compiling to images never opens: 114 of 277 MB.
var unneeded = regexp.MustCompile(`\.so(\.\d+)*$|\.a$|/cmake/|/bin/(nvlink|bin2c|cudafe\+\+|__nvcc_device_query)$`)

// maxUnpacked bounds one package; the largest has some 130 MB.
const maxUnpacked = 512 << 20

func unpack(file, root string) error {
	wheel, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer func() { _ = wheel.Close() }() // read only
	left := int64(maxUnpacked)
	for _, entry := range wheel.File {
		if !strings.HasPrefix(entry.Name, "nvidia/cu13/") || !entry.Mode().IsRegular() || unneeded.MatchString(entry.Name) {
			continue
		}
		if !filepath.IsLocal(entry.Name) {
			return fmt.Errorf("entry %q leads out of the package", entry.Name)
		}
		written, err := extract(entry, filepath.Join(root, entry.Name), left)
		if err != nil {
			return err
		}
		if left -= written; left <= 0 {
			return fmt.Errorf("more than %d bytes", int64(maxUnpacked))
		}
	}
	return nil
}

func extract(entry *zip.File, name string, limit int64) (written int64, err error) {
	mode := fs.FileMode(0o644)
	if strings.Contains(entry.Name, "/bin/") { // packages do not keep the bits
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, err
	}
	in, err := entry.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close() // read only
	out, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return 0, err
	}
	written, err = io.Copy(out, io.LimitReader(in, limit))
	return written, errors.Join(err, out.Close())
}
