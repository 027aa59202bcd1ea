package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// errNotClaimed is returned to those who freeze or record without a claim.
var errNotClaimed = errors.New("it is not claimed")

// notClaimed is the error for a delivery that is not claimed. Of several processes one may have lost its claims without a fault of its own.
func (s *Store) notClaimed(id uuid.UUID) error {
	err := fmt.Errorf("delivery %s: %w", id, errNotClaimed)
	if s.fleet != nil {
		err = lostError(err)
	}
	return err
}

// claim is a delivery that is claimed, with the lane that it is claimed in.
type claim struct {
	id   uuid.UUID
	lane engine.Lane
}

// claims are the deliveries that this process has claimed, and what it knows of the lanes that they wait in. They are nowhere else: with the
// process they end.
type claims struct {
	mu      sync.Mutex
	of      map[uuid.UUID]engine.Lane   // guarded by mu
	inLane  map[engine.Lane]int         // how many of them there are of each lane; guarded by mu
	looks   map[*look]bool              // calls of ClaimDue that are under way; guarded by mu
	fronts  map[engine.Lane]front       // guarded by mu
	resumed map[engine.Lane]resumePoint // guarded by mu
}

// entryKey is a place in the queue of a lane.
type entryKey struct {
	at int64
	id uuid.UUID
}

// lastKey is behind all others.
var lastKey = entryKey{at: math.MaxInt64}

func (k entryKey) compare(o entryKey) int {
	return cmp.Or(cmp.Compare(k.at, o.at), bytes.Compare(k.id[:], o.id[:]))
}

func earlierKey(a, b entryKey) entryKey {
	if b.compare(a) < 0 {
		return b
	}
	return a
}

// front is where the queue of a lane begins: nothing waits before it. A look begins there, because the entries of deliveries that have gone stay in the
// index as long as anybody holds an old snapshot, and a look would read all of them again.
type front struct {
	entryKey
	until time.Time // it is not used later, in case that somebody else has changed the queue
}

// frontFor is for how long a front is used.
const frontFor = time.Minute

// look is a call of ClaimDue that reads. What it reads may be from before the last commits. So it collects what these change: the claims that end, of
// which it claims none, because a delivery that has ended may still stand in the queue that it sees; and the first entry that each lane gets.
type look struct {
	ended  map[uuid.UUID]bool
	queued map[engine.Lane]entryKey
}

// claim adds claims.
func (s *Store) claim(list ...claim) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, c := range list {
		s.claims.add(c)
	}
}

// add adds a claim. The caller holds mu.
func (c *claims) add(one claim) {
	if _, again := c.of[one.id]; again {
		return
	}
	set(&c.of, one.id, one.lane)
	set(&c.inLane, one.lane, c.inLane[one.lane]+1)
}

// remove ends a claim, and tells all looks but one of it. The caller holds mu.
func (c *claims) remove(id uuid.UUID, but *look) {
	if lane, ok := c.of[id]; ok {
		delete(c.of, id)
		if c.inLane[lane]--; c.inLane[lane] == 0 {
			delete(c.inLane, lane)
		}
	}
	for l := range c.looks {
		if l != but {
			l.ended[id] = true
		}
	}
}

// unclaim ends claims.
func (s *Store) unclaim(ids ...uuid.UUID) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, id := range ids {
		s.claims.remove(id, nil)
	}
}

// queued tells all looks what has come to wait, and moves the fronts of its lanes back. It is called once readers can see it, and before anybody is
// told of it: who looks before may miss it.
func (s *Store) queued(places []place) {
	if len(places) == 0 {
		return
	}
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, p := range places {
		now := entryKey{p.at, p.id}
		if f, ok := s.claims.fronts[p.lane]; ok && now.compare(f.entryKey) < 0 {
			f.entryKey = now
			s.claims.fronts[p.lane] = f
		}
		for l := range s.claims.looks {
			if first, ok := l.queued[p.lane]; !ok || now.compare(first) < 0 {
				l.queued[p.lane] = now
			}
		}
	}
}

// forgetLanes forgets where looks begin in the lanes of webhooks that were deleted.
func (s *Store) forgetLanes(hooks *engine.WebhookSet) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	maps.DeleteFunc(s.claims.fronts, func(lane engine.Lane, _ front) bool { return hooks.Get(lane.WebhookID) == nil })
	maps.DeleteFunc(s.claims.resumed, func(lane engine.Lane, _ resumePoint) bool { return hooks.Get(lane.WebhookID) == nil })
}

// beginLook begins to look for deliveries to claim. It returns where to begin in each lane, and how many are claimed in it.
func (s *Store) beginLook(now time.Time, requests []engine.ClaimRequest) (*look, []lookedAt) {
	l := &look{ended: make(map[uuid.UUID]bool), queued: make(map[engine.Lane]entryKey)}
	lanes := make([]lookedAt, len(requests))
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	set(&s.claims.looks, l, true)
	for i, r := range requests {
		lanes[i] = lookedAt{ClaimRequest: r, claimed: s.claims.inLane[r.Lane], owned: s.owns(r.Lane.WebhookID)}
		if f := s.claims.fronts[r.Lane]; isUsable(f.until, now, frontFor) {
			lanes[i].from = f.entryKey
		}
		if p := s.claims.resumed[r.Lane]; isUsable(p.until, now, resumeFor) {
			lanes[i].resumed, lanes[i].from = p, p.entryKey
		}
	}
	return l, lanes
}

// isUsable reports whether what is used until a moment is still used. If that is too far away, the clock was set back.
func isUsable(until, now time.Time, most time.Duration) bool {
	left := until.Sub(now)
	return left > 0 && left <= most
}

// endLook ends a look. lanes say what it has found, nil if it has failed.
func (s *Store) endLook(l *look, now time.Time, lanes []lookedAt) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	delete(s.claims.looks, l)
	for i := range lanes {
		r := &lanes[i]
		delete(s.claims.resumed, r.Lane)
		if r.resume.until.IsZero() && r.resumed.damage {
			r.resume = r.resumed
		}
		if !r.resume.until.IsZero() {
			set(&s.claims.resumed, r.Lane, r.resume)
		}
		if !r.owned || !r.resumed.until.IsZero() { // it has not seen the front
			continue
		}
		f := front{lastKey, now.Add(frontFor)}
		if len(r.found) > 0 {
			f.entryKey = r.found[0].entryKey
		}
		if first, ok := l.queued[r.Lane]; ok {
			f.entryKey = earlierKey(f.entryKey, first)
		}
		if old := s.claims.fronts[r.Lane]; isUsable(old.until, now, frontFor) {
			f.until = old.until
		}
		set(&s.claims.fronts, r.Lane, f)
	}
}

// dropClaims ends claims that a look has made and does not report.
func (s *Store) dropClaims(l *look, list []claim) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, c := range list {
		s.claims.remove(c.id, l)
	}
}

// dropAllClaims ends all claims, because others own the lanes now. What looks that are under way find is not claimed: nothing is owned.
func (s *Store) dropAllClaims() {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for id := range s.claims.of {
		s.claims.remove(id, nil)
	}
	s.claims.fronts, s.claims.resumed = nil, nil
}

// forgetLanesAll forgets where looks begin in all lanes.
func (s *Store) forgetLanesAll() {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	s.claims.fronts, s.claims.resumed = nil, nil
}

// forgetFronts forgets where looks begin in lanes that this process comes to own: others have changed them.
func (s *Store) forgetFronts(webhooks []uint32) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, id := range webhooks {
		for _, test := range []bool{false, true} {
			delete(s.claims.fronts, engine.Lane{WebhookID: id, Test: test})
			delete(s.claims.resumed, engine.Lane{WebhookID: id, Test: test})
		}
	}
}

// claimCounts counts the claims by lane.
func (s *Store) claimCounts() map[engine.Lane]int64 {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	counts := make(map[engine.Lane]int64, len(s.claims.inLane))
	for lane, n := range s.claims.inLane {
		counts[lane] = int64(n)
	}
	return counts
}

// isClaimed reports whether a delivery is claimed.
func (s *Store) isClaimed(id uuid.UUID) bool {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	_, ok := s.claims.of[id]
	return ok
}

// Release implements engine.Store.
func (s *Store) Release(_ context.Context, claimed []engine.Delivery) error {
	ids := make([]uuid.UUID, len(claimed))
	for i := range claimed {
		ids[i] = claimed[i].ID
	}
	s.unclaim(ids...)
	return nil
}
