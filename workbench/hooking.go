package workbench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/roundhouse-ai/roundhouse/engine"
	"github.com/roundhouse-ai/roundhouse/engine/hook"
	"github.com/roundhouse-ai/roundhouse/workbench/events"
	"github.com/roundhouse-ai/roundhouse/workbench/hooks"
	"github.com/roundhouse-ai/roundhouse/workbench/openai"
)

// hooks makes the owner of scripts and vectors as the settings say. The scripts that
// every request is to have must be there.
func (a *App) hooks(hub *events.Hub) (*hooks.Owner, error) {
	s := a.Config.Scripts
	o := hooks.Options{
		Dir: a.Config.ScriptsDir(os.Environ()), Vectors: a.vectorsDir(), Use: s.Use, Budget: time.Duration(s.Budget),
		Memory: int(s.Memory), Inline: s.Inline, InlineMemory: int(s.InlineMemory), Publish: hub.Publish,
		Record: s.Record,
	}
	// A recording in which a script was late, or failed, is none of what it does: unless the
	// settings say otherwise, no budget holds, and the first failure ends the choice.
	unsaid := func(setting string) bool { return s.Record != "" && a.Config.Origin(setting).Source == "default" }
	if s.OnError == hook.Fail.String() || unsaid("scripts.on_error") {
		o.OnError = hook.Fail
	}
	if unsaid("scripts.budget") {
		o.Budget = 0
	}
	var err error
	if o.Plugins, err = a.plugins(hub); err != nil {
		return nil, err
	}
	o.UsePlugins = a.Config.Plugins.Use
	owner := hooks.New(o)
	if err := owner.Check(); err != nil {
		_ = owner.Close() // nothing runs
		return nil, err
	}
	return owner, nil
}

// serverHooks is an owner as the server wants it.
type serverHooks struct{ *hooks.Owner }

// Prepare implements openai.Hooks.
func (h serverHooks) Prepare(ctx context.Context, ask openai.HookAsk) (openai.HookSet, error) {
	set, err := h.Owner.Prepare(ctx, hooks.Ask(ask))
	if set == nil {
		return nil, err
	}
	return serverSet{set}, nil
}

// serverSet is the hooks of a request as the server wants them.
type serverSet struct{ *hooks.Set }

// Scripts implements openai.HookSet.
func (s serverSet) Scripts(index int) (list []openai.ScriptUse) {
	for _, u := range s.Set.Scripts(index) {
		list = append(list, openai.ScriptUse(u))
	}
	return list
}

// chatHooks has the answers of a conversation use the scripts of every request.
func (a *App) chatHooks(owner *hooks.Owner) func(context.Context, *engine.Request) error {
	told := false
	return func(ctx context.Context, r *engine.Request) error {
		set, err := owner.Prepare(ctx, hooks.Ask{ID: "chat"})
		if err != nil || set == nil {
			return err
		}
		if names := set.Unasked(); len(names) > 0 && !told {
			told = true
			a.Log.Warn("request handlers are called for requests of the API, not in a chat", "scripts", strings.Join(names, ", "))
		}
		r.Hooks = set.Hooking(ctx, hook.Request{ID: "chat", MaxTokens: r.MaxTokens, Seed: r.Sampling.Seed, Choices: 1}, 0)
		return nil
	}
}

// hookNote says what hooks did to an answer that its reader should know; "" for nothing.
func hookNote(r engine.Result) string {
	var notes []string
	if r.StopHook != "" {
		notes = append(notes, fmt.Sprintf("a script stopped the answer: %s", r.StopHook))
	}
	if n := r.Hooks.Degraded; n > 0 {
		notes = append(notes, fmt.Sprintf("%d tokens were drawn without the scripts, which failed", n))
	}
	for _, u := range r.Hooks.Hooks {
		if u.Last != "" {
			notes = append(notes, u.Last)
		}
	}
	return strings.Join(notes, "; ")
}
