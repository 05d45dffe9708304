// Command build compiles kernels/*.cu into the images of kernels/bin and writes
// their manifest. It takes nvcc 13.0 from $NVCC, from PATH or from the usual
// folders, and otherwise fetches a pinned one into the user's cache; it needs a
// host C++ compiler on PATH, no GPU and no CUDA installation. What is up to date
// is left alone. Run it anywhere in the module.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/roundhouse-ai/roundhouse/kernels/host"
)

func main() {
	headers := flag.Bool("headers", false, "write include/rh/check_*.cuh alone, as go generate asks")
	force := flag.Bool("force", false, "compile every image, up to date or not")
	check := flag.Bool("check", false, "compile one architecture anew and compare it with the images, which stay as they are")
	program := flag.String("host", "", "compile the kernels for this machine's CPU instead, into this file (needs g++)")
	root := flag.String("root", "", "the kernels folder, where there is no Go to ask for it")
	jobs := flag.Int("jobs", runtime.NumCPU(), "compilations at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, options{*headers, *force, *check, *program, *root, max(1, *jobs)}); err != nil {
		fmt.Fprintln(os.Stderr, "kernels/build:", err)
		os.Exit(1)
	}
}

type options struct {
	headers, force, check bool
	host, root            string
	jobs                  int
}

func run(ctx context.Context, o options) error {
	root := o.root
	if root == "" {
		var err error
		if root, err = folder(ctx); err != nil {
			return err
		}
	}
	if o.host != "" {
		return host.Copy(ctx, host.Options{Kernels: root, Jobs: o.jobs}, o.host)
	}
	if o.check {
		return runCheck(ctx, root, o.jobs)
	}
	if err := writeHeaders(root); err != nil || o.headers {
		return err
	}
	sources, err := readSources(os.DirFS(root))
	if err != nil {
		return err
	}
	old, err := readManifest(root)
	if err != nil && !o.force {
		fmt.Println("no usable manifest, building all:", err)
	}
	stale := staleImages(sources, old, os.DirFS(filepath.Join(root, "bin")))
	if o.force {
		stale = sources
	}
	if len(stale) == 0 && len(old.Images) == len(sources) {
		fmt.Printf("%d images are up to date\n", len(sources))
		return nil
	}
	tools, err := compiler(ctx, true)
	if err != nil {
		return err
	}
	if tools.version != old.Compiler { // a manifest names one compiler for all
		stale = sources
	}
	return build(ctx, tools, root, sources, stale, o.jobs)
}

func runCheck(ctx context.Context, root string, jobs int) error {
	sources, err := readSources(os.DirFS(root))
	if err != nil {
		return err
	}
	tools, err := compiler(ctx, true)
	if err != nil {
		return err
	}
	if err := compare(ctx, tools, root, sources, jobs); err != nil {
		return fmt.Errorf("%w; run `go run ./kernels/build` and commit what it writes", err)
	}
	fmt.Printf("%d images are what nvcc %s makes for %s\n", len(sources), tools.version, compared)
	return nil
}

// folder is kernels/ of the module that the working folder lies in.
func folder(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", errors.New("no Go module here: run `go run ./kernels/build` in the repository")
	}
	return filepath.Join(strings.TrimSpace(string(out)), "kernels"), nil
}
