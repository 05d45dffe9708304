package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// released is the time of every archived file: an archive's bytes depend on
// its contents only.
var released = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const distDir = "dist"

// dist builds the program for each GOOS/GOARCH, packs it with the completions,
// the licence and the README, and writes SHA256SUMS.
func dist(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	version := flags.String("version", "", "version to stamp")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" || flags.NArg() == 0 {
		return errors.New("give -version and at least one GOOS/GOARCH")
	}
	work, err := os.MkdirTemp("", "roundhouse-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(distDir, 0o755); err != nil {
		return err
	}
	shells, err := completions(ctx, *version, work)
	if err != nil {
		return err
	}
	var sums []string
	for _, platform := range flags.Args() {
		system, machine, ok := strings.Cut(platform, "/")
		if !ok {
			return fmt.Errorf("%q is not GOOS/GOARCH", platform)
		}
		name := fmt.Sprintf("roundhouse-%s-%s-%s", *version, system, machine)
		binary := filepath.Join(work, name)
		if err := compile(ctx, *version, system, machine, binary); err != nil {
			return err
		}
		files := append([]packed{{"roundhouse", binary, 0o755}, {"LICENSE", "LICENSE", 0o644}, {"README.md", "README.md", 0o644}}, shells...)
		sum, err := archive(filepath.Join(distDir, name+".tar.gz"), name, files)
		if err != nil {
			return err
		}
		sums = append(sums, fmt.Sprintf("%s  %s.tar.gz\n", sum, name))
		fmt.Print(sums[len(sums)-1])
	}
	return os.WriteFile(filepath.Join(distDir, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644)
}

func compile(ctx context.Context, version, system, machine, binary string) error {
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version="+version,
		"-o", binary, "./workbench/cmd/roundhouse")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+machine)
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("build for %s/%s: %w", system, machine, err)
	}
	return nil
}

// completions asks a build for this machine for its shell completions.
func completions(ctx context.Context, version, work string) ([]packed, error) {
	host := filepath.Join(work, "host")
	output, err := exec.CommandContext(ctx, "go", "env", "GOHOSTOS", "GOHOSTARCH").Output()
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(output))
	if err := compile(ctx, version, fields[0], fields[1], host); err != nil {
		return nil, err
	}
	var files []packed
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := exec.CommandContext(ctx, host, "completion", shell).Output()
		if err != nil || len(script) == 0 {
			return nil, fmt.Errorf("completion %s: %d bytes, %w", shell, len(script), err)
		}
		file := filepath.Join(work, shell)
		if err := os.WriteFile(file, script, 0o644); err != nil {
			return nil, err
		}
		files = append(files, packed{"completions/roundhouse." + shell, file, 0o644})
	}
	return files, nil
}

// packed is a file of an archive and where its bytes come from; with fs.ModeSymlink
// a link, and source what it points to.
type packed struct {
	name, source string
	mode         fs.FileMode
}

// archive writes a tar.gz with all files under one folder and returns its
// SHA-256.
func archive(target, folder string, files []packed) (sum string, err error) {
	out, err := os.Create(target)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	hash := sha256.New()
	zipped, err := gzip.NewWriterLevel(io.MultiWriter(out, hash), gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if err := errors.Join(pack(zipped, folder, files), zipped.Close()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

// pack writes a tar with all files under one folder.
func pack(out io.Writer, folder string, files []packed) error {
	box := tar.NewWriter(out)
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b packed) int { return strings.Compare(a.name, b.name) })
	for _, file := range files {
		header := &tar.Header{Name: folder + "/" + file.name, Mode: int64(file.mode.Perm()), ModTime: released, Format: tar.FormatUSTAR}
		var data []byte
		if file.mode&fs.ModeSymlink != 0 {
			header.Typeflag, header.Linkname = tar.TypeSymlink, file.source
		} else {
			var err error
			if data, err = os.ReadFile(file.source); err != nil {
				return err
			}
			header.Size = int64(len(data))
		}
		if err := box.WriteHeader(header); err != nil {
			return err
		}
		if _, err := box.Write(data); err != nil {
			return err
		}
	}
	return box.Close()
}
