package transform

import (
	"testing"
	"time"
)

// A program is measured by the clock of its evaluator, not by that on the wall: while a worker waits for a processor, its clock stands still.
func TestEvalMeasuresByItsClock(t *testing.T) {
	job := Job{Programs: Programs{Transform: `last(repeat(1))`}, Payload: []byte(`{}`)}
	e, checks := newEvaluator(), 0
	e.clock, e.check = func() time.Duration { return 0 }, func() { checks++ }
	if _, err := e.eval(job); err == nil || err.Error() != "transform: "+errSteps.Error() {
		t.Errorf("while the clock stands still: %v", err)
	}
	if checks == 0 {
		t.Error("the heap was never looked at")
	}
	var now time.Duration
	e.clock = func() time.Duration { now += MaxTime; return now }
	if _, err := e.eval(job); err == nil || err.Error() != "transform: "+errTime.Error() {
		t.Errorf("when the clock goes fast: %v", err)
	}
}
