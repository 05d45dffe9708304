package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/roundhouse-ai/roundhouse/workbench/demo"
	"github.com/roundhouse-ai/roundhouse/workbench/synth"
)

// synthesise writes a model of 0.9 GB, to measure loading with.
func synthesise(ctx context.Context, dir string) error {
	model, err := synth.New(synth.Options{Shape: "demo", Layout: "int4-mixed-2026", Seed: 1})
	if err != nil {
		return err
	}
	text, _ := demo.FS() // without the demo model there is no tokenizer, and none is needed to load
	return model.Write(ctx, dir, text, nil)
}

// sizeOf adds up the safetensors files of a model.
func sizeOf(model string) (size int64, err error) {
	err = filepath.WalkDir(model, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".safetensors" {
			return err
		}
		info, err := os.Stat(name)
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
