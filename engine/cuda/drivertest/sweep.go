package drivertest

import (
	"errors"
	"testing"

	"github.com/roundhouse-ai/roundhouse/engine/cuda/driver"
)

// sweepRuns bounds how often a sweep runs its work with each kind of failure.
const sweepRuns = 200

// Sweep proves that work bears the failure of any call. It runs once on a fresh
// fake to count the calls, and then again and again, each time with another call
// failing: out of memory, a launch that failed, an illegal address. Work closes
// what it opened. Each run must leave no Problems and return the failure; one for
// lack of memory may be made good instead. Of more than sweepRuns calls, so many
// fail, spread out.
func Sweep(t testing.TB, o Options, work func(d driver.Driver) error) {
	t.Helper()
	calls := 0
	run := func(n int, code driver.Code) error {
		f := Open(t, o)
		if n > 0 {
			f.Fail(n, code)
		}
		err := work(f)
		for _, problem := range f.Problems() {
			t.Errorf("call %d of %d with %v: %s (%v)", n, calls, code, problem, err)
		}
		if n == 0 {
			calls = f.Calls()
		}
		return err
	}
	if err := run(0, 0); err != nil {
		t.Fatalf("without a failure: %v", err)
	}
	step := max(1, (calls+sweepRuns-1)/sweepRuns)
	for at, code := range []driver.Code{driver.OutOfMemory, driver.LaunchFailed, driver.IllegalAddress} {
		for n := 1 + at%step; n <= calls && !t.Failed(); n += step { // each code at calls of its own
			err := run(n, code)
			var failed *driver.Error
			switch {
			case err == nil && code == driver.OutOfMemory:
			case !errors.As(err, &failed) || failed.Code != code:
				t.Errorf("call %d of %d with %v: %v", n, calls, code, err)
			}
		}
	}
}
