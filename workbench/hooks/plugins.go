package hooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/plugins/host"
	"github.com/roundhouse-ai/roundhouse/scripts"
)

// plugged is a plugin, in the place of a script.
type plugged struct {
	*host.Plugin
	about host.About
}

// Info says of a plugin what a script says of itself.
func (p plugged) Info() scripts.Info {
	return scripts.Info{Name: p.Name(), Digest: p.about.Digest, Params: p.about.Params, Spec: p.about.Spec.Spec, Request: p.about.Spec.Request}
}

func (p plugged) Start(ctx context.Context, env scripts.Env) (hook.Hook, error) {
	e := host.Env{Params: env.Params, Model: env.Model, Request: env.Request, Tokenizer: env.Tokenizer, Vectors: env.Vectors}
	if spelled, ok := env.Tokenizer.(interface{ Bytes(id int32) []byte }); ok {
		e.Token = spelled.Bytes
	}
	i, err := p.Plugin.Start(ctx, e)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// use is what is to be told of a part that begins to serve.
func (p *part) use() Use {
	u := Use{Name: p.name, Digest: p.script.Info().Digest}
	if plugin, ok := p.script.(plugged); ok {
		u.Kind, u.Version = "plugin", plugin.about.Version
	}
	return u
}

// field is the field of a request that a part comes of.
func (p *part) field() string {
	switch p.script.(type) {
	case plugged:
		return "plugin"
	case apart:
		return "source.file"
	}
	return "script"
}

// awaited is how long a request waits for a plugin that is starting.
const awaited = 10 * time.Second

// findPlugins finds the plugins: those that every request has, and those that are named.
func (s *Set) findPlugins(ctx context.Context, ask Ask) error {
	o := s.owner.options
	ctx, cancel := context.WithTimeout(ctx, awaited)
	defer cancel()
	for n, name := range slices.Concat(o.UsePlugins, ask.Plugins) {
		used := n < len(o.UsePlugins)
		if !used && slices.Contains(o.UsePlugins, name) {
			continue // it is there already
		}
		plugin, err := o.Plugins.Get(name)
		var about host.About
		if err == nil {
			about, err = plugin.About(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = &host.UnavailableError{Name: name, After: time.Second, Err: errors.New("it is still starting")}
		}
		if err != nil && used {
			e := refuse(fmt.Errorf("the plugin %s, which every request has here: %w", name, err), "")
			if e.Status < http.StatusInternalServerError {
				e.Status = http.StatusInternalServerError
			}
			return e
		}
		if err != nil {
			return refuse(err, "plugin")
		}
		s.parts = append(s.parts, &part{name: name, script: plugged{plugin, about}, named: !used})
	}
	return nil
}

// Plugins runs the plugins; nil for none.
func (o *Owner) Plugins() *host.Host { return o.options.Plugins }
