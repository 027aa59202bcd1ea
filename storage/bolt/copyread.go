package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
	"hookbolt/storage/internal/copying"
)

// ReadFile calls f with a reader of a database that is not open. It holds bbolt's lock meanwhile, so that no hookbolt opens the file. Its errors are those of
// CheckFile.
func ReadFile(path string, f func(copying.Reader) error) error {
	return withFile(path, false, func(db *bbolt.DB) error {
		s := &Store{db: db}
		if _, err := s.schema(); err != nil {
			return err
		}
		r, err := newCopyReader(db)
		if err != nil {
			return err
		}
		return f(r)
	})
}

// copyReader implements copying.Reader. A step of it reads so many records in a transaction that their values stay valid until f has copied what it keeps.
type copyReader struct {
	s    *Store
	mark string
}

func newCopyReader(db *bbolt.DB) (*copyReader, error) {
	r := &copyReader{s: &Store{db: db}}
	err := db.View(func(tx *bbolt.Tx) (err error) {
		r.s.nonce, err = metaU32(tx.Bucket(bucketMeta), keyNonce)
		r.mark = fmt.Sprintf("file %07x.%d", r.s.nonce, tx.ID())
		return err
	})
	return r, err
}

// Mark implements copying.Reader.
func (r *copyReader) Mark() string { return r.mark }

// Totals implements copying.Reader. It walks the pages of three buckets.
func (r *copyReader) Totals(context.Context) (t copying.Totals, err error) {
	err = r.s.db.View(func(tx *bbolt.Tx) error {
		for _, one := range []struct {
			bucket []byte
			n      *int64
		}{{bucketSessions, &t.Sessions}, {bucketDeliveries, &t.Deliveries}, {bucketRequestKeys, &t.Requests}} {
			if b := tx.Bucket(one.bucket); b != nil {
				*one.n = int64(b.Stats().KeyN)
			}
		}
		return nil
	})
	return t, err
}

// walk calls f for each entry of a bucket whose key is greater than after, which may be nil.
func (r *copyReader) walk(ctx context.Context, bucket, after []byte, f func(tx *bbolt.Tx, k, v []byte) error) error {
	return r.s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil { // of an older version
			return nil
		}
		c := b.Cursor()
		k, v := c.Seek(after)
		if after != nil && bytes.Equal(k, after) {
			k, v = c.Next()
		}
		for ; k != nil; k, v = c.Next() {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if err := f(tx, k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// pass has damaged decide about a damaged record. Other errors are returned.
func pass(err error, damaged func(error) error) error {
	if errors.Is(err, ErrCorrupt) {
		return damaged(err)
	}
	return err
}

// Sessions implements copying.Reader.
func (r *copyReader) Sessions(ctx context.Context, after int64, damaged func(error) error, f func(*copying.Session) error) error {
	return r.walk(ctx, bucketSessions, u64key(uint64(after)), func(tx *bbolt.Tx, k, v []byte) error {
		one, err := r.session(tx, k, v)
		if err != nil {
			return pass(err, damaged)
		}
		return f(one)
	})
}

func (r *copyReader) session(tx *bbolt.Tx, k, v []byte) (*copying.Session, error) {
	if len(k) != 8 {
		return nil, badKey(bucketSessions, k)
	}
	head, err := decodeSession(binary.BigEndian.Uint64(k), v)
	if err != nil {
		return nil, err
	}
	one := &copying.Session{SessionHead: head.SessionHead, No: int64(head.number)}
	size := 0
	err = eachBatch(tx.Bucket(bucketEvents), head.number, func(ek, ev []byte) error {
		var ids []string
		b, err := decodeEvents(ek, ev, func(id string) { ids = append(ids, id) })
		one.Requests = append(one.Requests, copying.Events{ReceivedAt: b.ReceivedAt, IDs: ids, JSON: bytes.Clone(b.JSON)})
		size += len(b.JSON)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(one.Requests) != int(head.batches) {
		return nil, fmt.Errorf("%w: session %d: %d requests stored, %d counted", ErrCorrupt, head.number, len(one.Requests), head.batches)
	}
	// Each event has a comma or bracket before it, and each list a bracket at its end. Sessions from before version 3 have no size.
	one.Bytes = max(one.Bytes, int64(size-one.Events-len(one.Requests)))
	if head.marks == 0 {
		return one, nil
	}
	c, marks := tx.Bucket(bucketMarks).Cursor(), uint32(0)
	for mk, mv := c.Seek(k); bytes.HasPrefix(mk, k); mk, mv = c.Next() {
		if !fitsMark(mk) {
			return nil, badKey(bucketMarks, mk)
		}
		id, err := decodeMark(mk, mv)
		if err != nil {
			return nil, err
		}
		one.Deliveries = append(one.Deliveries, refOf(mk, id))
		marks++
	}
	if marks != head.marks {
		return nil, fmt.Errorf("%w: session %d: %d marks stored, %d counted", ErrCorrupt, head.number, marks, head.marks)
	}
	return one, nil
}

// Deliveries implements copying.Reader. Their places are their D.
func (r *copyReader) Deliveries(ctx context.Context, after []byte, damaged func(error) error, f func(*copying.Delivery) error) error {
	return r.walk(ctx, bucketDeliveries, after, func(tx *bbolt.Tx, k, v []byte) error {
		one, err := r.delivery(tx, k, v)
		if err != nil {
			return pass(err, damaged)
		}
		return f(one)
	})
}

func (r *copyReader) delivery(tx *bbolt.Tx, k, v []byte) (*copying.Delivery, error) {
	if len(k) != 8 {
		return nil, badKey(bucketDeliveries, k)
	}
	d, err := decodeDelivery(r.s.nonce, binary.BigEndian.Uint64(k), v)
	if err != nil {
		return nil, err
	}
	one := &copying.Delivery{Delivery: d.Delivery, Place: bytes.Clone(k), SessionNo: int64(d.session), Visitor: d.visitor}
	if !d.visitorKnown { // of a version before 7: its session has it, as long as that is stored
		head, err := r.s.sessionOf(tx, &d)
		if err != nil {
			return nil, err
		}
		one.Visitor = head.Identity.PoltioUserID
	}
	if d.payload != 0 {
		key := u64key(d.payload)
		body, err := unseal(bucketPayloads, key, tx.Bucket(bucketPayloads).Get(key))
		if err != nil {
			return nil, err
		}
		one.Payload = append(make([]byte, 0, len(body)), body...)
	}
	c := tx.Bucket(bucketAttempts).Cursor()
	for ak, av := c.Seek(k); bytes.HasPrefix(ak, k); ak, av = c.Next() {
		a, err := decodeAttempt(ak, av)
		if err != nil {
			return nil, err
		}
		if one.Attempts = append(one.Attempts, a); !bytes.Equal(ak, itemKey(d.number, uint32(len(one.Attempts)))) {
			return nil, badKey(bucketAttempts, ak)
		}
	}
	if len(one.Attempts) != d.Attempts {
		return nil, fmt.Errorf("%w: delivery %d: %d attempts stored, %d counted", ErrCorrupt, d.number, len(one.Attempts), d.Attempts)
	}
	return one, nil
}

// Requests implements copying.Reader.
func (r *copyReader) Requests(ctx context.Context, after []byte, damaged func(error) error, f func(*copying.Request) error) error {
	return r.walk(ctx, bucketRequestKeys, after, func(_ *bbolt.Tx, k, v []byte) error {
		one := new(copying.Request)
		if len(k) != len(one.Key) {
			return pass(badKey(bucketRequestKeys, k), damaged)
		}
		done, err := decodeDone(k, v)
		if err != nil {
			return pass(err, damaged)
		}
		copy(one.Key[:], k)
		one.Done = *done
		return f(one)
	})
}

// Rest implements copying.Reader.
func (r *copyReader) Rest(ctx context.Context, damaged func(error) error) (*copying.Rest, error) {
	rest := &copying.Rest{Health: make(map[uint32]engine.Health)}
	for _, part := range []struct {
		bucket []byte
		add    func(rest *copying.Rest, tx *bbolt.Tx, k, v []byte) error
	}{{bucketWebhooks, r.addWebhook}, {bucketHealth, r.addHealth}, {bucketJobs, r.addJob}, {bucketFanOuts, r.addFanOut}} {
		err := r.walk(ctx, part.bucket, nil, func(tx *bbolt.Tx, k, v []byte) error { return pass(part.add(rest, tx, k, v), damaged) })
		if err != nil {
			return nil, err
		}
	}
	err := r.s.db.View(func(tx *bbolt.Tx) error {
		last := func(bucket []byte) int64 {
			if b := tx.Bucket(bucket); b != nil {
				return int64(b.Sequence())
			}
			return 0
		}
		rest.LastWebhook, rest.LastSession, rest.LastJob = last(bucketWebhooks), last(bucketSessions), max(last(bucketJobs), last(bucketFanOuts))
		return nil
	})
	return rest, err
}

func (r *copyReader) addWebhook(rest *copying.Rest, _ *bbolt.Tx, k, v []byte) error {
	body, err := unseal(bucketWebhooks, k, v)
	if err != nil {
		return err
	}
	w := new(engine.Webhook)
	if err := json.Unmarshal(body, w); err != nil || !bytes.Equal(k, u32key(w.ID)) {
		return fmt.Errorf("%w: webhooks %x: %v", ErrCorrupt, k, err)
	}
	rest.Webhooks = append(rest.Webhooks, w)
	return nil
}

func (r *copyReader) addHealth(rest *copying.Rest, _ *bbolt.Tx, k, v []byte) error {
	if len(k) != 4 {
		return badKey(bucketHealth, k)
	}
	h, err := decodeHealth(k, v)
	if err == nil {
		rest.Health[binary.BigEndian.Uint32(k)] = h
	}
	return err
}

func (r *copyReader) addJob(rest *copying.Rest, tx *bbolt.Tx, k, v []byte) error {
	if len(k) != 8 {
		return badKey(bucketJobs, k)
	}
	j, err := decodeJob(k, v)
	if err != nil {
		return err
	}
	one := copying.Job{No: int64(binary.BigEndian.Uint64(k)), Cancellation: j.Cancellation}
	switch {
	case j.Replay != nil && j.Replay.Scope == engine.ReplayMissing:
		one.Replay = &copying.Replay{Replay: j.Replay.Replay, AfterSession: int64(max(1, j.Replay.From) - 1), ToSession: int64(j.Replay.To)}
	case j.Replay != nil:
		one.Replay = &copying.Replay{Replay: j.Replay.Replay}
		if one.Replay.After, err = r.upTo(tx, max(1, j.Replay.From)-1); err == nil {
			one.Replay.To, err = r.upTo(tx, j.Replay.To)
		}
	case j.Erasure != nil:
		one.Erasure = &copying.Erasure{Target: j.Erasure.Target, Erased: j.Erasure.Erased, Damaged: j.Erasure.Damaged, Once: j.Erasure.Once}
	}
	rest.Jobs = append(rest.Jobs, one)
	return err
}

// upTo returns the id of the last delivery that has a number or a lower one; uuid.Nil if there is none. It passes damaged ones.
func (r *copyReader) upTo(tx *bbolt.Tx, number uint64) (uuid.UUID, error) {
	if number == 0 {
		return uuid.Nil, nil
	}
	c := tx.Bucket(bucketDeliveries).Cursor()
	step := c.Last
	if number < math.MaxUint64 {
		if k, _ := c.Seek(u64key(number + 1)); k != nil {
			step = c.Prev
		}
	}
	for k, v := step(); k != nil; k, v = c.Prev() {
		d, err := decodeDelivery(r.s.nonce, binary.BigEndian.Uint64(k), v)
		if errors.Is(err, ErrCorrupt) {
			continue
		}
		return d.ID, err
	}
	return uuid.Nil, nil
}

// addFanOut leaves out sessions that are not stored any more: nothing is made for them.
func (r *copyReader) addFanOut(rest *copying.Rest, tx *bbolt.Tx, k, v []byte) error {
	if len(k) != 8 {
		return badKey(bucketFanOuts, k)
	}
	f, err := decodeFanOut(k, v)
	if err != nil {
		return err
	}
	one := copying.FanOut{No: int64(binary.BigEndian.Uint64(k)), After: f.after, Last: f.last}
	for _, s := range f.sessions {
		head := tx.Bucket(bucketSessions).Get(u64key(s.number))
		if head == nil {
			continue
		}
		session, err := decodeSession(s.number, head)
		if err != nil {
			return err
		}
		one.Sessions = append(one.Sessions, copying.FannedOut{ID: session.ID, No: int64(s.number), FanOut: s.FanOut})
	}
	if len(one.Sessions) > 0 {
		rest.FanOuts = append(rest.FanOuts, one)
	}
	return nil
}
