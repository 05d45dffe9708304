package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roundhouse-ai/roundhouse/kernels"
)

// maxImages bounds what the repository and every binary carry.
const maxImages = 8 << 20

// build compiles the stale sources, keeps the other images and writes the
// manifest last: an interrupted build is found stale by the next.
func build(ctx context.Context, tools toolset, root string, sources, stale []source, jobs int) error {
	started := time.Now()
	work, err := os.MkdirTemp("", "roundhouse-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := compileAll(ctx, tools, root, work, stale, archs, jobs); err != nil {
		return err
	}
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	manifest := kernels.Manifest{Compiler: tools.version, Lock: lockHash(), Flags: flags, Archs: archs}
	total := 0
	for _, s := range sources {
		name := filepath.Join(bin, s.name+".fatbin")
		if slices.ContainsFunc(stale, func(other source) bool { return other.name == s.name }) {
			if err := join(ctx, tools, work, s, name); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := checkImage(data, s.kernels); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		total += len(data)
		sum := sha256.Sum256(data)
		manifest.Images = append(manifest.Images, kernels.Image{Name: s.name, SHA256: hex.EncodeToString(sum[:]), Sources: s.hashes, Kernels: s.kernels})
	}
	if total > maxImages {
		return fmt.Errorf("the images have %d bytes together, more than %d", total, maxImages)
	}
	if err := removeOthers(bin, sources); err != nil {
		return err
	}
	text, err := json.MarshalIndent(manifest, "", "\t")
	if err != nil {
		return err
	}
	fmt.Printf("%d of %d images compiled with nvcc %s in %.1f s, %d bytes in all\n", len(stale), len(sources), tools.version, time.Since(started).Seconds(), total)
	return os.WriteFile(filepath.Join(bin, "manifest.json"), append(text, '\n'), 0o644)
}

// compared is the architecture that stands for all when images are checked: the
// one with the most that is its own.
const compared = "sm_90a"

// compare compiles one architecture of every source and says which images hold
// other bytes.
func compare(ctx context.Context, tools toolset, root string, sources []source, jobs int) error {
	manifest, err := readManifest(root)
	if err != nil {
		return err
	}
	if tools.version != manifest.Compiler {
		return fmt.Errorf("nvcc here is %s, the images were made with %s", tools.version, manifest.Compiler)
	}
	work, err := os.MkdirTemp("", "roundhouse-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := compileAll(ctx, tools, root, work, sources, []string{compared}, jobs); err != nil {
		return err
	}
	for _, s := range sources {
		image, err := os.ReadFile(filepath.Join(root, "bin", s.name+".fatbin"))
		if err != nil {
			return err
		}
		parts, err := unpackImage(image)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		code, err := os.ReadFile(part(work, s, compared))
		if err != nil {
			return err
		}
		if !bytes.Equal(code, parts[compared]) {
			return fmt.Errorf("%s.cu for %s compiles to other bytes than the committed ones", s.name, compared)
		}
	}
	return nil
}

// removeOthers deletes images whose source is gone.
func removeOthers(bin string, sources []source) error {
	images, err := filepath.Glob(filepath.Join(bin, "*.fatbin"))
	if err != nil {
		return err
	}
	for _, image := range images {
		name := strings.TrimSuffix(filepath.Base(image), ".fatbin")
		if slices.ContainsFunc(sources, func(s source) bool { return s.name == name }) {
			continue
		}
		if err := os.Remove(image); err != nil {
			return err
		}
	}
	return nil
}

// compileAll runs one job a file and architecture: nvcc's own parallelism saved
// nothing, because each architecture repeats preprocessing anyway.
func compileAll(ctx context.Context, tools toolset, root, work string, sources []source, archs []string, jobs int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for _, s := range sources {
		for _, arch := range archs {
			group.Go(func() error { return compile(ctx, tools, root, work, s, arch) })
		}
	}
	return group.Wait()
}

// part is where the code of one architecture lies until it is joined.
func part(work string, s source, arch string) string {
	return filepath.Join(work, s.name+"."+arch)
}

func compile(ctx context.Context, tools toolset, root, work string, s source, arch string) error {
	kind := "-cubin"
	if strings.HasPrefix(arch, "compute_") {
		kind = "-ptx"
	}
	args := slices.Concat(flags, []string{kind, "-arch=" + arch, "-o", part(work, s, arch), s.name + ".cu"})
	if err := tools.run(ctx, root, work, "nvcc", args...); err != nil {
		return fmt.Errorf("%s.cu for %s: %w", s.name, arch, err)
	}
	code, err := os.ReadFile(part(work, s, arch))
	if err != nil {
		return err
	}
	if kind == "-ptx" {
		err = checkPTX(code, s.kernels)
	} else {
		err = checkCubin(code, s.kernels)
	}
	if err != nil {
		return fmt.Errorf("%s.cu for %s: %w", s.name, arch, err)
	}
	return nil
}

// join packs the architectures of a source into one image. Of the modes of
// compression only "size" packs machine code: 27 KB where the default has 102.
func join(ctx context.Context, tools toolset, work string, s source, name string) error {
	args := []string{"-64", "--compress-mode=size", "--create=" + part(work, s, "fatbin")}
	for _, arch := range archs {
		kind, number, _ := strings.Cut(arch, "_")
		kind = map[string]string{"sm": "elf", "compute": "ptx"}[kind]
		args = append(args, fmt.Sprintf("--image3=kind=%s,sm=%s,file=%s", kind, number, part(work, s, arch)))
	}
	if err := tools.run(ctx, work, work, "fatbinary", args...); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	data, err := os.ReadFile(part(work, s, "fatbin"))
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// run starts one of the compiler's programs with an environment that holds
// nothing but PATH, for the host compiler: NVCC_APPEND_FLAGS or CPATH would
// change the images.
func (t toolset) run(ctx context.Context, dir, temp, program string, args ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(t.bin, program), args...)
	command.Dir = dir
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp, "LC_ALL=C"}
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, bytes.TrimSpace(out))
	}
	return nil
}
