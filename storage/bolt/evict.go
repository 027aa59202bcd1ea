package bolt

import (
	"bytes"
	"errors"
	"time"

	"hookbolt/engine"
)

const (
	// crowdedPercent is the share of max_bytes in use at which retention by size begins. The rest is for events that arrive while it
	// works.
	crowdedPercent = 90
	// crowdedLook is how often to check that share. crowdedRest is how long to wait when nothing more could be removed.
	crowdedLook = time.Second
	crowdedRest = 10 * time.Second
)

// eviction is the progress of retention by size. It walks expiry: deliveries first, then sessions. Owned by the writer.
type eviction struct {
	kind  byte      // of the entries in progress
	after []byte    // the last key that was kept
	rest  time.Time // no search before this time
}

// stepEviction removes finished data before its retention ends, oldest first, while too much of max_bytes is in use. It first removes
// deliveries with their payloads and attempts. Then it removes sessions that have finished, and sessions without an event for a day.
// It never removes deliveries that wait, or their sessions.
func (b *batch) stepEviction(now time.Time, m *engine.Maintained) error {
	if _, maxBytes := b.s.space.limits(); maxBytes == 0 {
		return nil
	}
	m.Next = earlier(m.Next, now.Add(crowdedLook))
	if !b.s.space.crowded() {
		b.s.eviction = eviction{}
		return nil
	}
	e := b.s.eviction
	if now.Before(e.rest) && e.rest.Sub(now) <= crowdedRest { // otherwise the clock was set back
		return nil
	}
	if e.kind == 0 {
		e.kind = expiryDelivery
	}
	keys, values := b.evictable(&e)
	budget := b.expireBudget()
	for i, k := range keys {
		if budget.spent() {
			break
		}
		numbers, err := decodeExpiry(k, values[i])
		if errors.Is(err, ErrCorrupt) {
			m.Damaged = append(m.Damaged, err)
			e.after = k[1:]
			continue
		}
		var stay []uint64
		done := 0
		for ; done < len(numbers) && !budget.spent(); done++ {
			budget.numbers--
			gone, err := b.evict(k[0], numbers[done], expiryAt(k), now, &m.Evicted)
			switch {
			case errors.Is(err, ErrCorrupt):
				m.Damaged = append(m.Damaged, err)
			case err != nil:
				return err
			}
			if !gone {
				stay = append(stay, numbers[done])
			}
		}
		if err := b.splitExpiry(&e, k, stay, numbers[done:], len(numbers)); err != nil {
			return err
		}
	}
	switch {
	case len(keys) > 0:
		m.Next = now
	case e.kind == expiryDelivery:
		e, m.Next = eviction{kind: expirySession}, now
	default:
		e = eviction{rest: now.Add(crowdedRest)} // start from the beginning next time
	}
	b.after = append(b.after, func() { b.s.eviction = e })
	return nil
}

// evictable returns the next entries of expiry with their values, as many as one step may look at.
func (b *batch) evictable(e *eviction) (keys, values [][]byte) {
	for k, v := range b.s.entries(b.tx, bucketExpiry, []byte{e.kind}, e.after) {
		if len(keys) == expireStep {
			break
		}
		if !bytes.Equal(k[1:], e.after) {
			keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
		}
	}
	return keys, values
}

// splitExpiry writes what is left of an entry after a step. had is how many numbers it had. stay are those that are kept; rest are
// those that the step did not reach. rest gets an entry of its own after stay, where the next step goes on.
func (b *batch) splitExpiry(e *eviction, k []byte, stay, rest []uint64, had int) error {
	if len(stay) < had {
		if err := b.delete(b.expiry, k); err != nil {
			return err
		}
		for _, numbers := range [][]uint64{stay, rest} {
			if len(numbers) == 0 {
				continue
			}
			if err := b.putExpiry(k[0], expiryAt(k), numbers); err != nil {
				return err
			}
		}
	}
	switch {
	case len(stay) > 0:
		e.after = expiryKey(k[0], expiryAt(k), stay[0])[1:]
	case len(rest) == 0:
		e.after = k[1:]
	}
	return nil
}

// evict removes the record of a number in an expiry entry, if it may go. at is the time of the entry. gone reports whether the number
// can leave the entry.
func (b *batch) evict(kind byte, number uint64, at, now time.Time, count *engine.Removed) (gone bool, err error) {
	if kind == expiryDelivery {
		r, err := b.s.readDelivery(b.deliveries, number)
		if err != nil || r.number == 0 || !r.FinishedBy(at) { // sent again since: it has another entry, or will have one
			return err == nil, err
		}
		count.Deliveries++
		return true, b.retireDelivery(&r)
	}
	v := b.sessions.Get(u64key(number))
	if v == nil {
		return true, nil
	}
	r, err := decodeSession(number, v)
	if err != nil || !r.Evictable(now) {
		return false, err
	}
	if waits, err := b.waits(&r); err != nil || waits {
		return false, err
	}
	count.Sessions++
	return true, b.removeSession(&r)
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
