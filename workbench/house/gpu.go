package main

import (
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
	"strings"
)

const (
	gpuDir = "dist/gpu"
	// What travels to a machine with a GPU: the tree and the bundle.
	bundleBound, treeBound = 18 << 20, 44 << 20
)

// gpuTests names the packages with tests for a device, by their set in
// workbench/gpu/run.sh.
var gpuTests = map[string]string{
	"driver":  "engine/cuda/driver",
	"kernels": "engine/cuda",
	"parity":  "engine/parity",
	"engine":  "engine",
	"cli":     "workbench/cmd/roundhouse",
}

// gpuBundle packs the tests of a device and the program for a Linux machine that has
// the tree but no Go, and checks that tree and bundle are small. With -shared it
// also packs the part of the shared data that the tests compare with.
func gpuBundle(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("gpu-bundle", flag.ContinueOnError)
	data := flags.Bool("shared", false, "also pack the models and goldens of the shared data folder")
	version := flags.String("version", "", "version to stamp")
	if err := flags.Parse(args); err != nil {
		return err
	}
	tracked, err := trackedFiles(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(gpuDir, 0o755); err != nil {
		return err
	}
	bundle := filepath.Join(gpuDir, "bundle.tar.xz")
	if err := bundleBinaries(ctx, *version, bundle); err != nil {
		return err
	}
	archive := filepath.Join(gpuDir, "shared.tar.xz")
	if *data {
		err = bundleShared(ctx, tracked, archive)
	} else {
		err = os.RemoveAll(archive) // of another tree, perhaps
	}
	if err != nil {
		return err
	}
	tree, binaries := fits("tracked tree", treeBound, tracked...), fits(bundle, bundleBound, bundle)
	if size := sum(archive); size > 0 {
		fmt.Printf("%-52s %9.4g MiB\n", archive, mebi(size))
	}
	if !tree || !binaries {
		return errors.New("too large to travel: `git ls-files -s` and `tar -tvf` of the bundle say what takes the room")
	}
	return nil
}

// bundleBinaries builds and packs. The binaries have most of their bytes in common,
// the runtime and the kernels' images; in one archive these count once.
func bundleBinaries(ctx context.Context, version, target string) error {
	work, err := os.MkdirTemp("", "roundhouse-gpu-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var files []packed
	build := func(name, folder string, command ...string) error {
		file := packed{name, filepath.Join(work, name), 0o755}
		files = append(files, file)
		// Without the demo model, which is in the tree.
		command = append(command, "-trimpath", "-tags", "nodemo", "-ldflags", "-s -w -buildid= -X main.version="+version, "-o", file.source, "./"+folder)
		tool := exec.CommandContext(ctx, "go", command...)
		tool.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		tool.Stderr = os.Stderr
		if err := tool.Run(); err != nil {
			return fmt.Errorf("build %s of %s: %w", name, folder, err)
		}
		return nil
	}
	if err := build("roundhouse", "workbench/cmd/roundhouse", "build"); err != nil {
		return err
	}
	for set, folder := range gpuTests {
		if err := build(set+".test", folder, "test", "-c"); err != nil {
			return err
		}
	}
	return compress(ctx, target, "bundle", files)
}

// bundleShared packs the models and goldens that engine/parity reads. What the tree
// has too is a link into `tree`, which the runner makes beside the unpacked folder.
func bundleShared(ctx context.Context, tracked []string, target string) error {
	dir, err := sharedDir()
	if err != nil {
		return err
	}
	inTree := map[[sha256.Size]byte]string{}
	for _, name := range tracked {
		hash, err := hashOf(name)
		if err != nil {
			return err
		}
		inTree[hash] = filepath.ToSlash(name)
	}
	var files []packed
	for _, part := range []string{"models/micro", "models/demo-int4-mixed", "goldens/micro", "goldens/demo-int4-mixed.json", "goldens/demo-int4-mixed.safetensors"} {
		err := list(filepath.Join(dir, part), func(name string) error {
			name = filepath.ToSlash(filepath.Join(part, name))
			source := filepath.Join(dir, name)
			hash, err := hashOf(source)
			if twin, ok := inTree[hash]; ok {
				up := strings.Repeat("../", strings.Count(name, "/")+1)
				files = append(files, packed{name, up + "tree/" + twin, 0o777 | fs.ModeSymlink})
			} else {
				files = append(files, packed{name, source, 0o644})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return compress(ctx, target, "shared", files)
}

// compress writes a tar.xz whose dictionary reaches over all of it.
func compress(ctx context.Context, target, folder string, files []packed) (err error) {
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	xz := exec.CommandContext(ctx, "xz", "--stdout", "--lzma2=preset=9e,dict=128MiB")
	xz.Stdout, xz.Stderr = out, os.Stderr
	in, err := xz.StdinPipe()
	if err != nil {
		return err
	}
	if err := xz.Start(); err != nil {
		return fmt.Errorf("%w: install xz (package xz-utils)", err)
	}
	return errors.Join(pack(in, folder, files), in.Close(), xz.Wait())
}

// trackedFiles lists the files of the tree that git knows and that are still there.
func trackedFiles(ctx context.Context) ([]string, error) {
	output, err := exec.CommandContext(ctx, "git", "ls-files", "-z").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var names []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(output), "\x00"), "\x00") {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	return names, nil
}

// fits says whether files together take at most so many bytes, and prints it.
func fits(what string, bound int64, names ...string) bool {
	return judge(what, mebi(sum(names...)), "MiB", mebi(bound), false)
}

func mebi(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// sum adds up the sizes of the files that are there.
func sum(names ...string) (bytes int64) {
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

func hashOf(name string) (hash [sha256.Size]byte, err error) {
	file, err := os.Open(name)
	if err != nil {
		return hash, err
	}
	defer file.Close() // read only
	all := sha256.New()
	if _, err := io.Copy(all, file); err != nil {
		return hash, err
	}
	return [sha256.Size]byte(all.Sum(nil)), nil
}
