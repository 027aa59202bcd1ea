package engine_test

import (
	"testing/synctest"
	"time"
)

// lose takes the lease of all lanes away for a while: what is in flight is cut off, and of attempts that had ended only those count that
// were recorded. It is like a restart, but for the process.
func (s *sim) lose() {
	s.events()
	s.mu.Lock()
	s.mark(simLane{}, 'd', 0)
	s.soft["leases lost"]++
	s.mu.Unlock()
	resume := s.process.lease.lose()
	synctest.Wait()
	s.mu.Lock()
	s.over()
	s.mu.Unlock()
	if s.rng.IntN(2) == 0 {
		time.Sleep(time.Duration(s.rng.Int64N(int64(10 * time.Minute))))
		s.events()
		synctest.Wait()
	}
	s.mu.Lock()
	s.recovered()
	for _, h := range s.hooks {
		h.health.late, h.health.held.late = h.health.stored, h.health.held.stored // nor does a lane remember that a probe was brought forward
		s.markNext(h, 'p', h.health.late)
		s.markThrottle(h)
	}
	s.mu.Unlock()
	resume()
	time.Sleep(time.Second) // until the engine watches again
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(simLane{}, 'u', 0)
	s.upAt = time.Now()
	s.tookOver(s.hooks...)
}

// yield takes the lanes of a webhook away for a while.
func (s *sim) yield() {
	h := s.anyHook()
	if h == nil {
		return
	}
	s.mu.Lock()
	s.soft["lanes yielded"]++
	s.mark(simLane{h.id, false}, 'y', 0)
	s.mark(simLane{h.id, true}, 'y', 0)
	s.mu.Unlock()
	s.process.lease.yield(h.id)
	s.mu.Lock()
	h.yieldedAt = time.Now()
	s.mu.Unlock()
	s.events()
	time.Sleep(time.Duration(s.rng.Int64N(int64(5 * time.Minute))))
	s.events()
	synctest.Wait()
	s.mu.Lock()
	restarted := h.yieldedAt.IsZero()
	s.ownAgain(h)
	s.mu.Unlock()
	if restarted { // which has given the lanes back
		return
	}
	s.check(s.process.lease.own(h.id))
	stats, err := s.process.Stats(s.ctx, time.Now(), false)
	s.check(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.throttleEnded(h, stats.Health[h.id])
	h.health.late, h.health.held.late = h.health.stored, h.health.held.stored
	s.markNext(h, 'p', h.health.late)
	s.markThrottle(h)
	s.tookOver(h)
}

// ownAgain takes note that the lanes of a webhook are the engine's own. s.mu is held.
func (s *sim) ownAgain(h *simHook) {
	if h.yieldedAt.IsZero() {
		return
	}
	h.yieldedAt = time.Time{}
	s.mark(simLane{h.id, false}, 'o', 0)
	s.mark(simLane{h.id, true}, 'o', 0)
}

// tookOver takes note of lanes that have come back: their first attempt is an interval away. s.mu is held.
func (s *sim) tookOver(hooks ...*simHook) {
	for _, h := range hooks {
		if h.rate > 0 {
			h.beatLate = later(h.beatLate, time.Now().Add(h.interval()))
			s.markNext(h, 'b', h.beatLate)
		}
	}
}
