package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	stream := `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestTable"}
{"Action":"run","Package":"p","Test":"TestTable/a"}
{"Action":"run","Package":"p","Test":"TestTable/b"}
{"Action":"output","Package":"p","Test":"TestTable/b","Output":"    x_test.go:7: wrong by 3\n"}
{"Action":"pass","Package":"p","Test":"TestTable/a"}
{"Action":"fail","Package":"p","Test":"TestTable/b"}
{"Action":"fail","Package":"p","Test":"TestTable"}
{"Action":"run","Package":"p","Test":"TestBig"}
{"Action":"output","Package":"p","Test":"TestBig","Output":"    x_test.go:9: shared data not found: set ROUNDHOUSE_SHARED\n"}
{"Action":"skip","Package":"p","Test":"TestBig"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"ImportPath":"q","Action":"build-output","Output":"q.go:1: syntax error\n"}
{"Action":"fail","Package":"q","FailedBuild":"q"}
{"Action":"run","Package":"r","Test":"TestOne"}
{"Action":"pass","Package":"r","Test":"TestOne"}
{"Action":"pass","Package":"r","Elapsed":0.1}
`
	var out strings.Builder
	counts := newTally(&out)
	if err := counts.read(strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	counts.close(0)
	for _, want := range []string{"wrong by 3", "syntax error", "FAIL  p", "FAIL  q", "ok    r", "skipped 1: shared data not found\n", "\n2 passed, 2 failed, 1 skipped\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}
