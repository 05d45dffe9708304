package workbench

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/workbench/demo"
	"github.com/roundhouse-ai/roundhouse/workbench/models"
	"github.com/roundhouse-ai/roundhouse/workbench/term"
)

// Folder is a model folder that was found.
type Folder struct {
	Name string // the id the model answers to
	Path string // "" for the embedded demo
	FS   fs.FS
	// Synthetic says that the tensors of FS are holes, to be filled with random
	// weights where they are placed.
	Synthetic bool
}

// Folder finds the model of the settings: a folder or org/name, or the embedded
// demo when none is named, or "demo" and no folder is called so. It may be incomplete.
func (a *App) Folder() (Folder, error) {
	folder, err := a.locate()
	if a.Config.ModelName != "" {
		folder.Name = a.Config.ModelName
	}
	if _, incomplete := errors.AsType[*models.Incomplete](err); incomplete && folder.FS != nil {
		return folder, nil
	}
	return folder, err
}

// checkedFolder is Folder for those who are about to load the model: what is
// missing is an error that says how to get it.
func (a *App) checkedFolder() (Folder, error) {
	folder, err := a.locate()
	if err != nil {
		return Folder{}, err
	}
	if a.Config.ModelName != "" {
		folder.Name = a.Config.ModelName
	}
	if folder.Path == "" {
		return folder, nil
	}
	return folder, models.Check(models.Location{Name: folder.Name, Path: folder.Path}, a.Config.Models.Dirs, os.Getenv)
}

func (a *App) locate() (Folder, error) {
	if a.Config.Model == "" {
		return embedded()
	}
	location, err := models.Resolve(a.Config.Model, a.Config.Models.Dirs, os.Getenv)
	if a.Config.Model == demo.Name && errors.Is(err, fs.ErrNotExist) {
		return embedded()
	}
	if location.Path == "" {
		return Folder{}, err
	}
	return Folder{Name: location.Name, Path: location.Path, FS: os.DirFS(location.Path)}, err
}

func embedded() (Folder, error) {
	fsys, ok := demo.FS()
	if !ok {
		return Folder{}, demo.ErrLeftOut
	}
	return Folder{Name: demo.Name, FS: fsys}, nil
}

// open loads a model as the settings say; report, when set, hears how it goes.
func (a *App) open(ctx context.Context, folder Folder, report func(engine.Progress)) (*engine.Model, error) {
	progress := term.NewProgress(a.Err)
	defer progress.Done()
	settings := a.Config.Engine
	model, err := engine.Open(ctx, folder.FS, engine.Options{
		Name: folder.Name, Device: unless(settings.Device, "auto"), Driver: a.Driver, Threads: settings.Threads, KV: unless(settings.KVType, "auto"), Context: settings.Context,
		Streams: settings.Streams, Queue: settings.Queue, CacheTokens: settings.CacheTokens, Overcommit: unless(settings.Overcommit, "off"),
		Kernels: unless(settings.Kernels, "auto"), Numerics: unless(settings.Numerics, "auto"),
		PrefillChunk: settings.PrefillChunk, IgnoreMemory: settings.IgnoreMemory, Synthetic: folder.Synthetic,
		Progress: func(p engine.Progress) {
			if p.Plan != "" {
				_ = progress.Above(a.Err, p.Plan) // as all that is said on standard error
			}
			progress.Update("loading "+p.Stage, p.Done, p.Total)
			if report != nil {
				report(p)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	for _, warning := range model.Warnings() {
		a.Log.Warn("checkpoint", "model", folder.Name, "warning", warning)
	}
	return model, nil
}

// unless is "", the engine's word for its default, where a setting says so.
func unless(value, otherwise string) string {
	if value == otherwise {
		return ""
	}
	return value
}
