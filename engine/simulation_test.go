package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var (
	simSeeds = flag.Int("sim.seeds", 4, "how many seeds TestSimulation runs")
	simFirst = flag.Uint64("sim.first", 1, "the first of them")
	simSlow  = flag.Duration("sim.slow", 0, "how long each of the store's calls may take, twice; 0 for no time")
)

// TestSimulation runs days of random traffic, endpoints and administration, and holds what endpoints see and what is stored
// against a small model that knows nothing of lanes, claims and commits.
func TestSimulation(t *testing.T) {
	seeds := *simSeeds
	if raced {
		seeds = (seeds + 3) / 4
	}
	for i := range seeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newSim(t, seed).run() })
		})
	}
}

// slowStore takes its time, before and after, so that what is simultaneous otherwise overlaps in every way. Its background work
// stands still until stalled says so, so that there is time for something to happen to a job before it is carried out.
type slowStore struct {
	engine.Store
	max     time.Duration
	stalled func() time.Time
}

func (s slowStore) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	asked := now
	for wait := time.Until(s.stalled()); wait > 0; wait = time.Until(s.stalled()) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return engine.Maintained{}, ctx.Err()
		}
	}
	now = time.Now().UTC().Round(0)
	m, err := s.Store.Maintain(ctx, now, r)
	m.Next = m.Next.Add(asked.Sub(now)) // the engine counts from when it asked
	return m, err
}

func (s slowStore) wait() {
	if s.max == 0 {
		return
	}
	if n := rand.Int64N(int64(s.max) * 2); n < int64(s.max) {
		time.Sleep(time.Duration(n))
	}
}

func (s slowStore) AppendEvents(ctx context.Context, events []engine.Event, decide engine.Decide) ([]engine.Queued, error) {
	s.wait()
	defer s.wait()
	return s.Store.AppendEvents(ctx, events, decide)
}

func (s slowStore) TakeDue(ctx context.Context, now time.Time, rooms []engine.LaneRoom) ([]engine.LaneTake, error) {
	s.wait()
	defer s.wait()
	return s.Store.TakeDue(ctx, now, rooms)
}

func (s slowStore) Freeze(ctx context.Context, f engine.Freeze) error {
	s.wait()
	defer s.wait()
	return s.Store.Freeze(ctx, f)
}

func (s slowStore) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Delivery, error) {
	s.wait()
	defer s.wait()
	return s.Store.RecordAttempt(ctx, r)
}

func (s slowStore) Release(d []engine.Delivery) {
	s.wait()
	defer s.wait()
	s.Store.Release(d)
}

func (s slowStore) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	s.wait()
	defer s.wait()
	return s.Store.Reschedule(ctx, id, how, now)
}

func (s slowStore) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.Webhook, error) {
	s.wait()
	defer s.wait()
	return s.Store.PutWebhook(ctx, c)
}

type sim struct {
	*world
	seed uint64
	rng  *rand.Rand
	ctx  context.Context

	contents []uuid.UUID
	sessions []*simSession

	mu         sync.Mutex
	hooks      []*simHook
	deliveries map[simKey]*simDelivery
	byID       map[string]*simDelivery
	marks      []simMark
	sending    map[simLane]int
	freed      map[simLane]time.Time // when an attempt ended last
	upAt       time.Time             // when the engine was started last
	stalled    time.Time             // until when the background work stands still
	replays    []*simReplay
	late       []simLate
	requests   int
	tests      int
	soft       map[string]int
	violations int
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), deliveries: map[simKey]*simDelivery{}, byID: map[string]*simDelivery{}, soft: map[string]int{},
		sending: map[simLane]int{}, freed: map[simLane]time.Time{}}
	s.world = newWorld(t, func(c *engine.Config) {
		c.MaxInFlight = s.rng.IntN(5)
		c.WebhookMaxInFlight = 1 + s.rng.IntN(6)
		c.ShutdownTimeout = 0
		c.PauseAfter = 30*time.Minute + time.Duration(s.rng.Int64N(int64(4*time.Hour)))
		c.Retention.Deliveries = 20 * 24 * time.Hour
	})
	s.net.answer = s.answer
	s.wrap = func(store engine.Store) engine.Store { return slowStore{store, *simSlow, s.stalledUntil} }
	s.stop()
	s.start()
	s.ctx = t.Context()
	for range 3 {
		s.contents = append(s.contents, s.uuid())
	}
	return s
}

func (s *sim) uuid() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(s.rng.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func (s *sim) violate(format string, args ...any) {
	if s.violations++; s.violations <= 15 {
		s.t.Errorf("seed %d, %s: %s", s.seed, time.Now().UTC().Format("02 15:04:05.000000000"), fmt.Sprintf(format, args...))
	}
}

func (s *sim) mark(lane simLane, kind byte, n int) {
	s.marks = append(s.marks, simMark{at: time.Now(), lane: lane, kind: kind, n: n})
}

func (s *sim) stalledUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stalled
}

func (s *sim) hook(id uint32) *simHook {
	for _, h := range s.hooks {
		if h.id == id {
			return h
		}
	}
	return nil
}

// --- the endpoints

func (s *sim) chance(parts ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, append([]any{s.seed, "|"}, parts...)...)
	return rand.New(rand.NewPCG(h.Sum64(), 7)).Uint64()
}

// mode is how an endpoint fares at a time; below 4 it is well.
func (s *sim) mode(host string, at time.Time) uint64 { return s.chance(host, at.Unix()/simSpell) % 10 }

const simSpell = 7200 // seconds

func (s *sim) answer(r received, req *http.Request) (*http.Response, error) {
	url := 0
	fmt.Sscanf(req.URL.Path, "/%d", &url)
	d, n := s.started(r, url)
	mode := s.mode(r.host, time.Now())
	one := s.chance(d.simKey, d.test, n) // not of the id, for a seed is to tell the same story again
	// Ends have an order that can be told, wherever it matters: with failures.
	wait, status, retryAfter := time.Duration(1+one%1e6), 200, 0
	switch {
	case mode < 4:
		if s.mode(r.host, time.Now().Add(-simSpell*time.Second)) < 4 {
			wait = 0
		}
	case mode == 4:
		status = 500
	case mode == 5:
		status, retryAfter = 503, int(one%900)
	case mode == 6:
		wait += time.Duration(one%25000) * time.Millisecond
	case mode == 7:
		wait = time.Hour
	case mode == 8: // flapping
		if one%2 == 0 {
			status = 502
		}
		wait += time.Duration(one%3000) * time.Millisecond
	default:
		wait, status = wait+time.Duration(one%4000)*time.Millisecond, 404
	}
	switch {
	case status == 200:
	case one/7%40 == 0:
		status, retryAfter = 410, 0
	case d.kind == engine.KindTest && one%3 == 0: // the first success may be of another lane
		status, retryAfter = 200, 0
	}
	if s.drained() {
		wait, status, retryAfter = time.Duration(1+one%1e6), 200, 0
	}
	if wait < time.Millisecond && *simSlow > 0 {
		wait += time.Millisecond // so that explainLate sees it
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
		}
	}
	if err := req.Context().Err(); err != nil {
		s.ended(d, 0, 0, errors.Is(err, context.Canceled))
		return nil, err
	}
	s.ended(d, status, retryAfter, false)
	if retryAfter > 0 {
		return answer(status, "Retry-After", fmt.Sprint(retryAfter)), nil
	}
	return answer(status), nil
}

func (s *sim) drained() bool { return time.Now().After(simEnd) }

var (
	simBegin = time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)
	simEnd   = simBegin.Add(3 * 24 * time.Hour)
)

// --- what is done to it

func (s *sim) run() {
	time.Sleep(time.Until(simBegin))
	for range 2 + s.rng.IntN(4) {
		s.addHook()
	}
	for time.Now().Before(simEnd) {
		// Bursts with pauses between them.
		pause := time.Duration(s.rng.Int64N(int64(40 * time.Second)))
		if s.rng.IntN(9) == 0 {
			pause = time.Duration(s.rng.Int64N(int64(3 * time.Hour)))
		}
		if len(s.replays) > 0 { // so that what they do is seen soon
			pause %= time.Minute
		}
		time.Sleep(pause)
		if s.rng.IntN(5) > 0 {
			synctest.Wait()
		}
		s.act()
		if s.rng.IntN(8) == 0 { // another one in the same instant
			s.act()
		}
		synctest.Wait()
		s.settle()
	}
	s.finish()
}

func (s *sim) act() {
	s.mu.Lock()
	if len(s.replays) > 0 {
		s.mu.Unlock()
		synctest.Wait()
		s.mu.Lock()
		s.settleReplays()
	}
	s.mu.Unlock()
	switch n := s.rng.IntN(100); {
	case n < 50:
		s.events()
	case n < 54:
		s.retry()
	case n < 58:
		s.cancel()
	case n < 61:
		s.test()
	case n < 66:
		s.replay()
	case n < 68:
		s.rotate()
	case n < 90:
		s.patchHook()
	case n < 92:
		s.addHook()
	case n < 93:
		s.deleteHook()
	case n < 97:
		s.down(s.rng.IntN(2) == 0)
	default:
		s.overview()
	}
}

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

// stored lists all deliveries in a settled order.
func (s *sim) stored() []engine.Delivery { return s.list(engine.DeliveryQuery{}) }

func (s *sim) model(d *engine.Delivery) *simDelivery {
	if m := s.byID[d.ID.String()]; m != nil {
		return m
	}
	return s.deliveries[simKey{d.WebhookID, d.SessionID, d.Kind}]
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

// replay asks for a replay, dry first.
func (s *sim) replay() {
	synctest.Wait()
	if len(s.hooks) == 0 {
		return
	}
	h := s.hooks[s.rng.IntN(len(s.hooks))]
	s.mu.Lock()
	if *simSlow > 0 { // the store's own time
		for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id}) {
			if m := s.model(&d); m != nil {
				m.created = d.CreatedAt
			}
		}
	}
	now := time.Now()
	r := &simReplay{at: now, Replay: engine.Replay{WebhookID: h.id,
		Scope: []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny, engine.ReplayMissing}[s.rng.IntN(3)]}}
	if s.rng.IntN(4) > 0 {
		r.Since = s.bound(h, r.Scope)
	}
	if s.rng.IntN(2) > 0 {
		r.Until = s.bound(h, r.Scope)
		if r.Until.Before(r.Since) {
			r.Since, r.Until = r.Until, r.Since
		}
	}
	ask := r.Replay
	if r.Until.IsZero() {
		r.Until = now
	}
	// Where something of it is under way the model cannot count.
	r.loose = s.behind() || now.Before(h.cancelled.Add(time.Second)) ||
		s.replayed(func(o *simReplay) bool { return o.WebhookID == h.id })
	for _, d := range s.byID {
		if d.hook == h.id && *simSlow > 0 && (d.sending || d.fuzzy || now.Before(d.touched.Add(8**simSlow))) {
			r.loose = true
		}
	}
	s.expectReplay(r)
	want := int64(len(r.must) + len(r.make))
	var wantErr error
	switch {
	case h.gone:
		wantErr = engine.ErrNotFound
	case !h.active:
		wantErr = engine.ErrConflict
	default:
		s.replays = append(s.replays, r)
	}
	if s.rng.IntN(3) == 0 {
		s.stalled = later(s.stalled, now.Add(time.Duration(s.rng.Int64N(int64(3*time.Minute)))))
	}
	s.mu.Unlock()
	for _, ask.DryRun = range []bool{true, false} {
		got, err := s.Replay(s.ctx, ask)
		switch {
		case !errors.Is(err, wantErr):
			s.violate("replay %+v: %v, the model says %v", ask, err, wantErr)
		case err == nil && got.Count != want && !r.loose:
			s.violate("replay %+v: %d, the model says %d", ask, got.Count, want)
		}
		if ask.DryRun && !r.loose {
			if o, err := s.Overview(s.ctx); err != nil || slices.ContainsFunc(o.Replays, func(o engine.Replay) bool { return o.WebhookID == h.id }) {
				s.violate("a dry replay is carried out: %+v %v", o.Replays, err)
			}
		}
	}
	if wantErr == nil {
		s.soft[fmt.Sprint("replays of ", r.Scope)]++
		s.soft[fmt.Sprint("replayed of ", r.Scope)] += int(want)
	}
	if s.rng.IntN(6) == 0 {
		s.down(s.rng.IntN(2) == 0)
	}
}

// bound is a time to replay from or to: one at which something is to be replayed, as often as not. s.mu is held.
func (s *sim) bound(h *simHook, scope engine.ReplayScope) time.Time {
	var times []time.Time
	for _, d := range s.list(engine.DeliveryQuery{WebhookID: h.id}) {
		times = append(times, d.CreatedAt)
	}
	if scope == engine.ReplayMissing {
		times = nil
		for _, ss := range s.sessions {
			if !ss.finished.IsZero() {
				times = append(times, ss.finished)
			}
		}
	}
	if len(times) == 0 || s.rng.IntN(2) == 0 {
		return time.Now().UTC().Add(-time.Duration(s.rng.Int64N(int64(12 * time.Hour))))
	}
	return times[s.rng.IntN(len(times))]
}

// loosen notes that settings are about to change which bound what a replay is about. s.mu is not held.
func (s *sim) loosen(h *simHook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replays {
		r.loose = r.loose || r.WebhookID == h.id
	}
}

// endReplays holds that nothing is queued any more by the replays of a webhook that was switched off or deleted. s.mu is held.
func (s *sim) endReplays(h *simHook) {
	for _, r := range s.replays {
		if r.WebhookID == h.id {
			r.loose, r.ended = true, true
		}
	}
	o, err := s.Overview(context.Background())
	if err != nil || slices.ContainsFunc(o.Replays, func(r engine.Replay) bool { return r.WebhookID == h.id }) {
		s.violate("webhook %d is off and has replays still: %+v %v", h.id, o.Replays, err)
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
