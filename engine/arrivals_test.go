package engine_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/internal/teststore"
)

// This file plays every way in which the events of a small session can arrive, and compares what is sent with an oracle. The oracle is written by
// the words of the specification. It shares no code with Admit, Fold and Render: the payloads are those of the simulation's model.

var allArrivals = flag.Bool("arrivals.all", false, "let TestArrivals play all sessions, and not each third of them")

// arrivalKinds are the events of the sessions, in the order in which they happen.
var arrivalKinds = []string{"start", "vote", "lead", "result_view", "finish"}

// arrivalSpacing is the span between two requests of a session.
const arrivalSpacing = 300 * time.Millisecond

// arrivalTiming says which times the events have.
type arrivalTiming struct {
	name string
	// asHappened gives each kind of event its own time, whatever the order of arrival. Otherwise the times are in the order of arrival.
	asHappened bool
	late       time.Duration // from the last event until the first request
	live       bool          // each event happens when it is sent
}

var arrivalTimings = []arrivalTiming{
	{name: "live", live: true},
	{name: "on time", asHappened: true},
	{name: "offline page", asHappened: true, late: 15 * time.Second},
	{name: "import", asHappened: true, late: time.Hour},
	{name: "import, times as arrived", late: time.Hour},
}

// at returns the time of an event: the place-th of n that arrive, in a request at sentAt. begin is when the first request is sent. No due time is
// the instant of a later request, so that the order of the two is never open.
func (a arrivalTiming) at(kind string, place, n int, begin, sentAt time.Time) time.Time {
	const step, slack = 5 * time.Second, 50 * time.Millisecond
	switch {
	case a.live && sentAt.Equal(begin):
		return sentAt.Add(time.Duration(place+1-n) * arrivalSpacing)
	case a.live:
		return sentAt
	case a.asHappened:
		return begin.Add(time.Duration(slices.Index(arrivalKinds, kind)+1-len(arrivalKinds))*step - a.late - slack)
	}
	return begin.Add(time.Duration(place+1-n)*step - a.late - slack)
}

// arrivalHook is a webhook of the table.
type arrivalHook struct {
	id                     uint32
	delay, incompleteDelay time.Duration // incompleteDelay is negative if incomplete sessions are not sent
	updates                bool
}

// arrivalSession is a session of the table with its requests. Its batches say when they are sent.
type arrivalSession struct {
	simSession
	name     string
	contents []string // what the complete payload says after so many requests, as far as it was asked for
}

// arrivalOrders returns every order of every set of the kinds.
func arrivalOrders() (orders [][]string) {
	var extend func(order []string)
	extend = func(order []string) {
		if len(order) > 0 {
			orders = append(orders, slices.Clone(order))
		}
		for _, kind := range arrivalKinds {
			if !slices.Contains(order, kind) {
				extend(append(order, kind))
			}
		}
	}
	extend(nil)
	return orders
}

// arrivalSessions returns the sessions of the table. Their first requests are sent at begin.
func arrivalSessions(begin time.Time, timings []arrivalTiming) (sessions []*arrivalSession) {
	content := uuid.MustParse(contentID)
	for _, timing := range timings {
		for _, order := range arrivalOrders() {
			for _, apart := range []bool{false, true} {
				if apart && len(order) == 1 {
					continue
				}
				s := &arrivalSession{name: fmt.Sprintf("%s in %d: %s", strings.Join(order, ", "), map[bool]int{false: 1, true: len(order)}[apart], timing.name)}
				s.id, s.content, s.visitor = uuid.New(), content, 7
				for place, kind := range order {
					sentAt := begin
					if apart {
						sentAt = begin.Add(time.Duration(place) * arrivalSpacing)
					}
					if place == 0 || apart {
						s.batches = append(s.batches, &simBatch{sentAt: sentAt})
					}
					b := s.batches[len(s.batches)-1]
					b.events = append(b.events, arrivalEvent(kind, timing.at(kind, place, len(order), begin, sentAt)))
				}
				sessions = append(sessions, s)
			}
		}
	}
	return sessions
}

func arrivalEvent(kind string, at time.Time) *simEvent {
	e := &simEvent{kind: kind, at: at.UTC(), own: simFields{"content_id": quoted(contentID), "content_type": `"quiz"`, "poltio_user_id": "7"}}
	switch kind {
	case "vote":
		e.about, e.answers = simFields{"question_id": "1"}, []simFields{{"answer_id": "11"}}
	case "lead":
		e.form = simFields{"email": `"n@a.example"`}
	case "result_view":
		e.form = simFields{"result_id": "4"}
	}
	return e
}

// arrivalWant is a delivery as the oracle wants it.
type arrivalWant struct {
	kind       engine.Kind
	due, asOf  time.Time
	sentAt     time.Time // zero: it is not sent
	turn       int       // of the session's deliveries for the webhook, the how many-th is sent
	requests   int       // how many of the session's requests are in its payload
	superseded *arrivalWant
	late       int
}

func (w *arrivalWant) waits() bool { return w.sentAt.IsZero() && w.superseded == nil }

// arrivalOracle says what a session comes to for a webhook whose endpoint takes everything at once.
type arrivalOracle struct {
	t       *testing.T
	session *arrivalSession
	hook    arrivalHook
	settle  time.Duration

	requests int // that have arrived
	turns    int // that were sent
	all      []*arrivalWant
	late     int
}

// earliest returns the earliest time of the events of some kinds in some requests; zero if there are none. No kinds stand for all.
func earliest(batches []*simBatch, kinds ...string) (at time.Time) {
	for _, b := range batches {
		for _, e := range b.events {
			if (kinds == nil || slices.Contains(kinds, e.kind)) && (at.IsZero() || e.at.Before(at)) {
				at = e.at
			}
		}
	}
	return at
}

// startIn and finishIn return when a session starts and finishes by some of its requests; zero if it does not.
func startIn(batches []*simBatch) time.Time { return earliest(batches, "start", "vote") }

func finishIn(batches []*simBatch) time.Time { return earliest(batches, "finish", "result_view") }

// wholeIn reports whether the last of the requests posts its session whole: it has its beginning and its finish. One with nothing but finishes
// does not, for an import may begin with them.
func wholeIn(batches []*simBatch) bool {
	before, last := batches[:len(batches)-1], batches[len(batches)-1:]
	begins := len(before) == 0 || startIn(before).IsZero() && !startIn(last).IsZero()
	finishes := finishIn(before).IsZero() && !finishIn(last).IsZero()
	return begins && finishes && !earliest(last, "start", "vote", "undo", "lead").IsZero()
}

// settled returns when a trigger fires that is to fire at that time, and that a request at receivedAt has led to.
func settled(at, receivedAt time.Time, delay, settle time.Duration, whole bool) time.Time {
	if whole {
		return at
	}
	return later(at, receivedAt.Add(min(delay, settle)))
}

func (o *arrivalOracle) run() []*arrivalWant {
	for i, b := range o.session.batches {
		o.fire(b.sentAt)
		o.receive(i, b.sentAt)
	}
	o.fire(time.Time{})
	return o.all
}

// of returns the session's delivery of a kind; nil if there is none. Of updates it is the last one.
func (o *arrivalOracle) of(kind engine.Kind) *arrivalWant {
	for _, w := range slices.Backward(o.all) {
		if w.kind == kind {
			return w
		}
	}
	return nil
}

// receive is a request that arrives.
func (o *arrivalOracle) receive(i int, now time.Time) {
	before, with := o.session.batches[:i], o.session.batches[:i+1]
	whole := wholeIn(with)
	began, start := startIn(before), startIn(with)
	if i == 0 && start.IsZero() {
		start = earliest(with)
	}
	o.requests = i + 1
	switch incomplete := o.of(engine.KindIncomplete); {
	case o.hook.incompleteDelay < 0 || start.IsZero() || i > 0 && !began.IsZero():
	case incomplete != nil && incomplete.waits():
		incomplete.asOf = start.Add(o.hook.incompleteDelay)
		incomplete.due = settled(incomplete.asOf, now, o.hook.incompleteDelay, o.settle, whole)
	case incomplete == nil && i == 0:
		instant := start.Add(o.hook.incompleteDelay)
		if finish := finishIn(with); finish.IsZero() || finish.After(instant) {
			o.all = append(o.all, &arrivalWant{kind: engine.KindIncomplete, asOf: instant, due: settled(instant, now, o.hook.incompleteDelay, o.settle, whole)})
		}
	}
	complete := o.of(engine.KindComplete)
	switch finish := finishIn(with); {
	case complete == nil && !finish.IsZero():
		o.all = append(o.all, &arrivalWant{kind: engine.KindComplete, due: settled(finish.Add(o.hook.delay), now, o.hook.delay, o.settle, whole)})
	case complete == nil, complete.waits(): // what waits will hold it
	case o.content(i) == o.content(i+1):
	case !o.hook.updates:
		complete.late += len(with[i].events)
		o.late += len(with[i].events)
	default:
		if update := o.of(engine.KindUpdate); update == nil || !update.waits() {
			o.all = append(o.all, &arrivalWant{kind: engine.KindUpdate, due: now.Add(o.hook.delay)})
		}
	}
}

// content is what the complete payload says after some requests.
func (o *arrivalOracle) content(requests int) string {
	if o.session.contents == nil {
		o.session.contents = make([]string, len(o.session.batches)+1)
	}
	c := &o.session.contents[requests]
	if *c == "" {
		*c = o.session.payload(requests, engine.KindComplete, time.Time{}, simShape{answers: true, leads: true}, 0)
	}
	return *c
}

// fire sends what is due before a request at that time, in the order of the due times; all if it is zero.
func (o *arrivalOracle) fire(before time.Time) {
	for {
		var next *arrivalWant
		for _, w := range o.all {
			if w.waits() && (next == nil || w.due.Before(next.due)) {
				next = w
			}
		}
		received := o.session.batches[max(0, o.requests-1)].sentAt
		switch {
		case next == nil:
			return
		case !before.IsZero() && next.due.Equal(before) && before.After(received):
			o.t.Fatalf("%s: due in the instant of a request", o.session.name)
		case !before.IsZero() && later(next.due, received).After(before):
			return
		}
		finish := finishIn(o.session.batches[:o.requests])
		inTime := func(w *arrivalWant) bool {
			return w.kind == engine.KindIncomplete && !finish.IsZero() && !finish.After(w.asOf)
		}
		o.all = slices.DeleteFunc(o.all, func(w *arrivalWant) bool { // without a trace
			return w.waits() && inTime(w) && (w == next || next.kind != engine.KindIncomplete)
		})
		if inTime(next) {
			continue
		}
		o.turns++
		next.sentAt, next.requests, next.turn = later(next.due, received), o.requests, o.turns
		for _, w := range o.all {
			if w != next && w.waits() && w.kind != next.kind && (w.kind == engine.KindIncomplete || next.kind == engine.KindUpdate) {
				w.superseded = next
			}
		}
	}
}

// TestArrivals plays each set of events in each order, in one request and in one request each, for webhooks with all combinations of the settings
// that count.
func TestArrivals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		settle  time.Duration
		timings []arrivalTiming
		// fanOut sends so many sessions in one request that their deliveries are made afterwards.
		fanOut bool
	}{
		{name: "each timing", settle: 2 * time.Second, timings: arrivalTimings},
		{name: "without settle", timings: arrivalTimings[2:3]},
		{name: "settle as long as a delay", settle: 10 * time.Second, timings: arrivalTimings[2:3]},
		{name: "fan-out", settle: 2 * time.Second, timings: arrivalTimings[1:2], fanOut: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFastWorld(t, tt.settle)
				hooks := w.arrivalHooks()
				time.Sleep(24 * time.Hour) // no event may be from before 2000, when the bubble's time begins
				synctest.Wait()
				sessions := arrivalSessions(time.Now(), tt.timings)
				switch {
				case raced:
					sessions = everyNth(sessions, 10) // all of them would take minutes
				case !*allArrivals:
					sessions = everyNth(sessions, 3)
				}
				most := engine.MaxTriggers / (2 * len(hooks))
				if tt.fanOut {
					most = len(sessions)
				}
				w.arrive(sessions, most)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				w.judgeArrivals(sessions, hooks)
			})
		})
	}
}

// everyNth returns some of the sessions.
func everyNth(all []*arrivalSession, n int) (some []*arrivalSession) {
	for i := 0; i < len(all); i += n {
		some = append(some, all[i])
	}
	return some
}

// newFastWorld is a world whose database is in memory, where there is room for that.
func newFastWorld(t *testing.T, settle time.Duration) *world {
	w := &world{t: t, db: teststore.In(t, simDir(t)), net: &network{}, cfg: engine.DefaultConfig()}
	w.cfg.Transport, w.cfg.Retry.Jitter, w.cfg.WebhookMaxInFlight, w.cfg.Settle = w.net, 0, 1000, settle
	w.start()
	return w
}

// arrivalHooks makes the webhooks of the table.
func (w *world) arrivalHooks() (hooks []arrivalHook) {
	for _, delay := range []time.Duration{0, 10 * time.Second} {
		for _, incomplete := range []time.Duration{-1, time.Minute, 7 * time.Second} {
			for _, updates := range []bool{false, true} {
				h := arrivalHook{delay: delay, incompleteDelay: incomplete, updates: updates}
				h.id = w.webhook(fmt.Sprintf(`{"url":"https://a.example/","delay":%d,"send_incomplete":%t,"incomplete_delay":%d,"send_updates":%t}`,
					delay/time.Second, incomplete >= 0, max(0, incomplete/time.Second), updates)).ID
				hooks = append(hooks, h)
			}
		}
	}
	return hooks
}

// arrive sends the requests of all sessions at their times, those of at most that many sessions in one.
func (w *world) arrive(sessions []*arrivalSession, most int) {
	for round := range len(arrivalKinds) {
		var bodies []string
		for _, s := range sessions {
			if round >= len(s.batches) {
				continue
			}
			var body strings.Builder
			for _, e := range s.batches[round].events {
				body.WriteString(e.body(&s.simSession))
			}
			bodies = append(bodies, body.String())
		}
		for chunk := range slices.Chunk(bodies, most) {
			w.ingest(strings.Join(chunk, ""))
		}
		synctest.Wait()
		time.Sleep(arrivalSpacing)
	}
}

// arrivalGot is a delivery as it is stored, with what was sent of it.
type arrivalGot struct {
	engine.Delivery
	requests []received
	place    int // of the first of them among all requests
}

// judgeArrivals compares what is stored and what was sent with the oracle.
func (w *world) judgeArrivals(sessions []*arrivalSession, hooks []arrivalHook) {
	w.t.Helper()
	sent, places := make(map[string][]received), make(map[string]int)
	for i, r := range w.net.all() {
		if sent[r.id] = append(sent[r.id], r); len(sent[r.id]) == 1 {
			places[r.id] = i
		}
	}
	type key struct {
		session uuid.UUID
		hook    uint32
	}
	got, late, wrong, deliveries, totals := make(map[key][]arrivalGot), 0, 0, 0, make(map[engine.Kind]int)
	for _, d := range w.listAll() {
		k := key{d.SessionID, d.WebhookID}
		got[k] = append(got[k], arrivalGot{d, sent[d.ID.String()], places[d.ID.String()]})
	}
	for _, s := range sessions {
		for _, h := range hooks {
			o := &arrivalOracle{t: w.t.(*testing.T), session: s, hook: h, settle: w.cfg.Settle}
			want := o.run()
			late += o.late
			for _, d := range want {
				totals[d.kind]++
			}
			deliveries += len(want)
			if diff := o.compare(want, got[key{s.id, h.id}]); diff != "" {
				if wrong++; wrong <= 12 {
					w.t.Logf("%s; delay %v, incomplete %v, updates %t:\n%s", s.name, h.delay, h.incompleteDelay, h.updates, diff)
				}
			}
		}
	}
	if counted := w.lateEvents(); counted != late {
		w.t.Errorf("hookbolt_events_late_total is %d, want %d", counted, late)
	}
	if wrong > 0 {
		w.t.Fail()
	}
	w.t.Logf("%d sessions for %d webhooks: %d deliveries %v, %d events late; %d are wrong", len(sessions), len(hooks), deliveries, totals, late, wrong)
}

// compare returns what differs; "" for nothing.
func (o *arrivalOracle) compare(want []*arrivalWant, got []arrivalGot) string {
	var diff strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&diff, "\t"+format+"\n", args...) }
	slices.SortFunc(got, func(a, b arrivalGot) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	rest := slices.Clone(got)
	found := make(map[*arrivalWant]arrivalGot)
	for _, w := range want {
		at := slices.IndexFunc(rest, func(d arrivalGot) bool { return d.Kind == w.kind })
		if at < 0 {
			say("no %s delivery, want one due at %s", w.kind, o.clock(w.due))
			continue
		}
		found[w] = rest[at]
		rest = slices.Delete(rest, at, at+1)
	}
	for _, d := range rest {
		say("an unwanted %s delivery, %s, due at %s, as of %s", d.Kind, d.Status, o.clock(d.DueAt), o.clock(d.AsOf))
	}
	for w, d := range found {
		by := uuid.Nil
		if w.superseded != nil {
			by = found[w.superseded].ID
		}
		status := map[bool]engine.Status{true: engine.StatusCancelled, false: engine.StatusDelivered}[w.superseded != nil]
		switch {
		case !d.DueAt.Equal(w.due):
			say("%s: due at %s, want %s", w.kind, o.clock(d.DueAt), o.clock(w.due))
		case !d.AsOf.Equal(w.asOf):
			say("%s: as of %s, want %s", w.kind, o.clock(d.AsOf), o.clock(w.asOf))
		case d.Status != status:
			say("%s: is %s, want %s", w.kind, d.Status, status)
		case d.SupersededBy != by:
			say("%s: superseded by %s, want %s", w.kind, d.SupersededBy, by)
		case d.LateEvents != w.late:
			say("%s: %d events late, want %d", w.kind, d.LateEvents, w.late)
		}
		o.compareSent(w, d, say)
		for other, before := range found {
			if 0 < other.turn && other.turn < w.turn && before.place > d.place {
				say("%s: sent before %s", w.kind, other.kind)
			}
		}
	}
	return diff.String()
}

// compareSent compares what was sent of a delivery.
func (o *arrivalOracle) compareSent(w *arrivalWant, d arrivalGot, say func(string, ...any)) {
	if n := map[bool]int{true: 0, false: 1}[w.sentAt.IsZero()]; len(d.requests) != n {
		say("%s: %d requests, want %d", w.kind, len(d.requests), n)
		return
	}
	if w.sentAt.IsZero() {
		return
	}
	r, events := d.requests[0], 0
	for _, b := range o.session.batches[:w.requests] {
		events += len(b.events)
	}
	if !r.at.Equal(w.sentAt) || d.BuiltFrom != events {
		say("%s: sent at %s from %d events, want %s and %d", w.kind, o.clock(r.at), d.BuiltFrom, o.clock(w.sentAt), events)
	}
	if said := r.header.Get("hookbolt-kind"); said != w.kind.String() {
		say("%s: the attempt says %q", w.kind, said)
	}
	if payload := o.session.payload(w.requests, w.kind, w.asOf, simShape{answers: true, leads: true}, w.sentAt.Unix()); string(r.body) != payload {
		say("%s: payload\n\t%s\n\twant\n\t%s", w.kind, r.body, payload)
	}
	o.holdsAll(w, d, say)
}

// holdsAll checks, without a look at the due times, that a complete payload says all that was accepted before it was frozen.
func (o *arrivalOracle) holdsAll(w *arrivalWant, d arrivalGot, say func(string, ...any)) {
	var p struct {
		Answers, Leads []any
		Result         any
	}
	if err := json.Unmarshal(d.requests[0].body, &p); err != nil {
		say("%s: %v", w.kind, err)
	}
	holds := map[string]bool{"vote": len(p.Answers) == 1, "lead": len(p.Leads) == 1, "result_view": p.Result != nil}
	for _, b := range o.session.batches {
		for _, e := range b.events {
			if has, counts := holds[e.kind]; counts && !has && b.sentAt.Before(d.FrozenAt) && (w.kind != engine.KindIncomplete || !e.at.After(d.AsOf)) {
				say("%s: the %s of %s is missing, accepted at %s, and the payload was frozen at %s", w.kind, e.kind, o.clock(e.at), o.clock(b.sentAt), o.clock(d.FrozenAt))
			}
		}
	}
}

// clock shows a time from the first request of the session on.
func (o *arrivalOracle) clock(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.Sub(o.session.batches[0].sentAt).String()
}

// listAll lists all deliveries.
func (w *world) listAll() (all []engine.Delivery) {
	w.t.Helper()
	q := engine.DeliveryQuery{Limit: 5000}
	for {
		page, err := w.Deliveries(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return all
		}
	}
}

// lateEvents returns how many late events the metric has counted.
func (w *world) lateEvents() int {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0.0
	for _, f := range families {
		if f.GetName() == "hookbolt_events_late_total" {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return int(n)
}
