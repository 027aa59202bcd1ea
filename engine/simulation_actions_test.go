package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"hookbolt/engine"
	"strings"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

func (s *sim) addHook() {
	if len(s.hooks) > 10 {
		return
	}
	h := &simHook{active: true, delay: s.rng.IntN(90), incompleteDelay: s.rng.IntN(200), incomplete: s.rng.IntN(2) == 0,
		limit: s.cfg.WebhookMaxInFlight, timeout: s.cfg.Timeout, schedule: s.randomSchedule()}
	if s.rng.IntN(10) == 0 {
		h.delay = 3600 * s.rng.IntN(5)
	}
	extra := ""
	if s.rng.IntN(2) == 0 {
		h.limit = 1 + s.rng.IntN(5)
		extra += fmt.Sprintf(`,"max_in_flight":%d`, h.limit)
	}
	if s.rng.IntN(2) == 0 {
		h.content = &s.contents[s.rng.IntN(len(s.contents))]
		extra += fmt.Sprintf(`,"content_id":%q`, h.content)
	}
	if s.rng.IntN(2) == 0 {
		h.timeout = time.Duration(1+s.rng.IntN(30)) * time.Second
		extra += fmt.Sprintf(`,"timeout":%q`, h.timeout)
	}
	if s.rng.IntN(3) == 0 {
		h.rate = s.randomRate()
		extra += fmt.Sprintf(`,"rate_limit":%v`, h.rate)
	}
	w := s.webhook(fmt.Sprintf(`{"url":"https://h.example/","delay":%d,"incomplete_delay":%d,"send_incomplete":%t,"retry_schedule":%s%s}`,
		h.delay, h.incompleteDelay, h.incomplete, scheduleJSON(h.schedule), extra))
	h.id = w.ID
	s.patch(h.id, fmt.Sprintf(`{"url":"https://h%d.example/0"}`, h.id))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, h)
	s.mark(simLane{h.id, false}, 'l', h.limit)
	s.mark(simLane{h.id, true}, 'l', 1)
}

func (s *sim) randomRate() float64 {
	return []float64{0.02, 0.1, 0.5, 3, 40, 1000}[s.rng.IntN(6)] * (0.5 + s.rng.Float64())
}

func (s *sim) randomSchedule() []time.Duration {
	steps := []time.Duration{}
	for range s.rng.IntN(6) {
		steps = append(steps, time.Duration(1+s.rng.IntN([]int{10, 600, 20000}[s.rng.IntN(3)]))*time.Second)
	}
	return steps
}

func scheduleJSON(steps []time.Duration) string {
	texts := []string{}
	for _, d := range steps {
		texts = append(texts, d.String())
	}
	b, _ := json.Marshal(texts)
	return string(b)
}

func (s *sim) anyHook() *simHook {
	var alive []*simHook
	for _, h := range s.hooks {
		if !h.gone {
			alive = append(alive, h)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[s.rng.IntN(len(alive))]
}

func (s *sim) patchHook() {
	h := s.anyHook()
	if h == nil {
		return
	}
	everything := func(*simDelivery) bool { return true }
	s.mu.Lock()
	paused := h.paused
	s.mu.Unlock()
	if paused && s.rng.IntN(4) == 0 { // more often than others, since they pause by themselves
		s.hold(h, false)
		return
	}
	switch s.rng.IntN(10) {
	case 0, 1:
		s.hold(h, !paused)
	case 2:
		s.change(h, fmt.Sprintf(`{"active":%t}`, !h.active), false)
		s.mu.Lock()
		if h.active {
			s.cancelWaiting(h, everything)
			s.endReplays(h)
		}
		h.active = !h.active
		s.mu.Unlock()
	case 3: // off and on at once
		if !h.active {
			return
		}
		s.change(h, `{"active":false}`, false)
		s.mu.Lock()
		s.cancelWaiting(h, everything)
		s.endReplays(h)
		s.mu.Unlock()
		s.change(h, `{"active":true}`, false)
	case 4:
		content := &s.contents[s.rng.IntN(len(s.contents))]
		text := fmt.Sprintf("%q", content)
		if s.rng.IntN(2) == 0 {
			content, text = nil, "null"
		}
		s.loosen(h)
		s.change(h, `{"content_id":`+text+`}`, false)
		s.mu.Lock()
		// The content that it has already is no move: what was sent again by hand after the last one stays.
		if content != nil && (h.content == nil || *h.content != *content) {
			s.cancelWaiting(h, func(d *simDelivery) bool { return d.kind != engine.KindTest && d.content != *content })
		}
		h.content = content
		s.mu.Unlock()
	case 5:
		s.loosen(h)
		s.change(h, fmt.Sprintf(`{"send_incomplete":%t}`, !h.incomplete), false)
		s.mu.Lock()
		if h.incomplete {
			s.cancelWaiting(h, func(d *simDelivery) bool { return d.kind == engine.KindIncomplete })
		}
		h.incomplete = !h.incomplete
		s.mu.Unlock()
	case 6:
		limit := 1 + s.rng.IntN(5)
		s.change(h, fmt.Sprintf(`{"max_in_flight":%d}`, limit), false)
		s.mu.Lock()
		h.limit = limit
		s.mark(simLane{h.id, false}, 'l', limit)
		s.mu.Unlock()
	case 7:
		s.change(h, fmt.Sprintf(`{"send_answers":%t,"send_leads":%t}`, s.rng.IntN(2) == 0, s.rng.IntN(2) == 0), false)
	case 8:
		s.changeRate(h)
	case 9:
		s.mu.Lock()
		h.url++
		s.mu.Unlock()
		s.change(h, fmt.Sprintf(`{"url":"https://h%d.example/%d"}`, h.id, h.url), true)
	}
}

// change changes settings. forget tells that it makes the webhook healthy: before the call, for it may be sent within it.
func (s *sim) change(h *simHook, settings string, forget bool) {
	s.mu.Lock()
	if h.forgetting = forget; forget {
		h.health = simHealth{}
	}
	s.probeNow(h, false)
	s.mu.Unlock()
	s.patch(h.id, settings)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.forgetting = false; forget && !h.health.failing() {
		s.markNext(h, 'p', time.Time{})
	}
	s.probeNow(h, true)
}

func (s *sim) changeRate(h *simHook) {
	rate, text := 0.0, "null"
	if s.rng.IntN(3) > 0 {
		rate = s.randomRate()
		text = fmt.Sprint(rate)
	}
	s.mu.Lock()
	h.changingRate = true
	s.mu.Unlock()
	s.change(h, `{"rate_limit":`+text+`}`, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.rate, h.changingRate = rate, false; rate == 0 {
		s.markNext(h, 'b', time.Time{})
		return
	}
	// What began within the call may have gone by the one or by the other.
	h.beatLate = time.Now().Add(h.interval())
	if h.beatEarly.After(h.beatLate) {
		h.beatEarly = h.beatLate
	}
	s.markNext(h, 'b', h.beatLate)
}

// rotate changes nothing of what is sent when.
func (s *sim) rotate() {
	h := s.anyHook()
	if h == nil {
		return
	}
	if _, err := s.RotateSecret(s.ctx, h.id, engine.Rotation{Overlap: time.Duration(s.rng.IntN(48)) * time.Hour}); err != nil {
		s.violate("rotation: %v", err)
	}
}

func (s *sim) hold(h *simHook, paused bool) {
	s.mu.Lock()
	was := h.paused
	s.mu.Unlock()
	if !paused { // before the call: it may be sent within it
		s.mu.Lock()
		if h.paused {
			h.resumedAt = time.Now()
		}
		h.paused = false
		s.mark(simLane{h.id, false}, 'r', 0)
		s.mu.Unlock()
	}
	s.change(h, fmt.Sprintf(`{"paused":%t}`, paused), !paused && was)
	if paused {
		s.mu.Lock()
		if h.pausedBy = "hand"; h.paused { // by itself, meanwhile or before
			h.pausedBy = ""
		}
		h.paused, h.heldAt, h.byLane = true, time.Now(), false
		s.mark(simLane{h.id, false}, 'h', 0)
		s.mu.Unlock()
	}
}

func (s *sim) deleteHook() {
	h := s.anyHook()
	if h == nil {
		return
	}
	if err := s.DeleteWebhook(s.ctx, h.id); err != nil {
		s.violate("delete: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelWaiting(h, func(*simDelivery) bool { return true })
	h.gone, h.heldAt, h.pausedBy = true, time.Now(), "hand"
	s.endReplays(h)
	s.mark(simLane{h.id, false}, 'h', 0)
}

func (s *sim) down(long bool) {
	s.mu.Lock()
	s.mark(simLane{}, 'd', 0)
	s.cfg.ShutdownTimeout = 0
	if s.rng.IntN(2) == 0 {
		s.cfg.ShutdownTimeout = 20 * time.Second
	}
	s.mu.Unlock()
	s.stop()
	if long {
		time.Sleep(time.Duration(s.rng.Int64N(int64(2 * time.Hour))))
	}
	s.mu.Lock()
	s.mark(simLane{}, 'u', 0)
	s.upAt = time.Now()
	for _, h := range s.hooks {
		// A lane does not remember its beat, nor that a probe was brought forward.
		h.beatEarly, h.beatLate, h.health.late = time.Time{}, time.Time{}, h.health.stored
		s.markNext(h, 'b', time.Time{})
		s.markNext(h, 'p', h.health.late)
	}
	s.mu.Unlock()
	s.start()       // with the grace of the next stop
	synctest.Wait() // until it knows its health
}

func (s *sim) events() {
	for range 1 + s.rng.IntN(1+s.rng.IntN(12)) {
		s.mu.Lock()
		s.oneRequest()
		s.mu.Unlock()
	}
}

// oneRequest sends some events of one session. The model decides what they mean before they are sent, since what is due at
// once is sent at once.
func (s *sim) oneRequest() {
	now := time.Now().UTC()
	var ss *simSession
	if len(s.sessions) > 0 && s.rng.IntN(3) > 0 {
		ss = s.sessions[max(0, len(s.sessions)-1-s.rng.IntN(12))]
	} else {
		ss = &simSession{id: s.uuid(), content: s.contents[s.rng.IntN(len(s.contents))], seen: map[string]bool{}}
		ss.startAt = now.Add(-time.Duration(s.rng.IntN(3)) * time.Duration(s.rng.Int64N(int64(5*time.Minute))))
		s.sessions = append(s.sessions, ss)
	}
	var body []string
	wasStored, wasFinished := ss.stored, !ss.finished.IsZero()
	var started, earliest time.Time
	fresh := 0
	for range 1 + s.rng.IntN(4) {
		kind, fields := "start", ""
		switch s.rng.IntN(7) {
		case 0, 1:
			kind, fields = "vote", fmt.Sprintf(`,"question_id":%d,"answer_id":%d`, s.rng.IntN(4), s.rng.IntN(4))
		case 2:
			kind = "finish"
		case 3:
			kind, fields = "result_view", `,"result":{"result_id":5}`
		case 4:
			kind, fields = "lead", `,"lead":{"name":"N"}`
		case 5:
			kind, fields = "undo", fmt.Sprintf(`,"question_id":%d`, s.rng.IntN(4))
		}
		at := ss.startAt.Add(time.Duration(s.rng.Int64N(int64(now.Sub(ss.startAt)) + int64(4*time.Minute)))).Truncate(time.Microsecond)
		if s.rng.IntN(3) > 0 {
			at = now
		}
		id := ""
		if s.rng.IntN(2) == 0 {
			id = fmt.Sprint("e", s.rng.IntN(30))
			fields += fmt.Sprintf(`,"id":%q`, id)
		}
		body = append(body, fmt.Sprintf(`{"type":%q,"session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":7,"time":%q%s}`,
			kind, ss.id, ss.content, at.Format(time.RFC3339Nano), fields))
		if id != "" && ss.seen[id] {
			continue
		}
		ss.seen[id] = id != ""
		fresh++
		if earliest.IsZero() || at.Before(earliest) {
			earliest = at
		}
		switch kind {
		case "start", "vote":
			if started.IsZero() || at.Before(started) {
				started = at
			}
		case "finish", "result_view":
			if ss.finished.IsZero() || at.Before(ss.finished) {
				ss.finished = at
			}
		}
	}
	if fresh > 0 {
		ss.stored = true
		if started.IsZero() {
			started = earliest
		}
		for _, h := range s.hooks {
			if !h.matches(ss.content) {
				continue
			}
			if !wasStored && h.incomplete {
				due := started.Add(time.Duration(h.incompleteDelay) * time.Second)
				if ss.finished.IsZero() || ss.finished.After(due) {
					s.expect(h, ss, engine.KindIncomplete, due)
				}
			}
			if !wasFinished && !ss.finished.IsZero() {
				s.expect(h, ss, engine.KindComplete, ss.finished.Add(time.Duration(h.delay)*time.Second))
			}
		}
		if !ss.finished.IsZero() {
			for _, d := range s.deliveries {
				if d.session == ss.id && d.kind == engine.KindIncomplete && !ss.finished.After(d.dueAt) && d.dueAt.After(now) &&
					d.id == "" && !d.requeued { // not frozen yet: a retry by hand may have been early
					d.mustDrop = true
				}
			}
		}
	}
	s.mu.Unlock()
	_, err := s.Ingest(s.ctx, []byte("["+strings.Join(body, ",")+"]"))
	s.mu.Lock()
	if err != nil {
		s.violate("ingest: %v", err)
	}
}

func (s *sim) pick() *engine.Delivery {
	q := engine.DeliveryQuery{Limit: 50}
	if n := s.rng.IntN(6); n > 0 {
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
	allowed := !h.gone && (h.active || d.Kind == engine.KindTest)
	if allowed { // before the call: it is sent within it
		if m.sending || m.state == engine.StatusPending || !now.After(m.stateAt.Add(4**simSlow)) {
			m.requeued = true
		}
		m.touched, m.asking = now, true
		m.queued++
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
	case err == nil && m.state == engine.StatusDelivered: // not recorded yet, and more than the cancellation
	case err == nil:
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
	s.tests++
	s.byID[d.ID.String()] = &simDelivery{simKey: simKey{h.id, uuid.Nil, engine.KindTest}, test: s.tests, id: d.ID.String(), dueAt: now,
		created: now, due: now, readyAt: now, state: engine.StatusPending}
}
