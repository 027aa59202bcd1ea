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

// simHook is a webhook as the model knows it.
type simHook struct {
	id                               uint32
	content                          *uuid.UUID
	active, paused, incomplete, gone bool
	updates                          bool
	delay, incompleteDelay           int
	shapes                           []simShape // the last is in force
	limit                            int
	schedule                         []time.Duration

	url       int       // counts its URLs: the path of the present one
	heldAt    time.Time // since when it is paused or gone
	resumedAt time.Time // when the hold was last cleared
	pausedBy  string    // what pause_reason has to say; "" if the model cannot know
	yieldedAt time.Time // since when its lanes are another process's; zero while they are not
	byLane    bool      // it was an attempt of the ordinary lane that paused it
	cancelled time.Time // when a change last cancelled what waits: the background may not be done with it at once

	rate float64 // 0 for no limit
	// The next attempt of a lane with a limit may begin at beatEarly less the slack, and has to at beatLate.
	beatEarly, beatLate time.Time
	changingRate        bool

	health      simHealth
	names       bool      // its URL has names, for which url_values gives values
	programmed  bool      // it has programs now and then
	busyUntil   time.Time // until when its programs could not be run
	changedAt   time.Time // when what it builds was last changed
	row         simRow
	pauseUnsure bool // that it is paused by its programs may not be stored

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

	refused   int       // of the failures: because of load
	refusals  int       // of load in a row; attempts that were in flight together count once
	shownAt   time.Time // when the endpoint last refused load, or showed it; attempts that began before belong to that
	held      simSpan   // until when it asked to wait
	throttled bool      // it may be slowed down
}

// simSpan is an instant: from when on something may happen, and when it has to. stored is late, as it is after a restart.
type simSpan struct{ early, late, stored time.Time }

func spanAt(at time.Time) simSpan { return simSpan{at, at, at} }

// healthAs is the model of a health that the engine has.
func healthAs(h engine.Health) simHealth {
	held := h.Throttle.HeldUntil
	return simHealth{failures: h.Failures, probes: h.Probes, first: h.FirstFailedAt, since: h.FailingSince, early: h.NextProbeAt, late: h.NextProbeAt,
		stored: h.NextProbeAt, refused: h.Refused, refusals: h.Throttle.Refusals, held: spanAt(held), throttled: !held.IsZero()}
}

// refusesLoad says whether an answer refuses load.
func refusesLoad(status, retryAfter int) bool {
	return status == 429 || status == 503 && retryAfter > 0
}

// throttle lets the endpoint refuse load, or show it. It reports whether the attempt began in the very instant of the refusal before it, so that
// there is no telling whether it counts.
func (h *simHealth) throttle(begun, now time.Time, status, retryAfter int) (unsure bool) {
	if !refusesLoad(status, retryAfter) {
		return false
	}
	asked := time.Duration(retryAfter) * time.Second
	unsure = begun.Equal(h.shownAt)
	if begun.Before(h.shownAt) {
		until := now.Add(asked)
		h.held = simSpan{later(h.held.early, until), later(h.held.late, until), later(h.held.late, until)}
		return unsure
	}
	h.shownAt, h.throttled = now, true
	h.refusals++
	hold := max(asked, min(250*time.Millisecond<<min(h.refusals-1, 20), 5*time.Minute))
	until, slowest := now.Add(hold), now.Add(max(hold, 64*time.Second))                                    // at the least rate that there is
	h.held = simSpan{later(h.held.early, until), later(h.held.late, slowest), later(h.held.late, slowest)} // it may have been a test, during a hold
	return unsure
}

func (h *simHealth) failing() bool { return !h.since.IsZero() }

// count adds a failed attempt.
func (h *simHealth) count(begun, now time.Time, refused bool) {
	if h.failures++; h.failures == 1 {
		h.first = now
	}
	if refused {
		h.refused++
	}
	wait := 5 * time.Second
	switch {
	case h.since.IsZero() && h.failures-h.refused < 5:
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
	visitor     int64
	startAt     time.Time
	batches     []*simBatch // what is stored
	seen        map[string]bool
	bytes       int       // of the events that are stored
	hasStart    bool      // a start or a vote is stored
	finished    time.Time // earliest finish
	judging     []int     // what is judged now
	unjudged    []int     // the batches of which it is not known yet what they have led to after the complete payload
	lastAt      time.Time // when the last event was received
	auditedAt   time.Time
	gone        bool // its retention has ended, or it was erased
}

// events counts those that are stored.
func (ss *simSession) events() (n int) {
	for _, b := range ss.batches {
		n += len(b.events)
	}
	return n
}

func (ss *simSession) stored() bool { return len(ss.batches) > 0 && !ss.gone }

type simKey struct {
	hook    uint32
	session uuid.UUID
	kind    engine.Kind
	update  int // counts the updates of a session for a webhook, from 1
}

// simPair is what at most one attempt is made of at a time.
type simPair struct {
	hook    uint32
	session uuid.UUID
}

func (k simKey) pair() simPair { return simPair{k.hook, k.session} }

// simDelivery is a trigger and its delivery.
type simDelivery struct {
	simKey
	test     int    // counts tests
	id       string // for tests from the beginning, else from the first request
	content  uuid.UUID
	dueAt    time.Time // of the trigger
	asOf     time.Time // the instant of an incomplete one
	firstDue time.Time // from when on it may be built
	created  time.Time
	state    engine.Status // pending stands for scheduled as well
	stateAt  time.Time
	due      time.Time // of the next attempt
	readyAt  time.Time // the later of due and when that was set
	tries    int
	requeued bool // by hand, since the last attempt ended: a claim from before may be under way
	fuzzy    bool // the model does not know whether the last attempt counted
	mustDrop bool // its session finished by its instant, known before it was due
	simLateness
	sending  bool
	begun    time.Time       // when the last attempt began
	url      int             // that it went to, as simHook counts them
	since    time.Time       // since when it waits, if it does
	schedule []time.Duration // of its webhook when the last attempt began
	queued   int             // how often it was queued again, by hand or by a replay
	touched  time.Time       // when it was last sent, or asked for or cancelled by hand
	asking   bool            // Retry has been called and has not returned
	askedAt  time.Time       // when it last returned
	settled  time.Time       // touched, when it was last looked up
	attempts int             // those that have ended, not cut off
	cut      int
	body     string
	parked   bool      // it has failed because a program has
	endedAt  time.Time // when it was last filtered or parked
	sent     simBuilt  // what its attempts are to have beside the body

	unrecorded bool // the record of the last attempt is not stored, for all that is known
	unsure     bool // since a restart: the record of the last attempt may be stored or not
	gone       bool // its retention has ended, or it was erased
	audited    time.Time
}

func (d *simDelivery) waits() bool { return d.state == engine.StatusPending }

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
	kind byte // '+' '-' sending; 'h' 'r' held, resumed; 'y' 'o' yielded, owned again; 'd' 'u' down, up; 'l' limit; 'p' next probe; 'b' beat; 't' 's' held, slowed down by the endpoint; '?' '!' health unknown, known; '[' ']' a program runs; 'w' its programs could not be run
	n    int
	of   uuid.UUID // the session, for '+' and '-'
	next time.Time // for 'p', 'b', 't', 's' and 'w'; zero for none
}

// started takes note of a request to an endpoint, and returns what it is about and which attempt of it it is; nothing if the process
// had crashed before it.
func (s *sim) started(p *process, r received, url int, target string) (*simDelivery, int) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.crashed() {
		return nil, 0
	}
	s.totals.attempts++
	d := s.byID[r.id]
	if d == nil {
		k := s.keyOfRequest(r)
		if d = s.deliveries[k]; d == nil || s.madeAnew(d, r.id) {
			if !s.replayed(func(r *simReplay) bool { return s.misses(r, k) }) {
				s.violate("a request that nothing asked for: %+v", k)
			}
			if stored, _, _, err := s.world.Delivery(context.Background(), uuid.MustParse(r.id)); err != nil {
				s.violate("a request for what is not stored: %+v: %v", k, err)
				d = &simDelivery{simKey: k, state: engine.StatusPending}
			} else {
				d = made(&stored)
			}
			d.readyAt = now
			s.add(d)
		} else if d.id != "" {
			s.found(simAgain, "a second delivery for %+v", k)
		}
		d.id = r.id
		s.byID[r.id] = d
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
			s.resync(d) // which knows when it was
		}
	}
	if said := r.header.Get("hookbolt-kind"); said != d.kind.String() {
		s.found(simWrong, "%s: the attempt says that its kind is %q", what, said)
	}
	s.checkOrder(d, what)
	if d.body == "" {
		if d.body = string(r.body); d.kind != engine.KindTest && d.body != d.frozen {
			s.checkPayload(d, d.body, 0)
		}
	}
	switch again := d.state == engine.StatusDelivered && !d.unrecorded; {
	case again:
		s.found(simAgain, "%s: sent %v after it was delivered", what, now.Sub(d.stateAt))
	case d.waits():
	case now.After(d.stateAt) || (d.superseded != nil || d.parked || d.state == engine.StatusFiltered) && !d.recheck:
		s.violate("%s: sent %v after it was %s", what, now.Sub(d.stateAt), d.state)
	default:
		s.soft["sent in the very instant of its "+d.state.String()]++
	}
	s.checkSent(d, &r, target, what)
	if !lane.test {
		s.checkLane(h, d, what)
	}
	if now.Before(d.due) {
		s.found(simOff, "%s: sent %v early", what, d.due.Sub(now))
	}
	if d.sending {
		s.violate("%s: two attempts at once", what)
	}
	if !h.yieldedAt.IsZero() && now.After(h.yieldedAt) {
		s.violate("%s: sent from a lane of somebody else", what)
	}
	if d.mustDrop {
		s.violate("%s: its session had finished", what)
	}
	if d.gone {
		s.violate("%s: sent after its retention or erasure", what)
	}
	if string(r.body) != d.body {
		s.found(simWrong, "%s: other bytes", what)
	}
	if now.After(d.readyAt) && !unseen {
		s.late = append(s.late, simLate{lane, d.session, d.readyAt, now, what})
	}
	d.sending, d.begun, d.url, d.schedule = true, now, url, h.schedule
	s.sending[lane]++
	s.markSession(d, '+')
	if !lane.test {
		s.markPace(h)
	}
	if !lane.test && h.rate > 0 {
		h.beatEarly, h.beatLate = later(h.beatEarly, now).Add(h.interval()), later(h.beatLate, now).Add(h.interval())
		s.markNext(h, 'b', h.beatLate)
	}
	return d, d.attempts + d.cut
}

// madeAnew tells whether a delivery was made in the place of one whose retention has ended. s.mu is held.
func (s *sim) madeAnew(was *simDelivery, id string) bool {
	if !s.retired(was) {
		return false
	}
	stored, _, _, err := s.world.Delivery(context.Background(), uuid.MustParse(id))
	return err == nil && s.model(&stored) == nil
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
		s.found(simOff, "%s: sent %v before its turn at %v a second", what, early, h.rate)
	}
	health := &h.health
	if early := health.held.early; now.Before(early) && !h.fuzzy && !h.forgetting && !now.Equal(health.shownAt) {
		s.found(simOff, "%s: sent %v before the end of the wait that the endpoint asked for", what, early.Sub(now))
	}
	// What begins in the instant in which the lane becomes failing may have begun before.
	if !health.failing() || h.fuzzy || h.forgetting || now.Equal(health.since) {
		return
	}
	if n := s.sending[lane]; n > 0 {
		s.violate("%s: sent beside %d others, though the endpoint is failing", what, n)
	}
	if now.Before(health.early) {
		s.found(simOff, "%s: sent %v before the next probe may begin (%d failures, %d probes)", what, health.early.Sub(now), health.failures, health.probes)
	}
	// Since then it has been taken up, at the earliest: what was ready before stood before it, if it was due earlier.
	taken := later(later(health.early, s.freed[lane]), later(s.upAt, d.readyAt)).Add(-10 * *simSlow)
	for _, o := range s.deliveries {
		if o.hook == h.id && o.waits() && o.due.Before(d.due) && o.readyAt.Before(taken) && h.busyUntil.Before(taken) && !o.sending && !o.unrecorded && !o.fuzzy &&
			!o.asking && !s.drops(o) {
			s.violate("%s: probed, due at %v, though %s of %s was due at %v", what, d.due, o.kind, o.session, o.due)
			return
		}
	}
}

// drops tells whether a trigger goes without a trace when it is taken up.
func (s *sim) drops(d *simDelivery) bool {
	if d.kind != engine.KindIncomplete || d.id != "" && d.endedAt.IsZero() || !d.frozenAt.IsZero() {
		return false
	}
	finished := s.session(d.session).finished
	return d.dropped || !finished.IsZero() && !finished.After(d.asOf)
}

// resync reads what the model cannot know: whether an attempt counted that was claimed before a retry by hand.
func (s *sim) resync(d *simDelivery) {
	stored, _, _, err := s.world.Delivery(context.Background(), d.ID())
	if errors.Is(err, engine.ErrNotFound) && !d.sending && time.Now().After(d.touched.Add(s.cfg.Retention.Deliveries)) {
		d.state, d.gone, d.fuzzy = engine.StatusFailed, true, false // so it has ended at once, after a last attempt
		return
	}
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

func (s *sim) ended(p *process, d *simDelivery, status, retryAfter int, cut bool) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	cut = cut || p.crashed()
	lane := simLane{d.hook, d.kind == engine.KindTest}
	d.sending, d.touched, s.freed[lane] = false, now, now
	s.sending[lane]--
	s.markSession(d, '-')
	if cut {
		d.cut++
		d.readyAt = later(d.readyAt, now)
		return // as due as before
	}
	d.attempts++
	d.unrecorded = true
	s.judge(d, status, retryAfter)
	if d.gone {
		return
	}
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
	if refusesLoad(status, retryAfter) && (s.hook(d.hook).health.refusals > 1 || d.attempts-1-d.tries < 100) {
		s.soft["attempts refused because of load"]++
		d.due, d.readyAt = now, now    // its lane is held
		if d.kind == engine.KindTest { // whose lane is not: it waits itself
			d.fuzzy, d.readyAt = true, now.Add(1000*time.Hour)
		}
		return
	}
	d.tries++
	if d.tries > len(d.schedule) {
		d.state, d.stateAt = engine.StatusFailed, now
		return
	}
	d.due = now.Add(max(d.schedule[d.tries-1], time.Duration(retryAfter)*time.Second))
	d.readyAt = d.due
}

// judge lets an attempt that has ended count for its endpoint. s.mu is held.
func (s *sim) judge(d *simDelivery, status, retryAfter int) {
	now, h := time.Now().UTC(), s.hook(d.hook)
	if h.forgetting && *simSlow > 0 && !h.fuzzy {
		h.fuzzy = true
		s.mark(simLane{h.id, false}, '?', 0)
	}
	if h.gone || d.url != h.url || d.begun.Before(h.resumedAt) {
		return
	}
	if d.begun.Equal(h.resumedAt) {
		h.fuzzy = true // it may have begun before the hold was cleared
	}
	if status/100 == 2 {
		failing := h.health.failing()
		h.health = simHealth{shownAt: h.health.shownAt, held: h.health.held, throttled: h.health.throttled}
		if failing {
			h.health.held, h.health.throttled = simSpan{}, false
			s.markNext(h, 'p', time.Time{})
			s.markThrottle(h)
		}
		return
	}
	was := h.health
	if h.health.throttle(d.begun, now, status, retryAfter) {
		h.fuzzy = true
	}
	h.health.count(d.begun, now, refusesLoad(status, retryAfter))
	s.markThrottle(h)
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
	case (h.health.failing() || h.health.refused > 0) && now.Sub(h.health.first) >= s.cfg.PauseAfter:
		by = h.health.first.Format(time.RFC3339)
	default:
		return
	}
	h.paused, h.heldAt, h.pausedBy, h.byLane = true, now, by, d.kind != engine.KindTest
	s.mark(simLane{h.id, false}, 'h', 0)
	s.soft["paused"]++
}

// markThrottle marks until when the endpoint asked to wait.
func (s *sim) markThrottle(h *simHook) {
	s.marks = append(s.marks, simMark{at: time.Now(), lane: simLane{h.id, false}, kind: 't', next: h.health.held.late})
}

// throttledNow asks the store whether a lane is still throttled: what it says goes by the last attempt, whatever has ended the wait since.
func (s *sim) throttledNow(h *simHook) bool {
	now := time.Now().UTC()
	stats, err := s.process.Stats(context.Background(), now, false)
	s.check(err)
	health := stats.Health[h.id]
	_, throttled := health.Throttled(now)
	return throttled
}

// markPace marks when the next attempt may begin at the pace to which the endpoint has slowed its lane down, after one that begins now. How fast
// that is, the engine is asked: see TestQuota for whether it is right.
func (s *sim) markPace(h *simHook) {
	now, next := time.Now(), time.Time{}
	health := s.health(h.id)
	if rate, _ := health.Throttled(now.UTC()); rate > 0 && h.health.throttled {
		next = now.Add(time.Duration(float64(time.Second)/rate) + time.Microsecond)
	}
	s.marks = append(s.marks, simMark{at: now, lane: simLane{h.id, false}, kind: 's', next: next})
}

// markNext marks when the next probe has to begin, or the next attempt at all.
func (s *sim) markNext(h *simHook, kind byte, next time.Time) {
	s.marks = append(s.marks, simMark{at: time.Now(), lane: simLane{h.id, false}, kind: kind, next: next})
}

// probeNow lets the next probe of a failing endpoint begin. done is false before a call that leads to it, from when on it may, and
// true after it, from when on it has to. s.mu is held.
func (s *sim) probeNow(h *simHook, done bool) {
	now, health := time.Now().UTC(), &h.health
	if now.Before(health.held.early) {
		health.held.early = now
	}
	if done && now.Before(health.held.late) {
		health.held.late = now
		s.markThrottle(h)
	}
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
		s.learnPause(h, &w)
		got, want := s.health(h.id), &h.health
		if h.fuzzy {
			s.soft["health learnt"]++
			shownAt := want.shownAt
			*want = healthAs(got)
			want.shownAt = shownAt
			stats, err := s.process.Stats(context.Background(), now, false)
			s.check(err)
			want.stored, want.held.stored = stats.Health[h.id].NextProbeAt, stats.Health[h.id].Throttle.HeldUntil // a call may have brought the others forward
			if h.paused != w.Paused {
				h.paused, h.heldAt, h.pausedBy, h.byLane = w.Paused, now, "", false
				s.mark(simLane{h.id, false}, map[bool]byte{true: 'h', false: 'r'}[h.paused], 0)
			}
			h.fuzzy = false
			s.mark(simLane{h.id, false}, '!', 0)
			s.markNext(h, 'p', want.late)
			s.markThrottle(h)
			continue
		}
		if held := got.Throttle.HeldUntil; held.Before(want.held.early) && want.held.early.After(now) || held.After(want.held.late) && held.After(now) ||
			got.Refused != want.refused || got.Throttle.Refusals != want.refusals || !got.Throttle.HeldUntil.IsZero() && !want.throttled {
			s.violate("webhook %d: %d refused, throttle %+v, the model says %+v", h.id, got.Refused, got.Throttle, *want)
		}
		if got.Throttle.HeldUntil.IsZero() && want.throttled && now.After(want.held.late) { // it ends with a success some time later
			want.throttled = false
			s.markThrottle(h)
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

// cancelWaiting is what a change does to what waits. s.mu is held.
func (s *sim) cancelWaiting(h *simHook, covered func(*simDelivery) bool) {
	h.cancelled = time.Now()
	for _, d := range s.deliveries {
		if d.hook == h.id && d.state == engine.StatusPending && covered(d) {
			d.state, d.stateAt, d.touched, d.byChange = engine.StatusCancelled, time.Now().UTC(), time.Now(), true
		}
	}
	for _, d := range s.byID {
		if d.kind == engine.KindTest && d.hook == h.id && d.state == engine.StatusPending && covered(d) {
			d.state, d.stateAt, d.touched = engine.StatusCancelled, time.Now().UTC(), time.Now()
		}
	}
}

func (s *sim) expect(h *simHook, ss *simSession, kind engine.Kind, due, asOf time.Time) {
	k := simKey{hook: h.id, session: ss.id, kind: kind}
	if s.deliveries[k] != nil {
		return
	}
	now := time.Now().UTC()
	d := &simDelivery{simKey: k, content: ss.content, dueAt: due, asOf: asOf, due: due, created: now, since: now, state: engine.StatusPending, readyAt: later(due, now)}
	d.firstDue = d.readyAt
	s.add(d)
}

// recorded takes note that the record of a delivery's attempt is stored: from here on nothing may undo it.
func (s *sim) recorded(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byID[id.String()]; d != nil {
		d.unrecorded = false
	}
}

// over takes note of the end of a process: of attempts that had ended only those count for sure whose record is stored. s.mu is held.
func (s *sim) over() {
	for _, d := range s.byID {
		d.unsure = d.unrecorded
	}
}

// throttleEnded takes note that a success has ended a throttle whose hold was brought forward, as the store tells: from then on there is no hold to
// go back to. s.mu is held.
func (s *sim) throttleEnded(h *simHook, stored engine.Health) {
	if health := &h.health; health.throttled && stored.Throttle.HeldUntil.IsZero() && !time.Now().Before(health.held.early) {
		health.throttled, health.held = false, simSpan{}
	}
}

// recovered learns from the store, before anything is sent, which of the attempts count that were not recorded for sure. s.mu is held.
func (s *sim) recovered() {
	stats, err := s.process.Stats(context.Background(), time.Now(), false)
	s.check(err)
	for _, h := range s.hooks {
		h.beatEarly = stats.Health[h.id].NextSlotAt
		s.throttleEnded(h, stats.Health[h.id])
		if h.pauseUnsure && !h.gone && h.paused && !s.process.Webhooks().Get(h.id).Paused {
			h.paused, h.pausedBy = false, ""
			s.mark(simLane{h.id, false}, 'r', 0)
		}
		h.pauseUnsure = false
	}
	for _, d := range s.byID {
		if !d.unsure {
			continue
		}
		d.unsure, d.unrecorded = false, false
		stored, _, _, err := s.world.Delivery(context.Background(), d.ID())
		switch {
		case d.gone:
		case err != nil:
			s.found(simLost, "after a restart: %s of %s: %v", d.kind, d.session, err)
		case stored.Attempts == d.attempts-1:
			s.soft["attempts that a restart forgot"]++
			d.attempts, d.cut = d.attempts-1, d.cut+1
			d.state, d.stateAt, d.tries, d.due, d.fuzzy = engine.StatusPending, time.Time{}, stored.Tries, stored.NextAttemptAt, false
			d.readyAt = later(d.due, time.Now())
			if !stored.Status.Waiting() {
				d.state, d.stateAt = stored.Status, stored.FinishedAt
			}
		case stored.Attempts != d.attempts:
			s.found(simWrong, "after a restart: %s %s has %d attempts, the model says %d, or one less", d.kind, d.id, stored.Attempts, d.attempts)
		}
		h := s.hook(d.hook)
		if h.gone {
			continue
		}
		was := stats.Health[h.id]
		h.health = healthAs(was)
		s.markThrottle(h)
		if paused := s.process.Webhooks().Get(h.id).Paused; paused != h.paused {
			h.paused, h.heldAt, h.pausedBy, h.byLane = paused, time.Now(), "", false
			s.mark(simLane{h.id, false}, map[bool]byte{true: 'h', false: 'r'}[h.paused], 0)
		}
	}
}
