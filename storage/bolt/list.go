package bolt

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// maxListed is how many deliveries are looked at for one page. A page that finds fewer than its limit among them ends there.
const maxListed = 5000

// Deliveries implements engine.Store.
func (s *Store) Deliveries(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
	var page engine.DeliveryPage
	err := s.viewSession(ctx, q.SessionID, func(tx *bbolt.Tx, session finder) error {
		page = engine.DeliveryPage{}
		w, err := s.walk(tx, session, q)
		if err != nil {
			return err
		}
		deliveries := tx.Bucket(bucketDeliveries)
		for looked := 0; ; looked++ {
			place, number, ok := w.peek()
			if !ok {
				return nil
			}
			if len(page.Items) == q.Limit || looked == maxListed {
				page.NextCursor = base64.RawURLEncoding.EncodeToString(w.last)
				return nil
			}
			// Skip most entries by number or status alone: that costs a fraction of decoding them.
			var v []byte
			if w.numbers.has(number) {
				v = deliveries.Get(u64key(number))
			}
			if v != nil && (q.Status == 0 || storedStatus(v) == q.Status) {
				r, err := decodeDelivery(s.nonce, number, v)
				switch {
				case s.passes(err):
				case err != nil:
					return err
				case matches(&r.Delivery, q):
					page.Items = append(page.Items, r.Delivery)
				}
			}
			w.last = append(w.last[:0], place...)
			w.next()
		}
	})
	return page, err
}

func matches(d *engine.Delivery, q engine.DeliveryQuery) bool {
	return (q.WebhookID == 0 || d.WebhookID == q.WebhookID) &&
		(q.SessionID == uuid.Nil || d.SessionID == q.SessionID) &&
		(q.Status == 0 || d.Status == q.Status) &&
		(q.Since.IsZero() || !d.CreatedAt.Before(q.Since)) &&
		(q.Until.IsZero() || !d.CreatedAt.After(q.Until)) &&
		(!q.LateEvents || d.LateEvents > 0)
}

// walk chooses the index that leads to a query's deliveries with the fewest entries to skip. session is that of a query for one.
func (s *Store) walk(tx *bbolt.Tx, session finder, q engine.DeliveryQuery) (*walker, error) {
	after, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil || q.Cursor != "" && len(after) != 8 && len(after) != 16 {
		return nil, errBadCursor
	}
	if q.SessionID != uuid.Nil {
		w, err := s.walkSession(tx, session, after)
		if w != nil || err != nil {
			return w, err
		}
		return newWalker(tx.Bucket(bucketDeliveries), [][]byte{nil}, 8, s.numbersBetween(tx, q), after) // matches finds them
	}
	if q.WebhookID == 0 && q.Status == 0 {
		return newWalker(tx.Bucket(bucketDeliveries), [][]byte{nil}, 8, s.numbersBetween(tx, q), after)
	}
	ids, err := s.webhooksWith(tx, q)
	if err != nil {
		return nil, err
	}
	var prefixes [][]byte
	switch {
	case q.Status.Waiting():
		for _, id := range ids {
			prefixes = append(prefixes, lanePrefix(engine.Lane{WebhookID: id}), lanePrefix(engine.Lane{WebhookID: id, Test: true}))
		}
		w, err := newWalker(tx.Bucket(bucketQueue), prefixes, 16, nil, after)
		if err == nil {
			w.numbers = s.numbersBetween(tx, q)
		}
		return w, err
	case q.Status == engine.StatusFailed || q.Status == engine.StatusCancelled || q.Status == engine.StatusFiltered:
		for _, id := range ids {
			prefixes = append(prefixes, undeliveredPrefix(id, q.Status))
		}
		return newWalker(tx.Bucket(bucketUndelivered), prefixes, 8, s.numbersBetween(tx, q), after)
	case q.WebhookID == 0 && len(ids) > 0: // most deliveries are delivered; this case is for any webhook
		return newWalker(tx.Bucket(bucketDeliveries), [][]byte{nil}, 8, s.numbersBetween(tx, q), after)
	}
	for _, id := range ids {
		prefixes = append(prefixes, u32key(id))
	}
	return newWalker(tx.Bucket(bucketByWebhook), prefixes, 8, s.numbersBetween(tx, q), after)
}

var errBadCursor = engine.InputErrors{{Field: "cursor", Detail: "must be the next_cursor of a page of the same list"}}

// webhooksWith returns the webhooks that have deliveries of the query's status. If the query names a webhook, only that one counts.
// The counts answer this without a search through deliveries of other states. A webhook whose counts cannot be read may have any.
func (s *Store) webhooksWith(tx *bbolt.Tx, q engine.DeliveryQuery) (ids []uint32, err error) {
	var prefix []byte
	if q.WebhookID != 0 {
		prefix = u32key(q.WebhookID)
	}
	readable := make(map[uint32]bool)
	damaged := false
	c := tx.Bucket(bucketCounts).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		n, err := decodeCounts(k, v)
		if s.passes(err) { // the checksum covers the key, too
			damaged = true
			continue
		}
		if err != nil {
			return nil, err
		}
		id := binary.BigEndian.Uint32(k)
		readable[id] = true
		if q.Status == 0 && !n.empty() || q.Status != 0 && n.byStatus[q.Status] > 0 {
			ids = append(ids, id)
		}
	}
	switch {
	case q.WebhookID != 0:
		if !readable[q.WebhookID] {
			ids = append(ids, q.WebhookID)
		}
	case damaged:
		return s.unreadCounts(tx, readable, ids), nil
	}
	return ids, nil
}

// unreadCounts adds to ids the webhooks that have deliveries and no readable counts. It finds them in by_webhook: some may be deleted.
func (s *Store) unreadCounts(tx *bbolt.Tx, readable map[uint32]bool, ids []uint32) []uint32 {
	c := tx.Bucket(bucketByWebhook).Cursor()
	for k, _ := c.First(); len(k) >= 4; {
		id := binary.BigEndian.Uint32(k)
		if !readable[id] {
			ids = append(ids, id)
		}
		if id == math.MaxUint32 {
			break
		}
		k, _ = c.Seek(u32key(id + 1))
	}
	return ids
}

// walkSession walks a session's deliveries, which its marks name. It returns nil if the marks cannot be read.
func (s *Store) walkSession(tx *bbolt.Tx, session finder, after []byte) (*walker, error) {
	r, err := session.read(tx)
	if s.passes(err) || err == nil && r.number == 0 && s.numbers.incomplete {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(after) == 16 {
		return nil, errBadCursor
	}
	w := &walker{size: 8, last: after}
	for m := range s.refs(tx, &r) {
		if k := u64key(s.numberOf(tx, m.ID)); len(after) == 0 || bytes.Compare(k, after) < 0 {
			w.heads = append(w.heads, &walkHead{place: k})
		}
	}
	heap.Init(&w.heads)
	return w, nil
}

// span is a range of delivery numbers, both ends inclusive.
type span struct{ from, to uint64 }

// has reports whether a number lies in a span. A nil span has all numbers.
func (r *span) has(number uint64) bool {
	return r == nil || r.from <= number && number <= r.to
}

// numbersBetween returns the numbers of the deliveries created between q.Since and q.Until. The writer assigns numbers and times in
// the same order. A clock that was set back makes the ends inexact, so callers still compare each time.
func (s *Store) numbersBetween(tx *bbolt.Tx, q engine.DeliveryQuery) *span {
	if q.Since.IsZero() && q.Until.IsZero() {
		return nil
	}
	r := &span{0, math.MaxUint64}
	if !q.Since.IsZero() {
		r.from = s.firstNumberAt(tx, q.Since)
	}
	if !q.Until.IsZero() {
		if r.to = s.firstNumberAt(tx, q.Until.Add(1)); r.to == 0 {
			return &span{1, 0}
		}
		r.to--
	}
	return r
}

// firstNumberAt finds the first delivery created at or after t.
func (s *Store) firstNumberAt(tx *bbolt.Tx, t time.Time) uint64 {
	return s.firstAt(tx, bucketDeliveries, 0, t, func(number uint64, value []byte) (time.Time, error) {
		r, err := decodeDelivery(s.nonce, number, value)
		return r.CreatedAt, err
	})
}

// firstAt finds the first number, from low on, of a bucket whose records have growing numbers and times, whose time is t or later, by binary
// search. timeOf reads the time of a record.
func (s *Store) firstAt(tx *bbolt.Tx, bucket []byte, low uint64, t time.Time, timeOf func(number uint64, value []byte) (time.Time, error)) uint64 {
	high := tx.Bucket(bucket).Sequence() + 1 // sort.Search uses int, which is too small on 32 bits. The result lies in [low, high].
	for low < high {
		middle := low + (high-low)/2
		if number, at := s.readableFrom(tx, bucket, middle, high, timeOf); number == 0 || !at.Before(t) {
			high = middle
		} else {
			low = number + 1
		}
	}
	return low
}

// readableFrom returns the first record from a number on, and below another, that can be read; the number 0 if there is none. A damaged one
// says nothing about its time, so a search goes by the next.
func (s *Store) readableFrom(tx *bbolt.Tx, bucket []byte, from, below uint64, timeOf func(number uint64, value []byte) (time.Time, error)) (number uint64, at time.Time) {
	for k, v := range s.entries(tx, bucket, nil, u64key(from)) {
		number := binary.BigEndian.Uint64(k)
		if number >= below {
			break
		}
		at, err := timeOf(number, v)
		if !s.passes(err) && err == nil {
			return number, at
		}
	}
	return 0, time.Time{}
}

// walker merges the keys of several prefixes, greatest first. It compares the part after the prefix (the place), which ends in a
// delivery's number.
type walker struct {
	heads walkHeap
	size  int    // of a place
	last  []byte // the place after which the next page begins
	from  []byte // lower bound of places; nil for none
	// numbers are the wanted delivery numbers, where places are not ordered by number.
	numbers *span
}

type walkHead struct {
	cursor *bbolt.Cursor // nil: a single place
	prefix []byte
	place  []byte
}

func newWalker(bucket *bbolt.Bucket, prefixes [][]byte, size int, numbers *span, after []byte) (*walker, error) {
	if len(after) != 0 && len(after) != size {
		return nil, errBadCursor
	}
	w := &walker{size: size, last: after}
	below := after // exclusive upper bound
	if len(below) == 0 {
		below = bytes.Repeat([]byte{0xff}, size) // greater than any due time or number
	}
	if numbers != nil {
		w.from = u64key(numbers.from)
		if numbers.to < numbers.from {
			return w, nil
		}
		if numbers.to < math.MaxUint64 {
			if to := u64key(numbers.to + 1); bytes.Compare(to, below) < 0 {
				below = to
			}
		}
	}
	for _, prefix := range prefixes {
		h := &walkHead{cursor: bucket.Cursor(), prefix: prefix}
		// Seek to the first excluded key, and step back by one.
		k, _ := h.cursor.Seek(append(bytes.Clone(prefix), below...))
		if k == nil {
			k, _ = h.cursor.Last()
		} else {
			k, _ = h.cursor.Prev()
		}
		if w.accept(h, k) {
			w.heads = append(w.heads, h)
		}
	}
	heap.Init(&w.heads)
	return w, nil
}

// accept sets a head to a key, if the key has the head's prefix. It passes keys of another length, which are damaged.
func (w *walker) accept(h *walkHead, k []byte) bool {
	for len(k) != len(h.prefix)+w.size {
		if k == nil || !bytes.HasPrefix(k, h.prefix) {
			return false
		}
		k, _ = h.cursor.Prev()
	}
	if !bytes.HasPrefix(k, h.prefix) {
		return false
	}
	h.place = k[len(h.prefix):]
	return w.from == nil || bytes.Compare(h.place, w.from) >= 0
}

// peek returns the greatest place left and the delivery's number in it.
func (w *walker) peek() (place []byte, number uint64, ok bool) {
	if len(w.heads) == 0 {
		return nil, 0, false
	}
	place = w.heads[0].place
	return place, binary.BigEndian.Uint64(place[len(place)-8:]), true
}

// next moves on to the next place.
func (w *walker) next() {
	h := w.heads[0]
	if h.cursor != nil {
		if k, _ := h.cursor.Prev(); w.accept(h, k) {
			heap.Fix(&w.heads, 0)
			return
		}
	}
	heap.Pop(&w.heads)
}

// walkHeap has the greatest place first.
type walkHeap []*walkHead

func (h walkHeap) Len() int           { return len(h) }
func (h walkHeap) Less(i, j int) bool { return bytes.Compare(h[i].place, h[j].place) > 0 }
func (h walkHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *walkHeap) Push(x any)        { *h = append(*h, x.(*walkHead)) }
func (h *walkHeap) Pop() any {
	last := len(*h) - 1
	head := (*h)[last]
	*h = (*h)[:last]
	return head
}
