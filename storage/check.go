package storage

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Check reads the whole database and holds its buckets against each other: bbolt's own check of the pages, each record's
// checksum, and the invariants between records and indexes. It returns what is violated, at most a hundred lines. It is for
// tests and tools: it holds a read transaction for as long as it takes.
func (s *Store) Check() []error {
	c := &checker{s: s, queued: make(map[uint64]bool), indexed: make(map[uint64]bool), excepted: make(map[uint64]bool),
		expiring: make(map[string]bool), expiringSessions: make(map[uint64]bool), payloads: make(map[uint64]bool), counts: make(map[uint32]*counts)}
	if err := s.db.View(c.run); err != nil {
		c.errs = append(c.errs, err)
	}
	return c.errs
}

const maxViolations = 100

var errTooMany = errors.New("too many violations, the rest is not listed")

type checker struct {
	s  *Store
	tx *bolt.Tx

	queued, indexed, excepted, payloads map[uint64]bool // D; for payloads P
	expiring                            map[string]bool // whole keys
	expiringSessions                    map[uint64]bool // S
	counts                              map[uint32]*counts
	errs                                []error
}

// expect notes a violation.
func (c *checker) expect(ok bool, format string, args ...any) {
	if !ok && len(c.errs) < maxViolations {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

func (c *checker) run(tx *bolt.Tx) error {
	c.tx = tx
	for err := range tx.Check() {
		c.expect(false, "page: %v", err)
	}
	for _, step := range []func() error{c.indexes, c.deliveries, c.sessions, c.leftovers, c.tallies, c.healths} {
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

// indexes reads what points to deliveries.
func (c *checker) indexes() error {
	err := c.each(bucketQueue, func(k, _ []byte) error {
		c.expect(len(k) == queueKeyLen, "queue %x: bad key", k)
		number := queueKeyNumber(k)
		c.expect(!c.queued[number], "queue: delivery %d stands twice", number)
		c.queued[number] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, index := range []struct {
		bucket []byte
		seen   map[uint64]bool
	}{{bucketByWebhook, c.indexed}, {bucketExceptions, c.excepted}} {
		err := c.each(index.bucket, func(k, _ []byte) error {
			number := binary.BigEndian.Uint64(k[len(k)-8:])
			c.expect(!index.seen[number], "%s: delivery %d stands twice", index.bucket, number)
			index.seen[number] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.each(bucketExpiry, func(k, _ []byte) error {
		c.expiring[string(k)] = true
		if k[0] == expirySession {
			c.expiringSessions[binary.BigEndian.Uint64(k[9:])] = true
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

// deliveries holds each delivery against its indexes, and takes out of them what it finds.
func (c *checker) deliveries() error {
	stored := func(bucket, key []byte) bool { return c.tx.Bucket(bucket).Get(key) != nil }
	return c.each(bucketDeliveries, func(k, v []byte) error {
		number := binary.BigEndian.Uint64(k)
		r, err := decodeDelivery(c.s.nonce, number, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		c.count(r.WebhookID).byStatus[r.Status]++
		queue, exception := indexKeys(&r)
		c.expect(c.indexed[number] && stored(bucketByWebhook, byWebhookKey(&r)), "delivery %d: not in by_webhook", number)
		c.expect(c.queued[number] == (queue != nil), "delivery %d: %s, in the queue: %t", number, r.Status, c.queued[number])
		c.expect(queue == nil || stored(bucketQueue, queue), "delivery %d: not at its place in the queue", number)
		c.expect(c.excepted[number] == (exception != nil), "delivery %d: %s, in exceptions: %t", number, r.Status, c.excepted[number])
		c.expect(exception == nil || stored(bucketExceptions, exception), "delivery %d: not at its place in exceptions", number)
		c.expect(r.Status.Waiting() == r.FinishedAt.IsZero(), "delivery %d: %s, finished at %v", number, r.Status, r.FinishedAt)
		c.expect(r.Status.Waiting() || c.expiring[string(expiryKey(expiryDelivery, r.FinishedAt, number))], "delivery %d: does not expire", number)
		c.expect(r.Status != engine.StatusPending && r.Status != engine.StatusDelivered || r.payload != 0, "delivery %d: %s without a payload", number, r.Status)
		c.expect(r.Status != engine.StatusScheduled || r.payload == 0, "delivery %d: scheduled with a payload", number)
		c.expect(r.Status != engine.StatusScheduled || stored(bucketSessions, u64key(r.session)), "delivery %d: waits, its session %d is gone", number, r.session)
		if r.payload != 0 {
			c.expect(!c.payloads[r.payload], "payload %d: belongs to two deliveries", r.payload)
			c.payloads[r.payload] = true
			key := u64key(r.payload)
			body, err := unseal(bucketPayloads, key, c.tx.Bucket(bucketPayloads).Get(key))
			c.expect(err == nil && json.Valid(body), "delivery %d: payload %d: %v", number, r.payload, err)
		}
		if queue != nil && !queueKeyIsTest(queue) {
			kept := c.s.countsIn(c.tx, r.WebhookID)
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
		delete(c.queued, number)
		delete(c.indexed, number)
		delete(c.excepted, number)
		return nil
	})
}

// countsIn reads the counts of a webhook as they are stored.
func (s *Store) countsIn(tx *bolt.Tx, webhookID uint32) counts {
	key := u32key(webhookID)
	c, err := decodeCounts(key, tx.Bucket(bucketCounts).Get(key))
	if err != nil {
		return counts{}
	}
	return c
}

// sessions holds the sessions against their events, numbers and marks.
func (c *checker) sessions() error {
	n := 0
	err := c.each(bucketSessions, func(k, v []byte) error {
		n++
		number := binary.BigEndian.Uint64(k)
		r, err := decodeSession(number, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		c.expect(bytes.Equal(c.tx.Bucket(bucketSessionNumbers).Get(r.ID[:]), k), "session %d: session_numbers does not lead to it", number)
		c.expect(c.expiringSessions[number], "session %d: does not expire", number)
		record, err := readSessionRecord(c.tx.Bucket(bucketEvents), r)
		c.expect(err == nil, "session %d: %v", number, err)
		events, err := record.Events()
		c.expect(err == nil, "session %d: %v", number, err)
		c.expect(len(events) == r.Events && len(record.Batches) == int(r.batches), "session %d: %d events in %d batches stored, %d in %d counted",
			number, len(events), len(record.Batches), r.Events, r.batches)
		type once struct {
			webhook uint32
			kind    engine.Kind
		}
		marked := make(map[once]bool)
		for _, m := range r.Marks {
			c.expect(!marked[once{m.WebhookID, m.Kind}], "session %d: two %s deliveries for webhook %d", number, m.Kind, m.WebhookID)
			marked[once{m.WebhookID, m.Kind}] = true
		}
		return nil
	})
	numbers := 0
	if err == nil {
		err = c.each(bucketSessionNumbers, func(k, v []byte) error { numbers++; return nil })
	}
	c.expect(n == numbers, "%d sessions, %d session numbers", n, numbers)
	return err
}

// leftovers looks for what belongs to nothing.
func (c *checker) leftovers() error {
	for number := range c.queued {
		c.expect(false, "queue: delivery %d is not stored", number)
	}
	for number := range c.indexed {
		c.expect(false, "by_webhook: delivery %d is not stored", number)
	}
	for number := range c.excepted {
		c.expect(false, "exceptions: delivery %d is not stored", number)
	}
	for _, part := range []struct{ bucket, of []byte }{{bucketEvents, bucketSessions}, {bucketAttempts, bucketDeliveries}} {
		err := c.each(part.bucket, func(k, _ []byte) error {
			c.expect(c.tx.Bucket(part.of).Get(k[:8]) != nil, "%s %x: belongs to nothing", part.bucket, k)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.each(bucketPayloads, func(k, _ []byte) error {
		c.expect(c.payloads[binary.BigEndian.Uint64(k)], "payload %x: belongs to no delivery", k)
		return nil
	})
}

// tallies holds the counts against what was counted.
func (c *checker) tallies() error {
	err := c.each(bucketCounts, func(k, v []byte) error {
		kept, err := decodeCounts(k, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		id := binary.BigEndian.Uint32(k)
		counted := c.count(id)
		c.expect(kept.byStatus == counted.byStatus, "counts of webhook %d: kept %v, counted %v", id, kept.byStatus, counted.byStatus)
		c.expect(kept.due == counted.due, "counts of webhook %d: %d kept as due, %d counted", id, kept.due, counted.due)
		delete(c.counts, id)
		return nil
	})
	for id, counted := range c.counts {
		c.expect(counted.empty(), "counts of webhook %d: none kept, counted %v", id, counted.byStatus)
	}
	return err
}

// healths holds the endpoints' health against the webhooks: only those that there are have one, and only while something fails.
func (c *checker) healths() error {
	return c.each(bucketHealth, func(k, v []byte) error {
		h, err := decodeHealth(k, v)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		c.expect(c.tx.Bucket(bucketWebhooks).Get(k) != nil, "health %x: there is no such webhook", k)
		c.expect(h.Failures > 0 && !h.FirstFailedAt.IsZero(), "health %x: %d failures since %v", k, h.Failures, h.FirstFailedAt)
		return nil
	})
}
