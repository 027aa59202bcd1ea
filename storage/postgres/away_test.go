package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// impatient is a Patience for tests: long enough for a slow machine to connect within a part of it.
const impatient = 2 * time.Second

// callers calls f in goroutines of their own, at intervals, and returns the longest call. A call must fail with an ErrTransient.
func callers(t *testing.T, n int, interval time.Duration, f func(i int) error) (longest time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			began := time.Now()
			err := f(i)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, took)
			if !errors.Is(err, engine.ErrTransient) {
				t.Errorf("call %d: got %v, want an ErrTransient", i, err)
			}
		})
		time.Sleep(interval)
	}
	wg.Wait()
	return longest
}

// calls are a change, a change by a person, and reads.
func calls(s *Store) func(i int) error {
	return func(i int) error {
		ctx := context.Background()
		var err error
		switch i % 5 {
		case 0:
			_, err = s.Stats(ctx, benchNow(), false)
		case 1:
			_, _, err = s.Session(ctx, uuid.New())
		case 2:
			_, err = s.Deliveries(ctx, engine.DeliveryQuery{Limit: 10})
		case 3:
			_, err = s.PutWebhook(ctx, engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
		default:
			_, err = appendOne(s)
		}
		return err
	}
}

// While the database is away, no call waits for longer than the patience, also not behind others; and nothing piles up.
func TestNobodyWaitsLongerThanThePatience(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: impatient})
	p.down.Store(true)
	before := runtime.NumGoroutine()
	if took := callers(t, 1000, 3*time.Millisecond, calls(s)); took > impatient+impatient/2 {
		t.Errorf("a call took %v, and the patience is %v", took, impatient)
	}
	if waiting := len(s.mutations) + len(s.walks) + len(s.bulk); waiting > 0 {
		t.Errorf("%d changes still wait", waiting)
	}
	if after := runtime.NumGoroutine(); after > before+20 {
		t.Errorf("%d goroutines are left of %d calls", after-before, 1000)
	}
	p.down.Store(false)
	if _, err := appendOne(s); err != nil {
		t.Errorf("append with the database back: %v", err)
	}
}

// A server that is there and does not answer holds nobody up either.
func TestStalledServer(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: impatient})
	if _, err := s.Stats(t.Context(), benchNow(), false); err != nil { // there is a connection for reading
		t.Fatal(err)
	}
	time.Sleep(trustIdle)
	p.stalled.Lock()
	release := sync.OnceFunc(p.stalled.Unlock)
	t.Cleanup(release)
	took := callers(t, 40, 10*time.Millisecond, func(i int) error {
		if i%2 == 0 {
			_, err := s.Deliveries(context.Background(), engine.DeliveryQuery{Limit: 10})
			return err
		}
		_, err := appendOne(s)
		return err
	})
	if most := connectTimeout + impatient/2; took > most {
		t.Errorf("a call took %v, want at most %v", took, most)
	}
	if s.Mine(1) {
		t.Error("an attempt may begin that cannot be recorded")
	}
	release()
	if _, err := appendOne(s); err != nil {
		t.Errorf("append when the server answers again: %v", err)
	}
	if _, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10}); err != nil {
		t.Errorf("read when the server answers again: %v", err)
	}
}

// Nor does it hold up who changes a webhook, although that walks.
func TestStalledServerAndSettings(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: impatient})
	w := makeWebhook(t, s)
	p.stalled.Lock()
	release := sync.OnceFunc(p.stalled.Unlock)
	t.Cleanup(release)
	began := time.Now()
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w}); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("got %v, want an ErrTransient", err)
	}
	if took, most := time.Since(began), connectTimeout+impatient/2; took > most {
		t.Errorf("a change of a webhook took %v, want at most %v", took, most)
	}
}

// lines is a log that counts.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// with returns the lines that contain a text.
func (l *lines) with(part string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// An outage is logged when it begins and when it ends, whoever meets it first, and however many.
func TestOutageIsLoggedOnce(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	var log lines
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		log.text.Reset()
		p.down.Store(true)
		for i := range 20 {
			if err := calls(s)(i); !errors.Is(err, engine.ErrAway) {
				t.Fatalf("call %d: got %v, want an ErrAway", i, err)
			}
		}
		p.down.Store(false)
		if _, err := appendOne(s); err != nil {
			t.Fatal(err)
		}
		if all := log.with("level="); len(all) != 2 || !strings.Contains(all[0], "level=WARN") || !strings.Contains(all[1], "level=INFO") {
			t.Errorf("logged:\n%s", fmt.Sprint(all))
		}
	}
}

// A Watch that begins while the database is away waits: its error would end the engine.
func TestWatchBeginsWhileAway(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 10 * time.Millisecond})
	p.down.Store(true)
	if _, err := appendOne(s); !errors.Is(err, engine.ErrTransient) {
		t.Fatalf("append without a database: got %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { p.down.Store(false) })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := false
	if err := s.Watch(ctx, func(n engine.News) { told = n.Keeper; stop() }); err != nil || !told {
		t.Errorf("watch: %v, and it has told %v", err, told)
	}
}

// A start waits for a server that is not there yet, and says so once. It does not wait for what nobody mends meanwhile.
func TestStartWaits(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	var log lines
	o := Options{URL: p.url(), Schema: c.Schema(t), StartPatience: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))}
	p.down.Store(true)
	time.AfterFunc(200*time.Millisecond, func() { p.down.Store(false) })
	_ = openAt(t, o).Close()
	if waits, there := log.with("the start waits for it"), log.with("the database is there"); len(waits) != 1 || len(there) != 1 {
		t.Errorf("logged: %q and %q, want one of each", waits, there)
	}
	p.down.Store(true)
	o.StartPatience = 300 * time.Millisecond
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the database server cannot be reached: waited for 300ms: ") {
		t.Errorf("a server that does not come: got %v", err)
	}
	p.down.Store(false)
	o.URL, o.StartPatience = strings.Replace(p.url(), "/hookbolt?", "/nobody?", 1), time.Hour
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the database does not exist") {
		t.Errorf("a database that does not exist: got %v", err)
	}
}

// A server that takes no writes any more counts as away for as long, and not as away and back with each change.
func TestReadOnlyIsOneOutage(t *testing.T) {
	c := postgrestest.Start(t, postgrestest.Options{})
	var log lines
	s := openAt(t, Options{URL: c.URL(), Patience: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	admin, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	for _, text := range []string{"ALTER DATABASE hookbolt SET default_transaction_read_only = on", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hookbolt'"} {
		if _, err := admin.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := appendOne(s); !errors.Is(err, engine.ErrAway) {
			t.Errorf("append: got %v, want an ErrAway", err)
		}
	}
	if n := len(log.with("the database is away")); n != 1 || len(log.with("the database is back")) > 0 {
		t.Errorf("%d outages are logged, want one that has not ended:\n%s", n, log.with("database"))
	}
	if _, err := admin.Exec(t.Context(), "SET default_transaction_read_only = off; ALTER DATABASE hookbolt SET default_transaction_read_only = off"); err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(s); err != nil {
		t.Errorf("append when it takes writes again: %v", err)
	}
}

// A table that somebody has locked for long is no server that is away: callers are refused in time, and no line of the log says that it cannot be reached.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	var log lines
	s := openAt(t, Options{URL: c.URL(), Schema: c.Schema(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	beside, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(beside)
	if _, err := beside.Exec(t.Context(), s.sql("SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE @.sessions IN ACCESS EXCLUSIVE MODE"), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	took := callers(t, 8, 700*time.Millisecond, func(int) error {
		_, err := appendOne(s)
		return err
	})
	if took > defaultPatience+time.Second {
		t.Errorf("a call took %s, want at most %s or so", took, defaultPatience)
	}
	if found := log.with("is away"); len(found) > 0 {
		t.Errorf("the log says %q", found)
	}
	if _, err := beside.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := appendOne(s); err != nil {
		t.Errorf("when the lock has gone: %v", err)
	}
}
