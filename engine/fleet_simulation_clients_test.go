package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// The clients of the fleet: each call goes to any member, and one that fails is repeated at another one until it is answered.

// ask makes a call at some member until it is answered.
func (s *fleetSim) ask(rng *rand.Rand, what string, call func(m *fleetMember, try int) error) {
	began := time.Now()
	for try := 0; ; try++ {
		m := s.someMember(rng)
		at := time.Now()
		err := call(m, try)
		took := time.Since(at)
		if m.isKilled() { // nobody has got its answer
			err = errKilled
		}
		if what != "events" {
			s.trace("%s at %s since %s: %v", what, m.name, stamp(at), err)
		}
		s.mu.Lock()
		calm := !s.disturbed(at.Add(-15*time.Second), time.Now(), nil)
		if err == nil && calm {
			s.calmCalls = append(s.calmCalls, took)
		}
		if err == nil {
			s.calls = append(s.calls, took)
		}
		s.mu.Unlock()
		switch {
		case err == nil:
			return
		case calm:
			s.found(fleetOther, "%s at %s, with which nothing was wrong: %v", what, m.name, err)
			if !errors.Is(err, engine.ErrUnavailable) {
				return
			}
		case !errors.Is(err, engine.ErrUnavailable) && !errors.Is(err, errKilled) && !errors.Is(err, engine.ErrErasureStopped) && !errors.Is(err, context.Canceled):
			s.found(fleetOther, "%s at %s: %v", what, m.name, err)
			return
		case time.Since(began) > 5*time.Minute:
			s.found(fleetOther, "%s is not answered for 5 minutes: %v", what, err)
			return
		}
		time.Sleep(time.Duration(rng.Int64N(int64(800 * time.Millisecond))))
	}
}

// client runs a client beside the others.
func (s *fleetSim) client(f func(rng *rand.Rand)) {
	rng := rand.New(rand.NewPCG(s.rng.Uint64(), 3))
	s.clients.Go(func() { f(rng) })
}

// event is the JSON of an event with an id.
func (ss *fleetSession) event(kind, id, fields string) string {
	return fmt.Sprintf(`{"type":%q,"id":%q,"session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":7,"time":%q%s}`,
		kind, id, ss.id, contentID, time.Now().UTC().Format(time.RFC3339Nano), fields)
}

func (ss *fleetSession) vote(n int) (id, question, body string) {
	id, question = fmt.Sprint("v", n), fmt.Sprintf("question %d of %s", n, ss.id)
	return id, question, ss.event("vote", id, fmt.Sprintf(`,"question_id":%d,"question":%q,"answer_id":%d`, n, question, n))
}

// post posts a session: whole or in pieces, with repeats at other members, and sometimes with late events.
func (s *fleetSim) post(rng *rand.Rand) {
	ss := &fleetSession{id: uuid.New(), busy: 1}
	s.mu.Lock()
	s.sessions = append(s.sessions, ss)
	s.bySession[ss.id] = ss
	s.mu.Unlock()
	ids, bodies, questions := []string{"start"}, []string{ss.event("start", "start", "")}, []string(nil)
	send := func(finish bool) {
		if finish {
			ids, bodies = append(ids, "finish"), append(bodies, ss.event("finish", "finish", ""))
		}
		s.postTwice(rng, ss, ids, questions, strings.Join(bodies, ","), finish)
		ids, bodies, questions = nil, nil, nil
	}
	for n := range 1 + rng.IntN(3) {
		id, question, body := ss.vote(n)
		ids, bodies, questions = append(ids, id), append(bodies, body), append(questions, question)
		if rng.IntN(3) == 0 {
			send(false)
			time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
		}
	}
	send(true)
	for n := 10; n < 13 && rng.IntN(4) == 0; n++ {
		time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
		id, question, body := ss.vote(n)
		ids, bodies, questions = append(ids, id), append(bodies, body), append(questions, question)
		send(false)
	}
	s.mu.Lock()
	ss.busy--
	s.mu.Unlock()
}

// postTwice posts events until they are acknowledged; sometimes at two members at once.
func (s *fleetSim) postTwice(rng *rand.Rand, ss *fleetSession, ids, questions []string, body string, finish bool) {
	s.mu.Lock()
	if finish {
		ss.firstTry = time.Now()
	}
	s.mu.Unlock()
	ingest := func(rng *rand.Rand) {
		s.ask(rng, "events", func(m *fleetMember, _ int) error {
			_, err := m.engine.Ingest(context.Background(), []byte("["+body+"]"))
			return err
		})
	}
	if rng.IntN(6) == 0 {
		other := rand.New(rand.NewPCG(rng.Uint64(), 4))
		s.mu.Lock()
		ss.busy++
		s.mu.Unlock()
		s.clients.Go(func() {
			ingest(other)
			s.mu.Lock()
			ss.busy--
			s.mu.Unlock()
		})
	}
	ingest(rng)
	s.mu.Lock()
	defer s.mu.Unlock()
	ss.events, ss.questions = append(ss.events, ids...), append(ss.questions, questions...)
	if finish {
		ss.finished, ss.expected = time.Now(), s.expects(ss.firstTry)
	}
}

// importMany posts so many sessions in one request that their deliveries are made in steps.
func (s *fleetSim) importMany(rng *rand.Rand) {
	var all []*fleetSession
	var bodies []string
	s.mu.Lock()
	for range 2*engine.MaxTriggers/len(s.hooks) + 1 { // as half of the webhooks may be off
		ss := &fleetSession{id: uuid.New(), busy: 1, firstTry: time.Now()}
		s.sessions = append(s.sessions, ss)
		s.bySession[ss.id] = ss
		all = append(all, ss)
		bodies = append(bodies, ss.event("start", "start", ""), ss.event("finish", "finish", ""))
	}
	s.mu.Unlock()
	s.ask(rng, "events", func(m *fleetMember, _ int) error {
		_, err := m.engine.Ingest(context.Background(), []byte("["+strings.Join(bodies, ",")+"]"))
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ss := range all {
		ss.busy--
		ss.events, ss.finished, ss.expected = []string{"start", "finish"}, time.Now(), s.expects(ss.firstTry)
	}
}

// test asks for a test delivery.
func (s *fleetSim) test(rng *rand.Rand) {
	s.mu.Lock()
	h := s.hooks[rng.IntN(len(s.hooks))]
	s.asked++
	key := engine.OnceKey{byte(s.asked), byte(s.asked >> 8), 2}
	s.mu.Unlock()
	s.ask(rng, "a test", func(m *fleetMember, _ int) error {
		done, err := m.pg.Done(context.Background(), key)
		if err != nil {
			var d engine.Delivery
			d, err = m.engine.TestWebhookOnce(context.Background(), h.id, &engine.Once{Key: key, At: time.Now().UTC().Round(0)})
			done.DeliveryID = d.ID
		}
		switch {
		case errors.Is(err, engine.ErrNotFound): // it is deleted
			return nil
		case errors.Is(err, engine.ErrRepeated):
			return fmt.Errorf("%w: %w", engine.ErrTransient, err)
		case err != nil:
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tests = append(s.tests, fleetTest{h, done.DeliveryID})
		return nil
	})
}

// addHook creates a webhook. s.rng is the driver's.
func (s *fleetSim) addHook(rng *rand.Rand, canary bool) {
	s.mu.Lock()
	s.hosts++
	h := &fleetHook{canary: canary, busy: true, version: 1, limit: 1 + rng.IntN(3), text: true, late: rng.IntN(2) == 0, unsure: true}
	host := s.hosts
	s.byHost[host] = h
	s.mu.Unlock()
	settings := fmt.Sprintf(`{"url":"https://h%d-v1.example/","name":"%d","delay":%d,"send_answers":true,"send_updates":%t`, host, host, rng.IntN(4), h.late)
	if canary {
		h.limit, h.late = 50, false
		settings = fmt.Sprintf(`{"url":"https://h%d-v1.example/","name":"%d","delay":0,"send_answers":true`, host, host)
	} else {
		if rng.IntN(3) == 0 {
			h.rate = []float64{2, 5, 12}[rng.IntN(3)]
			settings += fmt.Sprintf(`,"rate_limit":%g`, h.rate)
		}
		if rng.IntN(4) == 0 {
			h.text = false
			settings += `,"transform":"{session_id: .session_id, of: .}"`
		}
		if rng.IntN(4) == 0 {
			h.filter = true
			settings += fmt.Sprintf(`,"filter":%q`, fleetFilter)
		}
		if h.mode = fleetMode(rng.IntN(int(modes - 1))); s.faults.slow() {
			h.mode = modeSlow
		}
	}
	settings += fmt.Sprintf(`,"max_in_flight":%d,"retry_schedule":["1s","2s","3s","5s","8s"]}`, h.limit)
	p, err := engine.ParseWebhookPatch([]byte(settings))
	if err != nil {
		s.t.Fatal(err)
	}
	key := engine.OnceKey{byte(host), byte(host >> 8), 1} // so that a call whose outcome is not known makes no second one
	s.ask(rng, "a new webhook", func(m *fleetMember, _ int) error {
		if done, err := m.pg.Done(context.Background(), key); err == nil {
			return s.created(h, host, done.WebhookID)
		}
		w, err := m.engine.CreateWebhook(context.Background(), p.Once(&engine.Once{Key: key, At: time.Now().UTC().Round(0)}))
		if errors.Is(err, engine.ErrRepeated) {
			err = fmt.Errorf("%w: %w", engine.ErrTransient, err)
		}
		if err != nil {
			return err
		}
		return s.created(h, host, w.ID)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	h.busy, h.activeFrom, h.movedAt, h.rateAt, h.calmAfter = false, time.Now(), time.Now(), time.Now(), time.Now()
}

func (s *fleetSim) created(h *fleetHook, _ uint32, id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.id == 0 {
		h.id = id
		s.byID[id] = h
		s.hooks = append(s.hooks, h)
	}
	return nil
}

// someHook is a webhook that nobody changes, for a change of it. s.mu is held.
func (s *fleetSim) someHook(rng *rand.Rand) *fleetHook {
	var list []*fleetHook
	for _, h := range s.hooks {
		if !h.canary && !h.busy && !h.deleted {
			list = append(list, h)
		}
	}
	if len(list) == 0 {
		return nil
	}
	h := list[rng.IntN(len(list))]
	h.busy = true
	return h
}

// patch changes a webhook until that is answered.
func (s *fleetSim) patch(rng *rand.Rand, h *fleetHook, settings string) {
	p, err := engine.ParseWebhookPatch([]byte(settings))
	if err != nil {
		s.t.Fatal(err)
	}
	s.ask(rng, fmt.Sprintf("webhook %d: a change %s", h.id, settings), func(m *fleetMember, _ int) error {
		_, err := m.engine.UpdateWebhook(context.Background(), h.id, p)
		if errors.Is(err, engine.ErrRevision) { // by the fleet itself
			err = fmt.Errorf("%w: %w", engine.ErrTransient, err)
		}
		return err
	})
}

// change changes a webhook.
func (s *fleetSim) change(rng *rand.Rand) {
	s.mu.Lock()
	h := s.someHook(rng)
	if h == nil {
		s.mu.Unlock()
		return
	}
	what := rng.IntN(20)
	if s.healed {
		what = 0
	}
	h.unsure = true
	s.mu.Unlock()
	set := func(f func(now time.Time)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f(time.Now())
	}
	switch {
	case what < 4:
		s.resumeHook(rng, h)
	case what < 9:
		s.patch(rng, h, `{"paused":true}`)
		set(func(now time.Time) { h.pausedAt = now })
	case what < 11:
		set(func(now time.Time) { h.offFrom, h.disturbed = now, true })
		s.patch(rng, h, `{"active":false}`)
		set(func(now time.Time) { h.offAt, h.activeFrom = now, time.Time{} })
	case what < 12:
		set(func(now time.Time) { h.offFrom, h.disturbed = now, true })
		s.ask(rng, "a delete", func(m *fleetMember, _ int) error {
			err := m.engine.DeleteWebhook(context.Background(), h.id)
			if errors.Is(err, engine.ErrNotFound) {
				err = nil
			}
			return err
		})
		set(func(now time.Time) { h.offAt, h.activeFrom, h.deleted = now, time.Time{}, true })
		s.addHook(rng, false)
	case what < 15:
		s.moveHook(rng, h)
	case what < 17:
		limit := 1 + rng.IntN(4)
		set(func(time.Time) { h.limit, h.limitBefore = limit, h.limit })
		s.patch(rng, h, fmt.Sprintf(`{"max_in_flight":%d}`, limit))
		set(func(time.Time) { h.limitBefore = 0 })
	case what < 19:
		rate := []float64{1, 3, 8, 20}[rng.IntN(4)]
		set(func(time.Time) { h.rateAt = time.Time{} })
		s.patch(rng, h, fmt.Sprintf(`{"rate_limit":%g}`, rate))
		set(func(now time.Time) { h.rate, h.rateAt = rate, now })
	default:
		set(func(now time.Time) { h.disturbed = true; h.allowReplay(s, now) })
		s.ask(rng, "a replay", func(m *fleetMember, try int) error {
			if try > 0 {
				set(func(now time.Time) { h.allowReplay(s, now) })
			}
			_, err := m.engine.Replay(context.Background(), engine.Replay{WebhookID: h.id, Scope: engine.ReplayAny})
			if errors.Is(err, engine.ErrConflict) { // it is off
				err = nil
			}
			return err
		})
	}
	set(func(now time.Time) { h.busy, h.unsure, h.calmAfter = false, true, now })
}

// allowReplay allows for all deliveries of a webhook to be sent once more. s.mu is held.
func (h *fleetHook) allowReplay(s *fleetSim, now time.Time) {
	h.replayedAt = now
	for _, d := range s.deliveries {
		if d.hook == h {
			d.allowed++
			d.cancelledAt = time.Time{}
		}
	}
}

// resumeHook makes a webhook send again.
func (s *fleetSim) resumeHook(rng *rand.Rand, h *fleetHook) {
	s.mu.Lock()
	if h.mode == modeGone {
		h.mode = modeOK
	}
	h.pausedAt, h.offAt = time.Time{}, time.Time{}
	s.mu.Unlock()
	s.patch(rng, h, `{"active":true,"paused":false}`)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.offFrom = time.Time{}
	if h.activeFrom.IsZero() {
		h.activeFrom = time.Now()
	}
}

// moveHook gives a webhook another URL.
func (s *fleetSim) moveHook(rng *rand.Rand, h *fleetHook) {
	s.mu.Lock()
	var host uint32
	for n, of := range s.byHost {
		if of == h {
			host = n
		}
	}
	h.version++
	version := h.version
	h.movedAt = time.Time{}
	s.mu.Unlock()
	s.patch(rng, h, fmt.Sprintf(`{"url":"https://h%d-v%d.example/"}`, host, version))
	s.mu.Lock()
	defer s.mu.Unlock()
	h.movedAt = time.Now()
}

// cancel cancels a delivery of a webhook, or sends one again.
func (s *fleetSim) cancel(rng *rand.Rand, again bool) {
	s.mu.Lock()
	h := s.someHook(rng)
	s.mu.Unlock()
	if h == nil {
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.busy = false
	}()
	q := engine.DeliveryQuery{WebhookID: h.id, Limit: 10}
	if !again {
		q.Status = []engine.Status{engine.StatusScheduled, engine.StatusPending}[rng.IntN(2)]
	}
	var found engine.DeliveryPage
	s.ask(rng, "a list", func(m *fleetMember, _ int) (err error) {
		found, err = m.engine.Deliveries(context.Background(), q)
		return err
	})
	if len(found.Items) == 0 {
		return
	}
	of := found.Items[rng.IntN(len(found.Items))]
	d := s.delivery(of.ID, h, of.SessionID)
	conflict := false
	s.ask(rng, "a cancellation or resend", func(m *fleetMember, _ int) (err error) {
		s.mu.Lock()
		d.touched = true
		if again {
			d.allowed++
			d.cancelledAt = time.Time{}
		}
		s.mu.Unlock()
		if again {
			_, err = m.engine.Retry(context.Background(), of.ID)
		} else {
			_, err = m.engine.Cancel(context.Background(), of.ID)
		}
		if conflict = errors.Is(err, engine.ErrConflict) || errors.Is(err, engine.ErrNotFound); conflict {
			err = nil
		}
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if !again && !conflict {
		d.cancelledAt = time.Now()
		s.count["cancellations"]++
	}
}

// delivery is what is known of a delivery.
func (s *fleetSim) delivery(id uuid.UUID, h *fleetHook, session uuid.UUID) *fleetDelivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.deliveries[id]
	if d == nil {
		d = &fleetDelivery{id: id, hook: h, session: s.bySession[session]}
		s.deliveries[id] = d
	}
	return d
}

// erase erases a session.
func (s *fleetSim) erase(rng *rand.Rand) {
	s.mu.Lock()
	var list []*fleetSession
	for _, ss := range s.sessions {
		if ss.busy == 0 && !ss.erasing {
			list = append(list, ss)
		}
	}
	if len(list) == 0 {
		s.mu.Unlock()
		return
	}
	ss := list[max(0, len(list)-1-rng.IntN(20))]
	ss.erasing = true
	s.mu.Unlock()
	s.ask(rng, "an erasure", func(m *fleetMember, _ int) error {
		_, err := m.engine.Erase(context.Background(), engine.Erasure{SessionID: ss.id})
		if errors.Is(err, engine.ErrNotFound) {
			err = nil // the call before has done it
		}
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	ss.erasedAt = time.Now()
	s.count["erasures"]++
}

// someMember is a member that takes calls: one that has gone is asked by nobody, because a balancer knows.
func (s *fleetSim) someMember(rng *rand.Rand) *fleetMember {
	all := s.present()
	return all[rng.IntN(len(all))]
}

func (s *fleetSim) present() []*fleetMember {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.members), func(m *fleetMember) bool { return m.away.Load() })
}
