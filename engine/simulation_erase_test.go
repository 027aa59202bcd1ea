package engine_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// erase erases a session, or all of a visitor, or rarely all with an e-mail address, which many sessions of the simulation have.
func (s *sim) erase() {
	synctest.Wait()
	if len(s.sessions) == 0 {
		return
	}
	ss := s.sessions[max(0, len(s.sessions)-1-s.rng.IntN(100))]
	what := engine.Erasure{SessionID: ss.id}
	trace := ""
	switch n := s.rng.IntN(40); {
	case n == 0:
		what, trace = engine.Erasure{Email: engine.FoldEmail(" N@a.EXAMPLE")}, `"email":"n@a.example"`
	case n <= 20:
		what, trace = engine.Erasure{Visitor: &ss.visitor}, fmt.Sprintf(`"user_id":%d,`, ss.visitor)
	}
	s.mu.Lock()
	s.auditSessions()
	var want engine.Erased
	covered := make(map[*simSession]bool)
	for _, o := range s.sessions {
		if covered[o] = o == ss && trace == "" || o.has(what); covered[o] && o.stored() {
			want.Sessions++
			want.Events += int64(o.events())
		}
	}
	var going []*simDelivery
	for _, e := range s.stored() {
		d := s.model(&e)
		if d == nil || d.kind == engine.KindTest {
			continue
		}
		o := s.session(d.session)
		goes := covered[o]
		if !o.stored() && trace != "" { // then its record and its payload tell
			_, payload, _, err := s.process.Delivery(s.ctx, e.ID)
			if e.Shaped { // in whose body the visitor is named by nothing, and an address perhaps with an escape
				goes = err == nil && what.Email != "" && (strings.Contains(string(payload), what.Email) || strings.Contains(string(payload), url.QueryEscape(what.Email)))
			} else {
				goes = err == nil && strings.Contains(string(payload), trace)
			}
			goes = goes || what.Visitor != nil && o.visitor == *what.Visitor
		}
		if goes {
			want.Deliveries++
			going = append(going, d)
		}
	}
	s.mu.Unlock()
	got, err := s.Erase(s.ctx, what)
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing := trace == "" && want == (engine.Erased{}); errors.Is(err, engine.ErrNotFound) != missing || err != nil && !missing {
		s.violate("erasure of session %s or %s: %v, the model says that there is nothing: %t", ss.id, trace, err, missing)
		return
	}
	if got.Attempts = 0; got != want && len(s.replays) == 0 && *simSlow == 0 {
		s.found(simWrong, "erasure of session %s or %s: %+v, the model says %+v", ss.id, trace, got, want)
	}
	s.soft["erased sessions"] += int(want.Sessions)
	s.soft["erased deliveries"] += int(want.Deliveries)
	for _, d := range going {
		d.gone, d.state, d.stateAt, d.fuzzy = true, engine.StatusCancelled, time.Now().UTC(), false
	}
	for _, o := range s.sessions {
		if covered[o] && o.stored() {
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

// has reports whether an erasure of a person is about a session.
func (ss *simSession) has(what engine.Erasure) bool {
	for _, b := range ss.batches {
		for _, e := range b.events {
			if what.Email != "" && e.form["email"] == `"n@a.example"` {
				return true
			}
			if what.Visitor != nil && (e.own["poltio_user_id"] == fmt.Sprint(*what.Visitor) || e.form["user_id"] == fmt.Sprint(*what.Visitor)) {
				return true
			}
		}
	}
	return false
}

func (s *sim) mustBeGone(session uuid.UUID) {
	if _, _, err := s.process.Session(s.ctx, session); !errors.Is(err, engine.ErrNotFound) {
		s.violate("session %s is there, though it must not be: %v", session, err)
	}
}
