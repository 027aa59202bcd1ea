package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

func (s *sim) addHook() {
	if len(s.alive()) > 8 {
		return
	}
	h := &simHook{active: true, delay: s.rng.IntN(90), incompleteDelay: s.rng.IntN(200), incomplete: s.rng.IntN(2) == 0, updates: s.rng.IntN(2) == 0,
		limit: s.cfg.WebhookMaxInFlight, schedule: s.randomSchedule()}
	if s.rng.IntN(10) == 0 {
		h.delay = 3600 * s.rng.IntN(30)
	}
	extra := `,"retry_schedule":` + scheduleJSON(h.schedule)
	h.schedule = orDefault(h.schedule)
	if s.rng.IntN(2) == 0 {
		h.limit = 1 + s.rng.IntN(5)
		extra += fmt.Sprintf(`,"max_in_flight":%d`, h.limit)
	}
	if s.rng.IntN(2) == 0 {
		h.content = &s.contents[s.rng.IntN(len(s.contents))]
		extra += fmt.Sprintf(`,"content_id":%q`, h.content)
	}
	if s.rng.IntN(2) == 0 {
		extra += fmt.Sprintf(`,"timeout":"%ds"`, 1+s.rng.IntN(30))
	}
	if s.rng.IntN(3) == 0 {
		h.rate = s.randomRate()
		extra += fmt.Sprintf(`,"rate_limit":%v`, h.rate)
	}
	h.programmed, h.names = s.rng.IntN(2) == 0, s.rng.IntN(6) == 0
	shape := simShape{answers: true, leads: true}
	if h.names || h.programmed && s.rng.IntN(3) > 0 {
		shape.programs = s.somePrograms(h.names)
		extra += "," + shape.programs.settings()
	}
	h.programmed = h.programmed || h.names
	h.shapes = []simShape{shape}
	w := s.webhook(fmt.Sprintf(`{"url":"https://h.example/`+strings.TrimPrefix(h.suffix(), "/")+`","delay":%d,"incomplete_delay":%d,"send_incomplete":%t,"send_updates":%t%s}`,
		h.delay, h.incompleteDelay, h.incomplete, h.updates, extra))
	h.id = w.ID
	s.patch(h.id, fmt.Sprintf(`{"url":"https://h%d.example/0%s"}`, h.id, h.suffix()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, h)
	s.mark(simLane{h.id, false}, 'l', h.limit)
	s.mark(simLane{h.id, true}, 'l', 1)
}

// suffix is the end of its URL.
func (h *simHook) suffix() string {
	if h.names {
		return simNames
	}
	return ""
}

func (s *sim) randomRate() float64 {
	return []float64{0.02, 0.1, 0.5, 3, 40, 1000}[s.rng.IntN(6)] * (0.5 + s.rng.Float64())
}

// randomSchedule is nil for the default one.
func (s *sim) randomSchedule() []time.Duration {
	if s.rng.IntN(3) == 0 {
		return nil
	}
	steps := []time.Duration{}
	for range s.rng.IntN(6) {
		steps = append(steps, time.Duration(1+s.rng.IntN([]int{10, 600, 20000}[s.rng.IntN(3)]))*time.Second)
	}
	return steps
}

func orDefault(steps []time.Duration) []time.Duration {
	if steps != nil {
		return steps
	}
	for _, step := range engine.DefaultRetrySchedule {
		steps = append(steps, time.Duration(step))
	}
	return steps
}

func scheduleJSON(steps []time.Duration) string {
	if steps == nil {
		return "null"
	}
	texts := []string{}
	for _, d := range steps {
		texts = append(texts, d.String())
	}
	b, _ := json.Marshal(texts)
	return string(b)
}

// alive returns the webhooks that are not deleted.
func (s *sim) alive() []*simHook {
	return slices.DeleteFunc(slices.Clone(s.hooks), func(h *simHook) bool { return h.gone })
}

func (s *sim) anyHook() *simHook {
	alive := s.alive()
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
	switch s.rng.IntN(14) {
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
		if s.rng.IntN(2) == 0 {
			s.reshape(h)
		} else {
			s.retime(h)
		}
	case 8:
		s.changeRate(h)
	case 11, 12, 13:
		if h.programmed {
			s.reprogram(h, s.somePrograms(h.names))
		}
	case 10:
		s.loosen(h)
		s.change(h, fmt.Sprintf(`{"send_updates":%t}`, !h.updates), false)
		s.mu.Lock()
		if h.updates {
			s.cancelWaiting(h, func(d *simDelivery) bool { return d.kind == engine.KindUpdate && d.frozenAt.IsZero() })
		}
		h.updates = !h.updates
		s.mu.Unlock()
	case 9:
		s.mu.Lock()
		h.url++
		h.changedAt = time.Now().UTC()
		s.mu.Unlock()
		s.change(h, fmt.Sprintf(`{"url":"https://h%d.example/%d%s"}`, h.id, h.url, h.suffix()), true)
	}
}

// reshape changes what is in the payloads. What is built within the call may go by the one or by the other.
func (s *sim) reshape(h *simHook) {
	shape := simShape{from: time.Now(), answers: s.rng.IntN(2) == 0, leads: s.rng.IntN(2) == 0}
	s.mu.Lock()
	was := len(h.shapes) - 1
	shape.programs = h.shapes[was].programs
	h.shapes = append(h.shapes, shape)
	s.mu.Unlock()
	s.change(h, fmt.Sprintf(`{"send_answers":%t,"send_leads":%t}`, shape.answers, shape.leads), false)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.shapes[was].to = time.Now()
}

// retime changes when things are sent: what is due already stays so.
func (s *sim) retime(h *simHook) {
	delay, incompleteDelay := s.rng.IntN(90), s.rng.IntN(200)
	settings := fmt.Sprintf(`"delay":%d,"incomplete_delay":%d`, delay, incompleteDelay)
	if *simSlow == 0 { // else there is no telling which schedule an attempt goes by that begins meanwhile
		synctest.Wait()
		schedule := s.randomSchedule()
		settings += `,"retry_schedule":` + scheduleJSON(schedule)
		s.mu.Lock()
		h.schedule = orDefault(schedule)
		s.mu.Unlock()
	}
	s.change(h, "{"+settings+"}", false)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.delay, h.incompleteDelay = delay, incompleteDelay
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
