package postgres

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// claim is a delivery that is claimed, with the lane that it is claimed in.
type claim struct {
	id   uuid.UUID
	lane engine.Lane
}

// claims are the deliveries that this process has claimed. They are nowhere else: with the process they end.
type claims struct {
	mu    sync.Mutex
	of    map[uuid.UUID]engine.Lane // guarded by mu
	looks map[*look]bool            // calls of ClaimDue that are under way; guarded by mu
}

// look is a call of ClaimDue that reads. What it reads may be from before the end of a claim: a delivery that ended meanwhile still stands in the
// queue that it sees. So it collects the claims that end, and claims none of them.
type look struct{ ended map[uuid.UUID]bool }

// claim adds claims.
func (s *Store) claim(list ...claim) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, c := range list {
		s.claims.of[c.id] = c.lane
	}
}

// unclaim ends claims.
func (s *Store) unclaim(ids ...uuid.UUID) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for _, id := range ids {
		delete(s.claims.of, id)
		for l := range s.claims.looks {
			l.ended[id] = true
		}
	}
}

// beginLook begins to look for deliveries to claim.
func (s *Store) beginLook() *look {
	l := &look{ended: make(map[uuid.UUID]bool)}
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	if s.claims.looks == nil {
		s.claims.looks = make(map[*look]bool)
	}
	s.claims.looks[l] = true
	return l
}

// endLook ends a look.
func (s *Store) endLook(l *look) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	delete(s.claims.looks, l)
}

// tryClaim claims a delivery that a look has found, unless it is claimed, or was until a moment ago.
func (s *Store) tryClaim(l *look, c claim) (claimed bool) {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	if _, taken := s.claims.of[c.id]; taken || l.ended[c.id] {
		return false
	}
	s.claims.of[c.id] = c.lane
	return true
}

// claimCounts counts the claims by lane.
func (s *Store) claimCounts() map[engine.Lane]int64 {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	counts := make(map[engine.Lane]int64)
	for _, lane := range s.claims.of {
		counts[lane]++
	}
	return counts
}

// Release implements engine.Store.
func (s *Store) Release(_ context.Context, claimed []engine.Delivery) error {
	for i := range claimed {
		s.unclaim(claimed[i].ID)
	}
	return nil
}
