package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// hook makes a webhook.
func hook(t *testing.T, s *Store, settings ...func(*engine.Webhook)) engine.Webhook {
	t.Helper()
	w := engine.Webhook{Active: true, URL: "https://a.example/"}
	for _, set := range settings {
		set(&w)
	}
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
	if err != nil {
		t.Fatal(err)
	}
	return made.Webhook
}

// eventOf returns an event of a session. rest is the JSON of its further members.
func eventOf(id uuid.UUID, rest string) string {
	return fmt.Sprintf(`{"session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":1,%s}`, id, rest)
}

const (
	startEvent  = `"type":"start","time":"2026-01-02T03:04:05Z"`
	finishEvent = `"type":"finish","time":"2026-01-02T03:05:05Z"`
	leadEvent   = `"type":"lead","lead":{"email":"a@b.example"},"time":"2026-01-02T03:04:00Z"`
)

func voteEvent(answer int) string {
	return fmt.Sprintf(`"type":"vote","question_id":1,"answer_id":%d,"time":"2026-01-02T03:04:30Z"`, answer)
}

// post stores events, and has the lanes of open webhooks claim on arrival.
func post(s *Store, open []engine.Webhook, events ...string) (engine.Appended, error) {
	parsed, err := engine.ParseEvents([]byte(strings.Join(events, "\n")), benchNow())
	if err != nil {
		return engine.Appended{}, err
	}
	a := engine.NewAppend(parsed, benchNow())
	a.Open = make(map[uint32]bool)
	for _, w := range open {
		a.Open[w.ID] = true
	}
	return s.AppendEvents(context.Background(), a)
}

func mustPost(t *testing.T, s *Store, open []engine.Webhook, events ...string) engine.Appended {
	t.Helper()
	done, err := post(s, open, events...)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return done
}

// build freezes the payload of a claimed delivery of a session with so many events, and delivers it.
func build(t *testing.T, s *Store, d engine.Delivery, events int) {
	t.Helper()
	if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte("{}"), Events: events, At: benchNow()}); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	_, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()})
	if err != nil {
		t.Fatalf("record: %v", err)
	}
}

// claimOne claims the first delivery that waits for a webhook.
func claimOne(t *testing.T, s *Store, w engine.Webhook) engine.Delivery {
	t.Helper()
	results, err := s.ClaimDue(t.Context(), benchNow().Add(time.Hour), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: w.ID}, Room: 1}})
	if err != nil || len(results[0].Claimed) != 1 {
		t.Fatalf("claimed %v (%v), want 1", results, err)
	}
	return results[0].Claimed[0].Delivery
}

// storedSession returns a session with those of its deliveries that are stored.
func storedSession(t *testing.T, s *Store, id uuid.UUID) (engine.SessionRecord, []engine.Delivery) {
	t.Helper()
	record, deliveries, err := s.Session(t.Context(), id)
	if err != nil {
		t.Fatalf("session: %v", err)
	}
	return record, deliveries
}

// kinds counts the deliveries of a session by kind.
func kinds(list []engine.Delivery) map[engine.Kind]int {
	n := make(map[engine.Kind]int)
	for _, d := range list {
		n[d.Kind]++
	}
	return n
}

// damaged checks that one damaged row was named.
func damaged(t *testing.T, s *Store, want string) {
	t.Helper()
	named := s.damaged.take()
	if len(named) != 1 || !errors.Is(named[0], ErrCorrupt) || !strings.Contains(named[0].Error(), want) {
		t.Errorf("damaged rows that were named: %v, want one with %q", named, want)
	}
}

// tripsOf returns how many round trips of the writer f takes.
func tripsOf(s *Store, f func()) int64 {
	before := s.trips.Load()
	f()
	return s.trips.Load() - before
}

func incomplete(w *engine.Webhook) { w.SendIncomplete = true }
func updates(w *engine.Webhook)    { w.SendUpdates, w.SendAnswers = true, true }
func inAnHour(w *engine.Webhook)   { w.Delay, w.IncompleteDelay = 3600, 3600 }

// A request is stored in two round trips, also if what it claims on arrival needs the events that were stored before. Late events take two more, for whatever
// many webhooks.
func TestAppendRoundTrips(t *testing.T) {
	s := openTest(t)
	var hooks []engine.Webhook
	for range 5 {
		hooks = append(hooks, hook(t, s, updates))
	}
	mustPost(t, s, nil, eventOf(uuid.New(), startEvent)) // takes a block of numbers
	ids := [20]uuid.UUID{}
	var starts, finishes, votes, others []string
	for i := range ids {
		ids[i] = uuid.New()
		starts, finishes = append(starts, eventOf(ids[i], startEvent), eventOf(ids[i], leadEvent)), append(finishes, eventOf(ids[i], finishEvent))
		votes, others = append(votes, eventOf(ids[i], voteEvent(1))), append(others, eventOf(ids[i], voteEvent(2)))
	}
	var done engine.Appended
	take := func(what string, want int64, open []engine.Webhook, events []string) {
		t.Helper()
		if got := tripsOf(s, func() { done = mustPost(t, s, open, events...) }); got > want {
			t.Errorf("%s took %d round trips, want %d", what, got, want)
		}
	}
	take("new sessions", 2, hooks, starts)
	take("the finish of stored sessions", 2, hooks, finishes)
	if len(done.Claimed) != len(ids)*len(hooks) {
		t.Fatalf("%d are claimed, want %d", len(done.Claimed), len(ids)*len(hooks))
	}
	var leads []string
	for _, id := range ids {
		leads = append(leads, eventOf(id, leadEvent))
	}
	claimed := done.Claimed
	take("events behind a finish that no payload was built from", 3, nil, leads)
	for _, c := range claimed {
		if events, err := c.Session.Events(); err != nil || len(events) != 3 {
			t.Fatalf("a delivery is claimed with %d events (%v), want 3", len(events), err)
		}
		build(t, s, c.Delivery, 4)
	}
	take("late events", 4, nil, votes)
	if len(done.Queued) != len(ids)*len(hooks) {
		t.Errorf("late events have led to %d updates, want %d", len(done.Queued), len(ids)*len(hooks))
	}
	take("late events with updates that wait", 4, nil, others)
	if len(done.Queued) != 0 {
		t.Errorf("late events have led to %d further updates, want none", len(done.Queued))
	}
}

// A session has as many deliveries as there are webhooks, also where their marks do not stand in its row: they are moved, made once, and get updates.
func TestMarksBeyondTheRow(t *testing.T) {
	s := openTest(t)
	const n = maxMarksInHead + 20
	var hooks []engine.Webhook
	for i := range n {
		hooks = append(hooks, hook(t, s, incomplete, inAnHour, func(w *engine.Webhook) { w.SendUpdates, w.SendAnswers = i%2 == 0, true }))
	}
	id := uuid.New()
	mustPost(t, s, nil, eventOf(id, leadEvent))
	_, before := storedSession(t, s, id)
	trips := tripsOf(s, func() { mustPost(t, s, nil, eventOf(id, startEvent)) })
	if trips > 5 {
		t.Errorf("to move %d deliveries took %d round trips", n, trips)
	}
	_, after := storedSession(t, s, id)
	if len(before) != n || len(after) != n || slices.ContainsFunc(after, func(d engine.Delivery) bool { return d.DueAt.Equal(before[0].DueAt) }) {
		t.Fatalf("%d deliveries became %d, or some were not moved", len(before), len(after))
	}
	mustPost(t, s, hooks, eventOf(id, finishEvent), eventOf(id, voteEvent(1)))
	record, all := storedSession(t, s, id)
	if got := kinds(all); got[engine.KindComplete] != n || got[engine.KindIncomplete] != n || len(record.Head.Deliveries) != 2*n {
		t.Fatalf("the session has %v and %d marks, want %d of each kind", got, len(record.Head.Deliveries), n)
	}
	for _, d := range all {
		if d.Kind == engine.KindComplete {
			if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte("{}"), Events: 4, At: benchNow()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 3 {
		var done engine.Appended
		trips := tripsOf(s, func() { done = mustPost(t, s, nil, eventOf(id, voteEvent(2+i))) })
		if trips > 6 {
			t.Errorf("late events for %d webhooks took %d round trips", n, trips)
		}
		if done.Late != n/2 {
			t.Errorf("%d events count as late, want %d", done.Late, n/2)
		}
	}
	if _, all = storedSession(t, s, id); kinds(all)[engine.KindUpdate] != n/2 {
		t.Errorf("the session has %v, want %d updates", kinds(all), n/2)
	}
	if got := sqlOf(t, s, "SELECT count(*)::text FROM @.marks"); got[0] != fmt.Sprint(2*n+n/2-maxMarksInHead) {
		t.Errorf("%s marks stand in the table, want %d", got[0], 2*n+n/2-maxMarksInHead)
	}
	// The marks of the complete deliveries and of the updates are in the table, so they outlast the row.
	sqlOf(t, s, "UPDATE @.sessions SET head = '' RETURNING ''")
	if done := mustPost(t, s, nil, eventOf(id, voteEvent(9))); done.Late != n/2 || len(done.Queued) > 0 {
		t.Errorf("behind a damaged row %d events count as late, and %d updates were made; want %d and 0", done.Late, len(done.Queued), n/2)
	}
}

// An update that waits has the late events, also if many newer ones were sent.
func TestOldUpdateHasLateEvents(t *testing.T) {
	s := openTest(t)
	w := hook(t, s, updates)
	id := uuid.New()
	build(t, s, mustPost(t, s, []engine.Webhook{w}, eventOf(id, startEvent), eventOf(id, finishEvent)).Claimed[0].Delivery, 2)
	mustPost(t, s, nil, eventOf(id, voteEvent(0)))
	oldest := claimOne(t, s, w)
	if _, err := s.Reschedule(t.Context(), oldest.ID, engine.RescheduleNever, benchNow()); err != nil {
		t.Fatal(err)
	}
	const n = maxMarksInHead + lockedUpdates + 5
	for i := range n {
		mustPost(t, s, nil, eventOf(id, voteEvent(1+i)))
		build(t, s, claimOne(t, s, w), 4+i)
	}
	if _, err := s.Reschedule(t.Context(), oldest.ID, engine.RescheduleNow, benchNow()); err != nil {
		t.Fatal(err)
	}
	if done := mustPost(t, s, nil, eventOf(id, voteEvent(1000))); len(done.Queued) > 0 {
		t.Errorf("a late event has led to another update, although one waits")
	}
	if _, all := storedSession(t, s, id); kinds(all)[engine.KindUpdate] != n+1 {
		t.Errorf("the session has %v, want %d updates", kinds(all), n+1)
	}
}

// A session whose row is damaged hinders no other session of the request, and goes on with the events that it has.
func TestDamagedSessionGoesOn(t *testing.T) {
	s := openTest(t)
	w := hook(t, s)
	bad, good := uuid.New(), uuid.New()
	mustPost(t, s, nil, eventOf(bad, startEvent))
	for _, head := range []string{`\x00`, ``, `\xffff`} {
		sqlOf(t, s, "UPDATE @.sessions SET head = $2 WHERE id = $1 RETURNING ''", bad, []byte(head))
		mustPost(t, s, nil, eventOf(bad, voteEvent(1)), eventOf(good, voteEvent(1)))
		if head == `\x00` {
			damaged(t, s, bad.String())
		}
	}
	mustPost(t, s, nil, eventOf(bad, finishEvent))
	record, deliveries := storedSession(t, s, bad)
	events, err := record.Events()
	if err != nil || len(events) != 5 || record.Head.Events != 5 || len(deliveries) != 1 || deliveries[0].WebhookID != w.ID {
		t.Errorf("the session has %d events of %d (%v) and led to %v", len(events), record.Head.Events, err, deliveries)
	}
	if record, _ = storedSession(t, s, good); record.Head.Events != 3 {
		t.Errorf("the other session has %d events, want 3", record.Head.Events)
	}
}

// A delivery that is damaged does not hinder the events of its session, nor what they lead to for others.
func TestDamagedDeliveryIsPassed(t *testing.T) {
	s := openTest(t)
	w, x := hook(t, s, updates), hook(t, s, updates)
	id := uuid.New()
	for _, c := range mustPost(t, s, []engine.Webhook{w, x}, eventOf(id, startEvent), eventOf(id, finishEvent)).Claimed {
		build(t, s, c.Delivery, 2)
	}
	sqlOf(t, s, "UPDATE @.deliveries SET rest = '' WHERE webhook_id = $1 RETURNING ''", int32(w.ID))
	done := mustPost(t, s, nil, eventOf(id, voteEvent(1)))
	if len(done.Queued) != 1 || done.Queued[0].Lane.WebhookID != x.ID {
		t.Errorf("late events were queued as %v, want one for webhook %d", done.Queued, x.ID)
	}
	damaged(t, s, "delivery")
}

// Events that cannot be read count as changed, and their ids are not known any more.
func TestDamagedEvents(t *testing.T) {
	s := openTest(t)
	w := hook(t, s, updates)
	id := uuid.New()
	key := `,"id":"e1"`
	build(t, s, mustPost(t, s, []engine.Webhook{w}, eventOf(id, startEvent+key), eventOf(id, finishEvent)).Claimed[0].Delivery, 2)
	sqlOf(t, s, "UPDATE @.events SET body = 'x' RETURNING ''")
	if done := mustPost(t, s, nil, eventOf(id, finishEvent)); len(done.Queued) != 1 {
		t.Errorf("a late event has led to %v, want an update", done.Queued)
	}
	damaged(t, s, "events")
	sqlOf(t, s, "UPDATE @.events SET ids = 'x' WHERE ids IS NOT NULL RETURNING ''")
	if done := mustPost(t, s, nil, eventOf(id, startEvent+key)); done.Duplicates != 0 {
		t.Errorf("%d repeats of an event that is not known", done.Duplicates)
	}
	damaged(t, s, "events 1 of session")
}

// gathered has mutations wait while the writer is busy, so that they come into one batch, in their order.
func gathered(t *testing.T, s *Store, calls ...func()) {
	t.Helper()
	begun, hold := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.write(context.Background(), mutation{run: func(*batch) error { close(begun); <-hold; return nil }})
	})
	<-begun
	for i, call := range calls {
		wg.Go(call)
		for len(s.mutations)+len(s.walks) < i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	close(hold)
	wg.Wait()
}

// A session that is erased and begins anew in one batch has the events that came since, whatever ids they have.
func TestBegunAnewInOneBatch(t *testing.T) {
	s := openTest(t)
	id := uuid.New()
	key := func(i int) string { return fmt.Sprintf(`%s,"id":"e%d"`, voteEvent(i), i) }
	mustPost(t, s, nil, eventOf(id, key(1)), eventOf(id, key(2)))
	send := func(i int, duplicates int) func() {
		return func() {
			if done, err := post(s, nil, eventOf(id, key(i))); err != nil || done.Duplicates != duplicates {
				t.Errorf("event %d: %+v, %v", i, done, err)
			}
		}
	}
	gathered(t, s, func() { removeSession(t, s, id) }, send(1, 0), send(2, 0), send(1, 1))
	if record, _ := storedSession(t, s, id); record.Head.Events != 2 || len(record.Batches) != 2 {
		t.Errorf("the session has %d events in %d batches, want 2", record.Head.Events, len(record.Batches))
	}
}

// removeSession removes a session, as an erasure does.
func removeSession(t *testing.T, s *Store, id uuid.UUID) {
	err := s.write(context.Background(), mutation{walks: true, run: func(b *batch) error {
		r, err := b.session(id)
		if err == nil {
			b.removeSession(r)
		}
		return err
	}})
	if err != nil {
		t.Errorf("remove a session: %v", err)
	}
}

// fanning makes webhooks, and stores sessions with more deliveries than one transaction makes. Watch does not run.
func fanning(t *testing.T, s *Store, hooks, sessions int) (ids []uuid.UUID) {
	t.Helper()
	for range hooks {
		hook(t, s, inAnHour)
	}
	var events []string
	for range sessions {
		id := uuid.New()
		ids = append(ids, id)
		events = append(events, eventOf(id, startEvent), eventOf(id, finishEvent))
	}
	mustPost(t, s, nil, events...)
	return ids
}

// fannedOutOnce checks that each session has one delivery for each webhook.
func fannedOutOnce(t *testing.T, s *Store, hooks int, ids ...uuid.UUID) {
	t.Helper()
	for _, id := range ids {
		record, deliveries := storedSession(t, s, id)
		of := make(map[uint32]bool)
		for _, d := range deliveries {
			of[d.WebhookID] = true
		}
		if len(deliveries) != hooks || len(of) != hooks || len(record.Head.Deliveries) != hooks {
			t.Fatalf("a session has %d deliveries for %d webhooks, and %d marks; want %d", len(deliveries), len(of), len(record.Head.Deliveries), hooks)
		}
	}
}

// A step of a fan-out makes a bounded number of deliveries in a bounded number of round trips, and another process goes on where one has ended.
func TestFanOutSteps(t *testing.T) {
	c := postgrestest.Shared(t)
	o := Options{URL: c.URL(), Schema: c.Schema(t)}
	s := openAt(t, o)
	const hooks, sessions = maxMarksInHead + 6, 200
	var ids []uuid.UUID
	if trips := tripsOf(s, func() { ids = fanning(t, s, hooks, sessions) }); trips > hooks*4+4 {
		t.Errorf("the request took %d round trips", trips-hooks*4)
	}
	made := func(s *Store) (n int) {
		_, err := fmt.Sscan(sqlOf(t, s, "SELECT count(*)::text FROM @.queue")[0], &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, queued, steps := made(s), 0, 0
	for more := true; more; steps++ {
		if steps%5 == 4 { // a crash between two steps
			s = openAt(t, o)
		}
		var err error
		trips := tripsOf(s, func() {
			more, err = s.stepFanOut(t.Context(), func(n engine.News) { queued += len(n.Queued) })
		})
		if err != nil {
			t.Fatal(err)
		}
		after := made(s)
		if after-before > 512 || trips > 5 {
			t.Errorf("step %d made %d deliveries in %d round trips", steps, after-before, trips)
		}
		before = after
	}
	fannedOutOnce(t, s, hooks, ids...)
	if left := sqlOf(t, s, "SELECT no::text FROM @.fan_outs"); len(left) > 0 || s.fanningOut.Load() != 0 {
		t.Errorf("%d rows and %d sessions are left", len(left), s.fanningOut.Load())
	}
	if want := hooks*sessions - engine.MaxTriggers/hooks*hooks; queued != want {
		t.Errorf("%d were reported as queued, want %d", queued, want)
	}
}

// A fan-out whose answers get lost makes each delivery once, and nobody sees a session with a part of a step.
func TestFanOutWithheldAnswers(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: time.Minute})
	const hooks, sessions = 40, 120
	ids := fanning(t, s, hooks, sessions)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Watch(ctx, func(engine.News) { p.withhold.Store(1 + p.cut.Load()%4) }); err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	other := openReader(t, c, s.opts.Schema)
	for end := time.Now().Add(time.Minute); s.fanningOut.Load() > 0 && time.Now().Before(end); {
		record, deliveries, err := other.Session(t.Context(), ids[sessions-1])
		if err != nil || len(deliveries) != len(record.Head.Deliveries) {
			t.Fatalf("a session has %d marks and %d deliveries (%v)", len(record.Head.Deliveries), len(deliveries), err)
		}
	}
	stop()
	wg.Wait()
	fannedOutOnce(t, other, hooks, ids...)
	if p.cut.Load() == 0 {
		t.Error("no answer was withheld: the test has shown nothing")
	}
}

// openReader returns a store that only reads, beside the one that has the database.
func openReader(t *testing.T, c *postgrestest.Cluster, schema string) *Store {
	t.Helper()
	first := openAt(t, Options{URL: c.URL(), Schema: c.Schema(t)})
	first.opts.Schema = schema
	return first
}

// A session that was erased, and begins anew, gets nothing of the fan-out of the one before.
func TestFanOutOfErasedSession(t *testing.T) {
	s := openTest(t)
	const hooks = 20
	ids := fanning(t, s, hooks, 60)
	again := ids[59]
	removeSession(t, s, again)
	mustPost(t, s, nil, eventOf(again, voteEvent(1)))
	fanOutAll(t, s)
	fannedOutOnce(t, s, hooks, ids[:59]...)
	if _, deliveries := storedSession(t, s, again); len(deliveries) > 0 {
		t.Errorf("a session that begins anew got %d deliveries of the one before", len(deliveries))
	}
}

func fanOutAll(t *testing.T, s *Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.stepFanOut(t.Context(), func(engine.News) {}); err != nil {
			t.Fatal(err)
		}
	}
}

// Rows of fan_outs that are damaged are named, and hinder no other. Those that are left do not keep Watch busy.
func TestDamagedFanOut(t *testing.T) {
	s := openTest(t)
	const hooks, sessions = 20, 64*fanOutRows + 200
	ids := fanning(t, s, hooks, sessions)
	rows := sqlOf(t, s, "SELECT no::text FROM @.fan_outs f ORDER BY f.no")
	if len(rows) <= fanOutRows {
		t.Fatalf("%d rows, want more than a step reads", len(rows))
	}
	sqlOf(t, s, "UPDATE @.fan_outs SET body = '' WHERE no < $1::bigint RETURNING ''", rows[len(rows)-1])
	damagedSession := ids[sessions-1]
	sqlOf(t, s, "UPDATE @.sessions SET head = '' WHERE id = $1 RETURNING ''", damagedSession)
	fanOutAll(t, s)
	fannedOutOnce(t, s, hooks, ids[sessions-2])
	if got := s.fanningOut.Load(); got != 0 {
		t.Errorf("%d sessions fan out", got)
	}
	if named := s.damaged.take(); len(named) != len(rows) { // the session is one of them
		t.Errorf("%d damaged rows were named, want %d", len(named), len(rows))
	}
	mustPost(t, s, nil, eventOf(damagedSession, voteEvent(1)))
}

// No statement for late events, marks and fan-outs reads a whole table.
func TestPlansOfAppendUseKeys(t *testing.T) {
	s := openFresh(t)
	const hooks = maxMarksInHead + 10
	var all []engine.Webhook
	for range hooks {
		all = append(all, hook(t, s, incomplete, updates, inAnHour))
	}
	for range 12 {
		id := uuid.New()
		mustPost(t, s, nil, eventOf(id, leadEvent))
		mustPost(t, s, nil, eventOf(id, startEvent))
		mustPost(t, s, all, eventOf(id, finishEvent))
		_, deliveries := storedSession(t, s, id)
		for _, d := range deliveries {
			if d.Kind == engine.KindComplete && d.WebhookID > all[hooks-4].ID {
				if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte("{}"), Events: 3, At: benchNow()}); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustPost(t, s, nil, eventOf(id, voteEvent(1)), eventOf(id, voteEvent(2)+`,"id":"a"`))
		mustPost(t, s, nil, eventOf(id, voteEvent(3)), eventOf(id, voteEvent(2)+`,"id":"a"`))
	}
	fanning(t, s, 0, 300)
	fanOutAll(t, s)
	if err := s.Close(); err != nil { // a connection reports its figures at its end at the latest
		t.Fatal(err)
	}
	for _, table := range []string{"sessions", "events", "deliveries", "payloads", "queue", "marks", "fan_outs"} {
		got := sqlOf(t, s, "SELECT relname || ': ' || seq_scan || ' whole, ' || idx_scan || ' by key' FROM pg_stat_user_tables "+
			"WHERE schemaname = $1 AND relname = $2 AND seq_scan > 5", s.opts.Schema, table)
		if len(got) > 0 {
			t.Errorf("%v", got)
		}
	}
}
