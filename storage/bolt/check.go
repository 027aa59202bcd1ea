package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Check compares the whole database with itself: bbolt's own check of the pages, each record's checksum, and the invariants between
// records and indexes. It returns at most a hundred violations. It is for tests and tools, because it holds a read transaction until
// it is done.
func (s *Store) Check() []error {
	c := newChecker(s.nonce)
	if err := s.db.View(c.run); err != nil {
		c.errs = append(c.errs, err)
	}
	return c.errs
}

const maxViolations = 100

var (
	errTooMany      = errors.New("too many violations, the rest is not listed")
	errPagesDamaged = errors.New("pages are damaged: what is in them was not looked at")
)

// checker compares a database's buckets with each other. It looks up each reference from both sides, so that it needs little memory
// however much is stored.
type checker struct {
	nonce uint32
	tx    *bbolt.Tx

	sessionCount, deliveryCount, webhookCount int
	adopted                                   int // deliveries that another store has made

	expiring numberSet // S of sessions that have an entry in expiry
	ending   numberSet // D of deliveries that have an entry in expiry
	paid     numberSet // P of payloads that belong to a delivery
	counts   map[uint32]*counts
	errs     []error
}

func newChecker(nonce uint32) *checker {
	return &checker{nonce: nonce, expiring: make(numberSet), ending: make(numberSet), paid: make(numberSet), counts: make(map[uint32]*counts)}
}

// numberSet is a set of numbers: a bit for each, in words by number/64. Numbers lie close together, except in damaged keys.
type numberSet map[uint64]uint64

// add adds a number. It reports whether the set had it before.
func (n numberSet) add(number uint64) (before bool) {
	before = n.has(number)
	n[number/64] |= 1 << (number % 64)
	return before
}

func (n numberSet) has(number uint64) bool { return n[number/64]&(1<<(number%64)) != 0 }

// expect records a violation unless ok.
func (c *checker) expect(ok bool, format string, args ...any) {
	if !ok && len(c.errs) < maxViolations {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

func (c *checker) run(tx *bbolt.Tx) error {
	c.tx = tx
	for err := range tx.Check() {
		c.expect(false, "page: %v", err)
	}
	if len(c.errs) > 0 {
		return errPagesDamaged // bbolt could loop on damaged pages
	}
	for _, step := range []func() error{c.metas, c.sequences, c.indexes, c.deliveries, c.sessions, c.leftovers, c.checkFanOuts, c.hooks, c.tallies, c.healths, c.requests} {
		if err := step(); err != nil {
			return err
		}
		if len(c.errs) >= maxViolations {
			return errTooMany
		}
	}
	return nil
}

func (c *checker) each(bucket []byte, f func(k, v []byte) error) error {
	return c.tx.Bucket(bucket).ForEach(f)
}

func (c *checker) stored(bucket, key []byte) bool { return c.tx.Bucket(bucket).Get(key) != nil }

// metas checks the values of meta.
func (c *checker) metas() error {
	sizes := map[string]int{string(keySchema): 4, string(keyNonce): 4, string(keyProbe): 8, string(keyNumbered): 8}
	return c.each(bucketMeta, func(k, v []byte) error {
		body, err := unseal(bucketMeta, k, v)
		c.expect(err == nil, "%v", err)
		size, known := sizes[string(k)]
		c.expect(err != nil || !known || len(body) == size, "meta %s: %d bytes", k, len(body))
		return nil
	})
}

// sequences checks that no number can be assigned twice.
func (c *checker) sequences() error {
	for _, name := range [][]byte{bucketWebhooks, bucketSessions, bucketDeliveries, bucketPayloads, bucketJobs, bucketFanOuts} {
		b := c.tx.Bucket(name)
		last, _ := b.Cursor().Last()
		next := u64key(b.Sequence())
		c.expect(bytes.Compare(last, next[8-min(8, len(last)):]) <= 0, "%s: %x is stored, and the last number given is %d", name, last, b.Sequence())
	}
	return nil
}

// indexes checks the entries that refer to deliveries and sessions.
func (c *checker) indexes() error {
	for _, index := range []struct {
		bucket []byte
		size   int
		key    func(*deliveryRecord) []byte // where the delivery stands in the index, nil for nowhere
	}{
		{bucketQueue, queueKeyLen, func(r *deliveryRecord) []byte { k, _ := indexKeys(r); return k }},
		{bucketByWebhook, 12, byWebhookKey},
		{bucketUndelivered, 13, func(r *deliveryRecord) []byte { _, k := indexKeys(r); return k }},
	} {
		err := c.each(index.bucket, func(k, _ []byte) error {
			if len(k) != index.size {
				c.expect(false, "%s %x: bad key", index.bucket, k)
				return nil
			}
			number := binary.BigEndian.Uint64(k[len(k)-8:])
			r, err := readDelivery(c.nonce, c.tx.Bucket(bucketDeliveries), number)
			switch {
			case err != nil: // deliveries reports it
			case r.number == 0:
				c.expect(false, "%s %x: delivery %d is not stored", index.bucket, k, number)
			default:
				c.expect(bytes.Equal(k, index.key(&r)), "%s %x: not the place of delivery %d", index.bucket, k, number)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.each(bucketExpiry, func(k, v []byte) error {
		if len(k) != 17 || k[0] != expirySession && k[0] != expiryDelivery {
			c.expect(false, "expiry %x: bad key", k)
			return nil
		}
		numbers, err := decodeExpiry(k, v)
		c.expect(err == nil, "%v", err)
		for _, number := range numbers {
			if k[0] == expirySession {
				c.expiring.add(number)
			} else if r, err := readDelivery(c.nonce, c.tx.Bucket(bucketDeliveries), number); err == nil && r.number != 0 && r.FinishedBy(expiryAt(k)) {
				c.ending.add(number)
			}
		}
		return nil
	})
}

func (c *checker) count(webhookID uint32) *counts {
	if c.counts[webhookID] == nil {
		c.counts[webhookID] = new(counts)
	}
	return c.counts[webhookID]
}

// deliveries checks each delivery against its indexes, its payload and its attempts.
func (c *checker) deliveries() error {
	return c.each(bucketDeliveries, func(k, v []byte) error {
		c.deliveryCount++
		if len(k) != 8 {
			c.expect(false, "deliveries %x: bad key", k)
			return nil
		}
		number := binary.BigEndian.Uint64(k)
		r, err := decodeDelivery(c.nonce, number, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		c.count(r.WebhookID).byStatus[r.Status]++
		c.count(r.WebhookID).late += isLate(&r)
		c.count(r.WebhookID).parked += isParked(&r)
		queue, listed := indexKeys(&r)
		c.checkAdopted(&r)
		c.expect(c.stored(bucketByWebhook, byWebhookKey(&r)), "delivery %d: not in by_webhook", number)
		c.expect(queue == nil || c.stored(bucketQueue, queue), "delivery %d: %s, not at its place in the queue", number, r.Status)
		c.expect(listed == nil || c.stored(bucketUndelivered, listed), "delivery %d: %s, not at its place in exceptions", number, r.Status)
		c.expect(r.Status.Waiting() == r.FinishedAt.IsZero(), "delivery %d: %s, finished at %v", number, r.Status, r.FinishedAt)
		c.expect(r.Status.Waiting() || c.ending.has(number), "delivery %d: does not expire", number)
		c.expect(r.Status != engine.StatusPending && r.Status != engine.StatusDelivered || r.payload != 0, "delivery %d: %s without a payload", number, r.Status)
		// A system event is stored before a body is built from it.
		isEvent := r.Kind == engine.KindOperation
		c.expect(r.FrozenAt.IsZero() == (r.payload == 0) || r.FrozenAt.IsZero() && isEvent, "delivery %d: frozen at %v, payload %d", number, r.FrozenAt, r.payload)
		c.expect(r.Status != engine.StatusScheduled || r.FrozenAt.IsZero(), "delivery %d: scheduled, and frozen", number)
		c.expect(r.BuildError == "" || r.FrozenAt.IsZero(), "delivery %d: frozen, and not built: %q", number, r.BuildError)
		c.expect(r.Status != engine.StatusScheduled || isEvent || c.stored(bucketSessions, u64key(r.session)), "delivery %d: waits, its session %d is gone", number, r.session)
		if r.payload != 0 {
			c.expect(!c.paid.add(r.payload), "payload %d: belongs to two deliveries", r.payload)
			key := u64key(r.payload)
			body, err := unseal(bucketPayloads, key, c.tx.Bucket(bucketPayloads).Get(key))
			c.expect(err == nil && (r.Shaped || json.Valid(body)), "delivery %d: payload %d: %v", number, r.payload, err)
		}
		if queue != nil && !queueKeyIsTest(queue) {
			kept := countsIn(c.tx, r.WebhookID)
			if bytes.Compare(queue[lanePrefixLen:], kept.dueUpTo[:]) <= 0 {
				c.count(r.WebhookID).due++
			}
		}
		attempts := 0
		cur := c.tx.Bucket(bucketAttempts).Cursor()
		for ak, av := cur.Seek(k); bytes.HasPrefix(ak, k); ak, av = cur.Next() {
			attempts++
			_, err := decodeAttempt(ak, av)
			c.expect(err == nil && bytes.Equal(ak, itemKey(number, uint32(attempts))), "delivery %d: attempt %x: %v", number, ak, err)
		}
		c.expect(attempts == r.Attempts, "delivery %d: %d attempts stored, %d counted", number, attempts, r.Attempts)
		return nil
	})
}

// checkAdopted checks that a delivery is found by its id.
func (c *checker) checkAdopted(r *deliveryRecord) {
	if r.adopted {
		entry := c.tx.Bucket(bucketDeliveryIDs).Get(r.ID[:])
		c.expect(bytes.Equal(entry, u64key(r.number)), "delivery %d: delivery_ids does not lead to it", r.number)
		c.adopted++
	}
}

// countsIn reads the stored counts of a webhook.
func countsIn(tx *bbolt.Tx, webhookID uint32) counts {
	key := u32key(webhookID)
	c, err := decodeCounts(key, tx.Bucket(bucketCounts).Get(key))
	if err != nil {
		return counts{}
	}
	return c
}

// sessions checks the sessions against their events, numbers and marks.
func (c *checker) sessions() error {
	numbered, err := uint64(math.MaxUint64), error(nil) // before version 5
	if meta := c.tx.Bucket(bucketMeta); meta.Get(keyNumbered) != nil {
		numbered, err = metaU64(meta, keyNumbered)
		c.expect(err == nil, "%v", err)
	}
	entries := 0 // entries of session_numbers that lead to a session
	err = c.each(bucketSessions, func(k, v []byte) error {
		c.sessionCount++
		if len(k) != 8 {
			c.expect(false, "sessions %x: bad key", k)
			return nil
		}
		number := binary.BigEndian.Uint64(k)
		r, err := decodeSession(number, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		switch entry := c.tx.Bucket(bucketSessionNumbers).Get(r.ID[:]); {
		case bytes.Equal(entry, k):
			entries++
		case entry != nil || number <= numbered:
			c.expect(false, "session %d: session_numbers does not lead to it", number)
		}
		c.expect(c.expiring.has(number), "session %d: does not expire", number)
		record, err := readSessionRecord(c.tx.Bucket(bucketEvents), &r)
		c.expect(err == nil, "session %d: %v", number, err)
		events, err := record.Events()
		c.expect(err == nil, "session %d: %v", number, err)
		c.expect(len(events) == r.Events && len(record.Batches) == int(r.batches), "session %d: %d events in %d batches stored, %d in %d counted",
			number, len(events), len(record.Batches), r.Events, r.batches)
		c.checkMarks(&r)
		return nil
	})
	numbers := 0
	if err == nil {
		err = c.each(bucketSessionNumbers, func(k, v []byte) error { numbers++; return nil })
	}
	c.expect(entries == numbers, "session_numbers has %d entries, and %d lead to a session", numbers, entries)
	return err
}

// isItemKey reports whether a key may be one of itemKey.
func isItemKey(k []byte) bool { return len(k) == 12 }

// leftovers looks for records that belong to nothing.
func (c *checker) leftovers() error {
	ids := 0
	if c.tx.Bucket(bucketDeliveryIDs) != nil { // not of a version before 12
		if err := c.each(bucketDeliveryIDs, func(_, _ []byte) error { ids++; return nil }); err != nil {
			return err
		}
	}
	c.expect(ids == c.adopted, "delivery_ids has %d entries, and %d lead to a delivery", ids, c.adopted)
	for _, part := range []struct {
		bucket, of []byte
		fits       func(k []byte) bool
	}{{bucketEvents, bucketSessions, isItemKey}, {bucketAttempts, bucketDeliveries, isItemKey}, {bucketMarks, bucketSessions, fitsMark}} {
		err := c.each(part.bucket, func(k, _ []byte) error {
			c.expect(part.fits(k) && c.stored(part.of, k[:8]), "%s %x: belongs to nothing", part.bucket, k)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.each(bucketPayloads, func(k, _ []byte) error {
		c.expect(len(k) == 8 && c.paid.has(binary.BigEndian.Uint64(k)), "payload %x: belongs to no delivery", k)
		return nil
	})
}

// hooks reads the webhooks and the jobs.
func (c *checker) hooks() error {
	hooks, damaged := readWebhooks(c.tx.Bucket(bucketWebhooks))
	_, damagedJobs := readCancellations(c.tx.Bucket(bucketJobs), hooks)
	for _, err := range append(damaged, damagedJobs...) {
		c.expect(false, "%v", err)
	}
	c.webhookCount = len(hooks)
	return nil
}

// tallies compares the stored counts with what was counted.
func (c *checker) tallies() error {
	err := c.each(bucketCounts, func(k, v []byte) error {
		kept, err := decodeCounts(k, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		if len(k) != 4 {
			c.expect(false, "counts %x: bad key", k)
			return nil
		}
		id := binary.BigEndian.Uint32(k)
		counted := c.count(id)
		c.expect(kept.byStatus == counted.byStatus, "counts of webhook %d: kept %v, counted %v", id, kept.byStatus, counted.byStatus)
		c.expect(kept.late == counted.late, "counts of webhook %d: kept %d that lack late events, counted %d", id, kept.late, counted.late)
		c.expect(kept.parked == counted.parked, "counts of webhook %d: kept %d whose programs failed, counted %d", id, kept.parked, counted.parked)
		c.expect(kept.due == counted.due, "counts of webhook %d: %d kept as due, %d counted", id, kept.due, counted.due)
		delete(c.counts, id)
		return nil
	})
	for id, counted := range c.counts {
		c.expect(counted.empty(), "counts of webhook %d: none kept, counted %v", id, counted.byStatus)
	}
	return err
}

// healths checks that only existing webhooks have a health record, and only while it tells something.
func (c *checker) healths() error {
	if c.tx.Bucket(bucketHealth) == nil { // of version 1
		return nil
	}
	return c.each(bucketHealth, func(k, v []byte) error {
		h, err := decodeHealth(k, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		c.expect(c.stored(bucketWebhooks, k), "health %x: there is no such webhook", k)
		c.expect(!h.IsZero() && (h.Failures > 0) == !h.FirstFailedAt.IsZero(), "health %x: %d failures since %v", k, h.Failures, h.FirstFailedAt)
		return nil
	})
}
