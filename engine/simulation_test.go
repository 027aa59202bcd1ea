package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
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
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newSim(t, seed).run() })
		})
	}
}

// slowStore takes its time, before and after, so that what is simultaneous otherwise overlaps in every way.
type slowStore struct {
	engine.Store
	max time.Duration
}

func (s slowStore) wait() {
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

func (s slowStore) Requeue(ctx context.Context, id uuid.UUID, now time.Time) (engine.Delivery, error) {
	s.wait()
	defer s.wait()
	return s.Store.Requeue(ctx, id, now)
}

func (s slowStore) Cancel(ctx context.Context, id uuid.UUID, now time.Time) (engine.Delivery, error) {
	s.wait()
	defer s.wait()
	return s.Store.Cancel(ctx, id, now)
}

func (s slowStore) PutWebhook(ctx context.Context, w engine.Webhook, deleted bool, cancels []engine.Cancellation) (engine.Webhook, error) {
	s.wait()
	defer s.wait()
	return s.Store.PutWebhook(ctx, w, deleted, cancels)
}

// simHook is a webhook as the model knows it.
type simHook struct {
	id                               uint32
	content                          *uuid.UUID
	active, paused, incomplete, gone bool
	delay, incompleteDelay           int
	limit                            int
	schedule                         []time.Duration
	timeout                          time.Duration
}

func (h *simHook) matches(content uuid.UUID) bool {
	return h.active && !h.gone && (h.content == nil || *h.content == content)
}

type simSession struct {
	id, content uuid.UUID
	stored      bool
	seen        map[string]bool
	finished    time.Time // earliest finish
	startAt     time.Time
}

type simKey struct {
	hook    uint32
	session uuid.UUID
	kind    engine.Kind
}

// simDelivery is a trigger and its delivery.
type simDelivery struct {
	simKey
	id       string // for tests from the beginning, else from the first request
	content  uuid.UUID
	dueAt    time.Time // of the trigger
	created  time.Time
	state    engine.Status // pending stands for scheduled as well
	stateAt  time.Time
	due      time.Time // of the next attempt
	readyAt  time.Time // the later of due and when that was set
	tries    int
	requeued bool // by hand, since the last attempt ended: a claim from before may be under way
	fuzzy    bool // the model does not know whether the last attempt counted
	mustDrop bool // its session finished by its instant, known before the instant
	sending  bool
	touched  time.Time // when it was last sent, or asked for or cancelled by hand
	asking   bool      // Retry has been called and has not returned
	askedAt  time.Time // when it last returned
	settled  time.Time // touched, when it was last looked up
	attempts int       // recorded ones
	cut      int
	body     string
}

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
	kind byte // '+' '-' sending; 'h' 'r' held, resumed; 'd' 'u' down, up; 'l' limit
	n    int
}

type simLate struct {
	lane         simLane
	ready, start time.Time
	what         string
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
	late       []simLate
	requests   int
	soft       map[string]int
	violations int
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), deliveries: map[simKey]*simDelivery{}, byID: map[string]*simDelivery{}, soft: map[string]int{}}
	s.world = newWorld(t, func(c *engine.Config) {
		c.MaxInFlight = s.rng.IntN(5)
		c.WebhookMaxInFlight = 1 + s.rng.IntN(4)
		c.ShutdownTimeout = 0
		c.Retention.Deliveries = 20 * 24 * time.Hour
	})
	s.net.answer = s.answer
	if *simSlow > 0 {
		s.wrap = func(store engine.Store) engine.Store { return slowStore{store, *simSlow} }
		s.stop()
		s.start()
	}
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
	s.marks = append(s.marks, simMark{time.Now(), lane, kind, n})
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

func (s *sim) answer(r received, req *http.Request) (*http.Response, error) {
	d, n := s.started(r)
	mode := s.chance(r.host, time.Now().Unix()/7200) % 10
	one := s.chance(r.id, n)
	wait, status, retryAfter := time.Duration(0), 200, 0
	switch {
	case mode < 4:
	case mode == 4:
		status = 500
	case mode == 5:
		status, retryAfter = 503, int(one%900)
	case mode == 6:
		wait = time.Duration(one%25000) * time.Millisecond
	case mode == 7:
		wait = time.Hour
	case mode == 8: // flapping
		if one%2 == 0 {
			status = 502
		}
		wait = time.Duration(one%3000) * time.Millisecond
	default:
		wait, status = time.Duration(one%4000)*time.Millisecond, 404
	}
	if s.drained() {
		wait, status, retryAfter = 0, 200, 0
	}
	if wait == 0 && *simSlow > 0 {
		wait = time.Millisecond // so that explainLate sees it
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

func (s *sim) started(r received) (*simDelivery, int) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	d := s.byID[r.id]
	if d == nil {
		var p struct {
			SessionID uuid.UUID `json:"session_id"`
			Complete  bool      `json:"complete_session"`
		}
		if err := json.Unmarshal(r.body, &p); err != nil {
			s.violate("payload: %v", err)
		}
		var hook uint32
		fmt.Sscanf(r.host, "h%d.", &hook)
		k := simKey{hook, p.SessionID, engine.KindIncomplete}
		if p.Complete {
			k.kind = engine.KindComplete
		}
		if d = s.deliveries[k]; d == nil {
			d = &simDelivery{simKey: k, state: engine.StatusPending}
			s.deliveries[k] = d
			s.violate("a request that nothing asked for: %+v", k)
		} else if d.id != "" {
			s.violate("a second delivery for %+v", k)
		}
		d.id, d.body = r.id, string(r.body)
		s.byID[r.id] = d
	}
	if d.body == "" {
		d.body = string(r.body)
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
	if d.state != engine.StatusPending {
		if now.After(d.stateAt) {
			s.violate("%s: sent %v after it was %s", what, now.Sub(d.stateAt), d.state)
		} else {
			s.soft["sent in the very instant of its "+d.state.String()]++
		}
	}
	if (h.paused || h.gone) && !lane.test && !s.changedNow(h.id) {
		s.violate("%s: sent while held", what)
	}
	if now.Before(d.due) {
		s.violate("%s: sent %v early", what, d.due.Sub(now))
	}
	if d.sending {
		s.violate("%s: two attempts at once", what)
	}
	if d.mustDrop {
		s.violate("%s: its session had finished", what)
	}
	if string(r.body) != d.body {
		s.violate("%s: other bytes", what)
	}
	if now.After(d.readyAt) {
		s.late = append(s.late, simLate{lane, d.readyAt, now, what})
	}
	d.sending = true
	s.mark(lane, '+', 1)
	return d, d.attempts + d.cut
}

// changedNow tells whether the hold of a webhook was changed in this very instant.
func (s *sim) changedNow(id uint32) bool {
	for i := len(s.marks) - 1; i >= 0 && s.marks[i].at.Equal(time.Now()); i-- {
		if s.marks[i].lane.hook == id && s.marks[i].kind == 'h' {
			return true
		}
	}
	return false
}

// resync reads what the model cannot know: whether an attempt counted that was claimed before a retry by hand.
func (s *sim) resync(d *simDelivery) {
	stored, _, _, err := s.world.Delivery(context.Background(), uuid.MustParse(d.id))
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

func (s *sim) ended(d *simDelivery, status, retryAfter int, cut bool) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	d.sending, d.touched = false, now
	s.mark(simLane{d.hook, d.kind == engine.KindTest}, '-', 1)
	if cut {
		d.cut++
		return // as due as before
	}
	d.attempts++
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
	h := s.hook(d.hook)
	d.tries++
	if d.tries > len(h.schedule) {
		d.state, d.stateAt = engine.StatusFailed, now
		return
	}
	d.due = now.Add(max(h.schedule[d.tries-1], time.Duration(retryAfter)*time.Second))
	d.readyAt = d.due
}

// --- what is done to it

func (s *sim) run() {
	time.Sleep(time.Until(simBegin))
	for range 2 + s.rng.IntN(4) {
		s.addHook()
	}
	for time.Now().Before(simEnd) {
		// Bursts with pauses between them.
		if s.rng.IntN(4) == 0 {
			time.Sleep(time.Duration(s.rng.Int64N(int64(3 * time.Hour))))
		} else {
			time.Sleep(time.Duration(s.rng.Int64N(int64(40 * time.Second))))
		}
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
	switch n := s.rng.IntN(100); {
	case n < 55:
		s.events()
	case n < 59:
		s.retry()
	case n < 63:
		s.cancel()
	case n < 66:
		s.test()
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
		h.limit = 1 + s.rng.IntN(3)
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
	w := s.webhook(fmt.Sprintf(`{"url":"https://h.example/","delay":%d,"incomplete_delay":%d,"send_incomplete":%t,"retry_schedule":%s%s}`,
		h.delay, h.incompleteDelay, h.incomplete, scheduleJSON(h.schedule), extra))
	h.id = w.ID
	s.patch(h.id, fmt.Sprintf(`{"url":"https://h%d.example/"}`, h.id))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, h)
	s.mark(simLane{h.id, false}, 'l', h.limit)
	s.mark(simLane{h.id, true}, 'l', 1)
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

// cancelWaiting is what a change does to what waits. s.mu is held.
func (s *sim) cancelWaiting(h *simHook, covered func(*simDelivery) bool) {
	for _, d := range s.deliveries {
		if d.hook == h.id && d.state == engine.StatusPending && covered(d) {
			d.state, d.stateAt, d.touched = engine.StatusCancelled, time.Now().UTC(), time.Now()
		}
	}
	for _, d := range s.byID {
		if d.kind == engine.KindTest && d.hook == h.id && d.state == engine.StatusPending && covered(d) {
			d.state, d.stateAt, d.touched = engine.StatusCancelled, time.Now().UTC(), time.Now()
		}
	}
}

func (s *sim) patchHook() {
	h := s.anyHook()
	if h == nil {
		return
	}
	everything := func(*simDelivery) bool { return true }
	switch s.rng.IntN(8) {
	case 0, 1:
		s.hold(h, !h.paused)
	case 2:
		s.patch(h.id, fmt.Sprintf(`{"active":%t}`, !h.active))
		s.mu.Lock()
		if h.active {
			s.cancelWaiting(h, everything)
		}
		h.active = !h.active
		s.mu.Unlock()
	case 3: // off and on at once
		if !h.active {
			return
		}
		s.patch(h.id, `{"active":false}`)
		s.mu.Lock()
		s.cancelWaiting(h, everything)
		s.mu.Unlock()
		s.patch(h.id, `{"active":true}`)
	case 4:
		content := &s.contents[s.rng.IntN(len(s.contents))]
		text := fmt.Sprintf("%q", content)
		if s.rng.IntN(2) == 0 {
			content, text = nil, "null"
		}
		s.patch(h.id, `{"content_id":`+text+`}`)
		s.mu.Lock()
		// The content that it has already is no move: what was sent again by hand after the last one stays.
		if content != nil && (h.content == nil || *h.content != *content) {
			s.cancelWaiting(h, func(d *simDelivery) bool { return d.kind != engine.KindTest && d.content != *content })
		}
		h.content = content
		s.mu.Unlock()
	case 5:
		s.patch(h.id, fmt.Sprintf(`{"send_incomplete":%t}`, !h.incomplete))
		s.mu.Lock()
		if h.incomplete {
			s.cancelWaiting(h, func(d *simDelivery) bool { return d.kind == engine.KindIncomplete })
		}
		h.incomplete = !h.incomplete
		s.mu.Unlock()
	case 6:
		limit := 1 + s.rng.IntN(4)
		s.patch(h.id, fmt.Sprintf(`{"max_in_flight":%d}`, limit))
		s.mu.Lock()
		h.limit = limit
		s.mark(simLane{h.id, false}, 'l', limit)
		s.mu.Unlock()
	case 7:
		s.patch(h.id, fmt.Sprintf(`{"send_answers":%t,"send_leads":%t}`, s.rng.IntN(2) == 0, s.rng.IntN(2) == 0))
	}
}

func (s *sim) hold(h *simHook, paused bool) {
	if !paused { // before the call: it may be sent within it
		s.mu.Lock()
		h.paused = false
		s.mark(simLane{h.id, false}, 'r', 0)
		s.mu.Unlock()
	}
	s.patch(h.id, fmt.Sprintf(`{"paused":%t}`, paused))
	if paused {
		s.mu.Lock()
		h.paused = true
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
	h.gone = true
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
	s.mu.Unlock()
	s.start() // with the grace of the next stop
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

func (s *sim) expect(h *simHook, ss *simSession, kind engine.Kind, due time.Time) {
	k := simKey{h.id, ss.id, kind}
	if s.deliveries[k] != nil {
		return
	}
	now := time.Now().UTC()
	d := &simDelivery{simKey: k, content: ss.content, dueAt: due, due: due, created: now, state: engine.StatusPending, readyAt: due}
	if now.After(due) {
		d.readyAt = now
	}
	s.deliveries[k] = d
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
		m.state, m.tries, m.due, m.readyAt, m.fuzzy = engine.StatusPending, 0, now, now, false
	}
	s.mu.Unlock()
	_, err := s.Retry(s.ctx, d.ID)
	s.mu.Lock()
	m.asking, m.askedAt = false, time.Now()
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
	d, err := s.TestWebhook(s.ctx, h.id)
	if err != nil {
		s.violate("test: %v", err)
		return
	}
	now := time.Now().UTC()
	s.byID[d.ID.String()] = &simDelivery{simKey: simKey{h.id, uuid.Nil, engine.KindTest}, id: d.ID.String(), dueAt: now, created: now, due: now,
		readyAt: now, state: engine.StatusPending}
}

// settle makes up, after an instant with several changes, for orders that the model cannot know.
func (s *sim) settle() {
	time.Sleep(8 * *simSlow)
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byID {
		if d.sending || now.Before(d.touched.Add(4**simSlow)) {
			continue // its attempt may not be recorded yet
		}
		if *simSlow > 0 && d.settled != d.touched {
			d.settled = d.touched
			if stored, _, _, err := s.world.Delivery(context.Background(), d.ID()); err == nil {
				switch {
				case !stored.Status.Waiting() && d.state != stored.Status:
					s.soft["resynchronized"]++
					d.state, d.stateAt = stored.Status, stored.FinishedAt
				case stored.Status.Waiting() && d.state == engine.StatusPending && !d.due.Equal(stored.NextAttemptAt):
					d.fuzzy = true
				}
			}
		}
		if d.fuzzy && !d.sending {
			s.resync(d)
			d.readyAt = d.due
			if now.After(d.due) {
				d.readyAt = now
			}
		}
	}
}

// overview holds the counts against the lists.
func (s *sim) overview() {
	synctest.Wait()
	o, err := s.Overview(s.ctx)
	if err != nil {
		s.violate("overview: %v", err)
		return
	}
	for _, status := range engine.Statuses {
		if *simSlow > 0 {
			return
		}
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
	time.Sleep(time.Second)
	for _, h := range s.hooks {
		if h.paused && !h.gone {
			s.hold(h, false)
		}
	}
	time.Sleep(4 * 24 * time.Hour) // beyond the longest delay and schedule: 5 × 20000 s
	synctest.Wait()
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

// explainLate looks, for each attempt that began after it was ready, for an instant in between in which nothing was in its way.
func (s *sim) explainLate() {
	type span struct {
		from, to time.Time
		sending  map[simLane]int
		limit    map[simLane]int
		held     map[simLane]bool
		down     bool
		extra    int
	}
	sending, limit, held, down := map[simLane]int{}, map[simLane]int{}, map[simLane]bool{}, false
	clone := func(m map[simLane]int) map[simLane]int {
		c := make(map[simLane]int, len(m))
		maps.Copy(c, m)
		return c
	}
	var spans []span
	for i, m := range s.marks {
		switch m.kind {
		case '+':
			sending[m.lane]++
		case '-':
			sending[m.lane]--
		case 'h':
			held[m.lane] = true
		case 'r':
			held[m.lane] = false
		case 'd':
			down = true
		case 'u':
			down = false
		case 'l':
			limit[m.lane] = m.n
		}
		to := time.Now()
		if i+1 < len(s.marks) {
			to = s.marks[i+1].at
		}
		if !to.After(m.at) {
			continue
		}
		sp := span{m.at, to, clone(sending), clone(limit), map[simLane]bool{}, down, 0}
		maps.Copy(sp.held, held)
		for _, n := range sending {
			sp.extra += max(0, n-1)
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
			n := sp.sending[l.lane]
			switch {
			case sp.down, sp.held[l.lane], n >= sp.limit[l.lane], n > 0 && sp.extra >= s.cfg.MaxInFlight:
				free = time.Time{}
				continue
			case free.IsZero():
				free = sp.from
				if l.ready.After(free) {
					free = l.ready
				}
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
				s.violate("%s: ready at %v, sent %v later, though nothing was in its way at %v", l.what, l.ready, l.start.Sub(l.ready), sp.from)
			}
			break
		}
	}
}
