package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// What the model knows: what callers have asked for and were told, and what endpoints have seen. It knows nothing of members' lanes, claims and leases.

// fleetHook is a webhook as its owner, a customer, knows it.
type fleetHook struct {
	id     uint32
	canary bool // its endpoint is always well, and nobody changes it
	busy   bool // somebody changes it
	text   bool // its payloads are what the engine renders
	late   bool // send_updates
	filter bool // refuses half of the sessions; see passes

	version  int       // of its URL
	movedAt  time.Time // since when requests must go to the URL of that version
	pausedAt time.Time // since when no request may begin; zero if one may
	offAt    time.Time // the same, because it is inactive or deleted
	deleted  bool

	activeFrom time.Time // when it was known to be active
	offFrom    time.Time // when somebody began to switch it off; zero if nobody has since
	disturbed  bool      // deliveries may have been cancelled, or were made for settings that are others now
	replayedAt time.Time

	limit, limitBefore int     // max_in_flight; the one before counts until the change has returned
	rate               float64 // 0 for none
	rateAt             time.Time
	lastBegan          time.Time
	lastBy             string
	inFlight           int

	mode      fleetMode
	health    engine.Health // of the last recorded attempt
	unsure    bool          // what the health should be is not known
	calmAfter time.Time     // attempts that begin later count for the health
	resumes   []*fleetResume
}

// fleetFilter is the filter of a webhook that has one.
const fleetFilter = `.session_id | test("^[0-7]")`

// passes reports whether the filter of a webhook lets a session through.
func (h *fleetHook) passes(ss *fleetSession) bool { return !h.filter || ss.id[0] < 0x80 }

// operationsHost is that of the webhook for operational events. Its endpoint is always well.
const operationsHost = "operations.example"

// fleetTest is a test delivery that somebody has asked for, and was told of.
type fleetTest struct {
	hook *fleetHook
	id   uuid.UUID
}

// fleetMode is how an endpoint behaves.
type fleetMode int

const (
	modeOK fleetMode = iota
	modeSlow
	modeFlaky
	modeDown
	modeBusy // 429
	modeGone // 410
	modes
)

// fleetSession is a session that somebody has posted.
type fleetSession struct {
	id        uuid.UUID
	events    []string // the ids of its events, as far as they are acknowledged
	questions []string
	busy      int // requests for it
	firstTry  time.Time
	finished  time.Time // when its finish was acknowledged; zero before
	expected  []*fleetHook
	erasing   bool
	erasedAt  time.Time
}

// fleetDelivery is a delivery as its endpoint knows it.
type fleetDelivery struct {
	id          uuid.UUID
	hook        *fleetHook
	session     *fleetSession
	inFlight    int
	sends       []*fleetSend
	from        int  // the first of those since it was allowed to be sent again
	recorded    bool // a 2xx was recorded
	allowed     int  // how often it may be sent again, because somebody has asked for it
	cancelledAt time.Time
	touched     bool // by somebody who has cancelled it or sent it again
	body        string
}

// fleetSend is a request.
type fleetSend struct {
	*fleetDelivery
	by     *fleetMember
	at     time.Time
	took   time.Duration
	status int
	isTest bool
	ended  bool
}

// fleetResume is a measurement: how long the lanes of a webhook rest after their owner has gone.
type fleetResume struct {
	from  time.Time
	gone  *fleetMember
	leave bool // it has left, and was not killed
}

// fleetDisturbance is a time in which something happens that may stop lanes for a while.
type fleetDisturbance struct {
	fleetSpan
	of *fleetMember
}

// begin is the arrival of a request at an endpoint.
func (s *fleetSim) begin(m *fleetMember, id uuid.UUID, host, body, kind string) *fleetSend {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	h, version := s.hookAt(host)
	isTest, ofSession := kind == engine.KindTest.String(), kind != engine.KindTest.String() && kind != engine.KindOperation.String()
	d := s.deliveries[id]
	if d == nil {
		d = s.newDelivery(id, h, body, ofSession)
	}
	a := &fleetSend{fleetDelivery: d, by: m, at: now}
	what := fmt.Sprintf("%s sends %s delivery %s of session %v to webhook %d", m.name, kind, id, d.sessionID(), h.id)
	if d.inFlight++; d.inFlight > 1 {
		s.foundLocked(fleetOverlap, "%s while another request with it is in flight by %s", what, d.sends[len(d.sends)-1].by.name)
	}
	s.again(d, what, now)
	after := func(at time.Time) bool { return !at.IsZero() && now.After(at) }
	switch {
	case d.session != nil && !h.passes(d.session):
		s.foundLocked(fleetForbidden, "%s, whose filter refuses it", what)
	case isTest: // it is sent also if the webhook is paused or switched off
	case after(h.pausedAt):
		s.foundLocked(fleetForbidden, "%s, which was paused at %s", what, stamp(h.pausedAt))
	case after(h.offAt):
		s.foundLocked(fleetForbidden, "%s, which was switched off at %s", what, stamp(h.offAt))
	case version < h.version && after(h.movedAt):
		s.foundLocked(fleetForbidden, "%s, which has moved at %s", what, stamp(h.movedAt))
	case after(d.cancelledAt):
		s.foundLocked(fleetForbidden, "%s, which was cancelled at %s", what, stamp(d.cancelledAt))
	case d.session != nil && after(d.session.erasedAt):
		s.foundLocked(fleetForbidden, "%s, which was erased at %s", what, stamp(d.session.erasedAt))
	}
	if a.isTest = isTest; !isTest { // tests have a lane of their own
		s.limits(m, h, what, now)
	}
	if h == s.operations {
		s.operation(m, body)
	}
	if n := s.sendingOf(d); n > 1 {
		s.foundLocked(fleetOverlap, "%s while another delivery of the session is in flight", what)
	}
	s.measure(m, h, d, now)
	a.status, a.took = s.answerOf(h)
	s.trace("%s (%d after %s)", what, a.status, a.took)
	d.sends, d.body = append(d.sends, a), body
	s.requests++
	return a
}

// newDelivery notes a delivery of which no request has come yet. s.mu is held.
func (s *fleetSim) newDelivery(id uuid.UUID, h *fleetHook, body string, ofSession bool) *fleetDelivery {
	d := &fleetDelivery{id: id, hook: h}
	if i := strings.Index(body, `"session_id":"`); i >= 0 && ofSession {
		if of, err := uuid.Parse(body[i+14 : i+50]); err == nil {
			d.session = s.bySession[of]
		}
	}
	if d.session == nil && ofSession {
		s.foundLocked(fleetOther, "delivery %s is of no session that was posted: %s", id, body)
	}
	s.deliveries[id] = d
	if !h.replayedAt.IsZero() && time.Since(h.replayedAt) < time.Minute {
		d.allowed++
	}
	return d
}

// again holds a request against a 2xx that the delivery had before. s.mu is held.
func (s *fleetSim) again(d *fleetDelivery, what string, now time.Time) {
	i := slices.IndexFunc(d.sends[d.from:], (*fleetSend).delivers)
	if i < 0 {
		return
	}
	before := d.sends[d.from:][i]
	switch {
	case d.allowed > 0:
		d.allowed--
	case d.recorded:
		s.foundLocked(fleetAgain, "%s again after its 2xx was recorded", what)
	case !before.by.troubled(before.at, now):
		s.foundLocked(fleetAgain, "%s again after a 2xx at %s to %s, who was not cut off", what, stamp(before.at), before.by.name)
	default:
		s.count["repeats after a member was cut off or killed"]++
	}
	d.recorded, d.from = false, len(d.sends) // what follows are its retries
}

// hookAt returns the webhook with a host, and which of its URLs that is of. s.mu is held.
func (s *fleetSim) hookAt(host string) (h *fleetHook, version int) {
	if host == operationsHost {
		return s.operations, s.operations.version
	}
	var hookID uint32
	if _, err := fmt.Sscanf(host, "h%d-v%d.example", &hookID, &version); err != nil {
		s.foundLocked(fleetOther, "a request to %q: %v", host, err)
	}
	return s.byHost[hookID], version
}

// limits holds a request to max_in_flight and the rate limit. s.mu is held.
func (s *fleetSim) limits(m *fleetMember, h *fleetHook, what string, now time.Time) {
	if h.inFlight++; h.inFlight > max(h.limit, h.limitBefore) {
		s.foundLocked(fleetLimit, "%s as the %d. at once; %d are allowed", what, h.inFlight, max(h.limit, h.limitBefore))
	}
	kept := h.rate <= 10 || h.lastBy == m.name // the next owner knows nothing of the last slot of a faster one: Health.NextSlotAt
	if h.rate > 0 && kept && !h.lastBegan.IsZero() && h.lastBegan.After(h.rateAt) && !h.rateAt.IsZero() {
		if gap, least := now.Sub(h.lastBegan), time.Duration(float64(time.Second)/h.rate)-20*time.Millisecond; gap < least {
			s.foundLocked(fleetLimit, "%s %s after the one before, by %s; %g a second are allowed since %s", what, gap, h.lastBy, h.rate, stamp(h.rateAt))
		}
	}
	h.lastBegan, h.lastBy = now, m.name
}

// operation is the arrival of an operational event. One about a delivery is about one that its endpoint has refused. s.mu is held.
func (s *fleetSim) operation(m *fleetMember, body string) {
	var event struct {
		Type engine.SystemEventType
		Data struct {
			DeliveryID uuid.UUID `json:"delivery_id"`
		}
	}
	if err := json.Unmarshal([]byte(body), &event); err != nil {
		s.foundLocked(fleetOther, "%s tells %s: %v", m.name, body, err)
	}
	s.count["operational events"]++
	if event.Type != engine.SystemEventFailed {
		return
	}
	d := s.deliveries[event.Data.DeliveryID]
	if d == nil || !slices.ContainsFunc(d.sends, func(a *fleetSend) bool { return !a.delivers() || !a.ended }) {
		s.foundLocked(fleetOther, "%s tells that delivery %s has failed, which no endpoint has refused", m.name, event.Data.DeliveryID)
	}
}

func (d *fleetDelivery) sessionID() uuid.UUID {
	if d.session == nil {
		return uuid.Nil
	}
	return d.session.id
}

// sendingOf counts the deliveries in flight of a session to a webhook, that one included. s.mu is held.
func (s *fleetSim) sendingOf(d *fleetDelivery) int {
	if d.session == nil {
		return 0
	}
	if d.inFlight == 1 {
		s.together[fleetPair{d.hook.id, d.sessionID()}]++
	}
	return s.together[fleetPair{d.hook.id, d.sessionID()}]
}

type fleetPair struct {
	hook    uint32
	session uuid.UUID
}

func (a *fleetSend) delivers() bool { return a.status/100 == 2 }

func stamp(t time.Time) string { return t.UTC().Format("04:05.000") }

// answerOf says how an endpoint answers now. s.mu is held.
func (s *fleetSim) answerOf(h *fleetHook) (status int, took time.Duration) {
	r := s.answers
	took = time.Duration(r.Int64N(int64(60 * time.Millisecond)))
	mode := h.mode
	if s.healed && !h.canary {
		mode = modeOK
	}
	switch mode {
	case modeSlow:
		return 200, time.Duration(r.Int64N(int64(2900 * time.Millisecond)))
	case modeFlaky:
		if r.IntN(2) == 0 {
			return 500, took
		}
		return 200, time.Duration(r.Int64N(int64(1200 * time.Millisecond)))
	case modeDown:
		return 503, took
	case modeBusy:
		if r.IntN(3) > 0 {
			return 429, took
		}
	case modeGone:
		return 410, took
	}
	return 200, took
}

// ended is the end of a request at its endpoint.
func (s *fleetSim) ended(a *fleetSend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.ended = true; !a.isTest {
		a.hook.inFlight--
	}
	if a.inFlight--; a.inFlight == 0 && a.session != nil {
		s.together[fleetPair{a.hook.id, a.sessionID()}]--
	}
}

// recorded is told of each call of RecordAttempt that has returned.
func (s *fleetSim) recorded(r *engine.AttemptRecord, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.deliveries[r.Delivery.ID]
	if d != nil && err == nil && r.Attempt.Delivered() {
		d.recorded = true
	}
	h := s.byID[r.Delivery.WebhookID]
	if h == nil { // that for operational events
		return
	}
	if err != nil {
		h.unsure = true // it may be stored, or not
		return
	}
	switch {
	case r.Webhook == nil || r.Attempt.StartedAt.Before(h.calmAfter):
		h.unsure = true
	case r.Health.Order > h.health.Order:
		h.health, h.unsure = r.Health, false
	}
}

// owns is told of the news of each member that comes to own lanes: the health that it goes on from is the one that was recorded last.
func (s *fleetSim) owns(m *fleetMember, own map[uint32]engine.Owned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, owned := range own {
		h, got := s.byID[id], owned.Health
		if h == nil {
			continue
		}
		want := h.health
		same := got.Failures == want.Failures && got.Refused == want.Refused && got.Failing() == want.Failing() && got.FirstFailedAt.Equal(want.FirstFailedAt) && got.Probes == want.Probes
		if !h.unsure && !h.busy && !same {
			s.foundLocked(fleetHealth, "%s takes webhook %d over with the health %+v; the last one that was recorded is %+v", m.name, id, got, want)
		}
		h.health = got
		h.health.Order, h.unsure = 0, false
		if h.busy {
			h.unsure = true
		}
		s.count["lanes that moved"]++
		s.trace("%s takes webhook %d over; the next slot is at %s", m.name, id, stamp(got.NextSlotAt))
	}
}

// measure notes, for a webhook whose endpoint is always well, how long a delivery has waited. s.mu is held.
func (s *fleetSim) measure(m *fleetMember, h *fleetHook, d *fleetDelivery, now time.Time) {
	if !h.canary || d.session == nil {
		return
	}
	ss := d.session
	if len(h.resumes) > 0 && h.resumes[0].gone != m {
		for _, r := range h.resumes {
			s.resume(h, r, now)
		}
		h.resumes = nil
	}
	if len(d.sends) > 0 || ss.finished.IsZero() {
		return
	}
	lag := now.Sub(ss.finished)
	s.lags = append(s.lags, lag)
	if lag > 2*time.Second && !s.disturbed(ss.finished, now, nil) {
		s.foundLocked(fleetLate, "webhook %d got session %s %s after it was acknowledged, and nothing has happened meanwhile", h.id, ss.id, lag)
	}
}

// resume notes that the lanes of a webhook go on whose owner has gone. s.mu is held.
func (s *fleetSim) resume(h *fleetHook, r *fleetResume, now time.Time) {
	kind, took, most := "after a kill", now.Sub(r.from), 12*time.Second
	if r.leave {
		kind, most = "after SIGTERM", 3*time.Second
		s.resumed[kind] = append(s.resumed[kind], took)
		kind = "after the last attempt of one that leaves" // it waits for that
		if idle := r.gone.idleSince(); idle.After(r.from) {
			took = now.Sub(idle)
		}
	}
	if s.disturbed(r.from, now, r.gone) {
		s.resumed[kind+" beside other faults"] = append(s.resumed[kind+" beside other faults"], took)
		return
	}
	s.resumed[kind] = append(s.resumed[kind], took)
	if took > most {
		s.foundLocked(fleetLate, "webhook %d goes on %s %s (%s)", h.id, took, kind, r.gone.name)
	}
}

// disturb notes that something happens to a member. s.mu is held.
func (s *fleetSim) disturb(m *fleetMember, d time.Duration) {
	now := time.Now()
	s.disturbances = append(s.disturbances, fleetDisturbance{fleetSpan{now, now.Add(d)}, m})
}

// disturbed reports whether something has happened in a time. If a member is given, it asks for the faults of others: newcomers are no excuse, nor is the end
// of that member. s.mu is held.
func (s *fleetSim) disturbed(from, to time.Time, but *fleetMember) bool {
	return slices.ContainsFunc(s.disturbances, func(p fleetDisturbance) bool { return (but == nil || p.of != but && p.of != nil) && p.meets(from, to) })
}

// expects returns the webhooks that a session has to be sent to, that was posted at first at one time and is acknowledged now. s.mu is held.
func (s *fleetSim) expects(firstTry time.Time) (all []*fleetHook) {
	for _, h := range s.hooks {
		if !h.activeFrom.IsZero() && !h.activeFrom.After(firstTry) && h.offFrom.IsZero() {
			all = append(all, h)
		}
	}
	return all
}
