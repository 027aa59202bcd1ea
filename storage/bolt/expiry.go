package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"hookbolt/engine"
)

const (
	// waitingRecheck is when to look again at a session that has outlived its retention but still has deliveries that wait.
	waitingRecheck = time.Hour
	// damagedRecheck is when to try again to read a damaged record.
	damagedRecheck = 24 * time.Hour
)

// expiring collects what a batch adds to expiry, of one kind. One entry holds all numbers, because retention counts in days and
// separate entries would be a large part of what is written for a delivery.
type expiring struct {
	numbers []uint64
	at      time.Time // the latest of their times
}

// expire adds a number to expiry when the batch ends. at is when the record was created, or when it reached its final state.
func (b *batch) expire(kind byte, number uint64, at time.Time) {
	e := &b.expiring[kind]
	e.numbers = append(e.numbers, number)
	e.at = later(e.at, at)
}

// putExpiring writes what expire has collected.
func (b *batch) putExpiring() error {
	for kind, e := range b.expiring {
		if len(e.numbers) == 0 {
			continue
		}
		slices.Sort(e.numbers) // the first number is in the key
		if err := b.putExpiry(byte(kind), e.at, e.numbers); err != nil {
			return err
		}
	}
	return nil
}

// putExpiry writes an entry for at least one number.
func (b *batch) putExpiry(kind byte, at time.Time, numbers []uint64) error {
	key := expiryKey(kind, at, numbers[0])
	return b.put(b.expiry, key, encodeExpiry(key, numbers[1:]))
}

// encodeExpiry makes the value of an expiry key: the numbers beside the one in the key.
func encodeExpiry(key []byte, others []uint64) []byte {
	if len(others) == 0 {
		return nil
	}
	e := newRecord(binary.MaxVarintLen64 * len(others))
	for _, n := range others {
		e.uint(n)
	}
	return e.seal(key)
}

// decodeExpiry returns all numbers of an expiry entry.
func decodeExpiry(key, value []byte) ([]uint64, error) {
	numbers := []uint64{binary.BigEndian.Uint64(key[9:])}
	if len(value) == 0 {
		return numbers, nil
	}
	body, err := unseal(bucketExpiry, key, value)
	if err != nil {
		return nil, err
	}
	d := decoder{b: body}
	for len(d.b) > 0 && !d.bad {
		numbers = append(numbers, d.uint())
	}
	return numbers, d.done(bucketExpiry, key)
}

func expiryAt(k []byte) time.Time { return fromInstant(binary.BigEndian.Uint64(k[1:])) }

// expiration removes the record of a number if it is from before oldest, and reports whether it did. at is the time in the number's
// expiry key, which has been deleted: a record that stays needs a new entry.
type expiration func(number uint64, at, oldest, now time.Time) (removed bool, err error)

// expiryKind says how records of one kind expire.
type expiryKind struct {
	kind   byte
	keep   time.Duration
	expire expiration
	count  *int // of the removed records
}

// stepExpiry removes records of a kind that have outlived their retention. It returns when to call it again: now if there may be more.
func (b *batch) stepExpiry(e expiryKind, now time.Time, m *engine.Maintained) (time.Time, error) {
	oldest := now.Add(-e.keep)
	var keys, values [][]byte
	next := now.Add(maintainAtLeast)
	for k, v := range b.s.entries(b.tx, bucketExpiry, []byte{e.kind}, nil) {
		if at := expiryAt(k); at.After(oldest) {
			next = at.Add(e.keep)
			break
		}
		if len(keys) == expireStep {
			break
		}
		keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
	}
	if len(keys) > 0 {
		next = now // there may be more, and records that stay get new entries
	}
	budget := b.expireBudget()
	for i, k := range keys {
		if budget.spent() {
			break
		}
		if err := b.delete(b.expiry, k); err != nil {
			return next, err
		}
		numbers, err := decodeExpiry(k, values[i])
		if errors.Is(err, ErrCorrupt) { // keep it for whoever examines the file
			m.Damaged = append(m.Damaged, err)
			b.beginSweep(e.kind, binary.BigEndian.Uint64(k[9:]))
			again := expiryKey(e.kind, oldest.Add(damagedRecheck), binary.BigEndian.Uint64(k[9:]))
			if err := b.put(b.expiry, again, values[i]); err != nil {
				return next, err
			}
			continue
		}
		for j, number := range numbers {
			if budget.spent() {
				if err := b.putExpiry(e.kind, expiryAt(k), numbers[j:]); err != nil {
					return next, err
				}
				break
			}
			budget.numbers--
			removed, err := e.expire(number, expiryAt(k), oldest, now)
			if errors.Is(err, ErrCorrupt) { // go on with the others
				m.Damaged = append(m.Damaged, err)
				err = b.put(b.expiry, expiryKey(e.kind, oldest.Add(damagedRecheck), number), nil)
			}
			if err != nil {
				return next, err
			}
			if removed {
				*e.count++
			}
		}
	}
	return next, nil
}

// sweep looks for records that have outlived their retention and have lost their entry in expiry, because it is damaged: otherwise they
// would be kept for ever. It walks all records of a kind once for each damaged entry.
type sweep struct {
	next uint64          // the number to go on with; 0 if there is nothing to do
	done map[uint64]bool // the first numbers of the damaged entries that a sweep was begun for
}

// beginSweep begins a sweep for a damaged entry, unless there was one.
func (b *batch) beginSweep(kind byte, first uint64) {
	b.after = append(b.after, func() {
		w := &b.s.sweeps[kind]
		if w.done[first] {
			return
		}
		if w.done == nil {
			w.done = make(map[uint64]bool)
		}
		w.done[first], w.next = true, 1
	})
}

// stepSweep continues the sweep of a kind, if there is one. It returns when to call it again, at the latest at the given time.
func (b *batch) stepSweep(e expiryKind, at, now time.Time) (time.Time, error) {
	from := b.s.sweeps[e.kind].next
	if from == 0 {
		return at, nil
	}
	bucket := bucketSessions
	if e.kind == expiryDelivery {
		bucket = bucketDeliveries
	}
	var numbers []uint64
	for k := range b.s.entries(b.tx, bucket, nil, u64key(from)) {
		if numbers = append(numbers, binary.BigEndian.Uint64(k)); len(numbers) > expireStep {
			break
		}
	}
	oldest, budget, next := now.Add(-e.keep), b.expireBudget(), uint64(0)
	for _, number := range numbers {
		if budget.spent() {
			next = number
			break
		}
		budget.numbers--
		if e.kind == expirySession && b.isRecent(number, oldest) {
			continue
		}
		removed, err := e.expire(number, oldest, oldest, now)
		if err != nil && !b.s.passes(err) {
			return at, err
		}
		if removed {
			*e.count++
		}
	}
	b.after = append(b.after, func() { b.s.sweeps[e.kind].next = next })
	return now, nil
}

// isRecent reports whether a session is from after oldest. Then it has an entry of its own: a damaged one is met when all of its sessions
// are older.
func (b *batch) isRecent(number uint64, oldest time.Time) bool {
	r, err := decodeSession(number, b.sessions.Get(u64key(number)))
	return err == nil && r.FirstReceivedAt.After(oldest)
}

// expireSession removes a session whose last event came before oldest, or adds an entry for when to look again.
func (b *batch) expireSession(number uint64, _, oldest, _ time.Time) (removed bool, err error) {
	key := u64key(number)
	v := b.sessions.Get(key)
	if v == nil {
		return false, nil // erased already
	}
	r, err := decodeSession(number, v)
	if err != nil {
		return false, err
	}
	if !r.Expired(oldest) {
		return false, b.put(b.expiry, expiryKey(expirySession, r.LastReceivedAt, number), nil)
	}
	waits, err := b.waits(&r)
	if err != nil {
		return false, err
	}
	if waits {
		return false, b.put(b.expiry, expiryKey(expirySession, oldest.Add(waitingRecheck), number), nil)
	}
	return true, b.removeSession(&r)
}

// waits reports whether a delivery of the session is scheduled or pending, or may still have to be made. A damaged delivery is never sent, so
// the session need not be kept for it.
func (b *batch) waits(r *sessionRecord) (bool, error) {
	if b.fansOut(r.number) {
		return true, nil
	}
	for m := range b.s.refs(b.tx, r) {
		b.looked++
		d, err := b.s.readMarked(b.tx, m)
		if b.s.passes(err) {
			continue
		}
		if err != nil || d.number != 0 && d.Status.Waiting() {
			return true, err
		}
	}
	return false, nil
}

// expireDelivery removes a delivery that reached its final state at the given time or before. A delivery that was sent again since
// then has another entry, or will have one.
func (b *batch) expireDelivery(number uint64, at, _, now time.Time) (removed bool, err error) {
	r, err := b.s.readDelivery(b.deliveries, number)
	if err != nil || r.number == 0 || !r.FinishedBy(at) {
		return false, err
	}
	if r.KeptWithSession() && b.sessions.Get(u64key(r.session)) != nil {
		return false, b.put(b.expiry, expiryKey(expiryDelivery, now, number), nil) // look again after another retention
	}
	return true, b.retireDelivery(&r)
}

// retireDelivery removes a delivery whose retention has ended. Without its record nothing says that it was cancelled, so its session no
// longer refers to it: for a replay of what is missing there never was one, unless an update has told the session.
func (b *batch) retireDelivery(r *deliveryRecord) error {
	head := b.sessions.Get(u64key(r.session))
	if r.Status != engine.StatusCancelled || r.Kind != engine.KindComplete && r.Kind != engine.KindUpdate || head == nil {
		return b.removeDelivery(r)
	}
	session, err := decodeSession(r.session, head)
	told := false
	if err == nil && r.Kind == engine.KindComplete {
		told, err = b.toldByUpdate(&session, r.WebhookID)
	}
	if err == nil && !told {
		err = b.unmark(&session, engine.DeliveryRef{WebhookID: r.WebhookID, Kind: r.Kind, ID: r.ID})
	}
	if err == nil && !told {
		err = b.put(b.sessions, u64key(r.session), session.encode())
	}
	if err != nil && !b.s.passes(err) {
		return err
	}
	return b.removeDelivery(r)
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
