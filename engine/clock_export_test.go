package engine

import "time"

// SetWallClock sets the wall clock of all engines forward by a span, or back. The monotonic clock goes on.
func SetWallClock(by time.Duration) { wallOffset.Store(int64(by)) }

// WallClock is the time as engines store it.
func WallClock() time.Time { return utcNow() }
