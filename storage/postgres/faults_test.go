package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// newUnsure returns a store that loses the answer of a commit and the database with it, for longer than it waits: then its caller is told that the
// outcome is unknown, and the change is stored. lose does that to a call, back brings the database back.
func newUnsure(t *testing.T) (s *Store, lose func(call func() error), back func()) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s = openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 100 * time.Millisecond})
	lose = func(call func() error) {
		t.Helper()
		p.lose.Store(true)
		if err := call(); !errors.Is(err, engine.ErrTransient) {
			t.Fatalf("a commit without an answer: got %v, want an ErrTransient", err)
		}
	}
	back = func() {
		t.Helper()
		p.down.Store(false)
		if _, err := appendOne(s); err != nil {
			t.Fatal(err)
		}
		if s.settled.Load() == 0 {
			t.Fatal("the change was not stored: the test shows nothing")
		}
	}
	return s, lose, back
}

// An attempt that was stored although its caller was told that the outcome is unknown is stored once, when it is recorded again.
func TestAttemptRecordedAgain(t *testing.T) {
	s, lose, back := newUnsure(t)
	w := makeWebhook(t, s)
	for _, next := range []engine.Next{{Status: engine.StatusDelivered}, {Status: engine.StatusPending, At: benchNow().Add(-time.Second), Reason: engine.NextBySchedule}} {
		queueTest(t, s, w, benchNow())
		d := claimIn(t, s, testsOf(w), 1).Claimed[0].Delivery
		r := engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: next, At: benchNow(), Webhook: &w, Health: engine.Health{Failures: 3, FirstFailedAt: benchNow(), Order: 1}}
		lose(func() error { _, err := s.RecordAttempt(t.Context(), r); return err })
		back()
		if !s.isClaimed(d.ID) {
			t.Error("the claim has ended, and its holder was not told")
		}
		done, err := s.RecordAttempt(t.Context(), r)
		if err != nil || !done.Moved || done.Delivery.Attempts != 1 {
			t.Errorf("recorded again: %+v (%v)", done, err)
		}
		if _, _, attempts, err := s.Delivery(t.Context(), d.ID); err != nil || len(attempts) != 1 {
			t.Errorf("%d attempts are stored (%v), want one", len(attempts), err)
		}
		if s.isClaimed(d.ID) {
			t.Error("the claim has not ended")
		}
		for _, c := range claimIn(t, s, testsOf(w), 5).Claimed {
			_, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: c.Delivery, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What was stored although its caller was told that the outcome is unknown is reported by Watch.
func TestUnheardIsReported(t *testing.T) {
	s, lose, back := newUnsure(t)
	w := makeWebhook(t, s)
	var mu sync.Mutex
	var heard []engine.News
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		_ = s.Watch(ctx, func(n engine.News) { mu.Lock(); defer mu.Unlock(); heard = append(heard, n) })
	})
	await := func(what string, is func(engine.News) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			mu.Lock()
			found := slices.ContainsFunc(heard, is)
			mu.Unlock()
			if found {
				return
			}
		}
		t.Errorf("not reported: %s", what)
	}
	await("the first news", func(n engine.News) bool { return n.Keeper })
	lane := engine.Lane{WebhookID: w.ID}
	lose(func() error { done, err := appendNew(s, w); _ = done; return err })
	if len(s.claims.of) > 0 {
		t.Error("something is claimed, and nobody was told")
	}
	back()
	await("what was queued", func(n engine.News) bool {
		return n.Keeper && slices.ContainsFunc(n.Queued, func(q engine.Queued) bool { return q.Lane == lane })
	})
	got := claimIn(t, s, lane, 5).Claimed
	if len(got) != 1 {
		t.Fatalf("%d are claimed, want 1", len(got))
	}
	d := got[0].Delivery
	lose(func() error {
		_, err := s.Reschedule(t.Context(), d.ID, engine.RescheduleNever, benchNow())
		return err
	})
	back()
	await("what was cancelled", func(n engine.News) bool {
		return slices.ContainsFunc(n.Ended, func(e engine.Delivery) bool { return e.ID == d.ID })
	})
	changed := w
	changed.Name = "changed"
	lose(func() error {
		_, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: changed})
		return err
	})
	back()
	await("what was changed", func(n engine.News) bool { return slices.Contains(n.Webhooks, w.ID) })
	if s.Webhooks().Get(w.ID).Name != "changed" {
		t.Error("the change is not known")
	}
}

// While the database is away, no attempt may begin. When it is back, Watch names all webhooks: the engine has stopped their lanes. It does not end
// with a database that is away when it begins.
func TestLanesGoOnWhenTheDatabaseIsBack(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 100 * time.Millisecond})
	w := makeWebhook(t, s)
	goAway := func() {
		t.Helper()
		p.down.Store(true)
		if _, err := appendOne(s); !errors.Is(err, engine.ErrTransient) || s.Mine(w.ID) {
			t.Fatalf("without a database: got %v, want an ErrTransient and no attempts", err)
		}
	}
	goAway()
	ctx, stop := context.WithCancel(t.Context())
	news := make(chan engine.News, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Watch(ctx, func(n engine.News) { news <- n }); err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	defer wg.Wait()
	defer stop()
	await := func(is func(engine.News) bool) {
		t.Helper()
		for end := time.After(10 * time.Second); ; {
			select {
			case n := <-news:
				if is(n) {
					return
				}
			case <-end:
				t.Fatal("not reported")
			}
		}
	}
	time.Sleep(200 * time.Millisecond) // Watch fails meanwhile
	p.down.Store(false)
	await(func(n engine.News) bool { return len(n.Own) == 1 })
	goAway()
	p.down.Store(false)
	if _, err := appendOne(s); err != nil {
		t.Fatal(err)
	}
	await(func(n engine.News) bool { return n.Keeper && slices.Contains(n.Webhooks, w.ID) && s.Mine(w.ID) })
}

// A crash of the server takes back what a sequence has given to a transaction that was not committed: the numbers are not used.
func TestCrashPutsSequencesBack(t *testing.T) {
	c := postgrestest.Start(t, postgrestest.Options{})
	s := openAt(t, Options{URL: c.URL(), Schema: "crashed", Patience: time.Minute})
	err := s.write(t.Context(), mutation{run: func(b *batch) error {
		if _, err := b.sessionNo(); err != nil {
			return err
		}
		b.changes++
		if !s.away.Load() && s.retries.Load() == 0 {
			return errors.Join(c.Stop(postgrestest.Immediately), c.Restart())
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if s.retries.Load() == 0 {
		t.Fatal("no transaction has failed: the test shows nothing")
	}
	if _, err := appendOne(s); err != nil {
		t.Fatal(err)
	}
	report, err := Check(t.Context(), Options{URL: c.URL(), Schema: "crashed"})
	if err != nil || len(report.Violations) > 0 || report.Sessions != 1 {
		t.Errorf("%+v (%v)", report, err)
	}
}

// An error that ends a session is told by its severity, which is not translated.
func TestSeverityInAnotherTongue(t *testing.T) {
	if err := (&pgconn.PgError{Severity: "ВАЖНО", SeverityUnlocalized: "FATAL", Code: "XX000"}); judge(err) != lost {
		t.Errorf("got %v, want lost", judge(err))
	}
}

// A step of an erasure that was stored although its caller was told that the outcome is unknown has the same answer when it is repeated: what it has erased
// is not found again.
func TestEraseStepRepeated(t *testing.T) {
	s, lose, back := newUnsure(t)
	hook(t, s)
	id := uuid.New()
	mustPost(t, s, nil, eventOf(id, startEvent), eventOf(id, finishEvent))
	target := engine.Erasure{SessionID: id}
	step, err := s.Erase(t.Context(), target, "")
	if err != nil {
		t.Fatal(err)
	}
	var total engine.Erased
	for cursor := step.Next; cursor != ""; cursor = step.Next {
		lose(func() error { _, err := s.Erase(t.Context(), target, cursor); return err })
		back()
		if step, err = s.Erase(t.Context(), target, cursor); err != nil {
			t.Fatal(err)
		}
		total.Add(step.Erased)
	}
	if want := (engine.Erased{Sessions: 1, Events: 2, Deliveries: 1}); total != want {
		t.Errorf("erased %+v, want %+v", total, want)
	}
	if _, _, err := s.Session(t.Context(), id); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the session: got %v, want ErrNotFound", err)
	}
	if len(s.keeping.steps) > 0 {
		t.Errorf("steps are still kept: %v", s.keeping.steps)
	}
}

// A request with a key that was stored although its caller was told that the outcome is unknown is not carried out again.
func TestKeyedRequestRepeated(t *testing.T) {
	s, lose, back := newUnsure(t)
	w := hook(t, s)
	mustPost(t, s, nil, eventOf(uuid.New(), startEvent), eventOf(uuid.New(), finishEvent))
	once := func(n byte) *engine.Once { return &engine.Once{Key: engine.OnceKey{n}, At: benchNow()} }
	for what, call := range map[string]func() error{
		"create": func() error {
			_, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://b.example/"}, Once: once(1)})
			return err
		},
		"enqueue": func() error {
			_, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: benchNow(), Once: once(2)})
			return err
		},
		"erase": func() error {
			_, err := s.Erase(t.Context(), engine.Erasure{SessionID: uuid.New(), Once: once(3)}, "")
			return err
		},
		"replay": func() error {
			_, err := s.Replay(t.Context(), engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing, Once: once(4)})
			return err
		},
	} {
		lose(call)
		back()
		if err := call(); !errors.Is(err, engine.ErrRepeated) {
			t.Errorf("%s, repeated: got %v, want ErrRepeated", what, err)
		}
	}
	if hooks := s.Webhooks().All(); len(hooks) != 2 {
		t.Errorf("%d webhooks, want 2", len(hooks))
	}
}

// A change of a webhook whose answer was lost for a moment keeps its answer: it is not decided again by the revision that it has made.
func TestChangesAreNotDecidedAgain(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: time.Minute})
	lost := func(call func() error) error { // its answer is lost, and the database is back at once
		t.Helper()
		p.lose.Store(true)
		var done atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !p.down.Load() && !done.Load() {
				time.Sleep(time.Millisecond)
			}
			p.down.Store(false)
		})
		before := s.settled.Load()
		err := call()
		p.lose.Store(false)
		done.Store(true)
		wg.Wait()
		if s.settled.Load() == before {
			t.Error("no commit was settled: the test shows nothing")
		}
		return err
	}
	w := hook(t, s)
	w.Paused = true
	if err := lost(func() (err error) {
		done, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
		w = done.Webhook
		return err
	}); err != nil || !w.Paused || w.Revision != s.Webhooks().Get(w.ID).Revision {
		t.Errorf("pause: %v, %+v", err, w)
	}
	queueTest(t, s, w, benchNow())
	d := claimIn(t, s, testsOf(w), 1).Claimed[0].Delivery
	if err := s.Release(t.Context(), []engine.Delivery{d}); err != nil {
		t.Fatal(err)
	}
	if err := lost(func() error {
		_, err := s.Reschedule(t.Context(), d.ID, engine.RescheduleNever, benchNow())
		return err
	}); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := lost(func() error {
		_, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Deleted: true})
		return err
	}); err != nil {
		t.Errorf("delete: %v", err)
	}
	operations := engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://o.example/", Operations: true}}
	if err := lost(func() error { _, err := s.PutWebhook(t.Context(), operations); return err }); err != nil {
		t.Errorf("the operations webhook: %v", err)
	}
}

// A commit that reaches the server late, when the store has begun its batch anew, is not carried out.
func TestLateCommit(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: time.Minute})
	w := makeWebhook(t, s)
	p.hold.Store(new("the late one"))
	d, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte("the late one"), At: benchNow()})
	if err != nil {
		t.Fatal(err)
	}
	close(p.late)
	if p.cut.Load() == 0 || s.settled.Load() != 0 {
		t.Fatal("no message was late: the test shows nothing")
	}
	for range 50 { // the server has carried out, or refused, the late commit once its session has ended
		open := sqlOf(t, s, "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'hookbolt' AND state LIKE 'idle in transaction%'")
		if open[0] == "0" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if stored := sqlOf(t, s, "SELECT id::text FROM @.deliveries"); len(stored) != 1 || stored[0] != d.ID.String() {
		t.Errorf("stored are %v, want %s", stored, d.ID)
	}
}

// A server that takes no changes any more, as a primary that has become a standby, is left for another one.
func TestReadOnlyServerIsLeft(t *testing.T) {
	s := openTest(t)
	before := s.conn
	err := s.write(t.Context(), mutation{run: func(b *batch) error {
		b.exec("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(s); err != nil {
		t.Errorf("append: %v", err)
	}
	if s.conn == before {
		t.Error("it has the same connection")
	}
}

// A mutation that walks and fails after a change takes no other one with it, and leaves nothing.
func TestWalkingCulprit(t *testing.T) {
	s := openTest(t)
	begun, hold := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // the others gather behind it
		_ = s.write(context.Background(), mutation{run: func(*batch) error { close(begun); <-hold; return nil }})
	})
	<-begun
	failure := errors.New("after a change")
	put := func(b *batch, n int) {
		b.exec(fmt.Sprintf("INSERT INTO @.health (webhook_id, health) VALUES (%d, '{}')", n))
	}
	var walked, other error
	wg.Go(func() {
		walked = s.write(context.Background(), mutation{walks: true, run: func(b *batch) error {
			err := b.query(func(pgx.Rows) error { return nil }, "INSERT INTO @.health (webhook_id, health) VALUES (1, '{}')")
			put(b, 2)
			return errors.Join(err, failure)
		}})
	})
	wg.Go(func() {
		other = s.write(context.Background(), mutation{run: func(b *batch) error { put(b, 3); return nil }})
	})
	for len(s.mutations)+len(s.walks) < 2 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if !errors.Is(walked, failure) || other != nil {
		t.Errorf("got %v and %v, want the failure and none", walked, other)
	}
	if stored := sqlOf(t, s, "SELECT webhook_id::text FROM @.health"); len(stored) != 1 || stored[0] != "3" {
		t.Errorf("stored are %v, want 3", stored)
	}
}

// What is missing is somebody's to mend. The calls that need it are to be repeated, as with a database that is away: an attempt that was made is recorded when
// the right is back. The others of the same transaction go on.
func TestMissingRight(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	queueTest(t, s, w, benchNow())
	d := claimIn(t, s, testsOf(w), 1).Claimed[0].Delivery
	rename := func(from, to string) {
		t.Helper()
		sqlOf(t, s, "DO $$ BEGIN EXECUTE 'ALTER TABLE "+s.sql("@.")+from+" RENAME TO "+to+"'; END $$")
	}
	record := func() error {
		_, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow(), Webhook: &w})
		return err
	}
	rename("attempts", "attempts_away")
	var wg sync.WaitGroup
	begun, hold := make(chan struct{}), make(chan struct{})
	wg.Go(func() { // the others gather behind it
		_ = s.write(context.Background(), mutation{run: func(*batch) error { close(begun); <-hold; return nil }})
	})
	<-begun
	var recorded, appended error
	wg.Go(func() { recorded = record() })
	wg.Go(func() { _, appended = appendOne(s) })
	for len(s.mutations) < 2 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if !errors.Is(recorded, engine.ErrTransient) || errors.Is(recorded, engine.ErrAway) || appended != nil {
		t.Errorf("got %v and %v, want an ErrTransient of a database that is there, and none", recorded, appended)
	}
	if _, _, _, err := s.Delivery(t.Context(), d.ID); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("a read: got %v, want an ErrTransient", err)
	}
	rename("attempts_away", "attempts")
	if err := record(); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	if s.isClaimed(d.ID) {
		t.Error("the claim has not ended")
	}
}

// A damaged row fails the call for it alone. Others of the batch go on, and a freeze passes those that it would supersede.
func TestDamageInABatch(t *testing.T) {
	s := openTest(t)
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/", SendIncomplete: true}})
	if err != nil {
		t.Fatal(err)
	}
	w := made.Webhook
	first := bytes.IndexByte(benchBody, '\n')
	for _, part := range [][]byte{benchBody[:first], benchBody[first:]} {
		events, err := engine.ParseEvents(part, benchNow())
		if err == nil {
			_, err = s.AppendEvents(t.Context(), engine.NewAppend(events, benchNow()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	results, err := s.ClaimDue(t.Context(), benchNow().Add(24*time.Hour), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: w.ID}, Room: 5}})
	if err != nil || len(results[0].Claimed) != 2 {
		t.Fatalf("claimed are %v (%v), want two", results, err)
	}
	complete, incomplete := results[0].Claimed[0].Delivery, results[0].Claimed[1].Delivery
	if complete.Kind == engine.KindIncomplete {
		complete, incomplete = incomplete, complete
	}
	spoil := func(table, column string, id uuid.UUID) {
		sqlOf(t, s, "UPDATE @."+table+" SET "+column+" = '' WHERE id = $1 RETURNING ''", pgID(id))
	}
	spoil("deliveries", "rest", incomplete.ID)
	if _, err := s.Reschedule(t.Context(), incomplete.ID, engine.RescheduleNever, benchNow()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Reschedule of a damaged one: got %v, want ErrCorrupt", err)
	}
	if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: complete, Payload: []byte(`{}`), Events: 5, At: benchNow()}); err != nil {
		t.Errorf("Freeze beside a damaged one: %v", err)
	}
	if named := s.damaged.take(); len(named) != 1 || !errors.Is(named[0], ErrCorrupt) {
		t.Errorf("named are %v, want the one", named)
	}
	spoil("sessions", "head", complete.SessionID)
	if _, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: complete, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); err != nil {
		t.Errorf("RecordAttempt beside a damaged session: %v", err)
	}
}

// A change that finds no room takes those of its transaction with it, and Ready then says that there is no room, as ever.
func TestReadyBesideAFullDisk(t *testing.T) {
	s := openTest(t)
	begun, hold := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var full, ready error
	wg.Go(func() {
		_ = s.write(context.Background(), mutation{run: func(*batch) error { close(begun); <-hold; return nil }})
	})
	<-begun
	wg.Go(func() {
		full = s.write(context.Background(), mutation{run: func(b *batch) error {
			b.exec("DO $$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END$$")
			return nil
		}})
	})
	wg.Go(func() { ready = s.Ready(context.Background()) })
	for len(s.mutations) < 2 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if !errors.Is(full, engine.ErrFull) || !errors.Is(ready, engine.ErrFull) {
		t.Errorf("got %v, and from Ready %v, want an ErrFull", full, ready)
	}
}
