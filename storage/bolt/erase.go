package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one step of an erasure. A step searches in a read transaction and changes what it has found in a write transaction.
const (
	eraseLooks = 2000 // records looked at
	eraseFinds = 100  // sessions or deliveries erased
	// eraseChanges is how many keys a step may delete before it ends: a session may have thousands of events.
	eraseChanges = 2000
)

// erasePhase is a part of an erasure. Deliveries may outlive their session, so it is not enough to erase sessions. Sessions come
// first, so that the deliveries of one that expires meanwhile are found in the second phase. The third phase covers sessions that
// arrived meanwhile.
type erasePhase byte

const (
	eraseSessions   erasePhase = 's'
	eraseDeliveries erasePhase = 'd'
	eraseNewcomers  erasePhase = 'n'
)

// erasePlace is where an erasure goes on.
type erasePlace struct {
	phase erasePhase
	from  uint64 // S or D: the next number to look at
	// session is the S up to which the first phase has looked, during the second phase.
	session uint64
}

func (p erasePlace) String() string { return fmt.Sprintf("%c%d.%d", p.phase, p.from, p.session) }

func parseErasePlace(s string) (p erasePlace, err error) {
	if s == "" {
		return erasePlace{phase: eraseSessions}, nil
	}
	_, err = fmt.Sscanf(s, "%c%d.%d", &p.phase, &p.from, &p.session)
	return p, err
}

// Erase implements engine.Store.
func (s *Store) Erase(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error) {
	at, err := parseErasePlace(place)
	if err != nil {
		return engine.ErasedStep{}, fmt.Errorf("place of an erasure: %w", err)
	}
	var found []uint64
	var damaged []error
	var more bool
	next := at
	err = s.viewSession(ctx, what.SessionID, func(tx *bbolt.Tx, session finder) (err error) {
		next = at
		found, damaged, more, err = next.look(tx, s, session, what)
		return err
	})
	if err != nil {
		return engine.ErasedStep{}, err
	}
	var step engine.ErasedStep
	if len(found) > 0 {
		var stopped uint64
		err := s.write(ctx, 64<<10, func(b *batch) (err error) {
			step = engine.ErasedStep{}
			stopped, err = b.erase(at.phase, found, &step)
			return err
		})
		if err != nil {
			return engine.ErasedStep{}, err
		}
		if stopped != 0 {
			next.from, more = stopped, true
		}
	}
	if !more {
		switch at.phase {
		case eraseSessions:
			next = erasePlace{phase: eraseDeliveries, session: next.from}
		case eraseDeliveries:
			next = erasePlace{phase: eraseNewcomers, from: at.session}
		case eraseNewcomers:
			step.Damaged = append(step.Damaged, damaged...)
			return step, nil
		}
	}
	step.Next = next.String()
	step.Damaged = append(step.Damaged, damaged...)
	return step, nil
}

// look walks the numbers, as far as one step may go, and returns those to erase. more reports whether numbers are left; damaged lists
// records that could not be read.
func (p *erasePlace) look(tx *bbolt.Tx, s *Store, session finder, what engine.Erasure) (found []uint64, damaged []error, more bool, err error) {
	bucket, matches := bucketSessions, func(k, v []byte) (bool, error) { return isErased(k, v, what) }
	if p.phase == eraseDeliveries {
		bucket, matches = bucketDeliveries, func(k, v []byte) (bool, error) { return s.isLeftOf(tx, what, k, v) }
	} else if what.Visitor == nil {
		switch r, err := session.read(tx); {
		case errors.Is(err, ErrCorrupt): // what leads to the session is damaged, or its head: search all heads
			damaged = append(damaged, err)
		case err == nil && r.number != 0:
			return []uint64{r.number}, nil, false, nil
		case err != nil || !s.numbers.incomplete:
			return nil, nil, false, err
		}
	}
	looked := 0
	for k, v := range s.entries(tx, bucket, nil, u64key(p.from)) {
		if looked++; looked > eraseLooks || len(found) == eraseFinds {
			return found, damaged, true, nil
		}
		number := binary.BigEndian.Uint64(k)
		switch ok, err := matches(k, v); {
		case errors.Is(err, ErrCorrupt): // one damaged record must not stop the erasure of the others
			damaged = append(damaged, err)
		case err != nil:
			return nil, nil, false, err
		case ok:
			found = append(found, number)
		}
		p.from = number + 1
	}
	return found, damaged, false, nil
}

// isErased reports whether an erasure is about a session.
func isErased(key, head []byte, what engine.Erasure) (bool, error) {
	if what.Visitor != nil {
		id, err := sessionVisitor(key, head)
		return id != nil && *id == *what.Visitor, err
	}
	if !bytes.Contains(head, what.SessionID[:]) {
		return false, nil // decide without decoding: there may be millions
	}
	r, err := decodeSession(binary.BigEndian.Uint64(key), head)
	return r.ID == what.SessionID, err
}

// isLeftOf reports whether a delivery is left of a session that the erasure is about. A delivery from before version 7 of the layout
// does not name its visitor; its payload does, if it has one.
func (s *Store) isLeftOf(tx *bbolt.Tx, what engine.Erasure, key, value []byte) (bool, error) {
	if what.Visitor == nil && !bytes.Contains(value, what.SessionID[:]) {
		return false, nil // decide without decoding: there may be millions
	}
	r, err := decodeDelivery(s.nonce, binary.BigEndian.Uint64(key), value)
	switch {
	case err != nil || !r.Kind.OfSession():
		return false, err
	case what.Visitor == nil:
		return r.SessionID == what.SessionID, nil
	case isReadableSession(tx, r.session): // erasing the session also erases its deliveries
		return false, nil
	case r.visitorKnown:
		return r.visitor != nil && *r.visitor == *what.Visitor, nil
	case r.payload == 0:
		return false, nil
	}
	k := u64key(r.payload)
	body, err := unseal(bucketPayloads, k, tx.Bucket(bucketPayloads).Get(k))
	if err != nil {
		return false, err
	}
	visitor, err := engine.PayloadVisitor(body)
	if err != nil {
		return false, fmt.Errorf("%w: payload %d: %v", ErrCorrupt, r.payload, err)
	}
	return visitor != nil && *visitor == *what.Visitor, nil
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

// erase erases sessions or deliveries, as far as one step may go. It returns the first number that it is not done with, 0 if there is none.
// Each session has a share of the step: sessions with thousands of deliveries have them in the same lanes, one behind the other.
func (b *batch) erase(phase erasePhase, numbers []uint64, step *engine.ErasedStep) (left uint64, err error) {
	end, share := b.changes+eraseChanges, eraseChanges/len(numbers)
	for _, number := range numbers {
		done := b.changes <= end
		switch {
		case !done:
		case phase == eraseDeliveries:
			err = b.eraseDelivery(number, step)
		default:
			done, err = b.eraseSession(number, share, step)
		}
		if err != nil {
			return 0, err
		}
		if !done && left == 0 {
			left = number
		}
	}
	return left, nil
}

// eraseSession erases a session and its deliveries. It stops after about so many changes, because there may be thousands of deliveries; done
// reports whether the session is gone. If the session expired since the search, the second phase finds its deliveries.
func (b *batch) eraseSession(number uint64, most int, step *engine.ErasedStep) (done bool, err error) {
	v := b.sessions.Get(u64key(number))
	if v == nil {
		return true, nil
	}
	r, err := decodeSession(number, v)
	if errors.Is(err, ErrCorrupt) {
		step.Damaged = append(step.Damaged, err)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	end := b.changes + most
	for _, ref := range b.someRefs(&r, maxMarksInHead+most+1) { // each mark outside the head is a change: no more are needed
		if b.changes > end {
			return false, b.put(b.sessions, u64key(r.number), r.encode())
		}
		if err := b.eraseDelivery(deliveryNumber(ref.ID), step); err != nil {
			return false, err
		}
		if err := b.unmark(&r, ref); err != nil {
			return false, err
		}
	}
	step.Erased.Sessions++
	step.Erased.Events += int64(r.Events)
	return true, b.removeSession(&r)
}

// eraseDelivery erases a delivery. A damaged one stays, because it is not known what belongs to it; the erasure goes on without it.
func (b *batch) eraseDelivery(number uint64, step *engine.ErasedStep) error {
	r, err := b.s.readDelivery(b.deliveries, number)
	if errors.Is(err, ErrCorrupt) {
		step.Damaged = append(step.Damaged, err)
		return nil
	}
	if err != nil || r.number == 0 {
		return err
	}
	step.Erased.Deliveries++
	step.Erased.Attempts += int64(r.Attempts)
	step.Deleted = append(step.Deleted, r.Delivery)
	return b.removeDelivery(&r)
}
