package bolt

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"hookbolt/engine"
	"hookbolt/internal/memdir"
)

// TestMain lets the test binary be its own child process; see TestKilled and TestOpenRefuses. It fails the package if its tests leave a
// goroutine behind.
func TestMain(m *testing.M) {
	if path := os.Getenv("HOOKBOLT_TEST_CHILD"); path != "" {
		if os.Getenv("HOOKBOLT_TEST_FAN_OUT") != "" {
			fanOutChild(path)
		}
		child(path)
		return
	}
	goleak.VerifyTestMain(inMemory{m})
}

// inMemory runs the tests with their files in memory. A process that is killed loses nothing of them there, as on a disk; power cuts are the trade of
// internal/torture. The raced step of .ci/run has them on the disk.
type inMemory struct{ *testing.M }

func (m inMemory) Run() int {
	defer memdir.Use()()
	return m.M.Run()
}

// openTest opens the database at path, and checks and closes it when the test ends.
func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkAndClose(t, s) })
	return s
}

func checkAndClose(t testing.TB, s *Store) {
	t.Helper()
	select {
	case <-s.stopped:
		return
	default:
	}
	for _, err := range s.Check() {
		t.Errorf("check: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// addSessions adds so many sessions at once, in as few requests as make their deliveries themselves.
func addSessions(t testing.TB, s *Store, n int, at time.Time) {
	t.Helper()
	for n > 0 {
		var events []engine.Event
		for range min(n, engine.MaxTriggers) {
			events = append(events, session(t, uuid.New(), at)...)
		}
		if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
			t.Fatal(err)
		}
		n -= engine.MaxTriggers
	}
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "hookbolt.db") }

var content = uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39")

// session returns the events of a session that starts and finishes at the given time.
func session(t testing.TB, id uuid.UUID, at time.Time) []engine.Event {
	t.Helper()
	stamp := at.UTC().Format(time.RFC3339Nano)
	body := fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":1,"time":%q}
		{"type":"vote","session_id":%[1]q,"question_id":1,"answer_id":2,"time":%[3]q}
		{"type":"finish","session_id":%[1]q,"time":%[3]q}`, id, content, stamp)
	events, err := engine.ParseEvents([]byte(body), time.Now().UTC().Round(0))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func putWebhook(t testing.TB, s *Store, w engine.Webhook) engine.Webhook {
	t.Helper()
	if w.URL == "" {
		w.URL = "https://a.example/"
	}
	w.Active, w.Secret = true, "whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA="
	done, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
	if err != nil {
		t.Fatal(err)
	}
	return done.Webhook
}

// addSession stores a finished session and returns its deliveries, the newest first.
func addSession(t testing.TB, s *Store, at time.Time) []engine.Delivery {
	t.Helper()
	id := uuid.New()
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, at), now())); err != nil {
		t.Fatal(err)
	}
	_, deliveries, err := s.Session(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return deliveries
}

func take(t testing.TB, s *Store, lane engine.Lane, room int) engine.ClaimResult {
	t.Helper()
	takes, err := s.ClaimDue(t.Context(), time.Now(), []engine.ClaimRequest{{Lane: lane, Room: room}})
	if err != nil {
		t.Fatal(err)
	}
	return takes[0]
}

// freeze freezes the payload of a claimed delivery, as if it was built from all events of its session.
func freeze(ctx context.Context, s *Store, d engine.Delivery, payload []byte) error {
	record, _, err := s.Session(ctx, d.SessionID)
	if err != nil {
		return err
	}
	_, err = s.Freeze(ctx, engine.Freeze{Delivery: d, Payload: payload, Events: record.Head.Events, At: now()})
	return err
}

// deliver takes a delivery through freezing and one attempt.
func deliver(t testing.TB, s *Store, d engine.Delivery, next engine.Next, a engine.Attempt) engine.Delivery {
	t.Helper()
	if d.Status == engine.StatusScheduled {
		if err := freeze(t.Context(), s, d, []byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: a, Next: next, At: now()})
	if err != nil {
		t.Fatal(err)
	}
	return done.Delivery
}

func now() time.Time { return time.Now().UTC().Round(0) }

var (
	delivered = engine.Next{Status: engine.StatusDelivered}
	ok        = engine.Attempt{Outcome: engine.Outcome{Status: 200}}
	broken    = engine.Attempt{Outcome: engine.Outcome{Status: 500, Error: engine.ErrorStatus}}
)

func TestDeliveryID(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	last := uuid.Nil
	for _, n := range []uint64{1, 2, 1 << 20, maxNumber} {
		for _, nonce := range []uint32{0, 1, 1<<nonceBits - 1} {
			id := deliveryID(at, nonce, n)
			if id.Version() != 7 || id.Variant() != uuid.RFC4122 || deliveryNumber(id) != n {
				t.Errorf("id %s of %d, %d: version %d, number %d", id, nonce, n, id.Version(), deliveryNumber(id))
			}
			sec, nsec := id.Time().UnixTime()
			if got := time.Unix(sec, nsec).UTC(); !got.Equal(at) {
				t.Errorf("id %s says %v, want %v", id, got, at)
			}
		}
		if id := deliveryID(at, 7, n); id.String() <= last.String() {
			t.Errorf("ids do not sort: %s after %s", id, last)
		} else {
			last = id
		}
	}
}

// An operation that fails after a change takes nothing of its own along, and nothing of others away.
func TestFailedOperationFailsAlone(t *testing.T) {
	s := openTest(t, newPath(t))
	boom := errors.New("boom")
	var runs []string
	add := func(name string, err error) *mutation {
		return &mutation{done: make(chan error, 1), run: func(b *batch) error {
			runs = append(runs, name)
			if e := b.put(b.meta, []byte(name), sealBytes([]byte(name), nil)); e != nil {
				return e
			}
			b.after = append(b.after, func() { runs = append(runs, name+" published") })
			return err
		}}
	}
	refused := &mutation{done: make(chan error, 1), run: func(b *batch) error { return boom }}
	mutations := []*mutation{add("a", nil), refused, add("b", boom), add("c", nil)}
	if err := s.commit(slices.Clone(mutations)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, boom, boom, nil} {
		if err := <-mutations[i].done; err != want {
			t.Errorf("mutation %d: %v, want %v", i, err, want)
		}
	}
	if got, want := strings.Join(runs, ","), "a,b,a,c,a published,c published"; got != want {
		t.Errorf("ran %s, want %s", got, want)
	}
	s.db.View(func(tx *bbolt.Tx) error {
		for name, want := range map[string]bool{"a": true, "b": false, "c": true} {
			if got := tx.Bucket(bucketMeta).Get([]byte(name)) != nil; got != want {
				t.Errorf("%s stored: %t, want %t", name, got, want)
			}
		}
		return nil
	})
}

func TestConcurrentCallersShareCommits(t *testing.T) {
	var mu sync.Mutex
	commits, mutations := 0, 0
	s, err := Open(newPath(t), Options{ObserveCommit: func(n int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		commits++
		mutations += n
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkAndClose(t, s) })
	putWebhook(t, s, engine.Webhook{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 10 {
				if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, uuid.New(), time.Now()), now())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if mutations != 641 || commits > mutations/3 {
		t.Errorf("%d mutations in %d commits, want 641 in far fewer", mutations, commits)
	}
}

func cancel(s *Store, id uuid.UUID) error {
	_, err := s.Reschedule(context.Background(), id, engine.RescheduleNever, now())
	return err
}

// Deliveries are numbered in the order of their times, however many callers wait for the writer: a list by time misses none.
func TestTimesGrowWithNumbers(t *testing.T) {
	s := openTest(t, newPath(t))
	putWebhook(t, s, engine.Webhook{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				addSession(t, s, time.Now())
			}
		})
	}
	wg.Wait()
	page, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 1000})
	if err != nil || len(page.Items) != 320 {
		t.Fatalf("%d deliveries: %v", len(page.Items), err)
	}
	for i, d := range page.Items[1:] {
		if d.CreatedAt.After(page.Items[i].CreatedAt) {
			t.Fatalf("number %d was made at %v, the one after it at %v", i+1, d.CreatedAt, page.Items[i].CreatedAt)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Run("a second process", func(t *testing.T) {
		path := newPath(t)
		cmd := childCommand(t, path)
		out := start(t, cmd)
		<-out // it has the database
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want ErrInUse in one line", err)
		}
		cmd.Process.Kill()
		cmd.Wait()
		if len(before) < 2*pageSize {
			t.Error("the database was not there")
		}
		openTest(t, path) // the lock has gone with the process
	})
	t.Run("a process that is about to heal it", func(t *testing.T) {
		// bbolt's own lock is not held then: the lock file alone must keep others away, before they touch the database.
		path := newPath(t)
		s := openTest(t, path)
		checkAndClose(t, s)
		lock, err := acquireLock(path + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
			t.Errorf("got %v, want ErrInUse", err)
		}
		if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("the database was written: %v", err)
		}
	})
	t.Run("a newer schema", func(t *testing.T) {
		path := newPath(t)
		s := openTest(t, path)
		checkAndClose(t, s)
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(keySchema, sealBytes(keySchema, u32key(schemaVersion+1)))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); !errors.Is(err, ErrSchema) {
			t.Errorf("got %v, want ErrSchema", err)
		}
	})
	for name, content := range map[string]string{"an empty file": "", "another file": strings.Repeat("not a database ", 1000)} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, Options{}); !errors.Is(err, ErrNotDatabase) {
				t.Errorf("got %v, want ErrNotDatabase", err)
			}
			if after, _ := os.ReadFile(path); string(after) != content {
				t.Error("it was changed")
			}
		})
	}
	t.Run("an incomplete copy", func(t *testing.T) {
		path := newPath(t)
		s := openTest(t, path)
		for range 50 {
			addSession(t, s, time.Now())
		}
		checkAndClose(t, s)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{2 * pageSize, 4 * pageSize, 12 * pageSize} {
			if err := os.Truncate(path, int64(size)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, Options{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "truncated") {
				t.Errorf("%d of %d bytes: got %v, want ErrCorrupt and the word truncated", size, len(whole), err)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		openTest(t, path)
	})
	t.Run("a directory that is not there", func(t *testing.T) {
		if _, err := Open(filepath.Join(t.TempDir(), "no", "hookbolt.db"), Options{}); err == nil {
			t.Error("it was opened")
		}
	})
}

// What a crash leaves of a creation is made anew.
func TestCreationIsRepeatedAfterACrash(t *testing.T) {
	path := newPath(t)
	if err := os.WriteFile(path+".tmp", []byte("half a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	openTest(t, path)
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

// A clean stop leaves the list of free pages behind, so that the next start need not scan the file; in between commits do without.
func TestFreeListIsWrittenAtACleanStop(t *testing.T) {
	path := newPath(t)
	freeList := func() uint64 {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var newest, list uint64
		for _, m := range [][]byte{b[:pageSize], b[pageSize : 2*pageSize]} {
			if txid := binary.NativeEndian.Uint64(m[metaTxid:]); txid >= newest {
				newest, list = txid, binary.NativeEndian.Uint64(m[metaHighWater-8:])
			}
		}
		return list
	}
	const none = math.MaxUint64
	s := openTest(t, path)
	putWebhook(t, s, engine.Webhook{})
	if got := freeList(); got != none {
		t.Errorf("while it is open the list is at page %d, want none", got)
	}
	checkAndClose(t, s)
	if got := freeList(); got == none {
		t.Error("after a clean stop there is no list")
	}
	if o := boltOptions(); o.NoSync || o.NoGrowSync {
		t.Error("commits are not synced")
	}
}

// The lock file tells the next start whether the one before it ended well.
func TestMarkOfACrash(t *testing.T) {
	path := newPath(t)
	mark := func() string {
		t.Helper()
		b, err := os.ReadFile(path + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	s := openTest(t, path)
	if got := mark(); got != openMark {
		t.Errorf("while it is open the mark is %q, want %q", got, openMark)
	}
	checkAndClose(t, s)
	if got := mark(); got != "" {
		t.Errorf("after a clean stop the mark is %q, want none", got)
	}
}

// After a failed commit nothing is acknowledged and nothing is written any more.
func TestFailedCommitIsFailStop(t *testing.T) {
	s, err := Open(newPath(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := putWebhook(t, s, engine.Webhook{})
	addSession(t, s, time.Now())
	fail := &mutation{done: make(chan error, 1), run: func(b *batch) error {
		b.tx.Rollback() // the commit that follows fails
		b.changes++
		return nil
	}}
	s.mutations <- fail
	if err := <-fail.done; !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("the failed commit was answered %v", err)
	}
	<-s.Failed()
	if s.Err() == nil {
		t.Error("Err is nil")
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, uuid.New(), time.Now()), now())); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("events after it: %v, want ErrUnavailable", err)
	}
	if _, err := s.ClaimDue(t.Context(), time.Now(), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: w.ID}, Room: 1}}); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("taking after it: %v, want ErrUnavailable", err)
	}
	if _, err := s.Stats(t.Context(), time.Now(), true); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("readiness after it: %v, want ErrUnavailable", err)
	}
	if err := s.Close(); !errors.Is(err, s.Err()) {
		t.Errorf("Close: %v, want %v", err, s.Err())
	}
}

func TestDamageShows(t *testing.T) {
	for _, bucket := range [][]byte{bucketWebhooks, bucketSessions, bucketEvents, bucketDeliveries, bucketAttempts, bucketPayloads, bucketCounts, bucketHealth} {
		t.Run(string(bucket), func(t *testing.T) {
			path := newPath(t)
			s := openTest(t, path)
			w := putWebhook(t, s, engine.Webhook{})
			addSession(t, s, time.Now())
			d := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery
			deliver(t, s, d, delivered, ok)
			setHealth(t, s, w.ID, engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1})
			checkAndClose(t, s)

			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				k, v := tx.Bucket(bucket).Cursor().First()
				v = slices.Clone(v)
				v[len(v)/2] ^= 1
				return tx.Bucket(bucket).Put(slices.Clone(k), v)
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			s, err = Open(path, Options{})
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("open: %v, want ErrCorrupt", err)
				}
				return
			}
			defer s.Close()
			if errs := s.Check(); len(errs) == 0 {
				t.Error("the check finds nothing")
			}
		})
	}
}

// child is the process that tests kill: it stores sessions one after another, delivers some, and prints the id of each that
// is acknowledged, and of each delivery whose 2xx is recorded.
func child(path string) {
	s, err := Open(path, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("open")
	ctx := context.Background()
	done, err := s.PutWebhook(ctx, engine.WebhookChange{Webhook: engine.Webhook{URL: "https://a.example/", Active: true}})
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	for range 8 {
		go func() {
			for {
				id := uuid.New()
				body := fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":1}{"type":"finish","session_id":%[1]q}`, id, content)
				events, err := engine.ParseEvents([]byte(body), now())
				if err != nil {
					panic(err)
				}
				if _, err := s.AppendEvents(ctx, engine.NewAppend(events, now())); err != nil {
					panic(err)
				}
				say("session %s", id)
			}
		}()
	}
	for {
		takes, err := s.ClaimDue(ctx, time.Now(), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: done.Webhook.ID}, Room: 4}})
		if err != nil {
			panic(err)
		}
		for _, taken := range takes[0].Claimed {
			d := taken.Delivery
			if taken.Payload == nil {
				f := engine.Freeze{Delivery: d, Payload: []byte(`{"id":"` + d.ID.String() + `"}`), Events: taken.Session.Head.Events, At: now()}
				if _, err := s.Freeze(ctx, f); err != nil {
					panic(err)
				}
			}
			if _, err := s.RecordAttempt(ctx, engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 200}}, Next: engine.Next{Status: engine.StatusDelivered}, At: now()}); err != nil {
				panic(err)
			}
			say("delivered %s", d.ID)
		}
	}
}

func childCommand(t *testing.T, path string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOOKBOLT_TEST_CHILD="+path)
	cmd.Stderr = t.Output()
	return cmd
}

// start starts a child and returns its lines.
func start(t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1<<20)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(pipe); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	return lines
}

// A process that is killed at any moment loses nothing that it has acknowledged, and its file is whole.
func TestKilled(t *testing.T) {
	path := newPath(t)
	var sessions, deliveries []uuid.UUID
	for round := range 8 {
		cmd := childCommand(t, path)
		lines := start(t, cmd)
		seen := 0
		for line := range lines {
			if seen++; seen == 40+round*67 {
				cmd.Process.Kill()
			}
			kind, id, _ := strings.Cut(line, " ")
			switch kind {
			case "session":
				sessions = append(sessions, uuid.MustParse(id))
			case "delivered":
				deliveries = append(deliveries, uuid.MustParse(id))
			}
		}
		cmd.Wait()
		s := openTest(t, path)
		for _, id := range sessions {
			if _, d, err := s.Session(t.Context(), id); err != nil || len(d) == 0 {
				t.Fatalf("round %d: acknowledged session %s has %d deliveries: %v", round, id, len(d), err)
			}
		}
		for _, id := range deliveries {
			if d, _, _, err := s.Delivery(t.Context(), id); err != nil || d.Status != engine.StatusDelivered {
				t.Fatalf("round %d: recorded delivery %s is %s: %v", round, id, d.Status, err)
			}
		}
		checkAndClose(t, s)
	}
	if len(sessions) < 300 || len(deliveries) < 30 {
		t.Errorf("only %d sessions and %d deliveries: the test saw too little", len(sessions), len(deliveries))
	}
}

// setHealth records the health of a webhook's endpoint, by the attempt of a sample.
func setHealth(t testing.TB, s *Store, webhookID uint32, h engine.Health) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: webhookID, Kind: engine.KindTest, Payload: []byte("{}"), At: now()}); err != nil {
		t.Fatal(err)
	}
	d := take(t, s, engine.Lane{WebhookID: webhookID, Test: true}, 1).Claimed[0].Delivery
	_, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 500, Error: engine.ErrorStatus}},
		Next: engine.Next{Status: engine.StatusFailed, Reason: engine.NextExhausted}, At: now(), Webhook: s.Webhooks().Get(webhookID), Health: h})
	if err != nil {
		t.Fatal(err)
	}
}

// asEarlier cuts the last bytes off a delivery's record: what an earlier version did not have.
func asEarlier(tx *bbolt.Tx, id uuid.UUID, bytes int) error {
	key := u64key(deliveryNumber(id))
	v := tx.Bucket(bucketDeliveries).Get(key)
	return tx.Bucket(bucketDeliveries).Put(key, sealBytes(key, v[1:len(v)-4-bytes]))
}

// A database of version 1 is brought up to date, with what it holds.
func TestVersion1IsBroughtUpToDate(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	sessionID := addSession(t, s, time.Now())[0].SessionID
	d := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery
	deliver(t, s, d, delivered, engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Duration: time.Second, Status: 200, Response: []byte("fine")}})
	sent := engine.Sent{Method: "PUT", Signature: "v1,c2lnbmF0dXJl", UserAgent: "hookbolt/1.2.3", Credentials: []string{"Authorization", "X-Api-Key"}}
	addSession(t, s, time.Now())
	d2 := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery
	deliver(t, s, d2, delivered, engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 204, Address: "192.0.2.1:443", Sent: sent}})
	size := func() int64 {
		t.Helper()
		r, _, err := s.Session(t.Context(), sessionID)
		if err != nil {
			t.Fatal(err)
		}
		return r.Head.Bytes
	}
	if n := size(); n < 300 || n > 1000 {
		t.Fatalf("a session of %d bytes", n)
	}
	checkAndClose(t, s)

	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		secondKey, v := tx.Bucket(bucketAttempts).Cursor().Last()
		a, err := decodeAttempt(secondKey, v)
		if err != nil || !reflect.DeepEqual(a.Sent, sent) {
			return fmt.Errorf("what was sent became %+v: %w", a.Sent, err)
		}
		a.Sent = engine.Sent{}
		secondKey = slices.Clone(secondKey)
		v = encodeAttempt(secondKey, &a)
		version3 := sealBytes(secondKey, v[1:len(v)-4-7]) // without what was sent and the reason of a repeat, of which seven zeros are left
		key, v := tx.Bucket(bucketAttempts).Cursor().First()
		if a, err = decodeAttempt(key, v); err != nil {
			return err
		}
		key = slices.Clone(key)
		old := newRecord(64) // as version 1 wrote it
		old.time(a.StartedAt)
		old.duration(a.Duration)
		old.uint(uint64(a.Status))
		old.string(string(a.Error))
		old.string(a.ErrorDetail)
		old.string(string(a.Response))
		number, v := tx.Bucket(bucketSessions).Cursor().First()
		head := sealBytes(number, v[1:len(v)-4-8-3]) // without the start, the size, which has two bytes here, and the number of marks
		return errors.Join(numberAll(tx), asEarlier(tx, d.ID, 2+4+4), asEarlier(tx, d2.ID, 4+4), tx.Bucket(bucketSessions).Put(slices.Clone(number), head),
			tx.Bucket(bucketAttempts).Put(key, old.seal(key)), tx.Bucket(bucketAttempts).Put(secondKey, version3), tx.DeleteBucket(bucketHealth), tx.DeleteBucket(bucketMarks), tx.DeleteBucket(bucketFanOuts),
			tx.Bucket(bucketMeta).Put(keySchema, sealBytes(keySchema, u32key(1))))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}

	s = openTest(t, path)
	if n := size(); n != 0 {
		t.Errorf("a session of version 1 has %d bytes", n)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, sessionID, time.Now())[2:], now())); err != nil || size() == 0 {
		t.Errorf("one more event: %v, %d bytes", err, size())
	}
	_, payload, attempts, err := s.Delivery(t.Context(), d.ID)
	if err != nil || len(attempts) != 1 || string(attempts[0].Response) != "fine" || attempts[0].Address != "" || len(payload) == 0 {
		t.Errorf("%+v, %v", attempts, err)
	}
	if _, _, attempts, err = s.Delivery(t.Context(), d2.ID); err != nil || len(attempts) != 1 || attempts[0].Address != "192.0.2.1:443" ||
		attempts[0].Sent.Signature != "" {
		t.Errorf("of version 3: %+v, %v", attempts, err)
	}
	// Deliveries of earlier versions, without and with their visitor, are stored again and still found by it.
	for _, id := range []uuid.UUID{d.ID, d2.ID} {
		if _, err := s.Reschedule(t.Context(), id, engine.RescheduleNow, now()); err != nil {
			t.Fatal(err)
		}
		again, _, _, err := s.Delivery(t.Context(), id)
		if err != nil || again.Status != engine.StatusPending || again.BuiltFrom != 0 || again.LateEvents != 0 || again.SupersededBy != uuid.Nil {
			t.Errorf("stored again: %+v, %v", again, err)
		}
	}
	setHealth(t, s, w.ID, engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1})
	checkAndClose(t, s)
	openTest(t, path) // as of this version
}
