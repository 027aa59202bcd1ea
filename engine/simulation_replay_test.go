package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// simReplay is a replay that may not be carried out yet. What it is about stays in its final state for the model until a request or
// the store shows that it was queued again.
type simReplay struct {
	engine.Replay
	at    time.Time
	must  map[*simDelivery]int // what has to be queued again, with its count of that until then
	make  []simKey             // what has to be made
	loose bool                 // the webhook's settings were changed meanwhile, or more could not be known
	ended bool                 // the webhook was switched off, or is gone
}

func (r *simReplay) within(t time.Time) bool { return !t.Before(r.Since) && !t.After(r.Until) }

// replay asks for a replay, dry first.
func (s *sim) replay() {
	s.settle()
	if len(s.hooks) == 0 {
		return
	}
	h := s.hooks[s.rng.IntN(len(s.hooks))]
	s.mu.Lock()
	if *simSlow > 0 { // the store's own time
		for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id}) {
			if m := s.model(&d); m != nil {
				m.created = d.CreatedAt
			}
		}
	}
	now := time.Now()
	r := &simReplay{at: now, Replay: engine.Replay{WebhookID: h.id,
		Scope: []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny, engine.ReplayMissing, engine.ReplayFiltered}[s.rng.IntN(4)]}}
	if r.Scope == engine.ReplayFailed && s.rng.IntN(2) == 0 {
		r.Error = engine.ErrorTransform
	}
	if s.rng.IntN(4) > 0 {
		r.Since = s.bound(h, r.Scope)
	}
	if s.rng.IntN(2) > 0 {
		r.Until = s.bound(h, r.Scope)
		if r.Until.Before(r.Since) {
			r.Since, r.Until = r.Until, r.Since
		}
	}
	if r.Until.IsZero() && r.Since.After(now) { // a session may have finished by a clock that is ahead
		r.Since = now
	}
	ask := r.Replay
	if r.Until.IsZero() {
		r.Until = now
	}
	// Where something of it is under way the model cannot count.
	r.loose = s.behind() || now.Before(h.cancelled.Add(time.Second)) ||
		s.replayed(func(o *simReplay) bool { return o.WebhookID == h.id })
	for _, d := range s.byID {
		if d.hook == h.id && *simSlow > 0 && (d.sending || d.fuzzy || now.Before(d.touched.Add(8**simSlow))) {
			r.loose = true
		}
	}
	s.expectReplay(r)
	want := int64(len(r.must) + len(r.make))
	var wantErr error
	switch {
	case h.gone:
		wantErr = engine.ErrNotFound
	case !h.active:
		wantErr = engine.ErrConflict
	default:
		s.replays = append(s.replays, r)
	}
	if s.rng.IntN(3) == 0 {
		s.stalled = later(s.stalled, now.Add(time.Duration(s.rng.Int64N(int64(3*time.Minute)))))
	}
	s.mu.Unlock()
	for _, ask.DryRun = range []bool{true, false} {
		got, err := s.Replay(s.ctx, ask)
		switch {
		case !errors.Is(err, wantErr):
			s.violate("replay %+v: %v, the model says %v", ask, err, wantErr)
		case err == nil && got.Count != want && !r.loose:
			s.violate("replay %+v: %d, the model says %d", ask, got.Count, want)
		}
		if ask.DryRun && !r.loose {
			if o, err := s.Overview(s.ctx); err != nil || slices.ContainsFunc(o.Replays, func(o engine.Replay) bool { return o.WebhookID == h.id }) {
				s.violate("a dry replay is carried out: %+v %v", o.Replays, err)
			}
		}
	}
	if wantErr == nil {
		s.soft[fmt.Sprint("replays of ", r.Scope, r.Error)]++
		s.soft[fmt.Sprint("replayed of ", r.Scope, r.Error)] += int(want)
	}
	switch s.rng.IntN(12) {
	case 0:
		s.down(s.rng.IntN(2) == 0)
	case 1:
		s.crash()
	}
}

// bound is a time to replay from or to: one at which something is to be replayed, as often as not. s.mu is held.
func (s *sim) bound(h *simHook, scope engine.ReplayScope) time.Time {
	var times []time.Time
	for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id}) {
		times = append(times, d.CreatedAt)
	}
	if scope == engine.ReplayMissing {
		times = nil
		for _, ss := range s.sessions {
			if !ss.finished.IsZero() {
				times = append(times, ss.finished)
			}
		}
	}
	if len(times) == 0 || s.rng.IntN(2) == 0 {
		return time.Now().UTC().Add(-time.Duration(s.rng.Int64N(int64(12 * time.Hour))))
	}
	return times[s.rng.IntN(len(times))]
}

// loosen notes that settings are about to change which bound what a replay is about. s.mu is not held.
func (s *sim) loosen(h *simHook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replays {
		r.loose = r.loose || r.WebhookID == h.id
	}
}

// endReplays holds that nothing is queued any more by the replays of a webhook that was switched off or deleted. s.mu is held.
func (s *sim) endReplays(h *simHook) {
	for _, r := range s.replays {
		if r.WebhookID == h.id {
			r.loose, r.ended = true, true
		}
	}
	o, err := s.Overview(context.Background())
	if err != nil || slices.ContainsFunc(o.Replays, func(r engine.Replay) bool { return r.WebhookID == h.id }) {
		s.violate("webhook %d is off and has replays still: %+v %v", h.id, o.Replays, err)
	}
}

// covers tells whether a replay is about a delivery as it is now.
func (s *sim) covers(r *simReplay, d *simDelivery) bool {
	h := s.hook(r.WebhookID)
	if d.hook != h.id || r.ended || d.gone || d.kind == engine.KindTest || d.state == engine.StatusPending ||
		!r.loose && (!h.fits(d.content) || d.kind == engine.KindIncomplete && !h.incomplete) {
		return false
	}
	if is, sure := s.overtaken(d); is && sure {
		return false
	}
	return s.mayHaveQueued(r, d)
}

// mayHaveQueued is covers, whatever has overtaken the delivery since.
func (s *sim) mayHaveQueued(r *simReplay, d *simDelivery) bool {
	if d.hook != r.WebhookID || r.ended || d.gone || d.kind == engine.KindTest || d.state == engine.StatusPending {
		return false
	}
	switch r.Scope {
	case engine.ReplayFailed:
		return d.state == engine.StatusFailed && r.within(d.created) && (r.Error == "" || d.parked)
	case engine.ReplayFiltered:
		return d.state == engine.StatusFiltered && r.within(d.created)
	case engine.ReplayAny:
		return r.within(d.created)
	}
	ss := s.session(d.session)
	return d.state == engine.StatusCancelled && s.standsFor(d) && ss.stored() && r.within(ss.finished)
}

// standsFor tells whether a delivery stands for its session in a replay of what is missing: the complete one, or the newest update if that was
// cancelled.
func (s *sim) standsFor(d *simDelivery) bool {
	newest := s.deliveries[simKey{hook: d.hook, session: d.session, kind: engine.KindComplete}]
	if newest == nil || newest.state != engine.StatusCancelled {
		return newest == d
	}
	for _, o := range s.others(newest) {
		switch {
		case o.kind != engine.KindUpdate:
		case newest.kind == engine.KindComplete, o.frozenAt.IsZero() && !newest.frozenAt.IsZero(), o.overtakes(newest) && !newest.frozenAt.IsZero():
			newest = o
		}
	}
	return newest == d
}

// misses tells whether a replay is about a delivery that the model does not have, or whose retention has ended.
func (s *sim) misses(r *simReplay, k simKey) bool {
	ss := s.session(k.session)
	return r.Scope == engine.ReplayMissing && !r.ended && k.hook == r.WebhookID && k.kind == engine.KindComplete && s.missing(k) &&
		ss != nil && ss.stored() && !ss.finished.IsZero() && r.within(ss.finished) && (r.loose || s.hook(k.hook).fits(ss.content))
}

// made is the model of a delivery that a replay of what is missing has made.
func made(d *engine.Delivery) *simDelivery {
	return &simDelivery{simKey: simKey{hook: d.WebhookID, session: d.SessionID, kind: d.Kind}, content: d.ContentID, dueAt: d.DueAt, asOf: d.AsOf, firstDue: d.DueAt,
		due: d.NextAttemptAt, readyAt: d.NextAttemptAt, created: d.CreatedAt, state: engine.StatusPending}
}

// missing tells whether there is no delivery, or none any more, so that a replay of what is missing makes one.
func (s *sim) missing(k simKey) bool {
	d := s.deliveries[k]
	return d == nil || s.retired(d)
}

// retired tells whether the retention of a cancelled delivery has ended. Its session forgets it with its record: a replay of what is
// missing makes another one, with an id of its own.
func (s *sim) retired(d *simDelivery) bool {
	return d.kind == engine.KindComplete && d.state == engine.StatusCancelled && !d.sending &&
		(d.gone || !time.Now().Add(8**simSlow).Before(d.stateAt.Add(s.cfg.Retention.Deliveries)))
}

// replayed tells whether a replay is under way of which f is true.
func (s *sim) replayed(f func(*simReplay) bool) bool { return slices.ContainsFunc(s.replays, f) }

// queueAgain takes a delivery back from a final state.
func (s *sim) queueAgain(d *simDelivery, tries int, due time.Time) {
	d.state, d.tries, d.due, d.readyAt, d.fuzzy, d.touched, d.since = engine.StatusPending, tries, due, due, false, time.Now(), time.Now()
	d.requeued, d.byChange, d.superseded, d.parked = d.sending, false, nil, false
	d.queued++
	if due.Before(d.firstDue) {
		d.firstDue = due
	}
}

// expectReplay says what a replay has to do.
func (s *sim) expectReplay(r *simReplay) {
	r.must, r.make = map[*simDelivery]int{}, nil
	stored := map[simKey]uuid.UUID{}
	for _, d := range s.list(engine.DeliveryQuery{WebhookID: r.WebhookID}) {
		stored[s.keyOf(&d)] = d.ID
	}
	s.auditSessions()
	for k, d := range s.deliveries {
		if _, sure := s.overtaken(d); !sure && s.covers(r, d) {
			r.loose = true
		}
		// Whether a trigger that goes without a trace went, or was cancelled before, only the store knows; so it does whether the retention
		// of another one has been acted upon.
		if s.covers(r, d) && stored[k] != uuid.Nil && s.buildable(d, stored[k]) {
			r.must[d] = d.queued
		}
	}
	for _, ss := range s.sessions {
		if k := (simKey{hook: r.WebhookID, session: ss.id, kind: engine.KindComplete}); s.misses(r, k) && stored[k] == uuid.Nil {
			if len(s.together[k.pair()]) > 0 { // an update may stand for it
				r.loose = true
			}
			r.make = append(r.make, k)
		}
	}
}

// behind tells whether the background may have more to do than takes an instant.
func (s *sim) behind() bool { return time.Now().Before(later(s.stalled, s.upAt).Add(time.Second)) }

// settleReplays looks what has come of replays. s.mu is held.
func (s *sim) settleReplays() {
	now := time.Now()
	if len(s.replays) == 0 || s.behind() {
		return
	}
	o, err := s.Overview(context.Background())
	if err != nil {
		s.violate("overview: %v", err)
		return
	}
	for _, h := range s.hooks {
		var of []*simReplay
		for _, r := range s.replays {
			if r.WebhookID == h.id {
				of = append(of, r)
			}
		}
		switch on := slices.ContainsFunc(o.Replays, func(r engine.Replay) bool { return r.WebhookID == h.id }); {
		case len(of) == 0 || now.Before(h.cancelled.Add(time.Second)): // what the store says may not hold yet
		case !on:
			s.settleReplaysOf(h, of)
			s.replays = slices.DeleteFunc(s.replays, func(r *simReplay) bool { return r.WebhookID == h.id })
		case now.After(later(later(of[len(of)-1].at, s.stalled), s.upAt).Add(10 * time.Second)):
			s.violate("a replay of %s of webhook %d does not come to its end: %v", of[0].Scope, h.id, now.Sub(of[0].at))
		}
	}
}

// settleReplaysOf holds what the store says against the replays of a webhook, which are all over.
func (s *sim) settleReplaysOf(h *simHook, of []*simReplay) {
	now := time.Now()
	var what strings.Builder
	what.WriteString(fmt.Sprintf("webhook %d, replays", h.id))
	for _, r := range of {
		what.WriteString(fmt.Sprintf(" of %s from %v to %v", r.Scope, r.Since, r.Until))
	}
	s.auditSessions()
	some := func(f func(*simReplay) bool) bool { return slices.ContainsFunc(of, f) }
	loose := some(func(r *simReplay) bool { return r.loose })
	for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id}) {
		m := s.model(&d)
		if m == nil {
			k := s.keyOf(&d)
			if !some(func(r *simReplay) bool { return s.misses(r, k) }) {
				s.violate("%s: made %+v", what.String(), k)
			}
			s.add(made(&d))
			continue
		}
		isOvertaken, _ := s.overtaken(m)
		switch again := d.Status.Waiting(); {
		case m.state == engine.StatusPending || now.Before(m.touched.Add(4**simSlow)):
		case again && some(func(r *simReplay) bool { return s.covers(r, m) }):
			s.queueAgain(m, d.Tries, d.NextAttemptAt)
		case again:
			s.violate("%s: queued %s %s again, which was %s", what.String(), d.Kind, d.ID, m.state)
		case m.state != d.Status && loose:
			m.state, m.stateAt = d.Status, d.FinishedAt
		case some(func(r *simReplay) bool {
			queued, must := r.must[m]
			return must && !r.loose && m.queued == queued && !m.touched.After(r.at) && !isOvertaken
		}) && s.buildable(m, d.ID):
			s.violate("%s: left %s %s as it was, %s", what.String(), d.Kind, d.ID, d.Status)
		}
	}
	for _, r := range of {
		for _, k := range r.make {
			if s.missing(k) && !r.loose && !s.session(k.session).gone {
				s.violate("%s: %+v was not made", what.String(), k)
			}
		}
	}
}
