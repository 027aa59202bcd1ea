package engine_test

import (
	"context"
	"errors"
	"fmt"
	"hookbolt/engine"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// stored lists all deliveries in a settled order.
func (s *sim) stored() []engine.Delivery { return s.list(engine.DeliveryQuery{}) }

func (s *sim) model(d *engine.Delivery) *simDelivery {
	if m := s.byID[d.ID.String()]; m != nil {
		return m
	}
	return s.deliveries[simKey{d.WebhookID, d.SessionID, d.Kind}]
}

// overview holds the counts against the lists.
func (s *sim) overview() {
	synctest.Wait()
	o, err := s.Overview(s.ctx)
	if err != nil {
		s.violate("overview: %v", err)
		return
	}
	if *simSlow > 0 {
		return
	}
	counted, modelled := o.Webhooks, o.Webhooks
	modelled.Active, modelled.Failing, modelled.Paused, modelled.Inactive = 0, 0, 0, 0
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
	if all := len(s.stored()); int64(all) != o.Stored[1]+o.Stored[2]+o.Stored[3]+o.Stored[4]+o.Stored[5] {
		s.violate("%d are stored, counted %v", all, o.Stored)
	}
	if waiting, parts := o.Stored[1]+o.Stored[2], o.Scheduled+o.Due+o.InFlight+o.Held; waiting != parts {
		s.soft[fmt.Sprint("overview: the parts of what waits do not add up, by ", parts-waiting)]++
	}
}

func (s *sim) finish() {
	time.Sleep(10 * time.Minute) // beyond what is under way, and what the background has to do
	synctest.Wait()
	s.settle()
	for _, h := range s.hooks {
		if h.paused && !h.gone {
			s.hold(h, false)
		}
	}
	time.Sleep(4 * 24 * time.Hour) // beyond the longest delay and schedule: 5 × 20000 s
	synctest.Wait()
	s.settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[simKey]int{}
	for _, d := range s.stored() {
		if d.Kind != engine.KindTest {
			found[simKey{d.WebhookID, d.SessionID, d.Kind}]++
		}
		m := s.model(&d)
		if m == nil {
			s.violate("%s %s is unknown to the model", d.Kind, d.ID)
			continue
		}
		if m.state != d.Status {
			s.violate("%s %s of webhook %d: %s, the model says %s since %v", d.Kind, d.ID, d.WebhookID, d.Status, m.state, m.stateAt)
		}
		_, payload, attempts, err := s.world.Delivery(context.Background(), d.ID)
		if err != nil || len(attempts) != m.attempts || d.Attempts != m.attempts {
			s.violate("%s %s: %d attempts stored, %d counted, %d seen; %v", d.Kind, d.ID, len(attempts), d.Attempts, m.attempts, err)
		}
		if m.body != "" && string(payload) != m.body {
			s.violate("%s %s: other bytes stored than sent", d.Kind, d.ID)
		}
	}
	finished := map[uuid.UUID]time.Time{}
	for _, ss := range s.sessions {
		finished[ss.id] = ss.finished
	}
	dropped := 0
	for k, d := range s.deliveries {
		switch n := found[k]; {
		case n > 1:
			s.violate("%+v: %d deliveries", k, n)
		case n == 1:
		case k.kind == engine.KindIncomplete && d.id == "" && !finished[k.session].IsZero() && !finished[k.session].After(d.dueAt):
			dropped++
		default:
			s.violate("%+v: no delivery (%s, due %v)", k, d.state, d.dueAt)
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
	s.t.Logf("seed %d: %d webhooks, %d sessions, %d deliveries (%d dropped), %d requests, %d late; %v", s.seed, len(s.hooks), len(s.sessions),
		len(s.deliveries), dropped, s.requests, len(s.late), s.soft)
	s.mu.Unlock()
	time.Sleep(40 * 24 * time.Hour) // retention
	synctest.Wait()
	s.mu.Lock()
	if n := len(s.stored()); n != 0 {
		s.violate("%d deliveries are kept beyond their retention", n)
	}
	for _, ss := range s.sessions {
		if _, _, _, err := s.Session(context.Background(), ss.id); ss.stored && !errors.Is(err, engine.ErrNotFound) {
			s.violate("session %s is kept beyond its retention: %v", ss.id, err)
		}
	}
}

type simLate struct {
	lane         simLane
	ready, start time.Time
	what         string
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
