package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// down stops the process and starts it again.
func (s *sim) down(long bool) {
	s.mu.Lock()
	s.mark(simLane{}, 'd', 0)
	s.cfg.ShutdownTimeout = 0
	if s.rng.IntN(2) == 0 {
		s.cfg.ShutdownTimeout = 20 * time.Second
	}
	s.checkNext = s.rng.IntN(4) == 0
	s.mu.Unlock()
	s.totals.restarts++
	s.stop()
	s.mu.Lock()
	s.full = false
	s.over()
	s.mu.Unlock()
	s.up(long)
}

// fill leaves the store without room for a while: events are refused, nothing is built, and what was sent is recorded once there is room
// again, unless the process ends before.
func (s *sim) fill() {
	s.events()
	synctest.Wait()
	s.mu.Lock()
	s.full = true
	s.soft["spells without room"]++
	s.mark(simLane{}, 'd', 0) // nothing has to be sent
	ss := &simSession{id: s.uuid(), content: s.contents[0], startAt: time.Now().UTC()}
	e := s.someEvent(ss, time.Now().UTC())
	s.mu.Unlock()
	if _, err := s.Ingest(s.ctx, []byte(e.body(ss))); !errors.Is(err, engine.ErrFull) {
		s.violate("events without room for them: %v", err)
	}
	s.mustBeGone(ss.id)
	time.Sleep(time.Duration(s.rng.Int64N(int64(10 * time.Minute))))
	switch s.rng.IntN(3) {
	case 0:
		s.down(false)
		return
	case 1:
		s.process.crash()
		s.revive()
		return
	}
	s.mu.Lock()
	s.full = false
	s.mu.Unlock()
	time.Sleep(time.Second + 8**simSlow) // until all have tried again
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(simLane{}, 'u', 0)
}

// crash lets the process crash with one of the next changes, or, if there are none for long, in between.
func (s *sim) crash() {
	s.events()
	s.mu.Lock()
	s.plan = crashPlan{changes: 1 + s.rng.IntN(4), of: []string{"", "ClaimDue", "Freeze", "RecordAttempt"}[s.rng.IntN(4)], after: s.rng.IntN(2) == 0}
	patience := time.Duration(s.rng.Int64N(int64(20 * time.Minute)))
	s.mu.Unlock()
	select {
	case <-s.process.gone:
	case <-time.After(patience):
		s.mu.Lock()
		s.plan = crashPlan{}
		s.mu.Unlock()
		s.process.crash()
	}
	s.revive()
}

// revive starts a new process after a crash.
func (s *sim) revive() {
	s.stop()
	s.full = false
	s.checkNext = s.rng.IntN(2) == 0
	s.up(s.rng.IntN(3) == 0)
}

// up starts a process, after a while if the pause is to be a long one.
func (s *sim) up(long bool) {
	if long {
		time.Sleep(time.Duration(s.rng.Int64N(int64(2 * time.Hour))))
	}
	s.open()
	s.mu.Lock()
	s.recovered()
	s.mark(simLane{}, 'u', 0)
	s.upAt = time.Now()
	for _, h := range s.hooks {
		// A lane does not remember that a probe was brought forward.
		h.health.late, h.health.held.late = h.health.stored, h.health.held.stored
		s.markNext(h, 'p', h.health.late)
		s.markThrottle(h)
		s.ownAgain(h)
		s.tookOver(h)
	}
	s.mu.Unlock()
	s.start()       // with the grace of the next stop
	synctest.Wait() // until it knows its health
}

func (s *sim) events() {
	for range 1 + s.rng.IntN(1+s.rng.IntN(4)) {
		s.oneRequest()
	}
}

// oneRequest sends some events of some sessions. A producer sends a request again when it was not answered.
func (s *sim) oneRequest() {
	now := time.Now().UTC()
	s.mu.Lock()
	var of []*simSession
	var events []*simEvent
	for range 1 + s.rng.IntN(1+s.rng.IntN(3)) {
		ss := s.someSession(now)
		for range 1 + s.rng.IntN(4) {
			e := s.someEvent(ss, now)
			of, events = append(of, ss), append(events, e)
		}
	}
	s.mu.Unlock()
	s.send(of, events)
}

// send sends a request with events of those sessions each. It reports whether their sessions go on.
func (s *sim) send(of []*simSession, events []*simEvent) bool {
	var body []string
	for i, e := range events {
		body = append(body, e.body(of[i]))
	}
	s.totals.events += len(events)
	for {
		s.mu.Lock()
		crashes, after := s.rng.IntN(200) == 0, s.rng.IntN(2) == 0
		if crashes {
			s.plan = crashPlan{changes: 1, of: "AppendEvents", after: after}
		}
		var batches []*simBatch
		if !crashes || after {
			batches = s.accept(of, events) // before they are sent, since what is due at once is sent at once
		}
		s.mu.Unlock()
		_, err := s.Ingest(s.ctx, []byte("["+strings.Join(body, ",")+"]"))
		s.mu.Lock()
		for _, b := range batches {
			b.storedAt = time.Now()
		}
		if !crashes {
			s.judgeLate(of)
		}
		s.mu.Unlock()
		switch {
		case !crashes && err != nil:
			s.violate("ingest: %v", err)
			return false
		case !crashes:
			return true
		case !errors.Is(err, engine.ErrUnavailable):
			s.violate("ingest in a crash: %v", err)
		}
		if s.revive(); slices.ContainsFunc(of, func(ss *simSession) bool { return !s.goesOn(ss, time.Now()) }) {
			return false // it took too long
		}
	}
}

// someSession is a session to send events of. s.mu is held.
func (s *sim) someSession(now time.Time) *simSession {
	if len(s.sessions) > 0 && s.rng.IntN(3) > 0 {
		ss := s.sessions[max(0, len(s.sessions)-1-s.rng.IntN(12))]
		if s.goesOn(ss, now) {
			return ss
		}
	}
	ss := s.newSession()
	ss.startAt = now.Add(-time.Duration(s.rng.IntN(3)) * time.Duration(s.rng.Int64N(int64(5*time.Minute))))
	return ss
}

// newSession returns a session that has no events yet. s.mu is held.
func (s *sim) newSession() *simSession {
	ss := &simSession{id: s.uuid(), content: s.contents[s.rng.IntN(len(s.contents))], visitor: s.rng.Int64N(50), seen: map[string]bool{}}
	s.sessions = append(s.sessions, ss)
	s.bySession[ss.id] = ss
	s.known.Store(ss.id, true)
	return ss
}

// goesOn tells whether a session takes events: with one that comes after its retention it would be another session.
func (s *sim) goesOn(ss *simSession, now time.Time) bool {
	return len(ss.batches) == 0 || !ss.gone && now.Before(ss.lastAt.Add(s.cfg.Retention.Sessions-10*time.Minute))
}

// accept decides what a request means, whose events are of those sessions each. s.mu is held.
func (s *sim) accept(of []*simSession, events []*simEvent) (batches []*simBatch) {
	each := map[*simSession][]*simEvent{}
	for i, ss := range of {
		each[ss] = append(each[ss], events[i])
	}
	for ss, events := range each {
		if b := s.acceptSession(ss, events); b != nil {
			batches = append(batches, b)
		}
	}
	return batches
}

// acceptSession decides what the events of a request mean for a session; nil if there are none that had not come before. s.mu is held.
func (s *sim) acceptSession(ss *simSession, events []*simEvent) *simBatch {
	now := time.Now().UTC()
	wasStored, hadStart, wasFinished := ss.stored(), ss.hasStart, !ss.finished.IsZero()
	var started, earliest time.Time
	more := false // than finishes
	b := &simBatch{sentAt: now}
	for _, e := range events {
		if e.id != "" && ss.seen[e.id] {
			continue
		}
		ss.seen[e.id] = e.id != ""
		b.events = append(b.events, e)
		ss.bytes += len(e.body(ss))
		if earliest.IsZero() || e.at.Before(earliest) {
			earliest = e.at
		}
		more = more || e.kind != "finish" && e.kind != "result_view"
		switch e.kind {
		case "start", "vote":
			ss.hasStart = true
			if started.IsZero() || e.at.Before(started) {
				started = e.at
			}
		case "finish", "result_view":
			if ss.finished.IsZero() || e.at.Before(ss.finished) {
				ss.finished = e.at
			}
		}
	}
	if len(b.events) == 0 {
		return nil
	}
	ss.batches, ss.lastAt = append(ss.batches, b), now
	ss.unjudged = append(ss.unjudged, len(ss.batches)-1)
	finishes := !wasFinished && !ss.finished.IsZero()
	r := simReceipt{at: now, first: !wasStored, begins: !wasStored || !hadStart && !started.IsZero(), start: started, wasFinished: wasFinished}
	r.whole = r.begins && finishes && more
	if !wasStored && started.IsZero() {
		r.start = earliest
	}
	for _, h := range s.hooks {
		if r.begins {
			s.expectIncomplete(h, ss, &r)
		}
		d := s.deliveries[simKey{hook: h.id, session: ss.id, kind: engine.KindIncomplete}]
		if d != nil && s.drops(d) && d.dueAt.After(now) && d.due.After(now) && !d.requeued { // not frozen yet: a retry by hand may have been early
			d.mustDrop = true
		}
		if finishes && h.matches(ss.content) {
			delay := time.Duration(h.delay) * time.Second
			s.expect(h, ss, engine.KindComplete, settled(ss.finished.Add(delay), now, delay, s.cfg.Settle, r.whole), time.Time{})
		}
	}
	return b
}

// someEvent invents an event of a session.
func (s *sim) someEvent(ss *simSession, now time.Time) *simEvent {
	e := s.eventOf(ss, now, s.rng.IntN(7))
	if s.rng.IntN(3) == 0 { // late, or by a clock that is ahead
		span := int64(now.Sub(ss.startAt)) + int64(4*time.Minute)
		e.at = ss.startAt.Add(time.Duration(s.rng.Int64N(span))).Truncate(time.Microsecond)
	}
	if s.rng.IntN(2) == 0 {
		e.id = fmt.Sprint("e", s.rng.IntN(30))
	}
	return e
}

// The numbers that eventOf has for kinds of events.
const (
	simVote   = 0
	simFinish = 2
	simResult = 3
	simLead   = 4
	simUndo   = 5
	simStart  = 6
)

// eventOf invents an event of that kind.
func (s *sim) eventOf(ss *simSession, now time.Time, kind int) *simEvent {
	e := &simEvent{kind: "start", at: now, own: simFields{"content_id": quoted(ss.content.String()), "content_type": `"quiz"`, "poltio_user_id": fmt.Sprint(ss.visitor)}}
	maybe := func(f simFields, name string, values ...string) {
		if s.rng.IntN(2) == 0 {
			f[name] = values[s.rng.IntN(len(values))]
		}
	}
	if s.rng.IntN(3) == 0 {
		if len(ss.batches) > 0 {
			e.own["poltio_user_id"] = fmt.Sprint(s.rng.IntN(50))
		}
		e.own["content_type"] = quoted([]string{"set", "quiz", "test", "survey", "content"}[s.rng.IntN(5)])
		maybe(e.own, "publisher_uuid", `"p-1"`, `""`, `"p&2"`)
		maybe(e.own, "custom_id", `"c <1>"`, `"ç"`)
	}
	question := func() simFields { return simFields{"question_id": fmt.Sprint(s.rng.IntN(4))} }
	switch kind {
	case simVote, 1:
		e.kind, e.about = "vote", question()
		maybe(e.about, "question", `"Which?"`, `"Why & how?"`)
		for range 1 + s.rng.IntN(1+s.rng.IntN(3)) {
			a := simFields{"answer_id": fmt.Sprint(s.rng.IntN(4))}
			maybe(a, "answer", `"Yes"`, `"<No>"`, `"Ä"`)
			maybe(a, "parent", `"https://a.example/?a=1&b=2"`)
			maybe(a, "addon", `""`, `"more"`)
			e.answers = append(e.answers, a)
		}
	case simFinish:
		e.kind = "finish"
	case simResult:
		e.kind, e.form = "result_view", simFields{"result_id": fmt.Sprint(s.rng.IntN(9))}
		maybe(e.form, "result_title", `"Won"`)
		maybe(e.form, "result_image", `"content/a.png"`)
		maybe(e.form, "time_spent", "1234", "-1")
		maybe(e.form, "right_answer", "3", "0")
		maybe(e.form, "calculator_result", `"1.5"`)
	case simLead:
		e.kind, e.form = "lead", simFields{"name": `"N"`}
		maybe(e.form, "user_id", "12")
		maybe(e.form, "email", `"n@a.example"`)
		maybe(e.form, "comment", `"so <so>"`)
		maybe(e.form, "created_at", `"yesterday"`)
		maybe(e.form, "tc_checked", "true", "false")
		maybe(e.form, "content_type", `"form"`)
		maybe(e.form, "content_id", "99")
		maybe(e.form, "addon", `""`, `"more"`)
	case simUndo:
		e.kind, e.about = "undo", question()
		maybe(e.about, "answer_id", fmt.Sprint(s.rng.IntN(4)))
	}
	return e
}

func (s *sim) pick() *engine.Delivery {
	q := engine.DeliveryQuery{Limit: 50}
	if n := s.rng.IntN(7); n > 0 {
		q.Status = engine.Status(n)
	}
	page, err := s.Deliveries(s.ctx, q)
	if err != nil {
		s.violate("list: %v", err)
	}
	if len(page.Items) == 0 {
		return nil
	}
	return &page.Items[s.rng.IntN(len(page.Items))]
}

func (s *sim) retry() {
	d := s.pick()
	if d == nil {
		return
	}
	s.mu.Lock()
	m, h := s.model(d), s.hook(d.WebhookID)
	if m == nil {
		s.violate("delivery %s %s is unknown to the model", d.Kind, d.ID)
		s.mu.Unlock()
		return
	}
	now := time.Now().UTC()
	s.auditSessions()
	allowed := !h.gone && (h.active || d.Kind == engine.KindTest) && s.buildable(m, d.ID)
	if allowed { // before the call: it is sent within it
		if m.sending || m.state == engine.StatusPending || !now.After(m.stateAt.Add(4**simSlow)) {
			m.requeued = true
		}
		if !m.waits() {
			m.since = now
		}
		if m.touched, m.asking = now, true; now.Before(m.firstDue) {
			m.firstDue = now
		}
		m.queued++
		m.byHand, m.byChange, m.superseded, m.parked = true, false, nil, false
		s.probeNow(h, false)
		m.state, m.tries, m.due, m.readyAt, m.fuzzy = engine.StatusPending, 0, now, now, false
	}
	s.mu.Unlock()
	_, err := s.Retry(s.ctx, d.ID)
	s.mu.Lock()
	if m.asking, m.askedAt = false, time.Now(); err == nil {
		s.probeNow(h, true)
	}
	s.mu.Unlock()
	if allowed != (err == nil) {
		s.violate("retry of %s: %v, the model says %t", d.Status, err, allowed)
	}
}

func (s *sim) cancel() {
	d := s.pick()
	if d == nil {
		return
	}
	_, err := s.Cancel(s.ctx, d.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.model(d)
	switch {
	case m == nil:
		s.violate("delivery %s %s is unknown to the model", d.Kind, d.ID)
	case err == nil && m.state == engine.StatusDelivered &&
		(m.unrecorded || !s.replayed(func(r *simReplay) bool { return s.covers(r, m) })): // not recorded yet, and more than the cancellation
	case err == nil:
		if !m.waits() && s.replayed(func(r *simReplay) bool { return s.covers(r, m) }) {
			s.queueAgain(m, 0, time.Now().UTC())
		}
		m.touched = time.Now()
		m.state, m.stateAt = engine.StatusCancelled, time.Now().UTC()
	case *simSlow == 0 && m.state == engine.StatusPending && !errors.Is(err, engine.ErrNotFound):
		s.violate("cancel of a %s: %v, the model says it waits", d.Status, err)
	}
}

func (s *sim) test() {
	h := s.anyHook()
	if h == nil {
		return
	}
	s.mu.Lock() // until the model knows it
	defer s.mu.Unlock()
	for _, o := range s.hooks { // failing ones are tested most
		if !o.gone && o.health.failing() && s.rng.IntN(2) == 0 {
			h = o
			break
		}
	}
	d, err := s.TestWebhook(s.ctx, h.id)
	if err != nil {
		s.violate("test: %v", err)
		return
	}
	now := time.Now().UTC()
	s.totals.tests++
	s.byID[d.ID.String()] = &simDelivery{simKey: simKey{hook: h.id, kind: engine.KindTest}, test: s.totals.tests, id: d.ID.String(), dueAt: now,
		created: now, due: now, readyAt: now, state: engine.StatusPending}
}
