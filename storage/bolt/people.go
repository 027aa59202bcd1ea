package bolt

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one search through sessions or deliveries. The time bounds it where the file is not in memory. The counts bound it where the clock
// stands still.
const (
	maxSearched      = 50_000   // records
	maxSearchedBytes = 32 << 20 // of events and payloads
	maxSearchTime    = 25 * time.Millisecond
	// clockLooks and clockBytes are how much is searched between two looks at the clock.
	clockLooks = 64
	clockBytes = 256 << 10
)

// search is a bounded search in a transaction.
type search struct {
	tx                      *bbolt.Tx
	store                   *Store
	began                   time.Time
	looked, bytes           int // so far
	clockLooked, clockBytes int // at the last look at the clock
	late                    bool
}

func (s *Store) newSearch(tx *bbolt.Tx) *search { return &search{tx: tx, store: s, began: time.Now()} }

// look counts a record. It reports whether the search may look at it.
func (s *search) look(most int) bool {
	if s.looked-s.clockLooked >= clockLooks || s.bytes-s.clockBytes >= clockBytes {
		s.clockLooked, s.clockBytes = s.looked, s.bytes
		s.late = s.late || time.Since(s.began) > maxSearchTime
	}
	s.looked++
	return s.looked <= most && s.bytes <= maxSearchedBytes && !s.late
}

// Sessions implements engine.Store. There is no index of persons: it would cost each commit pages for addresses that nobody looks up. A
// search walks the sessions, as far as one page may go.
func (s *Store) Sessions(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
	before, err := parseSessionCursor(q.Cursor)
	if err != nil {
		return engine.SessionPage{}, err
	}
	var page engine.SessionPage
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		page = engine.SessionPage{}
		from, to := s.sessionsBetween(tx, &q)
		if before == 0 || before > to {
			before = to + 1
		}
		search, last := s.newSearch(tx), uint64(0)
		for k, v := range sessionsBelow(tx, before) {
			if len(k) != 8 {
				s.passes(badKey(bucketSessions, k))
				continue
			}
			number := binary.BigEndian.Uint64(k)
			if number < from {
				break
			}
			if len(page.Items) == q.Limit || !search.look(maxSearched) {
				page.NextCursor = sessionCursor(last)
				break
			}
			last = number
			head, ok, err := search.selects(&q, number, v)
			switch {
			case s.passes(err):
			case err != nil:
				return err
			case ok:
				head.Deliveries = nil
				page.Items = append(page.Items, head)
			}
		}
		return nil
	})
	return page, err
}

// sessionsBelow walks the keys of the sessions below a number, downwards.
func sessionsBelow(tx *bbolt.Tx, number uint64) func(yield func(k, v []byte) bool) {
	return func(yield func(k, v []byte) bool) {
		c := tx.Bucket(bucketSessions).Cursor()
		k, v := c.Seek(u64key(number))
		if k == nil {
			k, v = c.Last()
		}
		for ; k != nil; k, v = c.Prev() {
			if bytes.Compare(k, u64key(number)) < 0 && !yield(k, v) {
				return
			}
		}
	}
}

// selects reports whether a query selects a session.
func (s *search) selects(q *engine.SessionQuery, number uint64, value []byte) (engine.SessionHead, bool, error) {
	r, err := decodeSession(number, value)
	if err != nil || !q.Includes(&r.SessionHead) {
		return engine.SessionHead{}, false, err
	}
	for _, p := range q.Persons() {
		if ok, err := s.inEvents(&p, number); !ok {
			return engine.SessionHead{}, false, err
		}
	}
	return r.SessionHead, true, nil
}

// inEvents reports whether a person occurs in the events of a session. Events that cannot be read do not hide others: the error is returned
// only if the others do not have him.
func (s *search) inEvents(p *engine.Person, session uint64) (found bool, err error) {
	var damaged error
	err = eachBatch(s.tx.Bucket(bucketEvents), session, func(k, v []byte) error {
		if found {
			return nil
		}
		s.bytes += len(v)
		batch, err := decodeEvents(k, v, nil)
		if err == nil {
			if found, err = p.InEvents(batch.JSON); err != nil {
				err = fmt.Errorf("%w: events %x cannot be parsed", ErrCorrupt, k) // the parser's error may quote them
			}
		}
		if errors.Is(err, ErrCorrupt) {
			damaged, err = err, nil
		}
		return err
	})
	if err == nil && !found {
		err = damaged
	}
	return found, err
}

// inDelivery reports whether a person occurs in the payload of a delivery, or in what its record has of one.
func (s *search) inDelivery(p *engine.Person, r *deliveryRecord) (bool, error) {
	if r.payload == 0 {
		return p.InDelivery(&r.Delivery, nil)
	}
	key := u64key(r.payload)
	value := s.tx.Bucket(bucketPayloads).Get(key)
	s.bytes += len(value)
	body, err := unseal(bucketPayloads, key, value)
	if err != nil {
		return false, err
	}
	found, err := p.InDelivery(&r.Delivery, body)
	if err != nil {
		err = fmt.Errorf("%w: payload %d cannot be parsed", ErrCorrupt, r.payload)
	}
	return found, err
}

// isErased reports whether an erasure is about a session. If events of it cannot be read, the payloads of its deliveries are asked, too: what
// they have was in its events.
func (s *search) isErased(number uint64, head []byte, what *engine.Erasure) (bool, error) {
	p, ok := what.Person()
	if !ok {
		if !bytes.Contains(head, what.SessionID[:]) {
			return false, nil // decide without decoding: there may be millions
		}
		r, err := decodeSession(number, head)
		return r.ID == what.SessionID, err
	}
	if p.Visitor != nil {
		if id, err := sessionVisitor(u64key(number), head); err != nil || id != nil && *id == *p.Visitor {
			return err == nil, err
		}
	}
	found, err := s.inEvents(&p, number)
	if !errors.Is(err, ErrCorrupt) {
		return found, err
	}
	r, headErr := decodeSession(number, head)
	if headErr != nil {
		return false, headErr
	}
	for ref := range s.store.refs(s.tx, &r) {
		d, err := s.store.readMarked(s.tx, ref)
		if err != nil || d.number == 0 {
			continue // the error about the events is returned
		}
		if found, err := s.inDelivery(&p, &d); err == nil && found {
			return true, nil
		}
	}
	return false, err
}

// isLeftOf reports whether a delivery is left of a session that the erasure is about. What is known of it is in its payload, if it has one.
// Its record has the visitor of its session, too, unless it is from before version 7 of the layout.
func (s *search) isLeftOf(number uint64, value []byte, what *engine.Erasure) (bool, error) {
	p, ok := what.Person()
	if !ok && !bytes.Contains(value, what.SessionID[:]) {
		return false, nil // decide without decoding: there may be millions
	}
	r, err := decodeDelivery(s.store.nonce, number, value)
	switch {
	case err != nil || !r.Kind.OfSession():
		return false, err
	case !ok: // a dry run has counted those of a session that is stored
		return r.SessionID == what.SessionID && !(what.DryRun && isReadableSession(s.tx, r.session)), nil
	case isReadableSession(s.tx, r.session): // erasing the session also erases its deliveries
		return false, nil
	case p.Visitor != nil && r.visitor != nil && *r.visitor == *p.Visitor:
		return true, nil
	}
	return s.inDelivery(&p, &r)
}

// isReadableSession reports whether a session is stored, and its visitor can be read.
func isReadableSession(tx *bbolt.Tx, number uint64) bool {
	key := u64key(number)
	v := tx.Bucket(bucketSessions).Get(key)
	if v == nil {
		return false
	}
	_, err := sessionVisitor(key, v)
	return err == nil
}

// sessionCursor is the cursor of a page that ends with a session. The first byte tells it from a cursor of deliveries.
func sessionCursor(number uint64) string {
	return base64.RawURLEncoding.EncodeToString(slices.Concat([]byte{'s'}, u64key(number)))
}

// parseSessionCursor returns the number that a page's sessions are below, 0 for the first page.
func parseSessionCursor(cursor string) (uint64, error) {
	if cursor == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) != 9 || b[0] != 's' {
		return 0, errBadCursor
	}
	return max(1, binary.BigEndian.Uint64(b[1:])), nil
}

// receiptSlack is by how much the times of receipt of two sessions may differ from the order of their numbers: a request gets its time before
// it waits for the writer. It is far longer than any wait.
const receiptSlack = time.Hour

// sessionsBetween returns the numbers between which the sessions of a query lie, both inclusive. A clock that was set back further than
// receiptSlack makes the ends inexact.
func (s *Store) sessionsBetween(tx *bbolt.Tx, q *engine.SessionQuery) (from, to uint64) {
	from, to = 1, math.MaxUint64-1
	if !q.Since.IsZero() {
		from = s.firstSessionAt(tx, q.Since.Add(-receiptSlack))
	}
	if !q.Until.IsZero() {
		to = s.firstSessionAt(tx, q.Until.Add(receiptSlack))
	}
	return from, to
}

// firstSessionAt finds the first session that began at or after t.
func (s *Store) firstSessionAt(tx *bbolt.Tx, t time.Time) uint64 {
	return s.firstAt(tx, bucketSessions, 1, t, func(number uint64, value []byte) (time.Time, error) {
		r, err := decodeSession(number, value)
		return r.FirstReceivedAt, err
	})
}
