//go:build !unix

package transform

import "time"

// ownTimeKnown tells that a worker knows how much of a processor it has used.
const ownTimeKnown = false

// ownTime returns the time since the start of this process.
func ownTime() time.Duration { return sinceStart() }
