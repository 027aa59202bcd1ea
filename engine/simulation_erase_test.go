package engine_test

import (
	"errors"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// erase erases a session, or all of a visitor.
func (s *sim) erase() {
	synctest.Wait()
	if len(s.sessions) == 0 {
		return
	}
	ss := s.sessions[max(0, len(s.sessions)-1-s.rng.IntN(100))]
	what := engine.Erasure{SessionID: ss.id}
	if s.rng.IntN(2) == 0 {
		what = engine.Erasure{Visitor: &ss.visitor}
	}
	covered := func(o *simSession) bool { return o == ss || what.Visitor != nil && o.visitor == ss.visitor }
	s.mu.Lock()
	s.auditSessions()
	var want engine.Erased
	for _, o := range s.sessions {
		if covered(o) && o.stored() {
			want.Sessions++
			want.Events += int64(o.events())
		}
	}
	var going []*simDelivery
	for _, e := range s.stored() {
		if d := s.model(&e); d != nil && d.kind != engine.KindTest && covered(s.session(d.session)) {
			want.Deliveries++
			going = append(going, d)
		}
	}
	s.mu.Unlock()
	got, err := s.Erase(s.ctx, what)
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing := what.Visitor == nil && want == (engine.Erased{}); errors.Is(err, engine.ErrNotFound) != missing || err != nil && !missing {
		s.violate("erasure of session %s (or its visitor: %t): %v, the model says that there is nothing: %t", ss.id, what.Visitor != nil, err, missing)
		return
	}
	if got.Attempts = 0; got != want && len(s.replays) == 0 && *simSlow == 0 {
		s.found(simWrong, "erasure of session %s (or its visitor: %t): %+v, the model says %+v", ss.id, what.Visitor != nil, got, want)
	}
	s.soft["erased sessions"] += int(want.Sessions)
	s.soft["erased deliveries"] += int(want.Deliveries)
	for _, d := range going {
		d.gone, d.state, d.stateAt, d.fuzzy = true, engine.StatusCancelled, time.Now().UTC(), false
	}
	for _, o := range s.sessions {
		if covered(o) && o.stored() {
			o.gone = true
			s.mustBeGone(o.id)
		}
	}
	for _, e := range s.stored() {
		if d := s.model(&e); d != nil && d.gone {
			s.violate("%s %s of %s is there after its erasure", e.Kind, e.ID, e.SessionID)
		}
	}
}

func (s *sim) mustBeGone(session uuid.UUID) {
	if _, _, err := s.process.Session(s.ctx, session); !errors.Is(err, engine.ErrNotFound) {
		s.violate("session %s is there, though it must not be: %v", session, err)
	}
}
