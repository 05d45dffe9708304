// Package host compiles the kernels' own sources with g++ into a program that runs
// them on the CPU: device/ has what CUDA C++ has and C++ has not. It is for tests
// without a device, which package drivertest starts.
package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/cpu"
)

//go:embed device
var device embed.FS

// ErrUnavailable says that this machine cannot compile kernels for its CPU.
var ErrUnavailable = errors.New("kernels cannot be compiled for this machine's CPU")

// Options choose what is compiled.
type Options struct {
	// Kernels is the folder of the sources; where it is empty, that of the module
	// which the working folder lies in.
	Kernels string
	// Sanitize compiles with AddressSanitizer: reads past a local array, for one.
	Sanitize bool
	// Jobs is how many files are compiled at a time; 0: one a CPU.
	Jobs int
}

// Each file is an object of its own, so that only stale ones are compiled. A fused
// multiply-add where the device's compiler makes one, and a trap where a device
// traps: addresses off their border; also at an index past its array. No
// position-independent code: shared memory then lies below 4 GB, where PTX's
// 32-bit addresses reach it.
var flags = []string{
	"-std=c++17", "-O1", "-g1", "-fno-pie", "-fno-strict-aliasing", "-fno-exceptions", "-fno-math-errno", "-ffp-contract=fast", "-fwrapv",
	"-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error",
	"-Wno-unknown-pragmas", "-Wno-attributes", "-Wno-class-memaccess",
}

// Build compiles what is stale into the user's cache and returns the program.
func Build(ctx context.Context, o Options) (string, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: the stack switch is written for linux/amd64", ErrUnavailable)
	}
	compiler, err := exec.LookPath("g++")
	if err != nil {
		return "", fmt.Errorf("%w: no g++ on PATH", ErrUnavailable)
	}
	headers, err := headers()
	if err != nil {
		return "", err
	}
	if o.Kernels == "" {
		if o.Kernels, err = folder(); err != nil {
			return "", err
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	b := build{cache: filepath.Join(cache, "roundhouse", "host"), compiler: compiler, flags: slices.Concat(flags, []string{"-I" + headers})}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasBMI2 {
		b.flags = append(b.flags, "-march=x86-64-v3")
	}
	if o.Sanitize {
		b.flags = append(b.flags, "-fsanitize=address")
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return "", err
	}
	if b.files, err = sources(o.Kernels); err != nil {
		return "", err
	}
	if o.Jobs <= 0 {
		o.Jobs = runtime.NumCPU()
	}
	return b.program(ctx, o.Jobs)
}

// headers is the folder of CUDA's headers of half types: beside $NVCC, in the
// cache where `go run ./kernels/build` keeps its compiler, or in the usual place.
func headers() (string, error) {
	var folders []string
	if nvcc, err := exec.LookPath(os.Getenv("NVCC")); err == nil {
		folders = append(folders, filepath.Join(filepath.Dir(nvcc), "../include"))
	}
	if cache, err := os.UserCacheDir(); err == nil {
		found, _ := filepath.Glob(filepath.Join(cache, "roundhouse/nvcc-*/nvidia/cu13/include")) // the pattern is good
		folders = append(folders, found...)
	}
	folders = append(folders, "/usr/local/cuda-13.0/include", "/usr/local/cuda/include", "/opt/cuda/include")
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "cuda_bf16.hpp")); err == nil {
			return folder, nil
		}
	}
	return "", fmt.Errorf("%w: no CUDA headers; `go run ./kernels/build -check` fetches some", ErrUnavailable)
}

// folder is kernels/ of the module that the working folder lies in.
func folder() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "kernels/include/rh/abi.cuh")); err == nil {
			return filepath.Join(at, "kernels"), nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%w: the kernels' sources are not here", ErrUnavailable)
		}
	}
}

type build struct {
	cache, compiler string
	flags           []string
	files           map[string][]byte // translated, by path
}

// sources reads and translates every source and header of ours, and adds device/.
func sources(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, pattern := range []string{"*.cu", "include/rh/*.cuh"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			at, err := filepath.Rel(root, name)
			if err != nil {
				return nil, err
			}
			if files[at], err = translate(name, text); err != nil {
				return nil, err
			}
		}
	}
	entries, err := device.ReadDir("device")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if files["device/"+entry.Name()], err = device.ReadFile("device/" + entry.Name()); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// key names what an object is made from: the file, all headers it reaches, the
// flags and the compiler.
func (b *build) key(name string) string {
	sum := sha256.New()
	seen := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		fmt.Fprintf(sum, "%s %d\n", name, len(b.files[name]))
		sum.Write(b.files[name])
		for _, found := range include.FindAllSubmatch(b.files[name], -1) {
			add("include/" + string(found[1]))
			add(filepath.Join(filepath.Dir(name), string(found[1])))
		}
	}
	add(name)
	add("device/shim.cuh")
	fmt.Fprintln(sum, b.compiler, b.flags)
	return hex.EncodeToString(sum.Sum(nil)[:12])
}

// program compiles the objects that are missing and links all.
func (b *build) program(ctx context.Context, jobs int) (string, error) {
	var units []string
	for name := range b.files {
		if filepath.Ext(name) == ".cu" {
			units = append(units, name)
		}
	}
	slices.Sort(units)
	objects := make([]string, len(units))
	for i, name := range units {
		objects[i] = filepath.Join(b.cache, strings.TrimSuffix(filepath.Base(name), ".cu")+"-"+b.key(name)+".o")
	}
	sum := sha256.Sum256([]byte(strings.Join(objects, "\n")))
	program := filepath.Join(b.cache, "server-"+hex.EncodeToString(sum[:12]))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	work, err := os.MkdirTemp(b.cache, "work-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	for name, text := range b.files {
		file := filepath.Join(work, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644)); err != nil {
			return "", err
		}
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for i, name := range units {
		if _, err := os.Stat(objects[i]); err == nil {
			continue
		}
		group.Go(func() error {
			return b.run(inner, work, objects[i], "-Iinclude", "-Idevice", "-include", "device/shim.cuh", "-c", "-x", "c++", name)
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return program, b.run(ctx, work, program, append([]string{"-no-pie"}, objects...)...)
}

// run starts the compiler; its output appears whole or not at all.
func (b *build) run(ctx context.Context, work, output string, args ...string) error {
	partial, err := os.CreateTemp(b.cache, "partial-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(partial.Name()) }()
	if err := partial.Close(); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, b.compiler, slices.Concat(b.flags, args, []string{"-o", partial.Name()})...)
	command.Dir = work
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("g++ %s: %w\n%s", args[len(args)-1], err, bytes.TrimSpace(out))
	}
	if err := os.Chmod(partial.Name(), 0o755); err != nil {
		return err
	}
	return os.Rename(partial.Name(), output)
}

// Copy builds and writes the program to a file of the caller's.
func Copy(ctx context.Context, o Options, to string) (err error) {
	program, err := Build(ctx, o)
	if err != nil {
		return err
	}
	in, err := os.Open(program)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
