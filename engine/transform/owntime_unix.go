//go:build unix

package transform

import (
	"syscall"
	"time"
)

// ownTimeKnown tells that a worker knows how much of a processor it has used.
const ownTimeKnown = true

// ownTime returns how much of a processor this process has used, all its threads together.
func ownTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil { // never: both arguments are valid
		return sinceStart()
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
