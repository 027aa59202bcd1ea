package postgres

import (
	"flag"
	"runtime"
	"strings"
	"testing"
	"time"
)

var (
	leaseBeats  = flag.Int("lease.beats", 10, "through how many beats TestLeaseModel searches")
	leaseFaults = flag.Int("lease.faults", 1, "how many faults happen in them")
	leaseAll    = flag.Bool("lease.all", false, "search from all states, and break each rule, not only where that takes a moment")
)

// A search has states to begin with.
var (
	// bothMembers: A owns the lanes, and B is a member too.
	bothMembers = func() modelState {
		s := newModelState(0)
		s.changed, s.db.epoch, s.db.seen = true, true, s.db.present
		for i := range s.p {
			s.p[i].saw = 2
		}
		return s
	}
	// newcomer: B joins later.
	newcomer = func() modelState {
		s := bothMembers()
		s.leaveOut(1)
		return s
	}
	// behind: as these, and the standby has received nothing since.
	behind         = func() modelState { s := bothMembers(); s.stall(); return s }
	newcomerBehind = func() modelState { s := newcomer(); s.stall(); return s }
	// barrier: B may change a webhook whose lanes A owns.
	barrier = func() modelState { s := newModelState(0); s.gives = 0; return s }
	// barrierBefore: A is not a member yet, and nobody owns the lanes.
	barrierBefore = func() modelState {
		s := barrier()
		s.leaveOut(0)
		s.db.owner = 0
		return s
	}
	allStarts = map[string]func() modelState{"two members": bothMembers, "a newcomer": newcomer, "a standby that is behind": behind,
		"a newcomer, and a standby that is behind": newcomerBehind, "a barrier": barrier, "a barrier, and a newcomer": barrierBefore}
)

// leaveOut has a process not begun yet.
func (s *modelState) leaveOut(i int) {
	other := &s.p[1-i]
	id := s.p[i].id
	s.p[i] = proc{life: unborn}
	other.of[id], other.isAlone = watched{}, true
	s.db.present, s.db.seen, s.db.of[id] = s.db.present&^bit(id), s.db.seen&^bit(id), 0
}

// TestLeaseModel goes through all that can happen to two members of a fleet within some beats, with some faults, and asks after each step whether a rule was
// broken. The long form is
//
//	go test ./storage/postgres -run TestLeaseModel -lease.faults 2 -lease.beats 18 -lease.all -timeout 2h -v
func TestLeaseModel(t *testing.T) {
	for name, start := range allStarts {
		if !*leaseAll && name != "two members" && name != "a newcomer" && name != "a barrier" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			s := start()
			s.faults = int8(*leaseFaults)
			x := &search{rules: theRules(), beats: *leaseBeats, live: 32, starts: []modelState{s}}
			v, trace := x.run()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			t.Logf("%d states in %s, %d MiB", len(x.from), time.Since(began).Round(time.Millisecond), m.Sys>>20)
			if v != "" {
				t.Errorf("%s:\n%s", v, strings.Join(trace, "\n"))
			}
		})
	}
}

// TestLeaseModelSees breaks one rule at a time, and asks the search to notice.
func TestLeaseModelSees(t *testing.T) {
	const cut, slowPoll, suspend, kill, away, fail = "is cut off", "begins a slow poll", "is suspended", "is killed, and the other one is on the same machine",
		"the database goes away", "the standby becomes the primary"
	tests := []struct {
		name   string
		start  func() modelState
		rule   func(r *leaseRules)
		faults []string // as many happen
		want   violation
		long   bool
	}{
		{"there is no fence", bothMembers, func(r *leaseRules) { r.noFence = true }, []string{suspend}, notOwnerRecords, false},
		{"the fence is not held", bothMembers, func(r *leaseRules) { r.noLock = true }, []string{suspend, slowNames[record]}, notOwnerRecords, true},
		{"a lease counts from the answer", bothMembers, func(r *leaseRules) { r.fromAnswer = true }, []string{cut, slowPoll}, twoAttempts, true},
		{"a watcher counts from the beginning of a poll", bothMembers, func(r *leaseRules) { r.heardAtBegin = true }, []string{cut, slowPoll}, twoAttempts, true},
		{"a watcher counts while it cannot read", bothMembers, func(r *leaseRules) { r.countsUnread = true }, []string{away}, notWatched, false},
		{"a takeover does not look at the beat again", bothMembers, func(r *leaseRules) { r.oldBeat = true }, []string{suspend}, notOwnerBegins, false},
		{"a lease is over for others when it is for its owner", bothMembers, func(r *leaseRules) { r.dead = r.cut }, []string{cut, slowClock}, twoAttempts, true},
		{"claims last over a join", bothMembers, func(r *leaseRules) { r.keepsClaims = true }, []string{suspend}, notOwnerRecords, false},
		{"a lease counts by the monotonic clock", bothMembers, func(r *leaseRules) { r.awakeOnly = true }, []string{suspend}, notOwnerBegins, false},
		{"attempts are cut off by the monotonic clock", bothMembers, func(r *leaseRules) { r.awakeCut = true }, []string{suspend}, lateCut, false},
		{"a process that knows of no others cuts nothing off", newcomer, func(r *leaseRules) { r.aloneNoCut = true }, []string{cut}, twoAttempts, false},
		{"a debt counts from when the change was read", barrier, func(r *leaseRules) { r.owesFromRead = true }, []string{cut}, afterReturn, false},
		{"who acknowledges nothing goes on", barrier, func(r *leaseRules) { r.owesNothing = true }, []string{}, afterReturn, false},
		{"a barrier trusts an older poll", barrierBefore, func(r *leaseRules) { r.freshless = true }, []string{slowPoll}, afterReturn, false},
		{"a barrier ends before leases do", barrier, func(r *leaseRules) { r.barrier = r.idle - 1 }, []string{cut}, afterReturn, false},
		{"a barrier does not wait for one that is silent", barrier, func(r *leaseRules) { r.skipsSilent = true }, []string{cut}, afterReturn, false},
		{"an id is used twice", newcomerBehind, func(r *leaseRules) { r.reusedIDs = true }, []string{fail}, notOwnerRecords, false},
		{"nobody looks whether the last batch is there", behind, func(r *leaseRules) { r.noSetBack = true }, []string{suspend, fail}, notOwnerRecords, false},
		{"a process of another machine has ended here", bothMembers, func(r *leaseRules) { r.foreignPID = true }, []string{}, notWatched, false},
		{"a take without an answer is forgotten", bothMembers, func(r *leaseRules) { r.ignoresAnswer = true }, []string{slowNames[take]}, noOwner, false},
		{"nobody is taken over", bothMembers, func(r *leaseRules) { r.dead, r.ignoresEnds = 100, true }, []string{kill}, noOwner, false},
		{"an end on the same machine is not seen", bothMembers, func(r *leaseRules) { r.ignoresEnds = true }, []string{kill}, noOwner, false},
	}
	for _, tt := range tests {
		if tt.long && !*leaseAll {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			s := tt.start()
			s.faults = int8(len(tt.faults))
			x := &search{rules: theRules(), beats: 20, starts: []modelState{s}, only: tt.faults}
			if tt.rule(&x.rules); tt.want == noOwner {
				x.live = 1
			}
			v, trace := x.run()
			t.Logf("%s; %d states in %s:\n%s", v, len(x.from), time.Since(began).Round(time.Millisecond), strings.Join(trace, "\n"))
			if v != tt.want {
				t.Errorf("found %q, want %q", v, tt.want)
			}
		})
	}
}
