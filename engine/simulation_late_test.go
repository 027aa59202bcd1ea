package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// This file is the model of what comes late: sessions in pieces, triggers that move, updates, and deliveries that are overtaken.

// simLateness is what the model of a delivery knows of the others of its session and webhook, and of what came too late for it.
type simLateness struct {
	frozen             string // its payload, as it was handed to the store
	frozenAt           time.Time
	builtFrom          int  // how many events are in it, as the store was told
	builtMin, builtMax int  // how many of the session's requests are in it, at least and at most
	dropped            bool // its session had finished by its instant when it was taken up, or overtaken

	superseded *simDelivery // by which it was cancelled
	byChange   bool         // it was cancelled by a change of the webhook: until the background has done so, it may be superseded
	byHand     bool         // it was sent again by hand since, so that it may come after a newer one
	recheck    bool         // a call by hand was under way when it was overtaken: which came first, only the store knows

	provisional bool // an update that was seen before the request was answered that has led to it
	late        int  // events that came too late for a complete one
	lateUnsure  bool // the model does not know them all

	movedAt time.Time // when its trigger was last moved
	was     simTrigger
}

// simTrigger is what the start of a session moves.
type simTrigger struct{ asOf, dueAt, due, readyAt, firstDue time.Time }

func (d *simDelivery) trigger() simTrigger {
	return simTrigger{d.asOf, d.dueAt, d.due, d.readyAt, d.firstDue}
}

func (d *simDelivery) moveTo(t simTrigger) {
	d.asOf, d.dueAt, d.due, d.readyAt, d.firstDue = t.asOf, t.dueAt, t.due, t.readyAt, t.firstDue
}

// overtakes tells whether a delivery with a payload overtakes another one of the same session and webhook, which may have none yet. An update
// overtakes others whose payload holds less.
func (d *simDelivery) overtakes(o *simDelivery) bool {
	order := []engine.Kind{engine.KindIncomplete, engine.KindComplete, engine.KindUpdate}
	by := slices.Index(order, d.kind) - slices.Index(order, o.kind)
	return !d.frozenAt.IsZero() && (by > 0 || by == 0 && !o.frozenAt.IsZero() && d.builtFrom > o.builtFrom)
}

func (s *sim) add(d *simDelivery) {
	s.deliveries[d.simKey] = d
	if d.session != uuid.Nil {
		s.together[d.pair()] = append(s.together[d.pair()], d)
	}
}

// others returns the other deliveries of the same session and webhook that there are. s.mu is held.
func (s *sim) others(d *simDelivery) (others []*simDelivery) {
	for _, o := range s.together[d.pair()] {
		if o != d && !o.gone && s.deliveries[o.simKey] == o {
			others = append(others, o)
		}
	}
	return others
}

// expired tells whether the record of a delivery may be gone. s.mu is held.
func (s *sim) expired(d *simDelivery) bool {
	return d.gone || !d.waits() && !time.Now().Add(8**simSlow).Before(d.stateAt.Add(s.cfg.Retention.Deliveries))
}

// overtaken tells whether a newer delivery of the same session and webhook has a payload, and whether the store knows: it may not if the record of
// the newer one may be gone, or the session. s.mu is held.
func (s *sim) overtaken(d *simDelivery) (is, sure bool) {
	if d.kind == engine.KindTest {
		return false, true
	}
	kept := time.Now().Before(s.session(d.session).lastAt.Add(s.cfg.Retention.Sessions))
	for _, o := range s.together[d.pair()] {
		if o != d && o.overtakes(d) {
			is, sure = true, sure || kept && !s.expired(o)
		}
	}
	return is, sure || !is
}

func (s *sim) keyOf(e *engine.Delivery) simKey {
	if m := s.byID[e.ID.String()]; m != nil {
		return m.simKey
	}
	k := simKey{hook: e.WebhookID, session: e.SessionID, kind: e.Kind}
	if e.Kind == engine.KindUpdate {
		k.update = -1 // unknown
	}
	return k
}

// keyOfRequest is the key of what a request is about that the model does not know.
func (s *sim) keyOfRequest(r received) simKey {
	var p struct {
		SessionID uuid.UUID `json:"session_id"`
		Complete  bool      `json:"complete_session"`
	}
	if e, _, _, err := s.world.Delivery(context.Background(), uuid.MustParse(r.id)); err == nil && e.Shaped { // its body may be anything
		p.SessionID, p.Complete = e.SessionID, e.Kind != engine.KindIncomplete
	} else if err := json.Unmarshal(r.body, &p); err != nil {
		s.violate("payload: %v", err)
	}
	k := simKey{session: p.SessionID, kind: engine.KindIncomplete}
	fmt.Sscanf(r.host, "h%d.", &k.hook)
	switch {
	case r.header.Get("hookbolt-kind") == engine.KindUpdate.String():
		k.kind, k.update = engine.KindUpdate, s.nextUpdate(k)
	case p.Complete:
		k.kind = engine.KindComplete
	}
	return k
}

func (s *sim) nextUpdate(k simKey) int {
	n := 1
	for _, o := range s.together[k.pair()] {
		n = max(n, o.update+1)
	}
	return n
}

func (s *sim) markSession(d *simDelivery, kind byte) {
	s.marks = append(s.marks, simMark{at: time.Now(), lane: simLane{d.hook, d.kind == engine.KindTest}, kind: kind, n: 1, of: d.session})
}

// checkOrder holds a request that begins now against the other deliveries of its session and webhook. s.mu is held.
func (s *sim) checkOrder(d *simDelivery, what string) {
	if d.kind == engine.KindTest {
		return
	}
	for _, o := range s.others(d) {
		switch {
		case o.sending:
			s.violate("%s: sent during the attempt of %s %s of the same session", what, o.kind, o.id)
		case o.overtakes(d) && !d.byHand && !d.recheck:
			if _, sure := s.overtaken(d); sure {
				s.violate("%s: sent %v after the payload of %s %s was built, which is newer", what, time.Since(o.frozenAt), o.kind, o.id)
			}
		}
	}
}

// storedRequests returns how many requests of a session were answered.
func (s *sim) storedRequests(session uuid.UUID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	ss := s.session(session)
	at := slices.IndexFunc(ss.batches, func(b *simBatch) bool { return b.storedAt.IsZero() })
	if at < 0 {
		return len(ss.batches)
	}
	return at
}

// froze takes note that the store has taken a payload, or none: then the trigger goes without a trace. So many requests of the session were answered
// before.
func (s *sim) froze(f *engine.Freeze, stored int) {
	claimed, payload, events := &f.Delivery, f.Payload, f.Events
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UTC()
	d := s.takenUp(claimed, payload != nil || f.Ends())
	what := fmt.Sprintf("%s %s of %s for webhook %d", d.kind, claimed.ID, d.session, d.hook)
	if d.movedAt.Equal(now) && !d.asOf.Equal(claimed.AsOf) && claimed.AsOf.Equal(d.was.asOf) {
		if e, _, _, err := s.world.Delivery(context.Background(), claimed.ID); err != nil || e.AsOf.Equal(d.was.asOf) {
			d.moveTo(d.was) // it was taken up in the instant in which it was to be moved
			d.mustDrop = false
		}
	}
	if at := slices.IndexFunc(s.replays, func(r *simReplay) bool { return s.covers(r, d) }); at >= 0 { // which has queued it again
		s.queueAgain(d, 0, s.replays[at].at)
		d.fuzzy, d.readyAt = true, now // when it was, only the store knows
	}
	s.reopens(d, events, what)
	if payload == nil && !f.Ends() {
		if !s.drops(d) {
			s.found(simLost, "%s: its trigger goes without a trace", what)
		}
		d.dropped = true
		return
	}
	if !d.frozenAt.IsZero() {
		s.found(simWrong, "%s: its payload is built twice", what)
	}
	if d.mustDrop {
		s.violate("%s: its session had finished", what)
	}
	for _, o := range s.others(d) {
		if o.sending || o.unrecorded {
			s.violate("%s: its payload is built before the attempt of %s %s is recorded", what, o.kind, o.id)
		}
	}
	if f.Webhook != nil {
		s.checkBuilt(d, f)
		s.observeBuilt(s.hook(d.hook), f)
	}
	if f.Ends() {
		s.ends(d, f, what)
		return
	}
	d.frozenAt, d.frozen, d.builtFrom = now, string(payload), events
	if f.Webhook == nil {
		s.checkPayload(d, d.frozen, stored)
		d.sent.contentType = "application/json"
	}
	if ss := s.session(d.session); events < ss.eventsIn(d.builtMin) || events > ss.eventsIn(d.builtMax) {
		s.violate("%s: built from %d events, the model says %d to %d", what, events, ss.eventsIn(d.builtMin), ss.eventsIn(d.builtMax))
	}
	for _, o := range s.others(d) {
		if d.overtakes(o) {
			o.late, o.lateUnsure = 0, false // it tells them
		}
		switch {
		case d.overtakes(o) && s.replayed(func(r *simReplay) bool { return s.mayHaveQueued(r, o) }):
			o.recheck = true // a replay may have queued it again before
		case !d.overtakes(o) || !o.waits() || o.dropped:
		case s.drops(o):
			o.dropped = true
		default:
			s.soft["superseded "+o.kind.String()]++
			o.recheck = o.asking || o.fuzzy || o.touched.Equal(now) || o.askedAt.Equal(now)
			o.state, o.stateAt, o.superseded, o.byHand, o.fuzzy = engine.StatusCancelled, now, d, false, false
		}
	}
}

// takenUp returns the model of a delivery that is taken up for the first time. s.mu is held.
func (s *sim) takenUp(claimed *engine.Delivery, frozen bool) *simDelivery {
	id := claimed.ID.String()
	if d := s.byID[id]; d != nil {
		return d
	}
	if claimed.Kind == engine.KindUpdate {
		return s.learnUpdate(claimed)
	}
	k := simKey{hook: claimed.WebhookID, session: claimed.SessionID, kind: claimed.Kind}
	d := s.deliveries[k]
	if d == nil || s.madeAnew(d, id) {
		if !s.replayed(func(r *simReplay) bool { return s.misses(r, k) }) {
			s.violate("a payload that nothing asked for: %+v", k)
		}
		d = made(claimed)
		s.add(d)
	} else if d.id != "" {
		s.found(simAgain, "a second delivery for %+v", k)
	}
	if frozen {
		d.id = id
		s.byID[id] = d
	}
	return d
}

// learnUpdate returns the model of an update that is stored. s.mu is held.
func (s *sim) learnUpdate(e *engine.Delivery) *simDelivery {
	if d := s.byID[e.ID.String()]; d != nil {
		return d
	}
	d := made(e)
	d.simKey.update = s.nextUpdate(d.simKey)
	d.id, d.provisional, d.since = e.ID.String(), true, time.Now().UTC()
	d.readyAt = later(d.due, time.Now())
	s.byID[d.id] = d
	s.add(d)
	return d
}

// simReceipt is what a request says of a session.
type simReceipt struct {
	at                 time.Time
	first              bool      // it begins the session
	begins             bool      // that, or it has the first start or vote
	start              time.Time // from which the incomplete delay counts
	whole, wasFinished bool
}

// expectIncomplete says what a request that begins a session, or has its first start or vote, means for the incomplete delivery. s.mu is held.
func (s *sim) expectIncomplete(h *simHook, ss *simSession, r *simReceipt) {
	d := s.deliveries[simKey{hook: h.id, session: ss.id, kind: engine.KindIncomplete}]
	delay := time.Duration(h.incompleteDelay) * time.Second
	asOf := r.start.Add(delay)
	due := settled(asOf, r.at, delay, s.cfg.Settle, r.whole)
	switch {
	case d != nil && !r.first:
		if d.waits() && d.frozenAt.IsZero() && !d.dropped {
			s.soft["triggers moved"]++
			d.was, d.movedAt, d.mustDrop = d.trigger(), r.at, false
			to := simTrigger{asOf, due, due, later(due, r.at), later(due, r.at)}
			if !d.due.Equal(d.dueAt) { // it was queued by hand, which stands
				to.due, to.readyAt, to.firstDue = d.due, d.readyAt, d.firstDue
			}
			d.moveTo(to)
		}
	case !h.matches(ss.content) || !h.incomplete:
	case !r.first && r.wasFinished:
	case !ss.finished.IsZero() && !ss.finished.After(asOf):
	default:
		s.expect(h, ss, engine.KindIncomplete, due, asOf)
	}
}

// judgeLate holds what the store has made of requests for these sessions, which were answered, against what they mean after the complete payload.
// s.mu is held.
func (s *sim) judgeLate(of []*simSession) {
	for _, ss := range of {
		batches := ss.unjudged
		ss.judging = batches
		if ss.unjudged = nil; len(batches) == 0 {
			continue
		}
		_, stored, err := s.process.Session(context.Background(), ss.id)
		if err != nil {
			s.found(simLost, "session %s: %v after its events were accepted", ss.id, err)
			continue
		}
		for i := range stored {
			s.judgeMove(&stored[i])
		}
		for _, h := range s.hooks {
			s.judgeUpdates(h, ss, batches, stored)
		}
	}
}

// judgeMove holds a stored incomplete delivery against the model's. s.mu is held.
func (s *sim) judgeMove(e *engine.Delivery) {
	d := s.model(e)
	if d == nil || e.Kind != engine.KindIncomplete || !d.waits() || d.requeued || d.dropped {
		return
	}
	if now := time.Now().UTC(); d.movedAt.Equal(now) && e.AsOf.Equal(d.was.asOf) && (e.FrozenAt.Equal(now) || d.frozenAt.Equal(now)) {
		d.moveTo(d.was)
		d.mustDrop = false
	}
	if !e.AsOf.Equal(d.asOf) || !e.DueAt.Equal(d.dueAt) {
		s.found(simOff, "%s %s of %s: as of %v, due at %v; the model says %v and %v", e.Kind, e.ID, e.SessionID, e.AsOf, e.DueAt, d.asOf, d.dueAt)
	}
}

// judgeUpdates holds the updates that requests have led to for a webhook against what the model says. s.mu is held.
func (s *sim) judgeUpdates(h *simHook, ss *simSession, batches []int, stored []engine.Delivery) {
	var made []*engine.Delivery
	for i := range stored {
		e := &stored[i]
		if m := s.byID[e.ID.String()]; e.Kind == engine.KindUpdate && e.WebhookID == h.id && (m == nil || m.provisional) {
			made = append(made, e)
		}
	}
	complete := s.deliveries[simKey{hook: h.id, session: ss.id, kind: engine.KindComplete}]
	want, unsure := 0, len(batches) > 1
	for _, i := range batches {
		wants, sure := s.judgeBatch(h, ss, complete, i)
		want, unsure = want+wants, unsure || !sure
	}
	if unsure && complete != nil {
		complete.lateUnsure = true
	}
	switch {
	case unsure:
	case len(made) > want:
		s.violate("session %s, webhook %d: %d updates were made, the model says %d", ss.id, h.id, len(made), want)
	case len(made) < want:
		s.found(simLost, "session %s, webhook %d: no update was made of what came too late", ss.id, h.id)
	}
	for _, e := range made {
		d := s.learnUpdate(e)
		d.provisional = false
		due := ss.batches[batches[0]].sentAt.Add(time.Duration(h.delay) * time.Second)
		if !unsure && !e.DueAt.Equal(due) {
			s.found(simOff, "update %s: due at %v, the model says %v", e.ID, e.DueAt, due)
		}
		s.soft["updates made"]++
	}
	if n := s.waitingUpdates(simPair{h.id, ss.id}); n > 1 {
		s.violate("session %s, webhook %d: %d updates wait to be built", ss.id, h.id, n)
	}
}

func (s *sim) waitingUpdates(p simPair) (n int) {
	for _, d := range s.together[p] {
		if d.kind == engine.KindUpdate && d.waits() && d.frozenAt.IsZero() && !d.gone {
			n++
		}
	}
	return n
}

// judgeBatch returns how many updates a request leads to, and counts its events if they came too late. s.mu is held.
func (s *sim) judgeBatch(h *simHook, ss *simSession, complete *simDelivery, i int) (updates int, sure bool) {
	switch {
	case complete != nil && !complete.waits() && complete.frozenAt.IsZero() && s.expired(complete) && (complete.gone || complete.state != engine.StatusFiltered):
		return 0, false
	case complete != nil && complete.state == engine.StatusFiltered && complete.builtMax <= i && !complete.recheck:
		s.judgeFiltered(h, ss, complete, i, len(ss.judging) > 1)
		return 0, true
	case complete == nil || complete.frozenAt.IsZero() || complete.builtMax > i: // it holds them, or will; or they make no difference to it
		return 0, true
	case s.expired(complete):
		return 0, false
	}
	shape := h.shapes[len(h.shapes)-1]
	content := func(requests int) string { return ss.payload(requests, engine.KindComplete, time.Time{}, shape, 0) }
	if content(i) == content(i+1) {
		return 0, ss.bytes <= 32<<10 // of larger sessions anything counts as a change
	}
	switch {
	case !h.matches(ss.content):
		complete.lateUnsure = true
		return 0, true
	case !h.updates:
		s.soft["events late"] += len(ss.batches[i].events)
		complete.late += len(ss.batches[i].events)
		return 0, true
	}
	for _, o := range s.together[complete.pair()] {
		if o.kind == engine.KindUpdate && !o.provisional && (o.waits() && o.frozenAt.IsZero() || o.builtMax > i) {
			return 0, true // it will hold them, or does
		}
	}
	return 1, true
}

// settleUnsure asks the store which of two calls in the same instant came first. s.mu is held.
func (s *sim) settleUnsure() {
	for _, d := range s.byID {
		if !d.recheck || d.sending || d.gone {
			continue
		}
		e, _, _, err := s.world.Delivery(context.Background(), d.ID())
		if d.recheck = false; err != nil {
			if !s.expired(d) {
				s.found(simLost, "%s %s: %v", d.kind, d.id, err)
			}
			continue
		}
		d.state, d.stateAt, d.tries, d.parked = e.Status, e.FinishedAt, e.Tries, e.Parked()
		d.superseded = s.byID[e.SupersededBy.String()]
		if e.Status.Waiting() {
			d.state, d.stateAt, d.due = engine.StatusPending, time.Time{}, e.NextAttemptAt
			d.readyAt = later(d.due, time.Now())
		}
	}
}

// auditLateness holds the rest of a stored delivery against the model's. s.mu is held.
func (s *sim) auditLateness(d *simDelivery, e *engine.Delivery) {
	if d.kind == engine.KindTest || d.recheck || d.frozenAt.IsZero() && e.FrozenAt.Equal(time.Now()) {
		return // in the last case froze waits for this
	}
	by := uuid.Nil
	if d.superseded != nil {
		by = d.superseded.ID()
	}
	switch {
	case d.provisional:
		s.violate("update %s: no request has led to it", e.ID)
	case d.waits() && !d.dropped && (!e.AsOf.Equal(d.asOf) || !e.DueAt.Equal(d.dueAt)):
		s.found(simOff, "%s %s: as of %v, due at %v; the model says %v and %v", e.Kind, e.ID, e.AsOf, e.DueAt, d.asOf, d.dueAt)
	case e.SupersededBy != by && !d.byChange:
		s.violate("%s %s, %s: superseded by %s, the model says %s", e.Kind, e.ID, e.Status, e.SupersededBy, by)
	case e.LateEvents != d.late && !d.lateUnsure:
		s.violate("%s %s: %d events late, the model says %d", e.Kind, e.ID, e.LateEvents, d.late)
	case e.BuiltFrom != d.builtFrom && (d.state == engine.StatusFiltered || !d.frozenAt.IsZero()):
		s.violate("%s %s: built from %d events, the store was told %d", e.Kind, e.ID, e.BuiltFrom, d.builtFrom)
	}
}

// eventsIn counts those of the first requests that are stored.
func (ss *simSession) eventsIn(requests int) (n int) {
	for _, b := range ss.batches[:requests] {
		n += len(b.events)
	}
	return n
}

// pieces sends a session as pages and imports do: late, one event or some of them in a request, in any order, and now and then twice.
func (s *sim) pieces() {
	s.mu.Lock()
	ss := s.newSession()
	events := s.story(ss, time.Now().UTC().Add(-[]time.Duration{0, 0, 15 * time.Second, 3 * time.Minute, time.Hour}[s.rng.IntN(5)]))
	s.soft["sessions in pieces"]++
	s.mu.Unlock()
	var sent []*simEvent
	for len(events) > 0 {
		n := 1
		if s.rng.IntN(3) == 0 {
			n += s.rng.IntN(len(events))
		}
		request := slices.Clone(events[:n])
		events = events[n:]
		sent = append(sent, request...)
		if s.rng.IntN(4) == 0 {
			if again := sent[s.rng.IntN(len(sent))]; again.id != "" {
				request = append(request, again)
			}
		}
		if !s.send(slices.Repeat([]*simSession{ss}, len(request)), request) {
			return
		}
		pause := time.Duration(s.rng.Int64N(int64(time.Second)))
		switch s.rng.IntN(6) {
		case 0:
			pause = 0
		case 1:
			pause *= 40
		}
		time.Sleep(pause)
		if pause > 0 {
			synctest.Wait()
			s.settle()
		}
		if !s.goesOn(ss, time.Now()) {
			return
		}
	}
}

// story invents the events of a session, the last at that time, and returns them in the order in which they are sent. s.mu is held.
func (s *sim) story(ss *simSession, end time.Time) []*simEvent {
	var kinds []int
	some := func(kind, of, most int) {
		if s.rng.IntN(of) > 0 {
			for range 1 + s.rng.IntN(most) {
				kinds = append(kinds, kind)
			}
		}
	}
	some(simStart, 6, 1)
	some(simVote, 4, 3)
	some(simUndo, 2, 1)
	some(simLead, 3, 2)
	some(simResult, 3, 1)
	some(simFinish, 2, 1)
	if len(kinds) == 0 {
		kinds = []int{simLead}
	}
	step := time.Duration(1+s.rng.IntN([]int{300, 20_000}[s.rng.IntN(2)])) * time.Millisecond
	ss.startAt = end.Add(-time.Duration(len(kinds)-1) * step)
	var events []*simEvent
	for i, kind := range kinds {
		e := s.eventOf(ss, ss.startAt.Add(time.Duration(i)*step), kind)
		if s.rng.IntN(4) > 0 {
			e.id = fmt.Sprint("s", i)
		}
		events = append(events, e)
	}
	switch s.rng.IntN(3) {
	case 0:
		slices.Reverse(events)
	case 1:
		s.rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	}
	return events
}
