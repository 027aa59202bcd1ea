package engine

import (
	"sync/atomic"
	"time"
)

// Instants that are stored are of the wall clock, which may be set: it goes back and forth. What a process waits for is measured by the
// monotonic clock, which time.Now reads as well: the lanes keep their instants in it, and take over what the wall clock says only once, when
// they are told of an instant that is stored. When the wall clock is set, they ask the store again.

// wallOffset is what tests set the wall clock forward by, in nanoseconds.
var wallOffset atomic.Int64

// utcNow returns the time as it is stored: in UTC, by the wall clock alone.
func utcNow() time.Time { return time.Now().UTC().Round(0).Add(time.Duration(wallOffset.Load())) }

// monotonic converts an instant of the wall clock to one of the monotonic clock, as the clocks stand now.
func monotonic(wall time.Time) time.Time {
	wait := wall.Sub(utcNow())
	return time.Now().Add(wait) // read later: rather a moment too late than too early
}

// minClockStep is the least difference between the clocks that counts as a step. Clocks that are disciplined slowly differ by far less.
const minClockStep = 500 * time.Millisecond

// clockWatch notices when the wall clock is set. It is for one goroutine.
type clockWatch struct{ wall, mono time.Time }

func newClockWatch() clockWatch { return clockWatch{utcNow(), time.Now()} }

// step returns by how much the wall clock was set forward since the last call, or back; 0 if it was not set.
func (c *clockWatch) step() time.Duration {
	now := newClockWatch()
	by := now.wall.Sub(c.wall) - now.mono.Sub(c.mono)
	*c = now
	if by.Abs() < minClockStep {
		return 0
	}
	return by
}
