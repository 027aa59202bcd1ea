package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// simHook is a webhook as the model knows it.
type simHook struct {
	id                               uint32
	content                          *uuid.UUID
	active, paused, incomplete, gone bool
	delay, incompleteDelay           int
	limit                            int
	schedule                         []time.Duration
	timeout                          time.Duration

	url       int       // counts its URLs: the path of the present one
	heldAt    time.Time // since when it is paused or gone
	resumedAt time.Time // when the hold was last cleared
	pausedBy  string    // what pause_reason has to say; "" if the model cannot know
	byLane    bool      // it was an attempt of the ordinary lane that paused it
	cancelled time.Time // when a change last cancelled what waits: the background may not be done with it at once

	rate float64 // 0 for no limit
	// The next attempt of a lane with a limit may begin at beatEarly less the slack, and has to at beatLate.
	beatEarly, beatLate time.Time
	changingRate        bool

	health     simHealth
	forgetting bool // a call is under way that makes it healthy, and may change its URL
	fuzzy      bool // an attempt ended during such a call: the model does not know whether it counted
}

func (h *simHook) matches(content uuid.UUID) bool { return h.active && !h.gone && h.fits(content) }

func (h *simHook) fits(content uuid.UUID) bool { return h.content == nil || *h.content == content }

// interval is the span between two attempts that the rate limit asks for.
func (h *simHook) interval() time.Duration { return time.Duration(float64(time.Second) / h.rate) }

// simHealth is what the attempts of a webhook have come to since the last success.
type simHealth struct {
	failures, probes int
	first, since     time.Time // of the first failure, of the fifth
	early, late      time.Time // from when on the next probe may begin, and when it has to
	stored           time.Time // late, as it is after a restart
}

func (h *simHealth) failing() bool { return !h.since.IsZero() }

// count adds a failed attempt.
func (h *simHealth) count(begun, now time.Time) {
	if h.failures++; h.failures == 1 {
		h.first = now
	}
	wait := 5 * time.Second
	switch {
	case h.since.IsZero() && h.failures < 5:
		return
	case h.since.IsZero():
		h.since = now
	case begun.Before(h.since):
		h.stored = h.late // not a probe, but recorded with the time that is set now
		return
	default:
		if h.probes++; h.probes < 6 {
			wait <<= h.probes
		} else {
			wait = 5 * time.Minute
		}
	}
	h.early, h.late, h.stored = now.Add(wait), now.Add(wait), now.Add(wait)
}

type simSession struct {
	id, content uuid.UUID
	stored      bool
	seen        map[string]bool
	finished    time.Time // earliest finish
	startAt     time.Time
}

type simKey struct {
	hook    uint32
	session uuid.UUID
	kind    engine.Kind
}

// simDelivery is a trigger and its delivery.
type simDelivery struct {
	simKey
	test     int    // counts tests
	id       string // for tests from the beginning, else from the first request
	content  uuid.UUID
	dueAt    time.Time // of the trigger
	created  time.Time
	state    engine.Status // pending stands for scheduled as well
	stateAt  time.Time
	due      time.Time // of the next attempt
	readyAt  time.Time // the later of due and when that was set
	tries    int
	requeued bool // by hand, since the last attempt ended: a claim from before may be under way
	fuzzy    bool // the model does not know whether the last attempt counted
	mustDrop bool // its session finished by its instant, known before the instant
	sending  bool
	begun    time.Time // when the last attempt began
	url      int       // that it went to, as simHook counts them
	queued   int       // how often it was queued again, by hand or by a replay
	touched  time.Time // when it was last sent, or asked for or cancelled by hand
	asking   bool      // Retry has been called and has not returned
	askedAt  time.Time // when it last returned
	settled  time.Time // touched, when it was last looked up
	attempts int       // recorded ones
	cut      int
	body     string
}

// ID is the delivery's.
func (d *simDelivery) ID() uuid.UUID { return uuid.MustParse(d.id) }

type simLane struct {
	hook uint32
	test bool
}

// simMark is a change of what bounds sending.
type simMark struct {
	at   time.Time
	lane simLane
	kind byte // '+' '-' sending; 'h' 'r' held, resumed; 'd' 'u' down, up; 'l' limit; 'p' next probe; 'b' beat; '?' '!' health unknown, known
	n    int
	next time.Time // for 'p' and 'b'; zero for none
}

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

type simLate struct {
	lane         simLane
	ready, start time.Time
	what         string
}

func (s *sim) started(r received, url int) (*simDelivery, int) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	d := s.byID[r.id]
	if d == nil {
		var p struct {
			SessionID uuid.UUID `json:"session_id"`
			Complete  bool      `json:"complete_session"`
		}
		if err := json.Unmarshal(r.body, &p); err != nil {
			s.violate("payload: %v", err)
		}
		var hook uint32
		fmt.Sscanf(r.host, "h%d.", &hook)
		k := simKey{hook, p.SessionID, engine.KindIncomplete}
		if p.Complete {
			k.kind = engine.KindComplete
		}
		if d = s.deliveries[k]; d == nil {
			d = &simDelivery{simKey: k, state: engine.StatusPending, created: now, dueAt: now, due: now, readyAt: now}
			if ss := s.session(k.session); ss != nil {
				d.content = ss.content
			}
			if !s.replayed(func(r *simReplay) bool { return s.misses(r, k) }) {
				s.violate("a request that nothing asked for: %+v", k)
			}
			s.deliveries[k] = d
		} else if d.id != "" {
			s.violate("a second delivery for %+v", k)
		}
		d.id, d.body = r.id, string(r.body)
		s.byID[r.id] = d
	}
	if d.body == "" {
		d.body = string(r.body)
	}
	what := fmt.Sprintf("%s %s for webhook %d", d.kind, r.id, d.hook)
	h := s.hook(d.hook)
	lane := simLane{d.hook, d.kind == engine.KindTest}
	if d.fuzzy {
		s.resync(d)
	}
	if d.state == engine.StatusDelivered && *simSlow > 0 && (d.asking || !d.askedAt.Before(d.stateAt)) {
		d.state, d.due = engine.StatusPending, now // a retry by hand overtook the record of the attempt that was under way, or it that
	}
	unseen := false // when it became ready
	if d.state != engine.StatusPending {
		at := slices.IndexFunc(s.replays, func(r *simReplay) bool { return s.covers(r, d) })
		if unseen = at >= 0; unseen {
			s.queueAgain(d, 0, s.replays[at].at)
		}
	}
	if d.state != engine.StatusPending {
		if now.After(d.stateAt) {
			s.violate("%s: sent %v after it was %s", what, now.Sub(d.stateAt), d.state)
		} else {
			s.soft["sent in the very instant of its "+d.state.String()]++
		}
	}
	if !lane.test {
		s.checkLane(h, d, what)
	}
	if now.Before(d.due) {
		s.violate("%s: sent %v early", what, d.due.Sub(now))
	}
	if d.sending {
		s.violate("%s: two attempts at once", what)
	}
	if d.mustDrop {
		s.violate("%s: its session had finished", what)
	}
	if string(r.body) != d.body {
		s.violate("%s: other bytes", what)
	}
	if now.After(d.readyAt) && !unseen {
		s.late = append(s.late, simLate{lane, d.readyAt, now, what})
	}
	d.sending, d.begun, d.url = true, now, url
	s.sending[lane]++
	s.mark(lane, '+', 1)
	if !lane.test && h.rate > 0 {
		h.beatEarly, h.beatLate = later(h.beatEarly, now).Add(h.interval()), later(h.beatLate, now).Add(h.interval())
		s.markNext(h, 'b', h.beatLate)
	}
	return d, d.attempts + d.cut
}

// checkLane holds an attempt of an ordinary lane that begins now against what may be sent there. s.mu is held.
func (s *sim) checkLane(h *simHook, d *simDelivery, what string) {
	now, lane := time.Now(), simLane{h.id, false}
	slack := time.Duration(0)
	if h.pausedBy != "hand" {
		slack = 8 * *simSlow // what ended beside the attempt that paused it makes room until the pause is stored
	}
	switch {
	case !h.paused && !h.gone, h.fuzzy:
	case now.After(h.heldAt.Add(slack)):
		s.violate("%s: sent while held", what)
	case h.byLane && !h.forgetting && (h.limit == 1 || h.health.failing() && h.health.since.Before(h.heldAt)):
		s.violate("%s: sent before the pause, though the attempt that led to it was the only one", what)
	}
	if early := h.beatEarly.Add(-20*time.Millisecond - 4**simSlow).Sub(now); h.rate > 0 && !h.changingRate && early > 0 {
		s.violate("%s: sent %v before its turn at %v a second", what, early, h.rate)
	}
	health := &h.health
	// What begins in the instant in which the lane becomes failing may have begun before.
	if !health.failing() || h.fuzzy || h.forgetting || now.Equal(health.since) {
		return
	}
	if n := s.sending[lane]; n > 0 {
		s.violate("%s: sent beside %d others, though the endpoint is failing", what, n)
	}
	if now.Before(health.early) {
		s.violate("%s: sent %v before the next probe may begin (%d failures, %d probes)", what, health.early.Sub(now), health.failures, health.probes)
	}
	// Since then it has been taken up, at the earliest: what was ready before stood before it, if it was due earlier.
	taken := later(later(health.early, s.freed[lane]), later(s.upAt, d.readyAt)).Add(-10 * *simSlow)
	for _, o := range s.deliveries {
		if o.hook == h.id && o.state == engine.StatusPending && o.due.Before(d.due) && o.readyAt.Before(taken) && !o.sending && !o.fuzzy &&
			!o.asking && !s.drops(o) {
			s.violate("%s: probed, due at %v, though %s of %s was due at %v", what, d.due, o.kind, o.session, o.due)
			return
		}
	}
}

// drops tells whether a trigger goes without a trace when it is taken up.
func (s *sim) drops(d *simDelivery) bool {
	if d.kind != engine.KindIncomplete || d.id != "" {
		return false
	}
	finished := s.session(d.session).finished
	return !finished.IsZero() && !finished.After(d.dueAt)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// resync reads what the model cannot know: whether an attempt counted that was claimed before a retry by hand.
func (s *sim) resync(d *simDelivery) {
	stored, _, _, err := s.world.Delivery(context.Background(), uuid.MustParse(d.id))
	if err != nil {
		s.violate("resync: %v", err)
		return
	}
	d.tries, d.fuzzy = stored.Tries, false
	if stored.Status.Waiting() {
		d.due = stored.NextAttemptAt
	} else if stored.Status == engine.StatusFailed {
		d.state, d.stateAt = engine.StatusFailed, stored.FinishedAt
	}
}

func (s *sim) ended(d *simDelivery, status, retryAfter int, cut bool) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	lane := simLane{d.hook, d.kind == engine.KindTest}
	d.sending, d.touched, s.freed[lane] = false, now, now
	s.sending[lane]--
	s.mark(lane, '-', 1)
	if cut {
		d.cut++
		return // as due as before
	}
	d.attempts++
	s.judge(d, status)
	if status/100 == 2 {
		d.state, d.stateAt, d.requeued = engine.StatusDelivered, now, false
		return
	}
	if d.state != engine.StatusPending {
		return
	}
	if d.requeued {
		d.requeued, d.fuzzy = false, true
		d.readyAt = now.Add(1000 * time.Hour) // no telling
		return
	}
	h := s.hook(d.hook)
	d.tries++
	if d.tries > len(h.schedule) {
		d.state, d.stateAt = engine.StatusFailed, now
		return
	}
	d.due = now.Add(max(h.schedule[d.tries-1], time.Duration(retryAfter)*time.Second))
	d.readyAt = d.due
}

// judge lets an attempt that has ended count for its endpoint. s.mu is held.
func (s *sim) judge(d *simDelivery, status int) {
	now, h := time.Now().UTC(), s.hook(d.hook)
	if h.forgetting && *simSlow > 0 && !h.fuzzy {
		h.fuzzy = true
		s.mark(simLane{h.id, false}, '?', 0)
	}
	if h.gone || d.url != h.url || d.begun.Before(h.resumedAt) {
		return
	}
	if status/100 == 2 {
		failing := h.health.failing()
		h.health = simHealth{}
		if failing {
			s.markNext(h, 'p', time.Time{})
		}
		return
	}
	was := h.health
	h.health.count(d.begun, now)
	if was.failing() && d.begun.Equal(was.since) {
		h.fuzzy = true // in that very instant: its turn may have come before
	}
	switch {
	case h.health.probes > was.probes:
		s.soft["probes failed"]++
	case was.failing():
		s.soft["stragglers failed"]++
	case h.health.failing():
		s.soft["began to fail"]++
	}
	if h.health.failing() {
		s.markNext(h, 'p', h.health.late)
	}
	by := ""
	switch {
	case h.paused:
		return
	case status == 410:
		by = "410"
	case h.health.failing() && now.Sub(h.health.first) >= s.cfg.PauseAfter:
		by = h.health.first.Format(time.RFC3339)
	default:
		return
	}
	h.paused, h.heldAt, h.pausedBy, h.byLane = true, now, by, d.kind != engine.KindTest
	s.mark(simLane{h.id, false}, 'h', 0)
	s.soft["paused"]++
}

// markNext marks when the next probe has to begin, or the next attempt at all.
func (s *sim) markNext(h *simHook, kind byte, next time.Time) {
	s.marks = append(s.marks, simMark{at: time.Now(), lane: simLane{h.id, false}, kind: kind, next: next})
}

// probeNow lets the next probe of a failing endpoint begin. done is false before a call that leads to it, from when on it may, and
// true after it, from when on it has to. s.mu is held.
func (s *sim) probeNow(h *simHook, done bool) {
	now, health := time.Now().UTC(), &h.health
	if !health.failing() {
		return
	}
	if now.Before(health.early) {
		health.early = now
	}
	if done {
		if now.Before(health.late) {
			health.late = now
		}
		s.markNext(h, 'p', health.late)
	}
}

// checkHealth holds what the engine tells of the webhooks against the model; where that could not know, it learns. s.mu is held.
func (s *sim) checkHealth() {
	now := time.Now().UTC()
	for _, h := range s.hooks {
		if h.gone {
			continue
		}
		w, err := s.Webhook(h.id)
		if err != nil {
			s.violate("webhook %d: %v", h.id, err)
			continue
		}
		got, want := s.Health(h.id), &h.health
		if h.fuzzy {
			s.soft["health learnt"]++
			*want = simHealth{got.Failures, got.Probes, got.FirstFailedAt, got.FailingSince, got.NextProbeAt, got.NextProbeAt, got.NextProbeAt}
			if h.paused != w.Paused {
				h.paused, h.heldAt, h.pausedBy, h.byLane = w.Paused, now, "", false
				s.mark(simLane{h.id, false}, map[bool]byte{true: 'h', false: 'r'}[h.paused], 0)
			}
			h.fuzzy = false
			s.mark(simLane{h.id, false}, '!', 0)
			s.markNext(h, 'p', want.late)
			continue
		}
		if got.Failures != want.failures || got.Probes != want.probes || !got.FirstFailedAt.Equal(want.first) || !got.FailingSince.Equal(want.since) {
			s.violate("webhook %d: health %+v, the model says %+v", h.id, got, *want)
		}
		if next := got.NextProbeAt; (next.Before(want.early) || next.After(want.late)) && (next.After(now) || want.late.After(now)) {
			s.violate("webhook %d: the next probe is set to %v, the model says %v to %v", h.id, next, want.early, want.late)
		}
		switch reason := w.PauseReason; {
		case now.Before(h.heldAt.Add(8 * *simSlow)): // not stored yet
		case w.Paused != h.paused || (reason != "") != w.Paused:
			s.violate("webhook %d: paused is %t (%q), the model says %t", h.id, w.Paused, reason, h.paused)
		case h.paused && !strings.Contains(reason, h.pausedBy):
			s.violate("webhook %d: paused because %q, the model says because of %s", h.id, reason, h.pausedBy)
		}
	}
}

// --- replays

func (s *sim) session(id uuid.UUID) *simSession {
	for _, ss := range s.sessions {
		if ss.id == id {
			return ss
		}
	}
	return nil
}

// covers tells whether a replay is about a delivery as it is now.
func (s *sim) covers(r *simReplay, d *simDelivery) bool {
	h := s.hook(r.WebhookID)
	if d.hook != h.id || r.ended || d.kind == engine.KindTest || d.state == engine.StatusPending ||
		!r.loose && (!h.fits(d.content) || d.kind == engine.KindIncomplete && !h.incomplete) {
		return false
	}
	switch r.Scope {
	case engine.ReplayFailed:
		return d.state == engine.StatusFailed && r.within(d.created)
	case engine.ReplayAny:
		return r.within(d.created)
	}
	return d.state == engine.StatusCancelled && d.kind == engine.KindComplete && r.within(s.session(d.session).finished)
}

// misses tells whether a replay is about a delivery that the model does not have.
func (s *sim) misses(r *simReplay, k simKey) bool {
	ss := s.session(k.session)
	return r.Scope == engine.ReplayMissing && !r.ended && k.hook == r.WebhookID && k.kind == engine.KindComplete && s.deliveries[k] == nil &&
		ss != nil && ss.stored && !ss.finished.IsZero() && r.within(ss.finished) && (r.loose || s.hook(k.hook).fits(ss.content))
}

// replayed tells whether a replay is under way of which f is true.
func (s *sim) replayed(f func(*simReplay) bool) bool { return slices.ContainsFunc(s.replays, f) }

// queueAgain takes a delivery back from a final state.
func (s *sim) queueAgain(d *simDelivery, tries int, due time.Time) {
	d.state, d.tries, d.due, d.readyAt, d.fuzzy, d.touched = engine.StatusPending, tries, due, due, false, time.Now()
	d.requeued = d.sending
	d.queued++
}

// expectReplay says what a replay has to do.
func (s *sim) expectReplay(r *simReplay) {
	r.must, r.make = map[*simDelivery]int{}, nil
	stored := map[simKey]bool{}
	for _, d := range s.list(engine.DeliveryQuery{WebhookID: r.WebhookID}) {
		stored[simKey{d.WebhookID, d.SessionID, d.Kind}] = true
	}
	for k, d := range s.deliveries {
		// Whether a trigger that goes without a trace went, or was cancelled before, only the store knows.
		if s.covers(r, d) && (stored[k] || !s.drops(d)) {
			r.must[d] = d.queued
		}
	}
	for _, ss := range s.sessions {
		if k := (simKey{r.WebhookID, ss.id, engine.KindComplete}); s.misses(r, k) {
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
	some := func(f func(*simReplay) bool) bool { return slices.ContainsFunc(of, f) }
	loose := some(func(r *simReplay) bool { return r.loose })
	for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id}) {
		m := s.model(&d)
		if m == nil {
			k := simKey{d.WebhookID, d.SessionID, d.Kind}
			if !some(func(r *simReplay) bool { return s.misses(r, k) }) {
				s.violate("%s: made %+v", what.String(), k)
			}
			s.deliveries[k] = &simDelivery{simKey: k, content: d.ContentID, dueAt: d.DueAt, due: d.NextAttemptAt, readyAt: d.NextAttemptAt,
				created: d.CreatedAt, state: engine.StatusPending}
			continue
		}
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
			return must && !r.loose && m.queued == queued && !m.touched.After(r.at)
		}):
			s.violate("%s: left %s %s as it was, %s", what.String(), d.Kind, d.ID, d.Status)
		}
	}
	for _, r := range of {
		for _, k := range r.make {
			if s.deliveries[k] == nil && !r.loose {
				s.violate("%s: %+v was not made", what.String(), k)
			}
		}
	}
}

// cancelWaiting is what a change does to what waits. s.mu is held.
func (s *sim) cancelWaiting(h *simHook, covered func(*simDelivery) bool) {
	h.cancelled = time.Now()
	for _, d := range s.deliveries {
		if d.hook == h.id && d.state == engine.StatusPending && covered(d) {
			d.state, d.stateAt, d.touched = engine.StatusCancelled, time.Now().UTC(), time.Now()
		}
	}
	for _, d := range s.byID {
		if d.kind == engine.KindTest && d.hook == h.id && d.state == engine.StatusPending && covered(d) {
			d.state, d.stateAt, d.touched = engine.StatusCancelled, time.Now().UTC(), time.Now()
		}
	}
}

func (s *sim) expect(h *simHook, ss *simSession, kind engine.Kind, due time.Time) {
	k := simKey{h.id, ss.id, kind}
	if s.deliveries[k] != nil {
		return
	}
	now := time.Now().UTC()
	d := &simDelivery{simKey: k, content: ss.content, dueAt: due, due: due, created: now, state: engine.StatusPending, readyAt: due}
	if now.After(due) {
		d.readyAt = now
	}
	s.deliveries[k] = d
}

// settle makes up, after an instant with several changes, for orders that the model cannot know.
func (s *sim) settle() {
	time.Sleep(8 * *simSlow)
	synctest.Wait()
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byID {
		if d.sending || now.Before(d.touched.Add(4**simSlow)) {
			continue // its attempt may not be recorded yet
		}
		if *simSlow > 0 && d.settled != d.touched {
			d.settled = d.touched
			if stored, _, _, err := s.world.Delivery(context.Background(), d.ID()); err == nil {
				switch {
				case !stored.Status.Waiting() && d.state != stored.Status:
					s.soft["resynchronized"]++
					d.state, d.stateAt = stored.Status, stored.FinishedAt
				case stored.Status.Waiting() && d.state == engine.StatusPending && !d.due.Equal(stored.NextAttemptAt):
					d.fuzzy = true
				}
			}
		}
		if d.fuzzy && !d.sending {
			s.resync(d)
			d.readyAt = d.due
			if now.After(d.due) {
				d.readyAt = now
			}
		}
	}
	s.settleReplays()
	s.checkHealth()
}

// explainLate looks, for each attempt that began after it was ready, for an instant in between in which nothing was in its way.
func (s *sim) explainLate() {
	type state struct {
		sending, limit        int
		held, failing, unsure bool
		probe, beat           time.Time
	}
	type span struct {
		from, to time.Time
		lanes    map[simLane]state
		down     bool
		extra    int
	}
	lanes, down := map[simLane]state{}, false
	var spans []span
	for i, m := range s.marks {
		l := lanes[m.lane]
		switch m.kind {
		case '+':
			l.sending++
		case '-':
			l.sending--
		case 'h':
			l.held = true
		case 'r':
			l.held = false
		case 'd':
			down = true
		case 'u':
			down = false
		case 'l':
			l.limit = m.n
		case 'p':
			l.probe, l.failing = m.next, !m.next.IsZero()
		case 'b':
			l.beat = m.next
		case '?', '!':
			l.unsure = m.kind == '?'
		}
		lanes[m.lane] = l
		to := time.Now()
		if i+1 < len(s.marks) {
			to = s.marks[i+1].at
		}
		if !to.After(m.at) {
			continue
		}
		sp := span{m.at, to, maps.Clone(lanes), down, 0}
		for _, l := range lanes {
			sp.extra += max(0, l.sending-1)
		}
		spans = append(spans, sp)
	}
	for _, l := range s.late {
		at, _ := slices.BinarySearchFunc(spans, l.ready, func(sp span, t time.Time) int { return sp.to.Compare(t) })
		var free time.Time // since when nothing has been in its way
		for ; at < len(spans) && spans[at].from.Before(l.start); at++ {
			sp := spans[at]
			if !sp.to.After(l.ready) {
				continue
			}
			in := sp.lanes[l.lane]
			n := in.sending
			from := later(sp.from, l.ready)
			if wait := later(in.probe, in.beat); wait.After(from) { // each is zero where there is none
				from, free = wait, time.Time{}
			}
			switch {
			case sp.down, in.held, in.unsure, n >= in.limit, n > 0 && (in.failing || sp.extra >= s.cfg.MaxInFlight), !from.Before(sp.to):
				free = time.Time{}
				continue
			case free.IsZero():
				free = from
			}
			end := sp.to
			if end.After(l.start) {
				end = l.start
			}
			switch {
			case end.Sub(free) <= 40**simSlow:
				continue
			case n > 0:
				s.soft["late beside another attempt, although a place was free"]++
			default:
				s.violate("%s: ready at %v, sent %v later, though nothing was in its way at %v (failing: %t, beat %v)", l.what, l.ready,
					l.start.Sub(l.ready), free, in.failing, in.beat)
			}
			break
		}
	}
}
