package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// postFanOut posts a request with so many finished sessions, and returns the first one's id.
func postFanOut(t testing.TB, s *Store, sessions int) uuid.UUID {
	t.Helper()
	a := fanOutRequest(t, sessions)
	if _, err := s.AppendEvents(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a.Sessions[0].Events[0].SessionID
}

// watchUntil runs Watch until f returns true.
func watchUntil(t testing.TB, s *Store, f func(engine.News) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := false
	err := s.Watch(ctx, func(n engine.News) {
		if f(n) {
			done = true
			cancel()
		}
	})
	if err != nil || !done {
		t.Fatalf("Watch has ended: %v", err)
	}
}

// finishFanOuts runs Watch until the deliveries of all fan-outs are made. It returns how many.
func finishFanOuts(t testing.TB, s *Store) (made int) {
	t.Helper()
	watchUntil(t, s, func(n engine.News) bool {
		made += len(n.Queued)
		return s.fanningOut.Load() == 0
	})
	return made
}

func scheduled(t testing.TB, s *Store) map[uint32]int64 {
	t.Helper()
	stats, err := s.Stats(t.Context(), now(), false)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[uint32]int64)
	for id, w := range stats.Webhooks {
		counts[id] = w.Scheduled
	}
	return counts
}

// A fan-out is made in bounded steps. Each step is whole, and the next process goes on where this one stopped.
func TestFanOutInSteps(t *testing.T) {
	const webhooks, sessions = 10, 600
	path := newPath(t)
	s := openTest(t, path)
	for range webhooks {
		putWebhook(t, s, engine.Webhook{Delay: 86400})
	}
	postFanOut(t, s, sessions)
	made, steps := int(engine.MaxTriggers), 0
	count := func(n engine.News) {
		if len(n.Queued) > fanOutStep {
			t.Errorf("a step has made %d deliveries", len(n.Queued))
		}
		made += len(n.Queued)
		steps++
	}
	for range 3 {
		watchUntil(t, s, func(n engine.News) bool {
			count(n)
			return len(n.Queued) > 0
		})
		sum := int64(0)
		for _, n := range scheduled(t, s) {
			sum += n
		}
		if sum != int64(made) {
			t.Fatalf("%d deliveries are stored, %d were told", sum, made)
		}
		checkAndClose(t, s)
		s = openTest(t, path)
	}
	watchUntil(t, s, func(n engine.News) bool {
		count(n)
		return s.fanningOut.Load() == 0
	})
	for id, n := range scheduled(t, s) {
		if n != sessions {
			t.Errorf("webhook %d has %d deliveries, want %d", id, n, sessions)
		}
	}
	if want := webhooks * sessions / fanOutStep; steps < want {
		t.Errorf("%d steps, want at least %d", steps, want)
	}
	if made != webhooks*sessions {
		t.Errorf("%d deliveries were told, want %d", made, webhooks*sessions)
	}
}

// A step makes as many deliveries where each webhook matches few of the sessions: what a request costs goes by the deliveries that it leads to.
func TestFanOutOfManyContents(t *testing.T) {
	const contents, sessions = 32, engine.MaxTriggers + 16*fanOutSessions
	s := openTest(t, newPath(t))
	ids := make([]uuid.UUID, contents)
	for i := range ids {
		ids[i] = uuid.New()
		putWebhook(t, s, engine.Webhook{Delay: 86400, ContentID: &ids[i]})
	}
	var events []engine.Event
	for i := range sessions {
		parsed, err := engine.ParseEvents(bytes.ReplaceAll(fanOutEvents(1), []byte(content.String()), []byte(ids[i%contents].String())), now())
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, parsed...)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
		t.Fatal(err)
	}
	made, steps := 0, 0
	watchUntil(t, s, func(n engine.News) bool {
		made += len(n.Queued)
		steps++
		return s.fanningOut.Load() == 0
	})
	if want := 16 * fanOutSessions; made != want || steps > 8 {
		t.Errorf("%d deliveries in %d steps, want %d in at most 8", made, steps, want)
	}
}

// A damaged record of a fan-out is named, and stops no other.
func TestDamagedFanOut(t *testing.T) {
	s := openDamaged(t)
	for range 2 {
		putWebhook(t, s, engine.Webhook{Delay: 86400})
	}
	postFanOut(t, s, engine.MaxTriggers/2+2*fanOutSessions)
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketFanOuts)
		k, v := b.Cursor().First()
		v = bytes.Clone(v)
		v[len(v)/2] ^= 1
		return b.Put(bytes.Clone(k), v)
	})
	if err != nil {
		t.Fatal(err)
	}
	if made := finishFanOuts(t, s); made != 2*fanOutSessions {
		t.Errorf("%d deliveries are made, want those of one record", made)
	}
	m, err := s.Maintain(t.Context(), now(), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
	if err != nil || len(m.Damaged) != 1 || !errors.Is(m.Damaged[0], ErrCorrupt) {
		t.Errorf("Maintain names %v, %v", m.Damaged, err)
	}
}

// A fan-out that waits, for room in the end, keeps its own sessions and no other ones: what retention removes is the room that it waits for.
func TestRetentionBesideFanOut(t *testing.T) {
	const webhooks, sessions, old = 10, 200, 20
	for name, bySize := range map[string]bool{"by age": false, "by size": true} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, newPath(t))
			addSessions(t, s, old, time.Now())
			for range webhooks {
				putWebhook(t, s, engine.Webhook{Delay: 86400})
			}
			postFanOut(t, s, sessions)
			later, keep := now().Add(48*time.Hour), 720*time.Hour
			if bySize {
				s.space.limit(0, 1) // there is no room at all
			} else {
				keep = time.Hour
			}
			removed := 0
			for range 20 {
				m, err := s.Maintain(t.Context(), later, engine.Retention{Sessions: keep, Deliveries: keep})
				if err != nil {
					t.Fatal(err)
				}
				removed += int(m.Expired.Sessions + m.Evicted.Sessions)
				later = later.Add(crowdedRest)
			}
			if removed != old {
				t.Errorf("%d sessions were removed, want the %d without a fan-out", removed, old)
			}
			s.space.limit(0, 0)
			finishFanOuts(t, s)
			for id, n := range scheduled(t, s) {
				if n != sessions {
					t.Errorf("webhook %d has %d deliveries, want %d", id, n, sessions)
				}
			}
			checkAndClose(t, s)
		})
	}
}

// manyMarks opens a database with a session that has more deliveries than its head names.
func manyMarks(t *testing.T, webhooks int) (s *Store, session uuid.UUID, deliveries []engine.Delivery) {
	s = openTest(t, newPath(t))
	putWebhooks(t, s, webhooks)
	session = postFanOut(t, s, 1)
	record, deliveries, err := s.Session(t.Context(), session)
	if err != nil || len(deliveries) != webhooks || len(record.Head.Deliveries) != webhooks {
		t.Fatalf("%d deliveries, %d marks: %v", len(deliveries), len(record.Head.Deliveries), err)
	}
	return s, session, deliveries
}

// entriesIn counts the keys of a bucket.
func entriesIn(t *testing.T, s *Store, bucket []byte) (n int) {
	t.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error { n = tx.Bucket(bucket).Stats().KeyN; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A session may have any number of deliveries: its head stays small, and all of them are found.
func TestManyMarks(t *testing.T) {
	const webhooks = 3 * maxMarksInHead
	s, session, deliveries := manyMarks(t, webhooks)
	if n := entriesIn(t, s, bucketMarks); n != webhooks-maxMarksInHead {
		t.Errorf("%d marks of their own", n)
	}
	page, err := s.Deliveries(t.Context(), engine.DeliveryQuery{SessionID: session, Limit: 1000})
	if err != nil || len(page.Items) != webhooks {
		t.Errorf("%d are listed: %v", len(page.Items), err)
	}
	for _, d := range deliveries {
		if n, err := s.Replay(t.Context(), engine.Replay{WebhookID: d.WebhookID, Scope: engine.ReplayMissing, Until: now(), DryRun: true}); n != 0 || err != nil {
			t.Fatalf("webhook %d misses %d: %v", d.WebhookID, n, err)
		}
	}
}

// The erasure of a session with many deliveries takes several steps, and others get their turn between them.
func TestEraseManyMarks(t *testing.T) {
	s, session, deliveries := manyMarks(t, eraseChanges/4+100)
	steps, erased := 0, engine.Erased{}
	for place := ""; ; steps++ {
		step, err := s.Erase(t.Context(), engine.Erasure{SessionID: session}, place)
		if err != nil {
			t.Fatal(err)
		}
		if step.Erased.Deliveries > eraseChanges/2 {
			t.Errorf("a step has erased %d deliveries", step.Erased.Deliveries)
		}
		erased.Add(step.Erased)
		for _, err := range s.Check() {
			t.Errorf("after step %d: %v", steps, err)
		}
		if place = step.Next; place == "" {
			break
		}
	}
	if erased.Sessions != 1 || erased.Deliveries != int64(len(deliveries)) || steps < 3 {
		t.Errorf("%+v in %d steps", erased, steps)
	}
	if n := entriesIn(t, s, bucketMarks); n != 0 {
		t.Errorf("%d marks are left", n)
	}
}

// The marks of cancelled deliveries go with them, and the others with their session.
func TestRetireManyMarks(t *testing.T) {
	const webhooks = 3 * maxMarksInHead
	s, session, deliveries := manyMarks(t, webhooks)
	for _, d := range deliveries[webhooks/2:] {
		if _, err := s.Reschedule(t.Context(), d.ID, engine.RescheduleNever, now()); err != nil {
			t.Fatal(err)
		}
	}
	keep := engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}
	maintainAll := func(at time.Time) {
		t.Helper()
		for {
			m, err := s.Maintain(t.Context(), at, keep)
			if err != nil {
				t.Fatal(err)
			}
			if m.Next.After(at) {
				return
			}
		}
	}
	maintainAll(now().Add(2 * time.Hour))
	record, left, err := s.Session(t.Context(), session)
	if err != nil || len(left) != webhooks/2 || len(record.Head.Deliveries) != webhooks/2 {
		t.Fatalf("%d deliveries, %d marks: %v", len(left), len(record.Head.Deliveries), err)
	}
	for _, d := range left {
		if _, err := s.Reschedule(t.Context(), d.ID, engine.RescheduleNever, now()); err != nil {
			t.Fatal(err)
		}
	}
	maintainAll(now().Add(24 * time.Hour))
	if n := entriesIn(t, s, bucketMarks) + entriesIn(t, s, bucketSessions) + entriesIn(t, s, bucketDeliveries); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// A lane in which nothing was due is looked at again once something in it becomes due, by the clock or by hand, and after the clock was set back.
func TestStatsOfALaneThatBecomesDue(t *testing.T) {
	s := openTest(t, newPath(t))
	id := putWebhook(t, s, engine.Webhook{Delay: 3600}).ID
	start := now()
	first := addSession(t, s, start)[0]
	due := func(at time.Time) int64 {
		t.Helper()
		stats, err := s.Stats(t.Context(), at, false)
		if err != nil {
			t.Fatal(err)
		}
		w := stats.Webhooks[id]
		if (w.Due > 0) != !w.OldestDueAt.IsZero() {
			t.Errorf("%d are due, the oldest at %v", w.Due, w.OldestDueAt)
		}
		return w.Due
	}
	for i, step := range []struct {
		at   time.Time
		want int64
	}{{start, 0}, {start, 0}, {start.Add(2 * time.Hour), 1}, {start.Add(2 * time.Hour), 1}, {start, 0}, {start, 0}, {start.Add(2 * time.Hour), 1}, {start, 0}} {
		if n := due(step.at); n != step.want {
			t.Errorf("step %d: %d are due, want %d", i, n, step.want)
		}
	}
	addSession(t, s, start)
	if n := due(now()); n != 0 {
		t.Errorf("%d are due", n)
	}
	if _, err := s.Reschedule(t.Context(), first.ID, engine.RescheduleNow, now()); err != nil {
		t.Fatal(err)
	}
	if n := due(now()); n != 1 {
		t.Errorf("%d are due, want the one that was moved by hand", n)
	}
}

// fanOutChild is a process that stores a request with many deliveries and makes them until it is killed. It prints what it has done.
func fanOutChild(path string) {
	s, err := Open(path, Options{})
	if err != nil {
		panic(err)
	}
	go func() {
		events, err := engine.ParseEvents(fanOutEvents(killedSessions), now())
		if err != nil {
			panic(err)
		}
		if _, err := s.AppendEvents(context.Background(), engine.NewAppend(events, now())); err != nil {
			panic(err)
		}
		fmt.Println("acknowledged")
	}()
	panic(s.Watch(context.Background(), func(n engine.News) { fmt.Println("step", len(n.Queued)) }))
}

const killedSessions = 250

// A process that is killed at any moment of a fan-out leaves a whole file. The next one makes what is left, each delivery once.
func TestFanOutIsKilled(t *testing.T) {
	const webhooks = 20
	path := newPath(t)
	s := openTest(t, path)
	for range webhooks {
		putWebhook(t, s, engine.Webhook{Delay: 86400})
	}
	checkAndClose(t, s)
	acknowledged := int64(0)
	for round := range 3 {
		cmd := childCommand(t, path)
		cmd.Env = append(cmd.Env, "HOOKBOLT_TEST_FAN_OUT=1")
		steps := 0
		for line := range start(t, cmd) {
			if line == "acknowledged" {
				acknowledged++
			} else if steps++; steps == 2+3*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		s := openTest(t, path)
		fanning := s.fanningOut.Load()
		if round == 2 {
			finishFanOuts(t, s)
			fanning = 0
		}
		stats, err := s.Stats(t.Context(), now(), false)
		if err != nil {
			t.Fatal(err)
		}
		requests := int64(entriesIn(t, s, bucketSessions)) / killedSessions
		if requests < acknowledged {
			t.Fatalf("round %d: %d requests are stored, %d were acknowledged", round, requests, acknowledged)
		}
		for id, w := range stats.Webhooks {
			if made := requests * killedSessions; w.Scheduled > made || w.Scheduled < made-fanning {
				t.Errorf("round %d: webhook %d has %d deliveries of %d sessions, of which %d are not done", round, id, w.Scheduled, made, fanning)
			}
		}
		checkAndClose(t, s)
	}
	if acknowledged < 2 {
		t.Errorf("only %d requests were acknowledged: the test saw too little", acknowledged)
	}
}

// What the counts know of their lanes is what a look at the lanes shows, whatever comes, goes and moves in them.
func TestStatsKnowTheLanes(t *testing.T) {
	s := openTest(t, newPath(t))
	rng := rand.New(rand.NewPCG(11, 12))
	var hooks []engine.Webhook
	for range 3 {
		hooks = append(hooks, putWebhook(t, s, engine.Webhook{Delay: 60}))
	}
	start := now()
	var all []engine.Delivery
	for i := range 200 {
		switch rng.IntN(4) {
		case 0:
			all = append(all, addSession(t, s, start.Add(time.Duration(rng.IntN(600)-300)*time.Second))...)
		case 1:
			if len(all) > 0 {
				how := []engine.Reschedule{engine.RescheduleNow, engine.RescheduleNever}[rng.IntN(2)]
				s.Reschedule(t.Context(), all[rng.IntN(len(all))].ID, how, start) // a conflict changes nothing
			}
		case 2:
			results, err := s.ClaimDue(t.Context(), start, []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: hooks[rng.IntN(3)].ID, Test: rng.IntN(3) == 0}, Room: 2}})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range results[0].Claimed {
				deliver(t, s, c.Delivery, delivered, engine.Attempt{Outcome: engine.Outcome{StartedAt: start, Status: 200}})
			}
		case 3:
			if i%8 == 0 {
				if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: hooks[rng.IntN(3)].ID, Kind: engine.KindTest, Payload: []byte("{}"), At: start}); err != nil {
					t.Fatal(err)
				}
			}
		}
		at := start.Add([]time.Duration{0, time.Hour, time.Hour, time.Duration(rng.IntN(600)-300) * time.Second}[rng.IntN(4)])
		known, err := s.Stats(t.Context(), at, false)
		if err != nil {
			t.Fatal(err)
		}
		err = s.write(t.Context(), 0, func(b *batch) error {
			for id := range s.counts {
				b.count(id).hasFront = false
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		looked, err := s.Stats(t.Context(), at, false)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(known.Webhooks, looked.Webhooks) {
			t.Fatalf("step %d: known is %+v, a look shows %+v", i, known.Webhooks, looked.Webhooks)
		}
	}
}
