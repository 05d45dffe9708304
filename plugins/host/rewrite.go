package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// rewriteTime is how long a plugin may take over the body of a request.
const rewriteTime = 500 * time.Millisecond

// Request lets the plugin change a request's body; it returns the one to go on with. log is
// told what the plugin logs. Errors are *UnavailableError, *hook.ParamError, or the plugin's.
func (p *Plugin) Request(ctx context.Context, body []byte, params map[string]any, log func(string)) ([]byte, error) {
	l, err := p.await(ctx)
	if err != nil {
		return nil, err
	}
	given, err := l.about.fill(params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, rewriteTime)
	defer cancel()
	p.calls.Add(1)
	r, err := l.service.Rewrite(ctx, &pb.RewriteRequest{BodyJson: string(body), ParamsJson: given})
	if code := status.Code(err); ctx.Err() == nil && (code == codes.Unavailable || code == codes.Canceled) {
		p.faults.Add(1)
		return nil, &UnavailableError{Name: p.Name(), After: time.Second, Err: fmt.Errorf("it ended over the body of a request: %w", err)}
	}
	if err == nil && r.GetFault() != nil {
		err = wire.ToFault(r.GetFault())
	}
	if err == nil && r.GetBodyJson() != "" && !json.Valid([]byte(r.GetBodyJson())) {
		err = fmt.Errorf("it is no JSON: %.80q", r.GetBodyJson())
	}
	if err != nil {
		p.faults.Add(1)
		return nil, fmt.Errorf("the plugin %s: the body of the request: %w", p.Name(), err)
	}
	notices, err := wire.ToNotices(r.GetNotices())
	if err != nil {
		return nil, err
	}
	for _, n := range notices {
		if text, ok := n.Value.(string); ok && n.Name == "log" {
			log(text)
		}
	}
	if r.GetBodyJson() == "" {
		return body, nil
	}
	return []byte(r.GetBodyJson()), nil
}

// DefaultBudget is what a call may take where neither the plugin nor the operator says.
const DefaultBudget = 20 * time.Millisecond

// budgeted gives a spec the host's budget where it has none.
func (h *Host) budgeted(s hook.Spec) hook.Spec {
	if s.Budget == 0 {
		s.Budget = h.options.Budget
	}
	return s
}
