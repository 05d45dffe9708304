package workbench

import (
	"context"
	"errors"
	"os"

	"github.com/roundhouse-ai/roundhouse/workbench/demo"
	"github.com/roundhouse-ai/roundhouse/workbench/synth"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Synth writes a synthetic model's folder.
func (a *App) Synth(ctx context.Context, dir string, o synth.Options) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	model, err := synth.New(o)
	if err != nil {
		return UsageError{err}
	}
	text, ok := demo.FS()
	if !ok {
		a.Log.Warn("the folder gets no tokenizer: this build has no demo model to take it from")
	}
	progress := term.NewProgress(a.Err)
	defer progress.Done()
	return model.Write(ctx, dir, text, func(done, total int64) { progress.Update("writing "+dir, done, total) })
}

// outline makes a folder of a synthetic model without tensors, which remove
// deletes.
func outline(o synth.Options) (folder Folder, remove func() error, err error) {
	model, err := synth.New(o)
	if err != nil {
		return Folder{}, nil, UsageError{err}
	}
	dir, err := os.MkdirTemp("", "roundhouse-synth-")
	if err != nil {
		return Folder{}, nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	if err := model.Outline(dir); err != nil {
		return Folder{}, nil, errors.Join(err, remove())
	}
	return Folder{Name: o.Shape, Path: dir, FS: os.DirFS(dir), Synthetic: true}, remove, nil
}
