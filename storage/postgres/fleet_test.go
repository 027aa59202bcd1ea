package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// line is a process's way to the database, which can be cut.
type line struct {
	mu    sync.Mutex
	down  bool
	conns []*pgx.Conn
}

func (l *line) Open(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, fmt.Errorf("the line is down: %w", net.ErrClosed)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, conn)
		l.mu.Unlock()
	}
	return conn, err
}

func (l *line) Release(conn *pgx.Conn) { closeConn(conn) }

// cut ends all connections, and lets no new one through until it is mended.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, conn := range l.conns {
		_ = conn.PgConn().Conn().Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// node is a process of a fleet, whose engine is the test.
type node struct {
	*Store
	line *line
	gone sync.Once

	mu    sync.Mutex
	news  []engine.News       // guarded by mu
	own   map[uint32]bool     // as it was told; guarded by mu
	hold  func(n engine.News) // called for each news, before it is acknowledged; guarded by mu
	ended chan error          // capacity 1; the end of the last Watch
	stop  context.CancelFunc  // ends the Watch
}

// fleetOf starts processes on a new schema, in a bubble. They have seen each other.
func fleetOf(t *testing.T, schema string, n int) []*node {
	t.Helper()
	var all []*node
	for range n {
		all = append(all, joinFleet(t, schema))
	}
	time.Sleep(2 * time.Second)
	return all
}

func joinFleet(t *testing.T, schema string) *node {
	t.Helper()
	n := &node{line: new(line), own: make(map[uint32]bool)}
	var err error
	n.Store, err = Open(t.Context(), Options{URL: postgrestest.Shared(t).URL(), Schema: schema, Shared: true, MaxSkew: -1, Connections: n.line})
	if err != nil {
		t.Fatal(err)
	}
	n.watch()
	t.Cleanup(n.leave)
	return n
}

func (n *node) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.ended = cancel, make(chan error, 1)
	n.mu.Lock()
	n.own = make(map[uint32]bool)
	n.mu.Unlock()
	go func() { n.ended <- n.Watch(ctx, n.hear) }()
}

func (n *node) hear(news engine.News) {
	n.mu.Lock()
	n.news = append(n.news, news)
	for id := range news.Own {
		n.own[id] = true
	}
	for _, id := range news.Yield {
		delete(n.own, id)
	}
	hold := n.hold
	n.mu.Unlock()
	if hold != nil {
		hold(news)
	}
}

// leave ends the process as a shutdown does.
func (n *node) leave() {
	n.gone.Do(func() {
		n.stop()
		<-n.ended
		_ = n.Close()
	})
}

func (n *node) heard(is func(engine.News) bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.news, is)
}

func (n *node) told(id uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.own[id]
}

// hooksOf makes webhooks until a process owns two of them at least, and returns those of each.
func hooksOf(t *testing.T, all []*node) [][]engine.Webhook {
	t.Helper()
	owned := make([][]engine.Webhook, len(all))
	for slices.ContainsFunc(owned, func(list []engine.Webhook) bool { return len(list) < 2 }) {
		w := hook(t, all[0].Store)
		time.Sleep(time.Second)
		at := slices.IndexFunc(all, func(n *node) bool { return n.Mine(w.ID) })
		if at < 0 || !all[at].told(w.ID) {
			t.Fatalf("webhook %d has no owner who was told", w.ID)
		}
		owned[at] = append(owned[at], w)
	}
	return owned
}

func inBubble(t *testing.T, f func(t *testing.T, schema string)) {
	t.Helper()
	c := postgrestest.Shared(t)
	schema := c.Schema(t)
	synctest.Test(t, func(t *testing.T) { f(t, schema) })
}

// A process that cannot reach the database begins no attempt after five beats, and is taken over after eight. When it is back it is a new member, and what it
// had claimed is refused.
func TestDeadMember(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b, w := all[0], all[1], hooks[0][0]
		queueTest(t, a.Store, w, benchNow())
		d := claimIn(t, a.Store, testsOf(w), 1).Claimed[0].Delivery
		cut := time.Now()
		a.line.cut()
		synctest.Wait()
		for a.Mine(w.ID) {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(cut); took > 5*time.Second {
			t.Errorf("it has begun attempts for %s", took)
		}
		cutOff := func(n engine.News) bool { return n.CutOff }
		for !a.heard(cutOff) {
			time.Sleep(10 * time.Millisecond)
			if b.Mine(w.ID) {
				t.Fatal("its lanes are another one's before its attempts are cut off")
			}
		}
		if took := time.Since(cut); took < 5500*time.Millisecond || took > 7100*time.Millisecond || b.heard(cutOff) {
			t.Errorf("its attempts were cut off after %s, want 7 s after its last beat; those of the other one: %t", took, b.heard(cutOff))
		}
		for !b.Mine(w.ID) {
			time.Sleep(10 * time.Millisecond)
			if time.Since(cut) > time.Minute {
				t.Fatal("nobody has taken its lanes over")
			}
		}
		if took := time.Since(cut); took < 7*time.Second || took > 10*time.Second {
			t.Errorf("its lanes were taken over after %s, want about 8 s", took)
		}
		again := claimIn(t, b.Store, testsOf(w), 1).Claimed
		if len(again) != 1 || again[0].Delivery.ID != d.ID {
			t.Fatalf("the new owner has claimed %v", again)
		}
		a.line.mend()
		id, err := appendOne(a.Store) // takes events in again
		for err != nil {
			time.Sleep(time.Second)
			id, err = appendOne(a.Store)
		}
		if _, err := a.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); !errors.Is(err, engine.ErrLost) {
			t.Errorf("a record of the one that was taken over: %v", err)
		}
		if err := <-a.ended; !errors.Is(err, engine.ErrLost) {
			t.Errorf("its Watch has ended with %v", err)
		}
		if _, err := b.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); err != nil {
			t.Errorf("a record of the new owner: %v", err)
		}
		if _, _, err := b.Session(t.Context(), id); err != nil {
			t.Error(err)
		}
		a.watch()
		time.Sleep(5 * time.Second)
		for _, list := range hooks {
			for _, w := range list {
				if a.Mine(w.ID) == b.Mine(w.ID) {
					t.Errorf("webhook %d: owned by both or by nobody", w.ID)
				}
			}
		}
		if !a.Mine(hooks[0][0].ID) && !a.Mine(hooks[0][1].ID) && !a.Mine(hooks[1][0].ID) && !a.Mine(hooks[1][1].ID) {
			t.Error("the new member owns nothing")
		}
	})
}

// A process that ends is not waited for, whatever it leaves unread.
func TestUnreadNewsOfOneThatHasEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 3)
		hooks := hooksOf(t, all)
		a, b, w := all[0], all[1], hooks[1][0]
		claimIn(t, b.Store, testsOf(w), 1) // its look has found the lane empty
		b.line.cut()
		queueTest(t, a.Store, w, benchNow())
		a.leave()
		time.Sleep(time.Second)
		for _, w := range hooks[0] {
			if a, b := all[1].Mine(w.ID), all[2].Mine(w.ID); !a && !b && all[2].fleet.alive() && rank(w.ID, all[2].memberID.Load(), all[2].fleet.sortedMembers()) == 0 {
				t.Errorf("nobody owns webhook %d a second after its owner has ended", w.ID)
			}
		}
		b.line.mend()
		time.Sleep(3 * time.Second)
		if !b.Mine(w.ID) {
			t.Fatal("it was taken over")
		}
		if !b.heard(func(n engine.News) bool {
			return slices.ContainsFunc(n.Queued, func(q engine.Queued) bool { return q.Lane == testsOf(w) })
		}) {
			t.Error("what the one that has ended has queued was not reported")
		}
		if got := claimIn(t, b.Store, testsOf(w), 1).Claimed; len(got) != 1 {
			t.Errorf("%d were claimed, want 1", len(got))
		}
		time.Sleep(30 * time.Second) // all have read, and the keeper has folded
		if rest := sqlOf(t, b.Store, "SELECT count(*)::text FROM @.writers WHERE adopted"); rest[0] != "0" {
			t.Errorf("%s writers of the one that has ended are left", rest[0])
		}
	})
}

// A change returns when all have acknowledged it, or those who do not answer are dead.
func TestBarrier(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		change := func() time.Duration {
			began := time.Now()
			w.Name += "x"
			done, err := a.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
			if err != nil {
				t.Fatal(err)
			}
			w = done.Webhook
			return time.Since(began)
		}
		if took := change(); took > 500*time.Millisecond {
			t.Errorf("a change took %s", took)
		}
		if b.Webhooks().Get(w.ID).Revision != w.Revision {
			t.Error("it has returned, and the owner does not know of it")
		}
		release := make(chan struct{})
		b.mu.Lock()
		b.hold = func(engine.News) { <-release }
		b.mu.Unlock()
		time.AfterFunc(3*time.Second, func() { close(release) })
		if took := change(); took < 3*time.Second || took > 3500*time.Millisecond {
			t.Errorf("a change took %s while the owner's engine was busy for 3 s", took)
		}
		time.Sleep(time.Second)
		hang := make(chan struct{})
		b.mu.Lock()
		b.hold = func(engine.News) { <-hang }
		b.mu.Unlock()
		if took := change(); took < 7*time.Second || took > 8500*time.Millisecond {
			t.Errorf("a change took %s while the owner's engine hung, want 8 s", took)
		}
		if b.Mine(w.ID) {
			t.Error("the one that hangs may begin an attempt")
		}
		time.Sleep(15 * time.Second)
		if !a.Mine(w.ID) {
			t.Error("the lanes of the one that hangs were not taken over")
		}
		close(hang)
		if err := <-b.ended; !errors.Is(err, engine.ErrLost) {
			t.Errorf("its Watch has ended with %v", err)
		}
		b.watch()
		time.Sleep(5 * time.Second)
		if a.Mine(w.ID) == b.Mine(w.ID) {
			t.Fatal("owned by both or by nobody")
		}
		b.line.cut()
		if took := change(); took < 6*time.Second || took > 8500*time.Millisecond {
			t.Errorf("a change took %s without the other one, want about 8 s", took)
		}
		if b.Mine(w.ID) {
			t.Error("the one that does not know of it may begin an attempt")
		}
	})
}

// A delivery that is cancelled at another process is not sent once that has returned.
func TestCancelElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		queueTest(t, a.Store, w, benchNow())
		time.Sleep(time.Second)
		d := claimIn(t, b.Store, testsOf(w), 1).Claimed[0].Delivery
		began := time.Now()
		if _, err := a.Reschedule(t.Context(), d.ID, engine.RescheduleNever, benchNow()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if !b.heard(func(n engine.News) bool {
			return slices.ContainsFunc(n.Ended, func(e engine.Delivery) bool { return e.ID == d.ID })
		}) {
			t.Error("it has returned, and the owner was not told")
		}
	})
}

// Of two requests with one key at two processes one is carried out.
func TestOneKeyAtTwoProcesses(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		for i := range 20 {
			key := engine.OnceKey{byte(i + 1)}
			errs := make([]error, 2)
			var both sync.WaitGroup
			for j, n := range all {
				both.Go(func() {
					w := engine.Webhook{Active: true, URL: "https://a.example/"}
					_, errs[j] = n.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Once: &engine.Once{Key: key, At: benchNow()}})
				})
			}
			both.Wait()
			if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), engine.ErrRepeated) {
				t.Errorf("key %d: %v, %v", i, errs[0], errs[1])
			}
			if n := len(all[0].Webhooks().All()); n != i+1 {
				t.Fatalf("%d webhooks after %d keys", n, i+1)
			}
		}
	})
}

// A newcomer gets lanes when those who have them have none claimed.
func TestNewcomer(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		a := fleetOf(t, schema, 1)[0]
		var hooks []engine.Webhook
		for range 12 {
			hooks = append(hooks, hook(t, a.Store))
		}
		claimed := make(map[uint32]engine.Delivery)
		for _, w := range hooks {
			queueTest(t, a.Store, w, benchNow())
			claimed[w.ID] = claimIn(t, a.Store, testsOf(w), 1).Claimed[0].Delivery
		}
		b := joinFleet(t, schema)
		time.Sleep(5 * time.Second)
		yielded := 0
		for _, w := range hooks {
			if b.Mine(w.ID) {
				t.Errorf("the newcomer owns webhook %d, of which the other one has a claim", w.ID)
			}
			if !a.Mine(w.ID) {
				yielded++
				if a.told(w.ID) {
					t.Errorf("the owner of webhook %d was not told to give it up", w.ID)
				}
			}
		}
		if yielded < 2 || yielded > 10 {
			t.Errorf("%d of 12 lanes are given up", yielded)
		}
		for _, d := range claimed {
			if err := a.Release(t.Context(), []engine.Delivery{d}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * time.Second)
		for _, w := range hooks {
			if a.Mine(w.ID) == b.Mine(w.ID) {
				t.Errorf("webhook %d: owned by both or by nobody", w.ID)
			}
			owner := a
			if b.Mine(w.ID) {
				owner = b
			}
			if got := claimIn(t, owner.Store, testsOf(w), 1).Claimed; len(got) != 1 || got[0].Delivery.ID != claimed[w.ID].ID {
				t.Errorf("webhook %d: %d claimed by its owner", w.ID, len(got))
			}
		}
	})
}

// A process that drains gives up at once what it has no claim in, and the rest when it has none. It takes nothing back.
func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b, w := all[0], all[1], hooks[0][0]
		queueTest(t, a.Store, w, benchNow())
		d := claimIn(t, a.Store, testsOf(w), 1).Claimed[0].Delivery
		if err := a.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		a.Drain()
		var notReady *engine.NotReadyError
		if err := a.Ready(t.Context()); !errors.As(err, &notReady) {
			t.Errorf("while it drains it is ready: %v", err)
		}
		time.Sleep(time.Second)
		if !b.Mine(hooks[0][1].ID) {
			t.Error("a lane without claims was not given up")
		}
		if a.Mine(w.ID) || b.Mine(w.ID) {
			t.Error("attempts may begin in a lane that is being given up")
		}
		if err := a.Release(t.Context(), []engine.Delivery{d}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		made := hook(t, a.Store)
		time.Sleep(5 * time.Second)
		for _, id := range []uint32{w.ID, made.ID, hooks[1][0].ID} {
			if !b.Mine(id) || a.Mine(id) {
				t.Errorf("webhook %d is not the other one's", id)
			}
		}
	})
}

// An erasure that a process carries out is not given to the keeper while that process is there.
func TestErasureOfAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		keeper, other := all[0], all[1]
		if other.fleet.keeper() {
			keeper, other = other, keeper
		}
		id, err := appendOne(other.Store)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Erase(t.Context(), engine.Erasure{SessionID: id}, ""); err != nil {
			t.Fatal(err)
		}
		retention := engine.Retention{Sessions: 90 * 24 * time.Hour, Deliveries: 90 * 24 * time.Hour}
		left := func() int {
			m, err := keeper.Maintain(t.Context(), benchNow(), retention)
			if err != nil {
				t.Fatal(err)
			}
			return len(m.Erasures)
		}
		work := func(n engine.News) bool { return n.Work && n.Keeper }
		time.Sleep(2 * time.Second)
		if !keeper.heard(work) {
			t.Error("the keeper was not told that there is work")
		}
		if n := left(); n != 0 {
			t.Errorf("%d erasures of another process are given to the keeper", n)
		}
		keeper.mu.Lock()
		keeper.news = nil
		keeper.mu.Unlock()
		other.leave()
		time.Sleep(2 * time.Second)
		if !keeper.heard(work) {
			t.Error("the keeper was not told of what is left")
		}
		if n := left(); n != 1 {
			t.Errorf("%d erasures of a process that has ended are given to the keeper, want 1", n)
		}
		if n := left(); n != 0 {
			t.Errorf("it is given %d times more", n)
		}
	})
}

// A cancellation is carried out when all processes know of it: what one of them queues for the webhook as it was must not come behind the walk.
func TestCancellationWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		keeper, other := 0, 1
		if all[1].fleet.keeper() {
			keeper, other = 1, 0
		}
		w := hooks[other][0]
		queueTest(t, all[keeper].Store, w, benchNow())
		all[other].line.cut()
		off := w
		off.Active, off.CancelledUpTo = false, w.Revision
		done := make(chan error, 1)
		go func() {
			_, err := all[keeper].PutWebhook(context.Background(), engine.WebhookChange{Webhook: off, Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}})
			done <- err
		}()
		cancelled := func() int {
			m, err := all[keeper].Maintain(t.Context(), benchNow(), engine.Retention{Sessions: 90 * 24 * time.Hour, Deliveries: 90 * 24 * time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			return int(m.Cancelled)
		}
		time.Sleep(3 * time.Second)
		if n := cancelled(); n != 0 {
			t.Errorf("%d are cancelled while a process does not know of it", n)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if n := cancelled(); n != 1 {
			t.Errorf("%d are cancelled in the end, want 1", n)
		}
	})
}

// The health of an endpoint that is another one now is forgotten everywhere, also if an attempt for the one before is recorded at the same time.
func TestHealthIsResetElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		queueTest(t, b.Store, w, benchNow())
		d := claimIn(t, b.Store, testsOf(w), 1).Claimed[0].Delivery
		h := engine.Health{Failures: 3, FirstFailedAt: benchNow(), Order: 1}
		if _, err := b.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: benchNow(), Status: 500, Error: "status"}},
			Next: engine.Next{Status: engine.StatusPending, At: benchNow().Add(time.Hour)}, At: benchNow(), Webhook: &w, Health: h}); err != nil {
			t.Fatal(err)
		}
		if s, err := a.Stats(t.Context(), benchNow(), false); err != nil || s.Health[w.ID].Failures != 3 {
			t.Fatalf("%v, %+v", err, s.Health[w.ID])
		}
		moved := w
		moved.URL = "https://new.example/"
		if _, err := a.PutWebhook(t.Context(), engine.WebhookChange{Webhook: moved}); err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			if s, err := n.Stats(t.Context(), benchNow(), false); err != nil || !s.Health[w.ID].IsZero() {
				t.Errorf("%v, %+v", err, s.Health[w.ID])
			}
		}
	})
}

// What one process has counted, and the health of endpoints that another one sends to, all processes can tell, also when who has counted has ended.
func TestToldByAll(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 3)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		now := benchNow()
		minute := now.Unix() / 60
		counted := engine.Minute{Unix: minute, Accepted: 1 << 40, Delivered: 2, Failed: 3, Cancelled: 4, Retried: 5, Lags: engine.LagCounts{Longest: 3 * time.Hour}}
		counted.Lags.Counts[1], counted.Lags.Counts[len(counted.Lags.Counts)-1] = 6, 7
		last := engine.Recent{AttemptedAt: now, Status: 503, Error: engine.ErrorStatus, DeliveredAt: now.Add(-time.Second), Lag: time.Second, LagAt: now}
		keep := func(n *node, m engine.Minute, last engine.Recent) {
			t.Helper()
			if err := n.KeepHistory(t.Context(), []engine.Minute{m}, map[uint32]engine.Recent{w.ID: last, 1 << 30: last}); err != nil {
				t.Fatal(err)
			}
		}
		keep(b, engine.Minute{Unix: minute, Accepted: 9}, engine.Recent{AttemptedAt: now.Add(-time.Second)})
		keep(b, counted, last)
		keep(all[2], engine.Minute{Unix: minute - 3, Accepted: 1}, engine.Recent{AttemptedAt: now.Add(-time.Minute)}) // it owned the webhook before
		b.leave()
		time.Sleep(2 * time.Second)
		others := []*node{a, all[2]}
		if a.fleet.keeper() {
			slices.Reverse(others)
		}
		for _, n := range others { // the keeper comes last, and removes both
			keep(n, engine.Minute{Unix: minute - engine.HistoryMinutes - 1}, last)
		}
		for _, n := range others {
			want := []engine.Minute{counted}
			if n == a {
				want = []engine.Minute{{Unix: minute - 3, Accepted: 1}, counted}
			}
			got, oldest, err := n.HistoryOfOthers(t.Context(), minute-3)
			slices.SortFunc(got, func(a, b engine.Minute) int { return cmp.Compare(a.Unix, b.Unix) })
			if err != nil || oldest != minute-3 || !slices.Equal(got, want) {
				t.Errorf("got %+v since %d, %v, want %+v since %d", got, oldest, err, want, minute-3)
			}
			if got, _, err := n.HistoryOfOthers(t.Context(), minute+1); err != nil || len(got) > 0 {
				t.Errorf("got %+v of later minutes, %v", got, err)
			}
			recent, err := n.StoredRecent(t.Context(), []uint32{w.ID, 1 << 30})
			if err != nil || len(recent) != 1 || recent[w.ID] != last {
				t.Errorf("got %+v, %v, want %+v", recent, err, last)
			}
		}
		if _, err := a.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Deleted: true}); err != nil {
			t.Fatal(err)
		}
		if recent, err := a.StoredRecent(t.Context(), []uint32{w.ID}); err != nil || len(recent) > 0 {
			t.Errorf("%+v is left of a webhook that was deleted, %v", recent, err)
		}
	})
}

// What is due at once is frozen where its events arrive, unless its owner has told that deliveries wait for the endpoint.
func TestOpenElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		if !a.OpenElsewhere(w.ID) || b.OpenElsewhere(w.ID) {
			t.Errorf("open elsewhere: %t at another process, want true; %t at the owner, want false", a.OpenElsewhere(w.ID), b.OpenElsewhere(w.ID))
		}
		untimed := regexp.MustCompile(`"time":"[^"]*",`)
		if done, err := appendBody(a.Store, untimed.ReplaceAll(benchBody, nil), w); err != nil || len(done.Claimed) > 0 {
			t.Fatalf("%d are claimed by a process that does not own their lane, %v", len(done.Claimed), err)
		}
		time.Sleep(time.Second)
		if !b.heard(func(n engine.News) bool {
			return slices.ContainsFunc(n.Queued, func(q engine.Queued) bool { return q.Lane.WebhookID == w.ID })
		}) {
			t.Error("the owner was not told")
		}
		got := claimIn(t, b.Store, engine.Lane{WebhookID: w.ID}, 2).Claimed
		if len(got) != 1 || got[0].Delivery.Status != engine.StatusPending || string(got[0].Payload) != string(benchPayload) || got[0].Session != nil {
			t.Fatalf("got %+v", got)
		}
		record := func(d engine.Delivery, status int, h engine.Health) {
			t.Helper()
			if _, err := b.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: benchNow(), Status: status}},
				Next: engine.Next{Status: engine.StatusPending, At: benchNow()}, At: benchNow(), Webhook: &w, Health: h}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond)
		}
		record(got[0].Delivery, 500, engine.Health{Failures: 5, FirstFailedAt: benchNow(), FailingSince: benchNow(), NextProbeAt: benchNow(), Order: 1})
		if a.OpenElsewhere(w.ID) {
			t.Error("the endpoint fails, and payloads are frozen for it")
		}
		got = claimIn(t, b.Store, engine.Lane{WebhookID: w.ID}, 2).Claimed
		record(got[0].Delivery, 200, engine.Health{Order: 2})
		if !a.OpenElsewhere(w.ID) {
			t.Error("the endpoint works again, and no payloads are frozen for it")
		}
	})
}

// A machine that was suspended knows by the wall clock that its time is over, and one whose clock was set back by the other one.
func TestAliveByBothClocks(t *testing.T) {
	f := &fleet{beat: time.Second}
	if f.alive() {
		t.Error("alive without a beat")
	}
	now := time.Now()
	for at, want := range map[time.Time]bool{
		now:                          true,
		now.Add(-6 * time.Second):    false, // by both
		now.Round(0).Add(-time.Hour): false, // by the wall clock alone
		now.Add(time.Hour):           true,  // set back by an hour
	} {
		f.lastBeat.Store(&at)
		if f.alive() != want {
			t.Errorf("a beat at %s, now %s: alive is %t", at, now, f.alive())
		}
	}
}

// The lanes are shared out evenly, and only those of a member that has gone move.
func TestRank(t *testing.T) {
	members := []int64{3, 4, 17}
	owner := func(id uint32, members []int64) int64 {
		first := int64(0)
		for _, m := range members {
			if rank(id, m, members) == 0 {
				if first != 0 {
					t.Fatalf("webhook %d has two firsts", id)
				}
				first = m
			}
		}
		return first
	}
	counts := make(map[int64]int)
	for id := range uint32(1000) {
		before, after := owner(id, members), owner(id, members[:2])
		counts[before]++
		if before != 17 && after != before {
			t.Errorf("webhook %d goes from %d to %d, and both stay", id, before, after)
		}
	}
	for m, n := range counts {
		if n < 1000/3*8/10 || n > 1000/3*12/10 {
			t.Errorf("member %d has %d of 1000", m, n)
		}
	}
}

// Rows that somebody has not read are kept.
func TestFoldKeepsUnread(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b := all[0], all[1]
		release := make(chan struct{})
		b.mu.Lock()
		b.hold = func(engine.News) { <-release }
		b.mu.Unlock()
		queueTest(t, a.Store, hooks[1][0], benchNow())
		time.Sleep(time.Second)
		queueTest(t, a.Store, hooks[1][0], benchNow())
		for range 5 { // the newest row of each writer is kept anyway
			queueTest(t, a.Store, hooks[0][0], benchNow())
		}
		time.Sleep(20 * time.Second) // the keeper folds meanwhile
		rows := sqlOf(t, a.Store, "SELECT count(*)::text FROM @.batches WHERE news IS NOT NULL")
		if rows[0] == "0" {
			t.Error("news were removed that somebody has not read")
		}
		close(release)
		time.Sleep(20 * time.Second)
		if rows := sqlOf(t, a.Store, "SELECT count(*)::text FROM @.batches"); rows[0] > "3" { // the newest of each, and one that the next beat acknowledges
			t.Errorf("%s rows are left when all have read", rows[0])
		}
		if n := len(claimIn(t, b.Store, testsOf(hooks[1][0]), 5).Claimed); n != 2 {
			t.Errorf("%d claimed, want 2", n)
		}
	})
}

// A process that is cut off does not answer from what it knows: a change that changes nothing there may be one for all others.
func TestUnchangedElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		unchanged := func(w engine.Webhook) error {
			_, err := b.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Unchanged: true})
			return err
		}
		if err := unchanged(w); err != nil {
			t.Fatal(err)
		}
		b.line.cut()
		paused := w
		paused.Paused = true
		done, err := a.PutWebhook(t.Context(), engine.WebhookChange{Webhook: paused})
		if err != nil {
			t.Fatal(err)
		}
		if err := unchanged(w); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("from one that is cut off: %v", err)
		}
		b.line.mend()
		time.Sleep(5 * time.Second)
		if err := unchanged(w); !errors.Is(err, engine.ErrRevision) {
			t.Errorf("what was changed elsewhere: %v", err)
		}
		if err := unchanged(done.Webhook); err != nil || b.Webhooks().Get(w.ID).Revision != done.Webhook.Revision {
			t.Errorf("%v; the revision is %d, want %d", err, b.Webhooks().Get(w.ID).Revision, done.Webhook.Revision)
		}
	})
}

// A commit without an answer, whose process is taken over before it can find out what has become of it, is in the way of nothing afterwards.
func TestTakenOverInACommit(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	o := Options{URL: p.url(), Schema: c.Schema(t), Shared: true, Beat: 200 * time.Millisecond, Patience: time.Second}
	s := openAt(t, o)
	o.URL = c.URL()
	other := openAt(t, o)
	was := s.memberID.Load()
	AwaitMember(other, s)
	p.lose.Store(true)
	if _, err := appendOne(s); !errors.Is(err, engine.ErrTransient) {
		t.Fatalf("got %v, want an ErrTransient", err)
	}
	for other.fleet.isMember(was) {
		time.Sleep(10 * time.Millisecond)
	}
	p.down.Store(false)
	began := time.Now()
	_, err := appendOne(s)
	for err != nil && time.Since(began) < 10*time.Second {
		time.Sleep(100 * time.Millisecond)
		_, err = appendOne(s)
	}
	if err != nil {
		t.Errorf("10 s after the database was back: %v", err)
	}
}

// However many changes others wait for, a process that acknowledges each of them in time goes on.
func TestManyChangesElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		a, b, w := all[0], all[1], hooksOf(t, all)[1][0]
		b.mu.Lock()
		b.hold = func(engine.News) { time.Sleep(150 * time.Millisecond) } // so that there is always a further one
		b.mu.Unlock()
		until := time.Now().Add(12 * time.Second)
		var busy sync.WaitGroup
		for i := range 6 {
			busy.Go(func() {
				time.Sleep(time.Duration(i) * 40 * time.Millisecond)
				for time.Now().Before(until) {
					d, err := a.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: benchNow()})
					if err == nil {
						_, err = a.Reschedule(t.Context(), d.ID, engine.RescheduleNever, benchNow())
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for time.Now().Before(until) {
			time.Sleep(100 * time.Millisecond)
			if !b.Mine(w.ID) {
				t.Errorf("no attempt may begin; it owes others for %s", b.fleet.owing())
				break
			}
		}
		busy.Wait()
	})
}
