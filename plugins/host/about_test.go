package host

import (
	"strings"
	"testing"

	pb "github.com/roundhouse-ai/roundhouse/plugins/proto/roundhouse/plugin/v1"
)

// What a plugin says of itself is checked before anybody uses it.
func TestDescribeRefuses(t *testing.T) {
	spec := func(change func(*pb.Spec)) *pb.DescribeResponse {
		m := &pb.DescribeResponse{Api: 1, Name: "x", Spec: &pb.Spec{}}
		change(m.Spec)
		return m
	}
	for name, c := range map[string]struct {
		m    *pb.DescribeResponse
		says string
	}{
		"a newer contract": {&pb.DescribeResponse{Api: 2, Name: "x"}, "speaks the contract 2, and this host knows 1"},
		"no contract":      {&pb.DescribeResponse{Name: "x"}, "speaks the contract 0"},
		"a name":           {&pb.DescribeResponse{Api: 1, Name: "../x"}, "names are made of"},
		"a long version":   {&pb.DescribeResponse{Api: 1, Name: "x", Version: strings.Repeat("9", 2000)}, "more than 1000"},
		"no JSON":          {&pb.DescribeResponse{Api: 1, Name: "x", ParamsJson: "{"}, "its parameters"},
		"a type":           {&pb.DescribeResponse{Api: 1, Name: "x", ParamsJson: `{"a": {"type": "object"}}`}, "type \"object\""},
		"an event":         {spec(func(s *pb.Spec) { s.Events = []pb.Event{77} }), "event 77"},
		"a lag":            {spec(func(s *pb.Spec) { s.Lag = 3 }), "a lag of 3"},
		"a budget":         {spec(func(s *pb.Spec) { s.BudgetMs = 1e5 }), "10s at most"},
		"no budget":        {spec(func(s *pb.Spec) { s.BudgetMs = -1 }), "0 to 1e9"},
		"hold":             {spec(func(s *pb.Spec) { s.Hold = 129 }), "128 at most"},
		"top":              {spec(func(s *pb.Spec) { s.Riding = &pb.Riding{Top: 257} }), "256 at most"},
		"an observer":      {spec(func(s *pb.Spec) { s.Observer = true; s.Events = []pb.Event{pb.Event_EVENT_LOGITS} }), "an observer changes nothing"},
	} {
		if _, err := about(&installed{name: "x", command: []string{"true"}}, c.m); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	good := spec(func(s *pb.Spec) { s.Events = []pb.Event{pb.Event_EVENT_LOGITS, pb.Event_EVENT_REQUEST} })
	a, err := about(&installed{name: "x", command: []string{"true"}}, good)
	if err != nil || !a.Spec.Request || len(a.Digest) != 64 {
		t.Errorf("%+v, %v", a, err)
	}
}
