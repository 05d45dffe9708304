package host

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
	"github.com/roundhouse-ai/roundhouse/plugins/wire"
)

// raw is a plugin that speaks the protocol itself, and so can speak it wrongly.
type raw struct {
	pb.UnimplementedPluginServiceServer
	protocol int  // of the handshake; 0 for the right one
	sick     bool // it is not well a while after its start
	describe func(*pb.DescribeResponse)
	begin    func(*pb.Reply)
	reply    func(*pb.Step, *pb.Reply) // of the third token's logits, and of finish
	every    bool                      // of all steps
	observe  func(*pb.Step)            // of an observer: events that have no reply
	step     func(pb.PluginService_SequenceServer, *pb.Step) error
	watch    func(pb.PluginService_WatchServer) error
	rewrite  func(context.Context) (*pb.RewriteResponse, error)
	unary    func(context.Context) error // before every call
}

// serve is its main.
func (r *raw) serve() {
	if r.protocol == 0 {
		r.protocol = wire.Protocol
	}
	began := time.Now()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
		VersionedPlugins: map[int]plugin.PluginSet{r.protocol: {wire.Name: &rawPlugin{raw: r}}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxSendMsgSize(1<<30), grpc.UnaryInterceptor(
				func(ctx context.Context, m any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
					if r.sick && info.FullMethod == grpc_health_v1.Health_Check_FullMethodName && time.Since(began) > 700*time.Millisecond {
						return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}, nil
					}
					if r.unary != nil {
						if err := r.unary(ctx); err != nil {
							return nil, err
						}
					}
					return next(ctx, m)
				}))...)
		},
		Logger: hclog.NewNullLogger(),
	})
}

// Describe implements the service, as those below.
func (r *raw) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	m := &pb.DescribeResponse{Api: wire.API, Name: "raw", Version: "1",
		Spec: &pb.Spec{Events: []pb.Event{pb.Event_EVENT_LOGITS, pb.Event_EVENT_SAMPLE, pb.Event_EVENT_ROUTE, pb.Event_EVENT_FINISH}, RouteLayers: []uint32{1}}}
	if r.describe != nil {
		r.describe(m)
	}
	return m, nil
}

func (r *raw) Rewrite(ctx context.Context, _ *pb.RewriteRequest) (*pb.RewriteResponse, error) {
	return r.rewrite(ctx)
}

func (r *raw) Watch(_ *pb.WatchRequest, stream pb.PluginService_WatchServer) error {
	if r.watch != nil {
		return r.watch(stream)
	}
	<-stream.Context().Done()
	return nil
}

func (r *raw) Sequence(stream pb.PluginService_SequenceServer) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.GetReadResult() != nil {
			continue
		}
		reply, step := &pb.Reply{Step: m.GetStep().GetId()}, m.GetStep()
		third := step.GetEvent() == pb.Event_EVENT_LOGITS && step.GetPosition() == 5
		switch {
		case r.observe != nil && step.GetEvent() == pb.Event_EVENT_TOKEN:
			r.observe(step)
			continue
		case step == nil && r.begin != nil:
			r.begin(reply)
		case r.reply != nil && (third || r.every && step != nil):
			r.reply(step, reply)
		case r.step != nil && third:
			if err := r.step(stream, step); err != nil {
				return err
			}
			continue
		}
		if err := stream.Send(answered(reply)); err != nil {
			return err
		}
	}
}

func answered(r *pb.Reply) *pb.SequenceResponse {
	return &pb.SequenceResponse{Message: &pb.SequenceResponse_Reply{Reply: r}}
}

func asked(r *pb.Read) *pb.SequenceResponse {
	return &pb.SequenceResponse{Message: &pb.SequenceResponse_Read{Read: r}}
}

// rawPlugin is it as go-plugin has it.
type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	raw *raw
}

// GRPCServer implements plugin.GRPCPlugin.
func (p *rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterPluginServiceServer(s, p.raw)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin.
func (*rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this end serves")
}
