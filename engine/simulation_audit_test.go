package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// stored lists all deliveries in a settled order.
func (s *sim) stored() []engine.Delivery { return s.list(engine.DeliveryQuery{}) }

// model returns the model of a stored delivery; nil if it has none yet: only a replay of what is missing may have made it.
func (s *sim) model(d *engine.Delivery) *simDelivery {
	if m := s.byID[d.ID.String()]; m != nil {
		return m
	}
	if d.Kind == engine.KindUpdate {
		return nil
	}
	m := s.deliveries[simKey{hook: d.WebhookID, session: d.SessionID, kind: d.Kind}]
	if m != nil && s.retired(m) && (m.gone || d.CreatedAt.After(m.stateAt)) {
		return nil
	}
	return m
}

// overview holds the counts against the lists.
func (s *sim) overview() {
	s.settle()
	o, err := s.Overview(s.ctx)
	if err != nil {
		s.violate("overview: %v", err)
		return
	}
	s.mu.Lock()
	s.audit()
	s.mu.Unlock()
	if *simSlow > 0 {
		return
	}
	counted, modelled := o.Webhooks, o.Webhooks
	modelled.Active, modelled.Failing, modelled.Throttled, modelled.Paused, modelled.Inactive = 0, 0, 0, 0, 0
	s.mu.Lock()
	for _, h := range s.hooks {
		switch {
		case h.gone:
		case !h.active:
			modelled.Inactive++
		case h.paused:
			modelled.Paused++
		case h.health.failing():
			modelled.Failing++
		case h.health.throttled && s.throttledNow(h):
			modelled.Throttled++
		default:
			modelled.Active++
		}
	}
	s.mu.Unlock()
	if counted != modelled {
		s.violate("webhooks %+v, the model says %+v", counted, modelled)
	}
	for _, status := range engine.Statuses {
		if n := int64(len(s.list(engine.DeliveryQuery{Status: status}))); n != o.Stored[status] {
			s.violate("%d are %s, %d counted", n, status, o.Stored[status])
		}
	}
	if all := len(s.stored()); int64(all) != o.Stored[1]+o.Stored[2]+o.Stored[3]+o.Stored[4]+o.Stored[5]+o.Stored[6] {
		s.violate("%d are stored, counted %v", all, o.Stored)
	}
	parked := map[uint32]int64{}
	for _, d := range s.list(engine.DeliveryQuery{Status: engine.StatusFailed}) {
		if d.Parked() {
			parked[d.WebhookID]++
			parked[0]++
		}
	}
	if o.Parked != parked[0] {
		s.violate("%d are parked, %d counted", parked[0], o.Parked)
	}
	for id, stats := range o.PerWebhook {
		if filtered := len(s.list(engine.DeliveryQuery{WebhookID: id, Status: engine.StatusFiltered})); stats.Parked != parked[id] || stats.Filtered != int64(filtered) {
			s.violate("webhook %d: %d parked and %d filtered are counted, %d and %d are", id, stats.Parked, stats.Filtered, parked[id], filtered)
		}
	}
	if waiting, parts := o.Stored[1]+o.Stored[2], o.Scheduled+o.Due+o.InFlight+o.Held; waiting != parts {
		s.soft[fmt.Sprint("overview: the parts of what waits do not add up, by ", parts-waiting)]++
	}
}

const (
	// simTidy is how long after the end of its retention something may still be there: the background looks at least each hour, and
	// stands still for minutes now and then.
	simTidy = 70 * time.Minute
	// simRecheck is for how long a session may that was looked at while something of it waited.
	simRecheck = time.Hour
)

// keptUntil returns when a delivery has to go that is in a final state, whose own retention ends at ends: one that is kept with its session is looked at
// again after another retention.
func (s *sim) keptUntil(d *simDelivery, e *engine.Delivery, ends time.Time) time.Time {
	if !e.KeptWithSession() {
		return ends
	}
	return later(ends, s.session(d.session).lastAt.Add(s.cfg.Retention.Sessions+simRecheck)).Add(s.cfg.Retention.Deliveries)
}

// audit holds all that is stored against the model: nothing is missing, nothing is there that is not to be, nothing is other than it
// has to be. s.mu is held, and nothing is under way but attempts.
func (s *sim) audit() {
	now := time.Now().UTC()
	keep := s.cfg.Retention.Deliveries
	stored, tests, seen := map[simKey]*engine.Delivery{}, map[string]*engine.Delivery{}, map[simKey]bool{}
	for _, e := range s.stored() {
		k := s.keyOf(&e)
		if e.Kind != engine.KindTest && seen[k] {
			s.found(simAgain, "%+v: two deliveries", k)
			continue
		}
		seen[k] = true
		switch {
		case s.model(&e) == nil:
			if !s.replayed(func(r *simReplay) bool { return s.misses(r, k) }) {
				s.violate("%s %s is unknown to the model", e.Kind, e.ID)
			}
		case e.Kind == engine.KindTest:
			tests[e.ID.String()] = &e
		default:
			stored[k] = &e
		}
	}
	look := func(d *simDelivery, e *engine.Delivery) {
		ends := d.stateAt.Add(keep) // if it is in a final state
		switch {
		case e != nil && d.gone:
			s.violate("%+v is back after its retention", d.simKey)
		case e != nil && e.KeptWithSession() && s.session(d.session).stored(): // it is looked at again after another retention
			s.auditDelivery(d, e)
		case e != nil && !d.waits() && !e.Status.Waiting() && now.After(later(s.keptUntil(d, e, ends), s.upAt).Add(simTidy)):
			s.violate("%+v is kept beyond its retention: %s since %v", d.simKey, d.state, d.stateAt)
		case e != nil:
			s.auditDelivery(d, e)
		case d.gone, s.drops(d):
		case !d.waits() && now.Add(8**simSlow).Sub(ends) >= 0:
			d.gone = true
		default:
			s.found(simLost, "%+v: no delivery (%s since %v, due %v)", d.simKey, d.state, d.stateAt, d.dueAt)
		}
	}
	for k, d := range s.deliveries {
		look(d, stored[k])
	}
	for id, d := range s.byID {
		if d.kind == engine.KindTest {
			look(d, tests[id])
		}
	}
	s.auditSessions()
}

// auditDelivery holds a stored delivery against the model's.
func (s *sim) auditDelivery(d *simDelivery, e *engine.Delivery) {
	now := time.Now()
	// What the model cannot know at once.
	if d.recheck || d.state == engine.StatusFiltered && len(s.session(d.session).unjudged) > 0 || e.FinishedAt.Equal(now) && d.waits() && (e.Parked() || e.Status == engine.StatusFiltered) {
		return
	}
	if e.SupersededBy != uuid.Nil && e.FinishedAt.Equal(now) || d.sending || d.fuzzy || d.requeued || *simSlow > 0 && now.Before(d.touched.Add(8**simSlow)) || s.behind() ||
		now.Before(s.hook(d.hook).cancelled.Add(time.Second)) || s.replayed(func(r *simReplay) bool { return s.covers(r, d) }) {
		return
	}
	switch {
	case d.waits() != e.Status.Waiting() || !d.waits() && d.state != e.Status:
		s.found(simWrong, "%s %s of webhook %d: %s, the model says %s since %v", e.Kind, e.ID, e.WebhookID, e.Status, d.state, d.stateAt)
	case d.waits() && !s.isDue(d, e.NextAttemptAt):
		s.found(simOff, "%s %s of webhook %d: the next attempt is due at %v, the model says %v", e.Kind, e.ID, e.WebhookID, e.NextAttemptAt, d.due)
	case d.waits() && e.Tries != d.tries:
		s.found(simOff, "%s %s of webhook %d: %d tries, the model says %d", e.Kind, e.ID, e.WebhookID, e.Tries, d.tries)
	case e.Attempts != d.attempts:
		s.found(simWrong, "%s %s: %d attempts counted, %d seen", e.Kind, e.ID, e.Attempts, d.attempts)
	}
	s.auditEnded(d, e)
	s.auditLateness(d, e)
	if d.waits() || d.audited.Equal(d.stateAt) {
		return
	}
	d.audited = d.stateAt
	_, payload, attempts, err := s.world.Delivery(context.Background(), e.ID)
	if err != nil || len(attempts) != d.attempts {
		s.found(simWrong, "%s %s: %d attempts stored, %d seen; %v", e.Kind, e.ID, len(attempts), d.attempts, err)
	}
	switch {
	case d.body == "" && payload != nil && d.kind != engine.KindTest && string(payload) != d.frozen:
		s.checkPayload(d, string(payload), 0)
	case d.body != "" && string(payload) != d.body:
		s.found(simWrong, "%s %s: other bytes stored than sent", e.Kind, e.ID)
	}
}

// auditSessions holds the stored sessions against the model. s.mu is held.
func (s *sim) auditSessions() {
	now := time.Now().UTC()
	waits, ended, unsure := map[uuid.UUID]bool{}, map[uuid.UUID]time.Time{}, map[uuid.UUID]bool{}
	for _, d := range s.deliveries {
		switch {
		case s.drops(d) || d.fuzzy || s.replayed(func(r *simReplay) bool { return s.covers(r, d) }):
			unsure[d.session] = true
		case d.waits():
			// What was sent again by hand after the retention had ended has its payload and no session.
			waits[d.session] = waits[d.session] || d.since.Before(s.session(d.session).lastAt.Add(s.cfg.Retention.Sessions))
			unsure[d.session] = unsure[d.session] || !waits[d.session]
		default:
			ended[d.session] = later(ended[d.session], d.stateAt)
		}
	}
	for _, ss := range s.sessions {
		ends := ss.lastAt.Add(s.cfg.Retention.Sessions)
		if ss.gone || len(ss.batches) == 0 || now.Before(ends) && now.Before(ss.auditedAt.Add(24*time.Hour)) {
			continue
		}
		ss.auditedAt = now
		record, _, err := s.process.Session(context.Background(), ss.id)
		switch {
		case err == nil:
			if n := ss.events(); record.Head.Events != n {
				s.found(simLost, "session %s: %d events stored, %d acknowledged", ss.id, record.Head.Events, n)
			}
			if !waits[ss.id] && !unsure[ss.id] && now.After(later(later(ends, ended[ss.id]), s.upAt).Add(simTidy+simRecheck)) {
				s.violate("session %s is kept beyond its retention, which ended at %v", ss.id, ends)
			}
		case !errors.Is(err, engine.ErrNotFound):
			s.violate("session %s: %v", ss.id, err)
		case now.Before(ends.Add(-8 * *simSlow)), waits[ss.id]:
			s.found(simLost, "session %s is gone: its retention ends at %v, something waits: %t", ss.id, ends, waits[ss.id])
			ss.gone = true
		default:
			ss.gone = true
		}
	}
}

// buildable tells whether there is something to send a delivery from: its payload or its session, as they were audited last. s.mu is
// held.
func (s *sim) buildable(d *simDelivery, id uuid.UUID) bool {
	if d.body != "" || d.kind == engine.KindTest || s.session(d.session).stored() {
		return true
	}
	_, payload, _, err := s.world.Delivery(context.Background(), id)
	return err == nil && payload != nil
}

func (s *sim) finish() {
	time.Sleep(10 * time.Minute) // beyond what is under way, and what the background has to do
	synctest.Wait()
	s.settle()
	for _, h := range s.hooks {
		if last := h.shapes[len(h.shapes)-1].programs; !h.gone && last.any() && !h.names {
			s.reprogram(h, simPrograms{})
		} else if !h.gone && last.any() {
			s.reprogram(h, simPrograms{values: &simURLValues[0]})
		}
		if h.paused && !h.gone {
			s.hold(h, false)
		}
	}
	s.mu.Lock()
	s.audit()
	s.mu.Unlock()
	time.Sleep(4 * 24 * time.Hour) // beyond the longest delay and schedule
	synctest.Wait()
	s.settle()
	s.mu.Lock()
	s.audit()
	for _, d := range s.deliveries {
		if d.waits() && !s.drops(d) {
			s.found(simLost, "%+v: was due at %v and never came to its end", d.simKey, d.dueAt)
		}
	}
	o, err := s.Overview(context.Background())
	if err != nil || o.Stored[1]+o.Stored[2] != 0 || o.Scheduled+o.Due+o.InFlight+o.Held != 0 {
		s.violate("at the end something waits: %+v %v", o, err)
	}
	if n := len(s.replays); n > 0 {
		s.violate("%d replays are left", n)
	}
	s.explainLate()
	s.totals.sessions, s.totals.deliveries = len(s.sessions), len(s.deliveries)+s.totals.tests
	s.mu.Unlock()
	time.Sleep(max(s.cfg.Retention.Sessions, s.cfg.Retention.Deliveries) + 2*simTidy)
	time.Sleep(s.cfg.Retention.Deliveries) // for what was kept with its session
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audit()
	if n := len(s.stored()); n != 0 {
		s.violate("%d deliveries are kept beyond their retention", n)
	}
	for _, ss := range s.sessions {
		if ss.stored() {
			s.violate("session %s is kept beyond its retention", ss.id)
		}
	}
}

type simLate struct {
	lane         simLane
	of           uuid.UUID // the session
	ready, start time.Time
	what         string
}

// explainLate looks, for each attempt that began after it was ready, for a time in between in which nothing was in its way.
func (s *sim) explainLate() {
	type state struct {
		sending, limit  int
		onHold, away    bool // by its webhook; because it is another process's
		failing, unsure bool
		learning        bool // whether its programs have paused it
		probe, beat     time.Time
		building        int       // programs that run
		busy            time.Time // until when programs could not be run
		held, slowed    time.Time // by the endpoint: until when it asked to wait, and when the next attempt may begin at the pace that it has led to
	}
	lanes, down, extra := map[simLane]state{}, false, 0
	sending := map[simPair]int{}
	slices.SortStableFunc(s.late, func(a, b simLate) int { return a.ready.Compare(b.ready) })
	waiting := map[int]time.Time{} // those of s.late that are ready, and since when nothing has been in their way
	next := 0
	for i, m := range s.marks {
		l := lanes[m.lane]
		extra -= max(0, l.sending-1)
		switch m.kind {
		case '+':
			l.sending++
			sending[simPair{m.lane.hook, m.of}]++
		case '-':
			l.sending--
			sending[simPair{m.lane.hook, m.of}]--
		case 'h':
			l.onHold = true
		case 'r':
			l.onHold = false
		case 'y':
			l.away = true
		case 'o':
			l.away = false
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
		case 't':
			l.held = m.next
		case 's':
			l.slowed = m.next
		case 'w':
			l.busy = m.next
		case '[':
			l.building++
		case ']':
			l.building--
		case '?', '!':
			l.unsure = m.kind == '?'
		case '(', ')':
			l.learning = m.kind == '('
		}
		extra += max(0, l.sending-1)
		lanes[m.lane] = l
		to := time.Now()
		if i+1 < len(s.marks) {
			to = s.marks[i+1].at
		}
		if !to.After(m.at) {
			continue
		}
		// From this mark to the next nothing changes.
		for ; next < len(s.late) && s.late[next].ready.Before(to); next++ {
			waiting[next] = time.Time{}
		}
		for n, free := range waiting {
			late := s.late[n]
			if !m.at.Before(late.start) {
				delete(waiting, n)
				continue
			}
			in := lanes[late.lane]
			from := later(m.at, late.ready)
			if wait := later(later(later(in.probe, in.beat), in.busy), later(in.held, in.slowed)); wait.After(from) { // each is zero where there is none
				from, free = wait, time.Time{}
			}
			switch {
			case down, in.onHold, in.away, in.unsure, in.learning, in.building > 0, late.of != uuid.Nil && sending[simPair{late.lane.hook, late.of}] > 0, in.sending >= in.limit, in.sending > 0 && (in.failing || extra >= s.cfg.MaxInFlight), !from.Before(to):
				waiting[n] = time.Time{}
				continue
			case free.IsZero():
				free = from
			}
			waiting[n] = free
			end := to
			if end.After(late.start) {
				end = late.start
			}
			switch {
			case end.Sub(free) <= 40**simSlow:
				continue
			case in.sending > 0:
				s.soft["late beside another attempt, although a place was free"]++
			default:
				s.found(simOff, "%s: ready at %v, sent %v later, though nothing was in its way at %v (failing: %t, beat %v)", late.what, late.ready,
					late.start.Sub(late.ready), free, in.failing, in.beat)
			}
			delete(waiting, n)
		}
	}
}
