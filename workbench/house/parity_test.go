package main

import "testing"

func TestKindsTellTheWorst(t *testing.T) {
	rows := []row{
		{Tensor: "p1.logits", Values: 10, MaxAbs: 0.5, Tolerance: 1, Cosine: 1, OK: true},
		{Tensor: "p3.logits", Values: 20, MaxAbs: 0.1, Tolerance: 0.15, Cosine: 0.9, OK: true},
		{Tensor: "p1.layer.0.router_experts", Values: 4, Cosine: 1, OK: true},
		{Tensor: "p3.layer.0.router_experts", Values: 4, MaxAbs: 1, Cosine: 1},
	}
	all := kinds(rows)
	if len(all) != 2 || all[0].worst.Tensor != "logits" || all[1].worst.Tensor != "router_experts" {
		t.Fatalf("kinds %+v", all)
	}
	if logits := all[0]; logits.worst.MaxAbs != 0.1 || logits.values != 30 || logits.cosine != 0.9 || !logits.ok {
		t.Errorf("logits %+v: the row closest to its tolerance is the second", logits)
	}
	if experts := all[1]; experts.ok || experts.worst.MaxAbs != 1 {
		t.Errorf("experts %+v: a miss is the worst", experts)
	}
	if worst := closest(rows); worst.OK {
		t.Errorf("the worst row is %+v, not the miss", worst)
	}
}
