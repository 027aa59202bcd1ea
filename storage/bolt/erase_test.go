package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// addVisit stores a finished session of a visitor, with its payloads as they would be, and returns its id.
func addVisit(t testing.TB, s *Store, visitor int64) uuid.UUID {
	t.Helper()
	id := uuid.New()
	body := fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":%d,"time":"2026-01-15T10:00:00Z"}
		{"type":"finish","session_id":%[1]q,"time":"2026-01-15T10:00:01Z"}`, id, content, visitor)
	events, err := engine.ParseEvents([]byte(body), now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
		t.Fatal(err)
	}
	return id
}

func visitorPayload(visitor int64) []byte {
	return fmt.Appendf(nil, `{"poltio_user_id":%d,"leads":[{"user_id":8}]}`, visitor)
}

// erase carries out an erasure, checking the database after each step.
func erase(t testing.TB, s *Store, what engine.Erasure) (total engine.Erased, gone []engine.Delivery, steps int) {
	t.Helper()
	for place, more := "", true; more; more = place != "" {
		step, err := s.Erase(t.Context(), what, place)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(step.Erased)
		gone = append(gone, step.Deleted...)
		steps++
		place = step.Next
		for _, err := range s.Check() {
			t.Fatalf("after step %d: %v", steps, err)
		}
	}
	return total, gone, steps
}

func visitor(id int64) engine.Erasure { return engine.Erasure{Visitor: &id} }

// keys counts what the buckets hold that grow with sessions and deliveries: not session_numbers, which new ones are not in yet, and not
// expiry, whose entries stand for many and go by themselves.
func keys(t testing.TB, s *Store) map[string]int {
	t.Helper()
	n := make(map[string]int)
	err := s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketSessions, bucketEvents, bucketDeliveries, bucketAttempts, bucketPayloads,
			bucketQueue, bucketByWebhook, bucketUndelivered} {
			n[string(name)] = tx.Bucket(name).Stats().KeyN
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// spread takes the scheduled deliveries of a lane to every state there is, in turn, but for those of a visitor.
func spread(t testing.TB, s *Store, lane engine.Lane, but int64) {
	t.Helper()
	nexts := []engine.Next{{Status: engine.StatusPending, At: now().Add(time.Hour)}, delivered, {Status: engine.StatusFailed}}
	for i, taken := range take(t, s, lane, 1000).Claimed {
		d := taken.Delivery
		of := *taken.Session.Head.Identity.PoltioUserID
		if of == but || i%5 == 0 { // stays scheduled
			s.Release(t.Context(), []engine.Delivery{d})
			continue
		}
		switch i % 5 {
		case 1:
			s.Release(t.Context(), []engine.Delivery{d})
			if err := cancel(s, d.ID); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := freeze(t.Context(), s, d, visitorPayload(of)); err != nil {
			t.Fatal(err)
		}
		a := broken
		a.Response = []byte("no")
		if i%5 == 3 {
			a = ok
		}
		if _, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: a, Next: nexts[i%5-2], At: now()}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEraseLeavesOthersAlone(t *testing.T) {
	s := openTest(t, newPath(t))
	lanes := []engine.Lane{{WebhookID: putWebhook(t, s, engine.Webhook{}).ID}, {WebhookID: putWebhook(t, s, engine.Webhook{}).ID}}
	const others = 7
	for range others {
		addVisit(t, s, 8)
	}
	for _, lane := range lanes {
		spread(t, s, lane, 0)
	}
	if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: lanes[0].WebhookID, Kind: engine.KindTest, Payload: visitorPayload(7), At: now()}); err != nil { // a sample, not a visitor's
		t.Fatal(err)
	}
	before := keys(t, s)

	var first uuid.UUID
	const n = 250
	for i := range n {
		id := addVisit(t, s, 7)
		if i == 0 {
			first = id
		}
	}
	addVisit(t, s, math.MinInt64)
	for _, lane := range lanes {
		spread(t, s, lane, 8)
	}
	if got, _, _ := erase(t, s, visitor(-8)); got != (engine.Erased{}) {
		t.Errorf("erasing a stranger: %+v", got)
	}
	if got, _, _ := erase(t, s, engine.Erasure{SessionID: first}); got.Sessions != 1 || got.Events != 2 || got.Deliveries != 2 {
		t.Errorf("erasing a session: %+v", got)
	}
	if got, _, _ := erase(t, s, visitor(math.MinInt64)); got.Sessions != 1 || got.Deliveries != 2 {
		t.Errorf("erasing another visitor: %+v", got)
	}
	got, gone, steps := erase(t, s, visitor(7))
	if got.Sessions != n-1 || got.Events != 2*(n-1) || got.Deliveries != 2*(n-1) || len(gone) != 2*(n-1) || got.Attempts == 0 {
		t.Errorf("erased %+v with %d gone", got, len(gone))
	}
	if steps < 5 {
		t.Errorf("%d steps: the test saw none that ended early", steps)
	}
	if after := keys(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("what is left\n%v\nwhat was there before\n%v", after, before)
	}
	if got, _, _ := erase(t, s, visitor(7)); got != (engine.Erased{}) {
		t.Errorf("erasing again: %+v", got)
	}
}

// What was cancelled before its payload was rendered has no payload: its visitor stands in its own record. A record of version 6 of the
// layout has none: there the payload tells, if there is one.
func TestEraseFindsDeliveriesWithoutPayload(t *testing.T) {
	for _, version := range []uint32{6, schemaVersion} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			path := newPath(t)
			s := openTest(t, path)
			w := putWebhook(t, s, engine.Webhook{})
			for _, of := range []int64{7, 7, 8} {
				addVisit(t, s, of)
			}
			claimed := take(t, s, engine.Lane{WebhookID: w.ID}, 10).Claimed
			frozen := claimed[0].Delivery
			if err := freeze(t.Context(), s, frozen, visitorPayload(7)); err != nil {
				t.Fatal(err)
			}
			deliver(t, s, pending(frozen), delivered, ok)
			for _, c := range claimed[1:] {
				if err := cancel(s, c.Delivery.ID); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Maintain(t.Context(), now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: 100 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			if version == 6 {
				checkAndClose(t, s)
				forgetVisitors(t, path)
				s = openTest(t, path)
			}
			want := engine.Erased{Deliveries: 2, Attempts: 1}
			if version == 6 {
				want.Deliveries = 1 // as it was then
			}
			if got, _, _ := erase(t, s, visitor(7)); got != want {
				t.Errorf("erased %+v, want %+v", got, want)
			}
		})
	}
}

// forgetVisitors makes a database's deliveries what version 6 of the layout has.
func forgetVisitors(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		nonce, err := metaU32(tx.Bucket(bucketMeta), keyNonce)
		if err != nil {
			return err
		}
		old := make(map[uint64][]byte)
		err = tx.Bucket(bucketDeliveries).ForEach(func(k, v []byte) error {
			r, err := decodeDelivery(nonce, binary.BigEndian.Uint64(k), v)
			if err == nil && (!r.visitorKnown || r.visitor == nil) {
				t.Errorf("delivery %d has no visitor", r.number)
			}
			r.visitorKnown = false
			old[r.number] = r.encode()
			return err
		})
		for number, v := range old {
			err = errors.Join(err, tx.Bucket(bucketDeliveries).Put(u64key(number), v))
		}
		return errors.Join(err, tx.Bucket(bucketMeta).Put(keySchema, sealBytes(keySchema, u32key(6))))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func pending(d engine.Delivery) engine.Delivery {
	d.Status = engine.StatusPending
	return d
}

// What comes in while an erasure is under way is erased, wherever that has got to.
func TestEraseCoversNewcomers(t *testing.T) {
	s := openTest(t, newPath(t))
	putWebhook(t, s, engine.Webhook{})
	for range 2*eraseFinds + 1 {
		addVisit(t, s, 7)
	}
	var total engine.Erased
	added := 2*eraseFinds + 1
	phases := make(map[string]bool)
	for place, more := "", true; more; more = place != "" {
		step, err := s.Erase(t.Context(), visitor(7), place)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(step.Erased)
		if place = step.Next; place != "" && !phases[place[:1]] {
			phases[place[:1]] = true
			addVisit(t, s, 7)
			added++
		}
	}
	if len(phases) != 3 || total.Sessions != int64(added) || keys(t, s)["sessions"] != 0 {
		t.Errorf("%d of %d sessions erased in phases %v; left: %v", total.Sessions, added, phases, keys(t, s))
	}
}

// A session with more events than one step erases keys goes whole, or not at all.
func TestEraseOfLongSessions(t *testing.T) {
	s := openTest(t, newPath(t))
	putWebhook(t, s, engine.Webhook{})
	ids := []uuid.UUID{addVisit(t, s, 7), addVisit(t, s, 7), addVisit(t, s, 7)}
	const votes = 1100 // two of these sessions are more than eraseChanges
	for range votes {
		for _, id := range ids {
			ev, err := engine.ParseEvents(fmt.Appendf(nil, `{"type":"vote","session_id":%q,"question_id":1,"answer_id":2}`, id), now())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.AppendEvents(t.Context(), engine.NewAppend(ev, now())); err != nil {
				t.Fatal(err)
			}
		}
	}
	var by []int64 // sessions by step
	for place, more := "", true; more; more = place != "" {
		step, err := s.Erase(t.Context(), visitor(7), place)
		if err != nil {
			t.Fatal(err)
		}
		if e := step.Erased; e != (engine.Erased{}) {
			by = append(by, e.Sessions)
			if e.Events != e.Sessions*(votes+2) {
				t.Errorf("%+v", e)
			}
		}
		place = step.Next
		for _, err := range s.Check() {
			t.Error(err)
		}
	}
	if fmt.Sprint(by) != "[2 1]" {
		t.Errorf("the steps erased %v sessions", by)
	}
}

// Jobs that are under way come to what is left.
func TestEraseUnderJobs(t *testing.T) {
	s := openTest(t, newPath(t))
	old := putWebhook(t, s, engine.Webhook{})
	const n = 20
	var ids []uuid.UUID
	for range n {
		ids = append(ids, addVisit(t, s, 7))
	}
	later := putWebhook(t, s, engine.Webhook{})
	if count, err := s.Replay(t.Context(), engine.Replay{WebhookID: later.ID, Scope: engine.ReplayMissing, Until: now()}); err != nil || count != n {
		t.Fatalf("%d to replay: %v", count, err)
	}
	off := old
	off.Active = false
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: off,
		Cancels: []engine.Cancellation{{WebhookID: old.ID, Revision: old.Revision, Scope: engine.CancelAll}}}); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[:n-3] {
		erase(t, s, engine.Erasure{SessionID: id})
	}
	cancelled, queued := 0, 0
	for range 10 {
		m, err := s.Maintain(t.Context(), now(), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		cancelled += m.Cancelled
		queued += len(m.Queued)
		erase(t, s, engine.Erasure{SessionID: ids[n-3]})
	}
	if cancelled != 2 && cancelled != 3 || queued != 2 {
		t.Errorf("%d cancelled, %d queued", cancelled, queued)
	}
	if stats, err := s.Stats(t.Context(), now(), false); err != nil || len(stats.Replays) != 0 {
		t.Errorf("%d replays are still on their way: %v", len(stats.Replays), err)
	}
}

// A caller that goes away stops an erasure between two steps.
func TestEraseStops(t *testing.T) {
	s := openTest(t, newPath(t))
	addVisit(t, s, 7)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Erase(ctx, visitor(7), ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := s.Erase(t.Context(), visitor(7), "nonsense"); err == nil {
		t.Error("a place that is none was taken")
	}
	if n := keys(t, s)["sessions"]; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// A damaged record of somebody else, who is not known any more, keeps nobody from being erased, and is named.
func TestErasePassesDamage(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	putWebhook(t, s, engine.Webhook{})
	addVisit(t, s, 1)
	other := addVisit(t, s, 2)
	checkAndClose(t, s)
	damage(t, path, bucketSessions, (*bbolt.Cursor).First)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var total engine.Erased
	damaged := 0
	for place, more := "", true; more; more = place != "" {
		step, err := s.Erase(t.Context(), visitor(2), place)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(step.Erased)
		damaged += len(step.Damaged)
		place = step.Next
	}
	if total.Sessions != 1 || damaged != 1 {
		t.Errorf("%+v erased, %d damaged, want one of each", total, damaged)
	}
	if _, _, err := s.Session(t.Context(), other); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the session: %v", err)
	}
}

// One of a visitor's own deliveries is damaged: it is named, all else of him is erased, and the erasure ends, as does another one.
func TestEraseSkipsDamagedDelivery(t *testing.T) {
	s := openDamaged(t)
	w := putWebhook(t, s, engine.Webhook{})
	for range 3 {
		addVisit(t, s, 7)
	}
	for _, c := range take(t, s, engine.Lane{WebhookID: w.ID}, 3).Claimed {
		deliver(t, s, c.Delivery, delivered, ok)
	}
	damageRecords(t, s, bucketDeliveries, func(n uint64) bool { return n == 2 })
	for _, want := range []engine.Erased{{Sessions: 3, Events: 6, Deliveries: 2, Attempts: 2}, {}} {
		var total engine.Erased
		damaged := 0
		for place, more := "", true; more; more = place != "" {
			step, err := s.Erase(t.Context(), visitor(7), place)
			if err != nil {
				t.Fatal(err)
			}
			total.Add(step.Erased)
			damaged += len(step.Damaged)
			place = step.Next
		}
		if total != want || damaged == 0 {
			t.Errorf("%+v erased, %d damaged, want %+v and the delivery", total, damaged, want)
		}
	}
	if n := keys(t, s); n["sessions"] != 0 || n["events"] != 0 || n["deliveries"] != 1 {
		t.Errorf("left: %v", n)
	}
}

// The head of a session is damaged: it is not known whose it is, but its deliveries say so, and are erased.
func TestEraseFindsDeliveriesOfDamagedSession(t *testing.T) {
	for name, what := range map[string]func(id uuid.UUID) engine.Erasure{
		"visitor": func(uuid.UUID) engine.Erasure { return visitor(7) },
		"session": func(id uuid.UUID) engine.Erasure { return engine.Erasure{SessionID: id} },
	} {
		t.Run(name, func(t *testing.T) {
			s := openDamaged(t)
			putWebhook(t, s, engine.Webhook{})
			id := addVisit(t, s, 7)
			damageRecords(t, s, bucketSessions, func(uint64) bool { return true })
			for place, more := "", true; more; more = place != "" {
				step, err := s.Erase(t.Context(), what(id), place)
				if err != nil {
					t.Fatal(err)
				}
				place = step.Next
			}
			if n := keys(t, s); n["deliveries"] != 0 || n["queue"] != 0 || n["payloads"] != 0 {
				t.Errorf("left: %v", n)
			}
		})
	}
}

// TestSessionErasedAndPostedAgain: a read that began before a session was erased, and goes on after it was posted again, begins anew: it must not
// say that there is no such session.
func TestSessionErasedAndPostedAgain(t *testing.T) {
	s := openTest(t, newPath(t))
	id := addVisit(t, s, 7)
	var numbers []uint64
	if err := s.viewSession(t.Context(), id, func(tx *bbolt.Tx, f finder) error {
		if len(numbers) == 0 { // what follows happens between the look into memory and the transaction
			erase(t, s, engine.Erasure{SessionID: id})
			if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, time.Now()), now())); err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, f.recent)
			return s.db.View(func(tx *bbolt.Tx) error {
				_, err := f.read(tx)
				return err
			})
		}
		r, err := f.read(tx)
		numbers = append(numbers, r.number)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(numbers) != 2 || numbers[0] == 0 || numbers[1] <= numbers[0] {
		t.Errorf("the session was found as numbers %v", numbers)
	}
}

// The events of a session cannot be read: whose it is, the payloads of its deliveries tell, and it is erased with what is damaged.
func TestErasePersonOfDamagedEvents(t *testing.T) {
	for name, what := range map[string]engine.Erasure{"visitor of a lead": visitor(8), "email": {Email: "jane@example.com"}} {
		t.Run(name, func(t *testing.T) {
			s := openDamaged(t)
			w := putWebhook(t, s, engine.Webhook{})
			addVisit(t, s, 7)
			other := addVisit(t, s, 7)
			claimed := take(t, s, engine.Lane{WebhookID: w.ID}, 2).Claimed
			for i, payload := range []string{`{"poltio_user_id":7,"leads":[{"user_id":8,"email":"Jane@example.com"}]}`, `{"poltio_user_id":7,"leads":[]}`} {
				if err := freeze(t.Context(), s, claimed[i].Delivery, []byte(payload)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.write(t.Context(), 1, func(b *batch) error {
				key := itemKey(1, 1)
				v := bytes.Clone(b.events.Get(key))
				v[len(v)/2] ^= 1
				return b.put(b.events, key, v)
			}); err != nil {
				t.Fatal(err)
			}
			var total engine.Erased
			damaged := 0
			for place, more := "", true; more; more = place != "" {
				step, err := s.Erase(t.Context(), what, place)
				if err != nil {
					t.Fatal(err)
				}
				total.Add(step.Erased)
				damaged += len(step.Damaged)
				place = step.Next
			}
			if total.Sessions != 1 || total.Deliveries != 1 || damaged != 0 {
				t.Errorf("%+v erased, %d damaged", total, damaged)
			}
			if _, _, err := s.Session(t.Context(), other); err != nil {
				t.Errorf("somebody else's session: %v", err)
			}
		})
	}
}

// A search that looks at more than one page may look at ends there, and the next page goes on.
func TestSessionsInBoundedSteps(t *testing.T) {
	s := openTest(t, newPath(t))
	const n = 130
	for range n {
		addVisit(t, s, 7)
	}
	for _, limit := range []search{{late: true}, {bytes: maxSearchedBytes + 1}, {looked: maxSearched}} {
		if limit.look(maxSearched) {
			t.Errorf("%+v goes on", limit)
		}
	}
	if !(&search{began: time.Now()}).look(maxSearched) {
		t.Error("a search looks at nothing")
	}
	slow := search{began: time.Now().Add(-time.Second)}
	looks := 0
	for slow.look(maxSearched) {
		looks++
	}
	if looks != clockLooks {
		t.Errorf("a search whose time is over looks at %d records, want %d", looks, clockLooks)
	}
	seen := 0
	for q := (engine.SessionQuery{Visitor: new(int64(8)), Limit: 10}); ; seen++ {
		page, err := s.Sessions(t.Context(), q)
		if err != nil || len(page.Items) != 0 {
			t.Fatal(page, err)
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	if seen > n/clockLooks {
		t.Errorf("%d pages", seen)
	}
}
