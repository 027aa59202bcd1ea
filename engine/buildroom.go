package engine

import "time"

const (
	// longBuild is how long the programs of a webhook may take, the wait for a process included, until fewer of its claims may wait for them.
	longBuild = 100 * time.Millisecond
	// firstBuildRoom and maxBuildRoom are how many claims of a lane may wait for its programs: at first, and while they take little.
	firstBuildRoom = 8
	maxBuildRoom   = 64
)

// building bounds the claims of a lane that wait for the programs of its webhook. Without a bound those of some webhooks whose programs take
// long would use up the global limit, and leave all others two claims each.
type building struct {
	unbuilt   int // claims whose body is not built yet
	buildRoom int // how many there may be
}

func newBuilding() building { return building{buildRoom: firstBuildRoom} }

// built notes that the programs of a claim's webhook have taken a time.
func (l *lanes) built(c *claim, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	if took >= longBuild {
		ln.buildRoom = max(prefetch, ln.buildRoom/2)
	} else {
		ln.buildRoom = min(ln.buildRoom+1, maxBuildRoom)
	}
	ln.leaveBuildingLocked(c)
	if ln.place == placeBlocked {
		ln.place = placeReady
		l.ready = append(l.ready, ln)
		l.signal()
	}
}

// leaveBuildingLocked notes that a claim does not wait for programs any more.
func (b *building) leaveBuildingLocked(c *claim) {
	if c.unbuilt {
		c.unbuilt = false
		b.unbuilt--
	}
}
