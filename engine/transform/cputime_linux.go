package transform

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns how much of a processor a process has used; false if the system does not say it.
func cpuTime(pid int) (time.Duration, bool) {
	const processClock = 2                 // CPUCLOCK_SCHED of Linux: all threads, in nanoseconds
	clock := int32(^pid)<<3 | processClock // as clock_getcpuclockid(3) makes it
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}
