package host

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/roundhouse-ai/roundhouse/engine/hook"
	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// About is what a plugin says of itself.
type About struct {
	Name, Version, Description string
	Digest                     string // of its program, and of its version
	Params                     hook.Params
	Spec                       wire.Spec
}

// launched is a plugin that runs.
type launched struct {
	client  *plugin.Client
	process *process
	service pb.PluginServiceClient
	health  grpc_health_v1.HealthClient
	about   About
}

// environment is what a plugin sees of the host's: nothing that could hold a secret, but for
// what the operator names.
func environment(more []string) (env []string) {
	for _, name := range append([]string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"}, more...) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// secret is sent with every call.
type secret string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s secret) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{wire.TokenHeader: string(s)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a socket in a folder
// of this user's is as good.
func (secret) RequireTransportSecurity() bool { return false }

// launch starts a plugin and asks what it is. Whatever goes wrong after its start, nothing
// of it is left.
func (h *Host) launch(ctx context.Context, p *installed, logs *logs) (*launched, error) {
	program, err := exec.LookPath(p.command[0])
	if err != nil {
		return nil, fmt.Errorf("the plugin %s: its program: %w", p.name, err)
	}
	if err := p.verify(program, h.options.Dir, h.options.Pins); err != nil {
		return nil, err
	}
	token := secret(rand.Text())
	l := &launched{process: &process{name: p.name, launcher: h.launcher, noise: &liner{logs: logs, level: "stdout"}, ended: make(chan struct{})}}
	config := &plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
		VersionedPlugins: map[int]plugin.PluginSet{wire.Protocol: {wire.Name: &service{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, sockets string) (runner.Runner, error) {
			cmd.Path, cmd.Args, cmd.Dir, cmd.Err = program, p.command, p.dir, nil
			cmd.Env = append(append(environment(h.options.Env), wire.TokenKey+"="+string(token), wire.ParentKey+"="+strconv.Itoa(h.options.Parent)), cmd.Env...)
			l.process.prepare(cmd, sockets)
			return l.process, nil
		},
		SkipHostEnv:      true,
		AutoMTLS:         p.mtls,
		StartTimeout:     h.options.StartTimeout + time.Second, // connect is first
		Stderr:           &liner{logs: logs, level: "stderr"},
		SyncStdout:       &liner{logs: logs, level: "info"}, // what plugins in Go print once they serve
		SyncStderr:       &liner{logs: logs, level: "stderr"},
		Logger:           hclog.NewNullLogger(),
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: h.sockets},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithPerRPCCredentials(token),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage), grpc.MaxCallSendMsgSize(wire.MaxMessage)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.dial(ctx) }),
		},
	}
	l.client = plugin.NewClient(config)
	if err := h.connect(ctx, p, l); err != nil {
		l.stop(0)
		return nil, err
	}
	return l, nil
}

// connect starts the process, and asks it.
func (h *Host) connect(ctx context.Context, p *installed, l *launched) error {
	ctx, cancel := context.WithTimeout(ctx, h.options.StartTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, l.process.killGroup) // go-plugin's own wait knows no context
	defer stop()
	protocol, err := l.client.Client()
	if err != nil {
		return l.diagnose(ctx, p, err)
	}
	raw, err := protocol.Dispense(wire.Name)
	if err != nil {
		return fmt.Errorf("the plugin %s: %w", p.name, err)
	}
	conn := raw.(*grpc.ClientConn) // service makes it
	l.service, l.health = pb.NewPluginServiceClient(conn), grpc_health_v1.NewHealthClient(conn)
	if err := l.healthy(ctx); err != nil {
		return l.diagnose(ctx, p, err)
	}
	m, err := l.service.Describe(ctx, &pb.DescribeRequest{HostVersion: h.options.Version, Api: wire.API})
	if err != nil {
		return fmt.Errorf("the plugin %s does not say what it is (Describe): %w", p.name, err)
	}
	l.about, err = about(p, m)
	return err
}

// lives says whether its process has not ended, as far as that is known.
func (l *launched) lives() bool {
	select {
	case <-l.process.ended:
		return false
	default:
		return true
	}
}

// healthy asks for the plugin's status: that it answers is not enough.
func (l *launched) healthy(ctx context.Context) error {
	m, err := l.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	if err != nil {
		return fmt.Errorf("its health check: %w", err)
	}
	if s := m.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("its health is %v", s)
	}
	return nil
}

// dial connects to the plugin's socket, and looks who is there.
func (l *launched) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", l.process.address)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn.(*net.UnixConn), l.process.started()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// diagnose says why a plugin did not come to its first answer.
func (l *launched) diagnose(ctx context.Context, p *installed, err error) error {
	if l.process.started() == 0 {
		return err
	}
	said := l.process.stdout.said()
	line, rest, _ := strings.Cut(said, "\n")
	parts := strings.Split(line, "|")
	handshake := len(parts) >= 5 && parts[0] == "1"
	switch {
	case !handshake && said != "":
		return fmt.Errorf("the plugin %s printed %.300q where its handshake belongs: what a plugin prints goes to stderr; its SDK sees to that once it serves", p.name, said)
	case !handshake && ctx.Err() != nil:
		return fmt.Errorf("the plugin %s (%s) has said nothing in the time that it has: its first line is its handshake: %w", p.name, strings.Join(p.command, " "), ctx.Err())
	case !handshake:
		l.process.killGroup() // it may live, with its standard output closed
		<-l.process.ended
		return fmt.Errorf("the plugin %s (%s) ended before its handshake: %v; `roundhouse plugins logs %s` has what it wrote", p.name, strings.Join(p.command, " "), l.process.cmd.ProcessState, p.name)
	case parts[1] != strconv.Itoa(wire.Protocol):
		return fmt.Errorf("the plugin %s speaks version %.20q of the handshake, and this host %d: a newer host, or an older plugin, is needed", p.name, parts[1], wire.Protocol)
	case l.process.address == "": // it was not taken
		return fmt.Errorf("the plugin %s: %w", p.name, err)
	case p.mtls && (len(parts) < 6 || len(parts[5]) <= 50):
		return fmt.Errorf("the plugin %s has no certificate for mutual TLS: where it cannot have one, its plugin.toml says mtls = false, and a token and its private socket stand in", p.name)
	case !p.mtls && len(parts) >= 6 && len(parts[5]) > 50:
		return fmt.Errorf("the plugin %s speaks mutual TLS, and its plugin.toml says mtls = false: take that away", p.name)
	case status.Code(err) == codes.Unauthenticated:
		return fmt.Errorf("the plugin %s refuses this launch's token: %w", p.name, err)
	case rest != "":
		return fmt.Errorf("the plugin %s, which printed %.200q behind its handshake: %w", p.name, rest, err)
	}
	return fmt.Errorf("the plugin %s: %w", p.name, err)
}

// maxLine bounds names and texts of a plugin.
const maxLine = 1000

// about checks what a plugin says of itself.
func about(p *installed, m *pb.DescribeResponse) (a About, err error) {
	bad := func(format string, args ...any) (About, error) {
		return a, fmt.Errorf("the plugin %s: %w", p.name, fmt.Errorf(format, args...))
	}
	if m.GetApi() != wire.API {
		return bad("it speaks the contract %d, and this host knows %d: a newer host, or an older plugin, is needed", m.GetApi(), wire.API)
	}
	if !wire.PlainName(m.GetName()) {
		return bad("it calls itself %.80q: names are made of a-z, 0-9, _ and -", m.GetName())
	}
	if len(m.GetVersion()) > maxLine || len(m.GetDescription()) > maxLine {
		return bad("version or description of more than %d bytes", maxLine)
	}
	a = About{Name: p.name, Version: m.GetVersion(), Description: m.GetDescription()}
	if text := m.GetParamsJson(); text != "" {
		if err := json.Unmarshal([]byte(text), &a.Params); err != nil {
			return bad("its parameters: %w", err)
		}
		if err := a.Params.Check(); err != nil {
			return bad("its parameters: %w", err)
		}
	}
	if a.Spec, err = wire.ToSpec(p.name, m.GetSpec()); err != nil {
		return bad("what it wants: %w", err)
	}
	program, err := exec.LookPath(p.command[0])
	if err == nil {
		a.Digest, err = digest(program)
	}
	if err != nil {
		return bad("%w", err)
	}
	return a, nil
}

// stop ends a plugin: in order, where it does so in time, and by force otherwise.
func (l *launched) stop(grace time.Duration) {
	force := time.AfterFunc(grace, l.process.killGroup)
	defer force.Stop()
	l.client.Kill()
	l.process.killGroup()
	if l.process.started() != 0 {
		<-l.process.ended
	}
	_ = os.RemoveAll(l.process.sockets) // go-plugin leaves it where a program did not start
}

// service is the plugin as go-plugin has it, on the host's end: the connection.
type service struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer implements plugin.GRPCPlugin; plugins have their own.
func (*service) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("this end does not serve")
}

// GRPCClient implements plugin.GRPCPlugin.
func (*service) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
