package plugins

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// Serve serves a plugin to the host that started this program, and does not return before
// the host is done with it. What the program prints does no harm: go-plugin keeps it off
// the handshake's line.
func Serve(p *Plugin) {
	if err := p.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	token := os.Getenv(wire.TokenKey)
	_ = os.Unsetenv(wire.TokenKey) // children of this program need it not
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go watchParent(ctx, os.Getenv(wire.ParentKey)) // ends the process, or with it
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
		VersionedPlugins: map[int]plugin.PluginSet{wire.Protocol: {wire.Name: &grpcPlugin{server: newServer(p)}}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxRecvMsgSize(wire.MaxMessage), grpc.MaxSendMsgSize(wire.MaxMessage),
				grpc.UnaryInterceptor(func(ctx context.Context, m any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
					if err := authorised(ctx, token); err != nil {
						return nil, err
					}
					return next(ctx, m)
				}),
				grpc.StreamInterceptor(func(s any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
					if err := authorised(stream.Context(), token); err != nil {
						return err
					}
					return next(s, stream)
				}))...)
		},
		Logger: hclog.NewNullLogger(), // a line a plugin on its start would be noise in the host's log
	})
}

func newServer(p *Plugin) *server {
	return &server{plugin: p, side: program, vocabulary: map[string][][]byte{}}
}

// authorised says whether a call comes from who started this program.
func authorised(ctx context.Context, token string) error {
	m, _ := metadata.FromIncomingContext(ctx)
	if given := m.Get(wire.TokenHeader); token == "" || len(given) == 1 && subtle.ConstantTimeCompare([]byte(given[0]), []byte(token)) == 1 {
		return nil
	}
	return status.Errorf(codes.Unauthenticated, "the call has not the token of this launch in %s", wire.TokenHeader)
}

// check says what is wrong with a plugin before anybody asks.
func (p *Plugin) check() error {
	if p.New == nil {
		return errors.New("plugins: Plugin.New is nil: it makes what serves a choice")
	}
	if !wire.PlainName(p.Name) {
		return fmt.Errorf("plugins: the name %q: it is made of a-z, 0-9, _ and -, 64 at most", p.Name)
	}
	if err := p.Params.Check(); err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	_, err := wire.ToSpec(p.Name, wire.FromSpec(wire.Spec{Spec: p.Spec, Observer: p.Observer, Riding: p.Riding}))
	if err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	return nil
}

// watchEvery is how often a plugin looks whether its host lives.
const watchEvery = 500 * time.Millisecond

// watchParent ends the process once the host is gone: the system does too where the host
// started it directly, but not where something stands between.
func watchParent(ctx context.Context, host string) {
	pid, err := strconv.Atoi(host)
	if err != nil {
		return // nobody said whom to watch
	}
	parent := os.Getppid()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if os.Getppid() != parent || !alive(pid) {
				os.Exit(1)
			}
		}
	}
}

// grpcPlugin is the plugin as go-plugin has it, on either end.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

// GRPCServer implements plugin.GRPCPlugin.
func (g *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterPluginServiceServer(s, g.server)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; the host has its own.
func (g *grpcPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this end serves")
}
