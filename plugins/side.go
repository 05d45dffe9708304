package plugins

import (
	"encoding/json"
	"fmt"
	"sync"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// side is what a plugin tells of itself beside its choices. It keeps the newest reports
// while nobody listens.
type side struct {
	mu      sync.Mutex
	reports []*pb.WatchResponse
	lost    int
	more    chan struct{} // of one place: there is something
}

// maxReports is how many reports are kept; older ones are lost, and counted.
const maxReports = 1024

func newSide() *side { return &side{more: make(chan struct{}, 1)} }

// program is what Log, Metric and Event report to.
var program = newSide()

func (s *side) add(r *pb.WatchResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reports = append(s.reports, r); len(s.reports) > maxReports {
		s.reports = s.reports[1:]
		s.lost++
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// take takes all that is there.
func (s *side) take() []*pb.WatchResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.reports
	if s.lost > 0 {
		list = append(list, logged(pb.Level_LEVEL_WARN, fmt.Sprintf("%d reports were lost: nobody took them in time", s.lost)))
	}
	s.reports, s.lost = nil, 0
	return list
}

// serve streams reports until the stream ends.
func (s *side) serve(stream pb.PluginService_WatchServer) error {
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-s.more:
		}
		for _, r := range s.take() {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
	}
}

func logged(level pb.Level, text string) *pb.WatchResponse {
	return &pb.WatchResponse{Report: &pb.WatchResponse_Log{Log: &pb.Log{Level: level, Message: text}}}
}

func (s *side) log(level pb.Level, text string) { s.add(logged(level, text)) }

// Log tells the host's log something.
func Log(text string) { program.log(pb.Level_LEVEL_INFO, text) }

// Warn is Log for what should not be.
func Warn(text string) { program.log(pb.Level_LEVEL_WARN, text) }

// Metric tells the newest value of a metric, which the host shows as
// roundhouse_plugin_metric. Names are of a-z, 0-9 and _.
func Metric(name string, value float64) {
	program.add(&pb.WatchResponse{Report: &pb.WatchResponse_Metric{Metric: &pb.Metric{Name: name, Value: value}}})
}

// Event tells whoever watches the host's events. value becomes JSON.
func Event(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("the event %s: %w", name, err)
	}
	program.add(&pb.WatchResponse{Report: &pb.WatchResponse_Event{Event: &pb.CustomEvent{Name: name, Json: string(text)}}})
	return nil
}
