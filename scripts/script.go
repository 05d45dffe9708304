// Package scripts runs hooks written in JavaScript or TypeScript. A script is
// bundled with what it imports of its folder, compiled once, and run in a machine of
// its own for every choice: in process, with budgets, bounded built-ins, and without
// files, network or processes.
//
//	store, err := scripts.Open(root, scripts.Options{})
//	script, err := store.Get("sampler")            // sampler.ts or sampler.js below root
//	body, err := script.Request(body, params, log) // once a request
//	instance, err := script.Start(env)             // once a choice
//	chain, err := hook.NewChain(options, instance)
//
// A script of a store follows its files: what runs goes on with a new version from the
// first token after it was compiled, and with the old one where the new does not work.
// What a script sees is one table (see kinds), which roundhouse.d.ts is made of.
package scripts

//go:generate go run ./internal/gen roundhouse.d.ts ../workbench/docs/script-api.md

import (
	"context"
	"io/fs"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
)

// Script is a script of a store, or of a folder that stays as it is. It is safe for
// concurrent use.
type Script struct {
	name    string
	host    *Host
	follow  *follower // nil where the files stay as they are
	current atomic.Pointer[version]
}

// Info is what a script says of itself.
type Info struct {
	Name    string // for reports; of the file where the script names none
	Digest  string // of the bundle: the same text has the same
	Params  hook.Params
	Spec    hook.Spec // but for Events, which each choice decides
	Request bool      // it wants to see requests
}

// Load bundles a script of a folder that stays as it is, and reads what it declares.
// Errors are *LoadError, but for *BusyError.
func (h *Host) Load(ctx context.Context, folder fs.FS, entry string) (*Script, error) {
	v, _, err := h.load(ctx, folder, entry)
	if err != nil {
		return nil, err
	}
	s := &Script{name: v.name, host: h}
	s.current.Store(v)
	return s, nil
}

// LoadSource is Load, for a script that is one text and imports nothing but the module
// roundhouse. file is its name in messages, and says whether it is TypeScript: "inline.ts".
func (h *Host) LoadSource(ctx context.Context, file, text string) (*Script, error) {
	return h.Load(ctx, single{file, text}, file)
}

// Name is what the script is found by.
func (s *Script) Name() string { return s.name }

// Info returns what the newest version that works says of itself.
func (s *Script) Info() Info {
	v := s.current.Load()
	return Info{Name: v.name, Digest: v.digest, Params: v.params, Spec: v.spec, Request: v.hasRequest}
}

// Request lets a script change a request's body, once for all its choices. It
// returns the body to go on with.
// Errors are a *BusyError, a *hook.ParamError or a *LoadError.
func (s *Script) Request(body []byte, params map[string]any, log func(string)) ([]byte, error) {
	version := s.current.Load()
	if !version.hasRequest {
		return body, nil
	}
	filled, err := version.params.Fill(params)
	if err != nil {
		return nil, err
	}
	v, err := s.host.machine()
	if err != nil {
		return nil, err
	}
	defer v.close()
	err = v.do(nil, loadTime, func() error {
		exported, err := v.open(version.program, time.Time{})
		if err != nil {
			return err
		}
		request, context := v.parsed(string(body)), v.rt.NewObject()
		_ = context.Set("params", v.plain(filled))
		_ = context.Set("log", func(c goja.FunctionCall) goja.Value {
			text := v.logLine(c.Arguments)
			v.outside(func() error { log(text); return nil })
			return goja.Undefined()
		})
		handler, _ := goja.AssertFunction(exported.Get("request"))
		out, err := handler(exported, request, context)
		if err != nil {
			return err
		}
		if err := settled(out); err != nil {
			return err
		}
		body = []byte(v.json(request))
		return nil
	})
	if err != nil {
		return nil, &LoadError{File: version.name, Lines: []string{placed(err)}}
	}
	return body, nil
}

// settled refuses a promise: nobody would wait for it.
func settled(value goja.Value) error {
	if o, ok := value.(*goja.Object); ok && o.ExportType() == promiseType {
		return faultf(hook.Misuse, "the handler returned a promise: handlers are not async, nothing waits for them")
	}
	return nil
}

var promiseType = reflect.TypeFor[*goja.Promise]()
