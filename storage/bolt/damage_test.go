package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// facts are what calls have come to, each with the records that it needs, such as "delivery 5". A fact that no record is named for must hold
// whatever is damaged.
type facts map[string][]string

func (f facts) add(fact string, needs ...string) { f[fact] = needs }

// try adds a fact if a call has succeeded.
func (f facts) try(err error, fact string, needs ...string) {
	if err == nil {
		f.add(fact, needs...)
	}
}

func deliveryName(n uint64) string { return fmt.Sprint("delivery ", n) }
func sessionName(n uint64) string  { return fmt.Sprint("session ", n) }

// damageLab is an open store whose records are damaged, one at a time. It is made whole again in place, because to open a file for each try
// would take too long.
type damageLab struct {
	t     *testing.T
	s     *Store
	whole map[string][][2][]byte // by bucket
	last  map[string]uint64      // the sequence of each bucket
	now   time.Time

	sessions   []sessionRecord
	deliveries []deliveryRecord
	fresh      uuid.UUID // a session that is not there
}

// newDamageLab fills a store with something in every bucket.
func newDamageLab(t *testing.T) *damageLab {
	mergeEach(t, 3)
	s, err := Open(newPath(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l := &damageLab{t: t, s: s, whole: make(map[string][][2][]byte), last: make(map[string]uint64), now: now(), fresh: uuid.New()}
	var hooks []engine.Webhook
	for range 3 {
		hooks = append(hooks, putWebhook(t, s, engine.Webhook{}))
	}
	var some []engine.Event
	for n := range 4 {
		some = append(some, l.visit(uuid.New(), int64(7+n%2))...)
	}
	for _, events := range [][]engine.Event{some, l.visit(uuid.New(), 7)} { // several of one request share an entry of expiry
		if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
			t.Fatal(err)
		}
	}
	spread(t, s, engine.Lane{WebhookID: hooks[0].ID}, 0)
	spread(t, s, engine.Lane{WebhookID: hooks[2].ID}, 0)
	for _, w := range []engine.Webhook{hooks[0], hooks[2]} {
		setHealth(t, s, w.ID, engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1})
	}
	if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: hooks[0].ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now(), Once: onceAt(1, now())}); err != nil {
		t.Fatal(err)
	}
	off := hooks[1]
	off.Active, off.CancelledUpTo = false, off.Revision
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: off, Cancels: engine.Cancellations(&hooks[1], &off)}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Replay(t.Context(), engine.Replay{WebhookID: hooks[0].ID, Scope: engine.ReplayFailed, Until: now()}); err != nil || n == 0 {
		t.Fatalf("%d to replay: %v", n, err)
	}
	l.now = now().Add(time.Second)
	if _, err := s.Stats(t.Context(), l.now, true); err != nil { // counts what is due
		t.Fatal(err)
	}
	for _, err := range s.Check() {
		t.Fatal(err)
	}
	s.db.NoSync = true
	l.remember()
	return l
}

// visit returns the events of a visitor's session.
func (l *damageLab) visit(id uuid.UUID, visitor int64) []engine.Event {
	body := fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":%d,"time":"2026-01-15T10:00:00Z"}
		{"type":"finish","session_id":%[1]q,"time":"2026-01-15T10:00:01Z"}`, id, content, visitor)
	events, err := engine.ParseEvents([]byte(body), now())
	if err != nil {
		l.t.Fatal(err)
	}
	return events
}

// remember keeps all that is stored.
func (l *damageLab) remember() {
	err := l.s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			bucket := tx.Bucket(name)
			l.last[string(name)] = bucket.Sequence()
			err := bucket.ForEach(func(k, v []byte) error {
				l.whole[string(name)] = append(l.whole[string(name)], [2][]byte{bytes.Clone(k), bytes.Clone(v)})
				var err error
				switch string(name) {
				case string(bucketSessions):
					var r sessionRecord
					r, err = decodeSession(binary.BigEndian.Uint64(k), v)
					l.sessions = append(l.sessions, r)
				case string(bucketDeliveries):
					var r deliveryRecord
					r, err = decodeDelivery(l.s.nonce, binary.BigEndian.Uint64(k), v)
					l.deliveries = append(l.deliveries, r)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// restore makes the store whole, and damages it before it starts, or after. It returns the error of the start.
func (l *damageLab) restore(before, after func(*bbolt.Tx) error) (failed error) {
	s := l.s
	change := func(change func(*bbolt.Tx) error, then func()) {
		err := s.write(l.t.Context(), 1, func(b *batch) error {
			b.changes++
			b.after = append(b.after, then)
			return change(b.tx)
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	whole := func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			bucket := tx.Bucket(name)
			var gone [][]byte
			bucket.ForEach(func(k, _ []byte) error { gone = append(gone, bytes.Clone(k)); return nil })
			for _, k := range gone {
				bucket.Delete(k)
			}
			for _, e := range l.whole[string(name)] {
				bucket.Put(e[0], e[1])
			}
			bucket.SetSequence(l.last[string(name)])
		}
		if before == nil {
			return nil
		}
		return before(tx)
	}
	change(whole, func() {
		s.counts, s.health, s.claims = make(map[uint32]counts), make(map[uint32]engine.Health), make(map[uint64]engine.Lane)
		s.resumed, s.eviction, s.lostJobs = make(map[engine.Lane]resumePoint), eviction{}, 0
		clear(s.sweeps[:])
		s.damaged.named, s.damaged.pending = nil, nil
		s.numbers.recent, s.numbers.merging, s.numbers.pending, s.numbers.incomplete = nil, nil, nil, false
		s.space.maxBytes = 0
		failed = s.load()
	})
	if after != nil {
		change(after, func() {})
	}
	return failed
}

// calls are everything that can be asked of a store, in groups. Each group begins with a whole store, but for the damage.
var calls = map[string]func(l *damageLab, f facts){
	"read": (*damageLab).read, "list": (*damageLab).list, "claim": (*damageLab).claimAll, "erase a visitor": (*damageLab).eraseVisitor,
	"erase sessions": (*damageLab).eraseSessions, "background work": (*damageLab).maintain, "eviction": (*damageLab).evict,
	"append": (*damageLab).append, "change": (*damageLab).change,
}

// needs names what a delivery needs to be rendered and sent.
func (l *damageLab) needs(d *deliveryRecord) []string {
	if d.payload == 0 {
		return []string{deliveryName(d.number), sessionName(d.session)}
	}
	return []string{deliveryName(d.number)}
}

func (l *damageLab) read(f facts) {
	for i := range l.sessions {
		r := &l.sessions[i]
		record, deliveries, err := l.s.Session(l.t.Context(), r.ID)
		if err == nil {
			f.add(fmt.Sprintf("session %d reads with %d events in %d batches", r.number, record.Head.Events, len(record.Batches)), sessionName(r.number))
		}
		for j := range deliveries {
			n := deliveryNumber(deliveries[j].ID)
			f.add(fmt.Sprintf("session %d names delivery %d", r.number, n), sessionName(r.number), deliveryName(n))
		}
	}
	for i := range l.deliveries {
		d := &l.deliveries[i]
		got, payload, attempts, err := l.s.Delivery(l.t.Context(), d.ID)
		if err == nil {
			f.add(fmt.Sprintf("delivery %d is %s after %d attempts, payload %q", d.number, got.Status, len(attempts), payload), deliveryName(d.number))
		}
	}
	stats, err := l.s.Stats(l.t.Context(), l.now, true)
	f.try(err, "stats")
	for id, w := range stats.Webhooks {
		f.add(fmt.Sprintf("webhook %d has %d delivered", id, w.Delivered))
	}
	for id := range stats.Health {
		f.add(fmt.Sprintf("webhook %d fails", id), fmt.Sprint("health ", id))
	}
	for _, r := range stats.Replays {
		f.add(fmt.Sprintf("a replay of webhook %d is in progress", r.WebhookID), "job 2")
	}
}

// list reads every list, in pages of two, and with bounds in time between any two deliveries.
func (l *damageLab) list(f facts) {
	queries := []engine.DeliveryQuery{{}}
	for status := range engine.StatusCancelled + 1 {
		for id := range uint32(4) {
			queries = append(queries, engine.DeliveryQuery{Status: status, WebhookID: id})
		}
	}
	firstSession := len(queries)
	for i := range l.sessions {
		queries = append(queries, engine.DeliveryQuery{SessionID: l.sessions[i].ID})
	}
	for i := range l.deliveries {
		queries = append(queries, engine.DeliveryQuery{Until: l.deliveries[i].CreatedAt}, engine.DeliveryQuery{Since: l.deliveries[i].CreatedAt})
	}
	for i, q := range queries {
		what := fmt.Sprintf("status %d, webhook %d", q.Status, q.WebhookID)
		for q.Limit = 2; ; {
			page, err := l.s.Deliveries(l.t.Context(), q)
			f.try(err, fmt.Sprintf("list %d", i))
			for j := range page.Items {
				n := deliveryNumber(page.Items[j].ID)
				needs := []string{deliveryName(n)}
				if q.SessionID != uuid.Nil {
					needs = append(needs, "key of "+sessionName(l.sessions[i-firstSession].number))
				}
				f.add(fmt.Sprintf("list %d (%s) has delivery %d", i, what, n), needs...)
			}
			if q.Cursor = page.NextCursor; q.Cursor == "" {
				break
			}
		}
	}
	for i := range l.deliveries {
		for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny} {
			until := l.deliveries[i].CreatedAt
			n, err := l.s.Replay(l.t.Context(), engine.Replay{WebhookID: 1, Scope: scope, Until: until, DryRun: true})
			f.try(err, fmt.Sprintf("replay %s until %v", scope, until))
			for found := range n { // one may be the damaged one
				fact := fmt.Sprintf("replay %s until %v has more than %d", scope, until, found)
				if f.add(fact); found == n-1 {
					f.add(fact, "all")
				}
			}
		}
	}
}

func (l *damageLab) claimAll(f facts) {
	for _, lane := range []engine.Lane{{WebhookID: 1}, {WebhookID: 2}, {WebhookID: 3}, {WebhookID: 1, Test: true}} {
		for range 20 {
			results, err := l.s.ClaimDue(l.t.Context(), l.now, []engine.ClaimRequest{{Lane: lane, Room: 1}})
			if err != nil {
				l.t.Errorf("claim: %v", err)
				return
			}
			for _, c := range results[0].Claimed {
				d := l.deliveries[slices.IndexFunc(l.deliveries, func(d deliveryRecord) bool { return d.ID == c.Delivery.ID })]
				f.add(fmt.Sprintf("claimed delivery %d", d.number), l.needs(&d)...)
			}
		}
	}
}

// stored adds which sessions and deliveries are gone, and which are there.
func (l *damageLab) stored(f facts, erased func(visitor *int64) bool) {
	l.s.db.View(func(tx *bbolt.Tx) error {
		note := func(bucket []byte, n uint64, name string, visitor *int64) {
			if v := tx.Bucket(bucket).Get(u64key(n)); (v == nil) == erased(visitor) {
				f.add(fmt.Sprintf("%s is rightly gone: %t", name, v == nil), name)
			}
		}
		for i := range l.sessions {
			note(bucketSessions, l.sessions[i].number, sessionName(l.sessions[i].number), l.sessions[i].Identity.PoltioUserID)
		}
		for i := range l.deliveries {
			note(bucketDeliveries, l.deliveries[i].number, deliveryName(l.deliveries[i].number), l.deliveries[i].visitor)
		}
		return nil
	})
}

func (l *damageLab) eraseAll(what engine.Erasure) error {
	for place, steps := "", 0; ; steps++ {
		step, err := l.s.Erase(l.t.Context(), what, place)
		if err != nil || steps > 20 {
			return fmt.Errorf("erasure, step %d: %w", steps, err)
		}
		if place = step.Next; place == "" {
			return nil
		}
	}
}

func (l *damageLab) eraseVisitor(f facts) {
	f.try(l.eraseAll(visitor(7)), "erase visitor")
	l.stored(f, func(of *int64) bool { return of != nil && *of == 7 })
}

func (l *damageLab) eraseSessions(f facts) {
	for i := range l.sessions {
		f.try(l.eraseAll(engine.Erasure{SessionID: l.sessions[i].ID}), fmt.Sprint("erase session ", i))
	}
	l.stored(f, func(of *int64) bool { return of != nil })
}

// maintainAll carries out all background work that there is at a time.
func (l *damageLab) maintainAll(f facts, at time.Time, r engine.Retention, what string) (named []error) {
	for range 40 {
		m, err := l.s.Maintain(l.t.Context(), at, r)
		if err != nil {
			l.t.Errorf("%s: %v", what, err)
			return named
		}
		named = append(named, m.Damaged...)
		if m.Next.After(at) {
			f.add(what + " ends")
			return named
		}
	}
	return named
}

func (l *damageLab) maintain(f facts) {
	long := engine.Retention{Sessions: 1000 * time.Hour, Deliveries: 1000 * time.Hour}
	l.maintainAll(f, l.now, long, "background work")
	for i := range l.deliveries {
		d := &l.deliveries[i]
		if got, _, _, err := l.s.Delivery(l.t.Context(), d.ID); err == nil {
			needs := []string{deliveryName(d.number)}
			if d.Status == engine.StatusFailed && d.WebhookID == 1 {
				needs = append(needs, "job 2") // the replay
			}
			f.add(fmt.Sprintf("delivery %d has become %s", d.number, got.Status), needs...)
		}
	}
	l.maintainAll(f, l.now.Add(2000*time.Hour), long, "retention")
	l.gone(f, "")
}

// gone adds the records that are not there any more. They need what else is said, beside themselves.
func (l *damageLab) gone(f facts, also string) {
	l.s.db.View(func(tx *bbolt.Tx) error {
		for i := range l.sessions {
			if n := l.sessions[i].number; tx.Bucket(bucketSessions).Get(u64key(n)) == nil {
				needs := []string{sessionName(n), also + sessionName(n)}
				for _, ref := range l.sessions[i].Deliveries { // it is kept for one that waits
					name := deliveryName(deliveryNumber(ref.ID))
					needs = append(needs, "index of "+name, also+name)
				}
				f.add(fmt.Sprintf("session %d is removed", n), needs...)
			}
		}
		for i := range l.deliveries {
			if n := l.deliveries[i].number; tx.Bucket(bucketDeliveries).Get(u64key(n)) == nil {
				f.add(fmt.Sprintf("delivery %d is removed", n), deliveryName(n), also+deliveryName(n), "job 2")
			}
		}
		return nil
	})
}

func (l *damageLab) evict(f facts) {
	l.s.space.maxBytes = 1
	for _, at := range []time.Time{l.now, l.now.Add(time.Minute)} { // the second round finds what was cancelled in the first
		l.maintainAll(f, at, engine.Retention{Sessions: 1000 * time.Hour, Deliveries: 1000 * time.Hour}, "eviction")
	}
	l.gone(f, "early end of ")
}

// append posts something for every session, together with a new one.
func (l *damageLab) append(f facts) {
	for i := range l.sessions {
		r := &l.sessions[i]
		fresh := uuid.New()
		events := append(l.visit(r.ID, *r.Identity.PoltioUserID), l.visit(fresh, 9)...)
		done, err := l.s.AppendEvents(l.t.Context(), engine.NewAppend(events, l.now))
		f.try(err, fmt.Sprint("events beside those of session ", r.number))
		if _, deliveries, err := l.s.Session(l.t.Context(), fresh); err == nil {
			f.add(fmt.Sprintf("a session beside session %d has %d deliveries", r.number, len(deliveries)))
		}
		for _, c := range done.Claimed {
			l.s.Release(l.t.Context(), []engine.Delivery{c.Delivery})
		}
	}
}

func (l *damageLab) change(f facts) {
	ctx := l.t.Context()
	for i := range l.deliveries {
		d := &l.deliveries[i]
		_, err := l.s.Reschedule(ctx, d.ID, engine.RescheduleNow, l.now)
		f.try(err, fmt.Sprintf("delivery %d is sent again", d.number), l.needs(d)...)
	}
	_, err := l.s.Enqueue(ctx, engine.Enqueue{WebhookID: 1, Kind: engine.KindTest, Payload: []byte(`{}`), At: l.now})
	f.try(err, "enqueue")
	f.try(l.s.ownAll(ctx, func(engine.News) {}), "watch")
	if _, err := l.s.PutWebhook(ctx, engine.WebhookChange{Webhook: engine.Webhook{URL: "https://a.example/"}}); err == nil {
		f.add("a new webhook")
	}
	w := *l.s.Webhooks().Get(1)
	_, err = l.s.PutWebhook(ctx, engine.WebhookChange{Webhook: w, Deleted: true,
		Cancels: []engine.Cancellation{{WebhookID: 1, Revision: w.Revision, Scope: engine.CancelAll}}})
	f.try(err, "a webhook is deleted")
	if stats, err := l.s.Stats(ctx, l.now, false); err == nil && len(stats.Replays) == 0 {
		f.add("and its replays ended")
	}
}

// kinds of damage to an entry. A kind returns nil for a key if the entry is lost, and false where it is not possible.
var damages = []struct {
	name string
	make func(k, v []byte) (key, value []byte, possible bool)
}{
	{"a bit", func(k, v []byte) ([]byte, []byte, bool) {
		if len(v) == 0 {
			return nil, nil, false
		}
		v[len(v)/2] ^= 1
		return k, v, true
	}},
	{"cut", func(k, v []byte) ([]byte, []byte, bool) { return k, v[:len(v)/2], len(v) > 0 }},
	{"emptied", func(k, v []byte) ([]byte, []byte, bool) { return k, nil, len(v) > 0 }},
	{"garbage", func(k, v []byte) ([]byte, []byte, bool) {
		r := rand.NewChaCha8([32]byte{1})
		r.Read(v)
		return k, v, len(v) > 0
	}},
	{"another format", func(k, v []byte) ([]byte, []byte, bool) {
		if len(v) < sealOverhead {
			return nil, nil, false
		}
		v[0]++
		binary.BigEndian.PutUint32(v[len(v)-4:], checksum(k, v[:len(v)-4]))
		return k, v, true
	}},
	{"sealed nonsense", func(k, v []byte) ([]byte, []byte, bool) {
		return k, sealBytes(k, bytes.Repeat([]byte{0xff}, len(v))), len(v) > 0
	}},
	{"a short key", func(k, v []byte) ([]byte, []byte, bool) { return k[:len(k)-1], v, true }},
	{"a very short key", func(k, v []byte) ([]byte, []byte, bool) { return k[:1], v, true }},
	{"a long key", func(k, v []byte) ([]byte, []byte, bool) { return append(k, 0), v, true }},
	{"another key", func(k, v []byte) ([]byte, []byte, bool) { k[len(k)/2] ^= 1; return k, v, true }},
	{"lost", func(k, v []byte) ([]byte, []byte, bool) { return nil, nil, true }},
}

// hit names the records that an entry belongs to.
func (l *damageLab) hit(bucket string, k, v []byte, damage string) (names []string) {
	lost := strings.Contains(damage, "key") || damage == "lost" // it is not at its place
	tail := func() uint64 { return binary.BigEndian.Uint64(k[len(k)-8:]) }
	switch bucket {
	case string(bucketSessionNumbers):
		return []string{sessionName(binary.BigEndian.Uint64(v))}
	case string(bucketEvents):
		return []string{sessionName(binary.BigEndian.Uint64(k))}
	case string(bucketSessions):
		name := sessionName(binary.BigEndian.Uint64(k))
		if lost { // a delivery without a payload is not sent again then
			return []string{name, "key of " + name, "all"}
		}
		return []string{name}
	case string(bucketDeliveries), string(bucketAttempts):
		n := binary.BigEndian.Uint64(k)
		return []string{deliveryName(n), "all"}
	case string(bucketPayloads):
		for i := range l.deliveries {
			if l.deliveries[i].payload == binary.BigEndian.Uint64(k) {
				return []string{deliveryName(l.deliveries[i].number)}
			}
		}
	case string(bucketQueue), string(bucketByWebhook), string(bucketUndelivered):
		return []string{deliveryName(tail()), "index of " + deliveryName(tail()), "all"}
	case string(bucketExpiry):
		numbers, err := decodeExpiry(k, v)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, n := range numbers {
			name := sessionName(n)
			if k[0] == expiryDelivery {
				name = deliveryName(n)
			}
			names = append(names, "early end of "+name) // what it names is found when its retention ends
			if lost || damage == "emptied" {            // then it looks like an entry of the first number alone
				names = append(names, name)
			}
		}
	case string(bucketJobs):
		return []string{fmt.Sprint("job ", tail())}
	case string(bucketHealth):
		return []string{fmt.Sprint("health ", binary.BigEndian.Uint32(k))}
	}
	return names
}

// Each record is damaged in turn, in several ways, and everything is asked of the store: all other records are reached as before, no call
// fails as a whole or goes on for ever, and the check names the damage.
func TestEachDamagedRecordHidesNoOther(t *testing.T) {
	l := newDamageLab(t)
	whole := make(map[string]facts)
	for name, call := range calls {
		l.restore(nil, nil)
		whole[name] = make(facts)
		call(l, whole[name])
	}
	turn, tries := 0, 0
	for _, bucket := range allBuckets {
		for _, e := range l.whole[string(bucket)] {
			for _, kind := range damages {
				if turn++; turn%damageStep != 0 {
					continue
				}
				k, v, possible := kind.make(bytes.Clone(e[0]), bytes.Clone(e[1]))
				if !possible || k == nil && slices.Contains([]string{"meta", "webhooks", "jobs", "counts", "health"}, string(bucket)) { // no other record tells of them
					continue
				}
				tries++
				l.try(damagedEntry{bucket, kind.name, e, k, v, turn/damageStep%2 == 0}, whole)
			}
		}
	}
	t.Logf("%d tries", tries)
}

// damageStep is how many pairs of a record and a kind of damage share one try, to save time. It has no divisor in common with the number of
// kinds, so that each bucket gets all kinds. All pairs (1) take some ten seconds.
const damageStep = 5

// damagedEntry is one entry and what is done to it.
type damagedEntry struct {
	bucket     []byte
	kind       string
	e          [2][]byte // the entry as it was
	key, value []byte    // what becomes of it; the key is nil if it is lost
	whileOpen  bool      // not before the start
}

func (d *damagedEntry) String() string { return fmt.Sprintf("%s %x: %s", d.bucket, d.e[0], d.kind) }

// unseen reports whether the check cannot see the damage.
func (d *damagedEntry) unseen() bool {
	switch string(d.bucket) {
	case string(bucketExpiry): // another time is as good as any
		return d.kind == "another key"
	case string(bucketSessionNumbers): // new sessions need no entry yet
		return d.kind == "lost"
	}
	return false
}

// try asks everything of a store with one damaged entry.
func (l *damageLab) try(d damagedEntry, whole map[string]facts) {
	apply := func(tx *bbolt.Tx) error {
		bucket, e, k, v := d.bucket, d.e, d.key, d.value
		b := tx.Bucket(bucket)
		if k != nil && !bytes.Equal(k, e[0]) && b.Get(k) != nil {
			return nil // another record's key
		}
		if err := b.Delete(e[0]); err != nil || k == nil {
			return err
		}
		return b.Put(k, v)
	}
	before, after := apply, func(*bbolt.Tx) error { return nil }
	if d.whileOpen {
		before, after = after, before
	}
	hit := l.hit(string(d.bucket), d.e[0], d.e[1], d.kind)
	for name, call := range calls {
		err := l.restore(before, after)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || !slices.Contains([]string{"webhooks", "meta"}, string(d.bucket)) {
				l.t.Fatalf("%v: start: %v", &d, err)
			}
			return
		}
		if name == "read" && len(l.s.Check()) == 0 && !d.unseen() {
			l.t.Errorf("%v: the check finds nothing", &d)
		}
		got := make(facts)
		call(l, got)
		for fact, needs := range whole[name] {
			if _, ok := got[fact]; ok || slices.ContainsFunc(needs, func(n string) bool { return slices.Contains(hit, n) }) {
				continue
			}
			l.t.Errorf("%v: %s: not so any more: %s", &d, name, fact)
		}
	}
}

// damageRecords changes a byte of many records at once, while the store is open.
func damageRecords(t *testing.T, s *Store, bucket []byte, chosen func(number uint64) bool) (damaged int) {
	t.Helper()
	err := s.write(t.Context(), 1, func(b *batch) error {
		var keys, values [][]byte
		damaged = 0
		for k, v := range s.entries(b.tx, bucket, nil, nil) {
			if chosen(binary.BigEndian.Uint64(k[len(k)-8:])) {
				v = bytes.Clone(v)
				v[len(v)/2] ^= 1
				keys, values = append(keys, bytes.Clone(k)), append(values, v)
			}
		}
		damaged = len(keys)
		for i := range keys {
			if err := b.put(b.tx.Bucket(bucket), keys[i], values[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return damaged
}

// openDamaged opens a store that a test damages, so that it is not checked at the end.
func openDamaged(t *testing.T) *Store {
	t.Helper()
	s, err := Open(newPath(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// However many damaged deliveries are at the front of a lane, what is behind them is claimed, in calls of bounded work; other lanes do not
// wait for it; and what comes due before them later is found, too.
func TestDamagedFrontOfALane(t *testing.T) {
	s := openDamaged(t)
	lane := engine.Lane{WebhookID: putWebhook(t, s, engine.Webhook{}).ID}
	addSessions(t, s, maxSkipped+600, time.Now())
	last := uint64(maxSkipped + 600)
	other := engine.Lane{WebhookID: putWebhook(t, s, engine.Webhook{}).ID}
	addSession(t, s, time.Now())
	if n := damageRecords(t, s, bucketDeliveries, func(n uint64) bool { return n <= last-5 }); n != int(last)-5 {
		t.Fatalf("%d damaged", n)
	}
	at := now().Add(time.Second)
	damaged, claimed := 0, make(map[uint64]bool)
	claim := func(room int) engine.ClaimResult {
		t.Helper()
		results, err := s.ClaimDue(t.Context(), at, []engine.ClaimRequest{{Lane: lane, Room: room}, {Lane: other, Room: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			for _, c := range r.Claimed {
				claimed[deliveryNumber(c.Delivery.ID)] = true
			}
		}
		damaged += len(results[0].Damaged)
		if next := results[0].Next; next.After(at) {
			at = next // the engine comes again then
		}
		return results[0]
	}
	calls := 0
	for ; len(claimed) < 7 && calls < 40; calls++ { // 5, and those of the last session in both lanes
		claim(100)
	}
	if damaged != int(last)-5 || len(claimed) != 7 {
		t.Errorf("%d damaged, %v claimed in %d calls", damaged, claimed, calls)
	}
	// A delivery of an old session is due before all of them.
	d := addSession(t, s, time.Now().Add(-time.Hour))[0]
	for calls = 0; !claimed[deliveryNumber(d.ID)] && calls < 10; calls++ {
		claim(1)
	}
	if calls == 10 {
		t.Error("what is due before them was not claimed")
	}
}

// A search by time goes past any number of damaged deliveries.
func TestSearchByTimePassesDamage(t *testing.T) {
	s := openDamaged(t)
	w := putWebhook(t, s, engine.Webhook{})
	var all []engine.Delivery
	for range 15 {
		all = append(all, addSession(t, s, time.Now())[0])
	}
	claimed := take(t, s, engine.Lane{WebhookID: w.ID}, 100).Claimed
	for i := range claimed {
		deliver(t, s, claimed[i].Delivery, engine.Next{Status: engine.StatusFailed}, broken)
	}
	for from := range uint64(16) {
		for to := from; to < 16; to++ {
			change := func() { damageRecords(t, s, bucketDeliveries, func(n uint64) bool { return from < n && n <= to }) }
			change()
			want := int64(15 - (to - from))
			n, err := s.Replay(t.Context(), engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Since: all[0].CreatedAt, Until: now(), DryRun: true})
			if err != nil || n != want {
				t.Errorf("damaged %d to %d: a replay takes %d, want %d: %v", from+1, to, n, want, err)
			}
			page, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Until: all[14].CreatedAt, Limit: 20})
			if err != nil || len(page.Items) != int(want) {
				t.Errorf("damaged %d to %d: %d listed, want %d: %v", from+1, to, len(page.Items), want, err)
			}
			change() // as before
		}
	}
}

// A damaged job is named once. The others are carried out, and so is all other background work; new jobs can be added.
func TestDamagedJobIsPassed(t *testing.T) {
	s := openDamaged(t)
	w := putWebhook(t, s, engine.Webhook{})
	addSession(t, s, time.Now())
	d := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery
	deliver(t, s, d, engine.Next{Status: engine.StatusFailed}, broken)
	replay := engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Until: now()}
	for range 2 {
		if n, err := s.Replay(t.Context(), replay); err != nil || n != 1 {
			t.Fatal(n, err)
		}
	}
	damageRecords(t, s, bucketJobs, func(n uint64) bool { return n == 1 })
	var damaged []error
	queued := 0
	for range 5 {
		m, err := s.Maintain(t.Context(), now(), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		damaged, queued = append(damaged, m.Damaged...), queued+len(m.Queued)
	}
	if queued != 1 || len(damaged) != 1 || !strings.Contains(damaged[0].Error(), "jobs 0000000000000001") {
		t.Errorf("%d queued, damaged: %v; want 1, and the job once", queued, damaged)
	}
	w.Active = false
	change := engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}}
	if _, err := s.PutWebhook(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Maintain(t.Context(), now(), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}); err != nil || m.Cancelled != 1 {
		t.Errorf("%d cancelled: %v", m.Cancelled, err)
	}
}

// What a webhook that is switched off had cancelled stays unsent, though the record of the cancellation cannot be read any more, and is
// cancelled in the end.
func TestDamagedCancellationSendsNothing(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	addSession(t, s, time.Now())
	off := w
	off.Active, off.CancelledUpTo = false, w.Revision
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: off, Cancels: engine.Cancellations(&w, &off)}); err != nil {
		t.Fatal(err)
	}
	checkAndClose(t, s)
	damage(t, path, bucketJobs, (*bbolt.Cursor).First)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := take(t, s, engine.Lane{WebhookID: w.ID}, 1); len(got.Claimed) > 0 {
		t.Error("it was claimed")
	}
	cancelled := 0
	for range 5 {
		m, err := s.Maintain(t.Context(), now(), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		cancelled += m.Cancelled
	}
	if cancelled != 1 {
		t.Errorf("%d cancelled, want 1", cancelled)
	}
}

// A start names what it has passed, and each record once, however often it is met.
func TestDamageIsNamedOnce(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	addSession(t, s, time.Now())
	setHealth(t, s, w.ID, engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1})
	checkAndClose(t, s)
	for _, bucket := range [][]byte{bucketHealth, bucketCounts, bucketDeliveries, bucketSessions} {
		damage(t, path, bucket, (*bbolt.Cursor).First)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var named []string
	for range 3 {
		if _, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10}); err != nil {
			t.Error(err)
		}
		m, err := s.Maintain(t.Context(), now().Add(100*time.Hour), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range m.Damaged {
			named = append(named, strings.Fields(strings.TrimPrefix(err.Error(), ErrCorrupt.Error()+": "))[0])
		}
	}
	slices.Sort(named)
	if want := []string{"counts", "deliveries", "health", "sessions"}; !slices.Equal(named, want) {
		t.Errorf("named: %v, want %v", named, want)
	}
}

// TestResumePointsOfDeleted: where to go on in a lane is forgotten with its webhook.
func TestResumePointsOfDeleted(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	other := putWebhook(t, s, engine.Webhook{})
	for _, id := range []uint32{w.ID, other.ID} {
		s.resumed[engine.Lane{WebhookID: id}] = resumePoint{}
		s.resumed[engine.Lane{WebhookID: id, Test: true}] = resumePoint{}
	}
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Deleted: true}); err != nil {
		t.Fatal(err)
	}
	if len(s.resumed) != 2 || s.resumed[engine.Lane{WebhookID: other.ID}].place != nil {
		t.Errorf("left are %v", s.resumed)
	}
	if _, ok := s.resumed[engine.Lane{WebhookID: w.ID}]; ok {
		t.Error("one of the deleted webhook is kept")
	}
}
