package host

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// What a killed host left is removed, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dead, alive := fmt.Sprintf("rh%d-1", gone.Process.Pid), fmt.Sprintf("rh%d-1", os.Getpid())
	for _, name := range []string{dead, alive, "rh-1", "rhx-1", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "inner"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	listened := fmt.Sprintf("rh%d-2", gone.Process.Pid)
	if err := os.MkdirAll(filepath.Join(dir, listened, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, listened, "d", "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sweep(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"other", "rh-1", alive, listened, "rhx-1"}; !slices.Equal(left, slices.Sorted(slices.Values(want))) {
		t.Errorf("%v is left, want %v", left, want)
	}
}
