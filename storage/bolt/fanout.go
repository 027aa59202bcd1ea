package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// A fan-out makes the deliveries of a request that leads to more of them than a commit should hold. Its records are written with the events. Each
// step makes deliveries of the oldest record, with their marks, and says in the record how far it came.

const (
	// fanOutSessions is how many sessions a record has at most. A step makes deliveries of all of them for a few webhooks: so it changes few
	// lanes, and few heads.
	fanOutSessions = 64
	// fanOutStep is how many deliveries a step makes, because other mutations wait for it.
	fanOutStep = 512
)

// fanOut is a record: sessions, and the webhooks that their deliveries are still to be made for.
type fanOut struct {
	after, last uint32 // ids of webhooks: above after, up to last
	sessions    []fannedOut
}

type fannedOut struct {
	number uint64 // S
	engine.FanOut
}

func (f *fanOut) encode(key []byte) []byte {
	e := newRecord(16 + 28*len(f.sessions))
	e.uint(uint64(f.after))
	e.uint(uint64(f.last))
	e.uint(uint64(len(f.sessions)))
	for _, s := range f.sessions {
		e.uint(s.number)
		e.time(s.StartedAt)
		e.time(s.FinishedAt)
	}
	for _, s := range f.sessions { // since version 10
		e.byte(flag(s.Continued))
		e.byte(flag(s.WasFinished))
		e.optionalTime(s.ReceivedAt)
		e.duration(s.Settle)
		e.uint(uint64(s.Late.Events))
		e.uint(uint64(s.Late.Before))
		e.byte(flag(s.Late.Answers))
		e.byte(flag(s.Late.Leads))
		e.byte(flag(s.Late.Rest))
	}
	return e.seal(key)
}

func decodeFanOut(key, value []byte) (f fanOut, err error) {
	body, err := unseal(bucketFanOuts, key, value)
	if err != nil {
		return f, err
	}
	d := decoder{b: body}
	f.after, f.last = d.count(), d.count()
	for n := d.uint(); n > 0 && !d.bad; n-- {
		f.sessions = append(f.sessions, fannedOut{d.uint(), engine.FanOut{StartedAt: d.time(), FinishedAt: d.time()}})
	}
	for i := range f.sessions {
		if len(d.b) == 0 { // of an earlier version
			break
		}
		s := &f.sessions[i]
		s.Continued, s.WasFinished, s.ReceivedAt, s.Settle = d.byte() != 0, d.byte() != 0, d.optionalTime(), time.Duration(d.int())
		s.Late = engine.Late{Events: int(d.count()), Before: int(d.count()), Answers: d.byte() != 0, Leads: d.byte() != 0, Rest: d.byte() != 0}
	}
	return f, d.done(bucketFanOuts, key)
}

// beginFanOut stores the sessions whose deliveries are made later. Webhooks that are created from now on get none of them.
func (b *batch) beginFanOut(sessions []fannedOut) error {
	for part := range slices.Chunk(sessions, fanOutSessions) {
		number, err := b.next(b.fanOuts)
		if err != nil {
			return err
		}
		f := fanOut{last: uint32(b.webhooks.Sequence()), sessions: part}
		key := u64key(number)
		if err := b.put(b.fanOuts, key, f.encode(key)); err != nil {
			return err
		}
	}
	b.fanningOut += int64(len(sessions))
	b.fannedOutNumbers = nil
	if len(sessions) > 0 {
		b.after = append(b.after, b.s.wakeFanOut)
	}
	return nil
}

// wakeFanOut has Watch go on with the fan-outs.
func (s *Store) wakeFanOut() {
	select {
	case s.fanOutWake <- struct{}{}:
	default:
	}
}

// fanOut makes the deliveries of all fan-outs, as they come, until ctx ends or the store has failed. It calls f with what it has queued. It
// returns an error that concerns the fan-outs alone.
func (s *Store) fanOut(ctx context.Context, f func(engine.News)) error {
	for ctx.Err() == nil {
		again := s.fanOutWake
		var retry <-chan time.Time
		if s.fanningOut.Load() > 0 {
			made, err := s.stepFanOut(ctx)
			switch {
			case err == nil:
				f(engine.News{Keeper: true, Queued: made.queued, Late: made.late})
				continue
			case errors.Is(err, engine.ErrFull):
				retry = time.After(fullRecheck)
			case errors.Is(err, engine.ErrUnavailable):
				again = nil // the store has failed: others tell of it
			case ctx.Err() == nil:
				return fmt.Errorf("make the deliveries of a fan-out: %w", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-retry:
		}
	}
	return nil
}

// fanOutMade is what a step of the fan-outs has made.
type fanOutMade struct {
	queued []engine.Queued // the lanes that got deliveries
	late   int             // events that were counted as late
}

// stepFanOut makes a bounded number of deliveries.
func (s *Store) stepFanOut(ctx context.Context) (done fanOutMade, err error) {
	if err := s.space.room(); err != nil {
		return done, err
	}
	err = s.write(ctx, bulkBytes, func(b *batch) error {
		done = fanOutMade{}
		for made := 0; made < fanOutStep; {
			key, f := b.oldestFanOut()
			if key == nil {
				b.fanningOut = -b.s.fanningOut.Load() // what is left cannot be read
				return nil
			}
			took, err := b.continueFanOut(key, &f, fanOutStep-made, &done)
			if err != nil {
				return err
			}
			made += took
		}
		return nil
	})
	return done, err
}

// fanOuts walks the records that can be read, the oldest first.
func (s *Store) fanOuts(tx *bbolt.Tx) iter.Seq2[[]byte, fanOut] {
	return func(yield func([]byte, fanOut) bool) {
		for k, v := range s.entries(tx, bucketFanOuts, nil, nil) {
			f, err := decodeFanOut(k, v)
			if !s.passes(err) && !yield(k, f) {
				return
			}
		}
	}
}

// oldestFanOut returns the first record that can be read; a nil key if there is none.
func (b *batch) oldestFanOut() (key []byte, f fanOut) {
	for k, f := range b.s.fanOuts(b.tx) {
		return bytes.Clone(k), f
	}
	return nil, f
}

// continueFanOut makes deliveries of a record: each webhook that it comes to is one for each session that it matches, and these are most at
// most. It adds them to done, and returns what part of most they took, at least 1: reading the sessions takes a part as well.
func (b *batch) continueFanOut(key []byte, f *fanOut, most int, done *fanOutMade) (took int, err error) {
	sessions, of, err := b.fannedOut(f)
	if err != nil {
		return 0, err
	}
	hooks, matches, last := b.hooks.NextInFanOut(of, f.after, f.last, most)
	for i := range sessions {
		if err := b.fanOutSession(&sessions[i], of[i].FanOut, hooks, done); err != nil {
			return 0, err
		}
	}
	switch {
	case last:
		b.fanningOut -= int64(len(f.sessions))
		return len(f.sessions) + matches, b.delete(b.fanOuts, key)
	case len(hooks) == 0: // the next step has room
		return most, nil
	}
	f.after = hooks[len(hooks)-1].ID
	return len(f.sessions) + matches, b.put(b.fanOuts, key, f.encode(key))
}

// fannedOut reads the sessions of a record, without those that were erased or cannot be read.
func (b *batch) fannedOut(f *fanOut) (sessions []sessionRecord, of []engine.FannedOut, err error) {
	for _, s := range f.sessions {
		v := b.sessions.Get(u64key(s.number))
		if v == nil {
			continue
		}
		r, err := decodeSession(s.number, v)
		if b.s.passes(err) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		sessions = append(sessions, r)
		of = append(of, engine.FannedOut{FanOut: s.FanOut, ContentID: r.Identity.ContentID})
	}
	return sessions, of, nil
}

// fanOutSession makes a session's deliveries for some webhooks.
func (b *batch) fanOutSession(r *sessionRecord, f engine.FanOut, hooks []*engine.Webhook, done *fanOutMade) error {
	var triggers []engine.Trigger
	for _, w := range hooks {
		triggers = f.AppendTriggers(triggers, &r.SessionHead, w)
	}
	before := len(done.queued)
	for i := range triggers {
		t := &triggers[i]
		if !t.Moves && t.Kind != engine.KindUpdate && r.marks > 0 && b.marks.Get(markKey(r.number, t.WebhookID, t.Kind)) != nil {
			continue // a replay was faster
		}
		d, late, err := b.trigger(r, t)
		if err != nil {
			return err
		}
		done.late += late
		if d.number == 0 {
			continue
		}
		done.queued = append(done.queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
	}
	if len(done.queued) == before {
		return nil
	}
	return b.put(b.sessions, u64key(r.number), r.encode())
}

// fansOut reports whether deliveries of a session may still have to be made. It must be right for each session: a fan-out waits while there is
// no room, and the other sessions are what can make room.
func (b *batch) fansOut(number uint64) bool {
	if b.s.fanningOut.Load()+b.fanningOut == 0 {
		return false
	}
	if b.fannedOutNumbers == nil {
		b.fannedOutNumbers = make(map[uint64]bool)
		for _, f := range b.s.fanOuts(b.tx) {
			for _, s := range f.sessions {
				b.fannedOutNumbers[s.number] = true
			}
		}
	}
	return b.fannedOutNumbers[number]
}

// loadFanOuts counts the sessions whose deliveries are still to be made.
func (s *Store) loadFanOuts(tx *bbolt.Tx) {
	for _, f := range s.fanOuts(tx) {
		s.fanningOut.Add(int64(len(f.sessions)))
	}
}

// checkFanOuts checks the records of fan-outs.
func (c *checker) checkFanOuts() error {
	return c.each(bucketFanOuts, func(k, v []byte) error {
		f, err := decodeFanOut(k, v)
		c.expect(err == nil, "%v", err)
		c.expect(err != nil || len(k) == 8 && len(f.sessions) > 0 && f.after <= f.last, "fan_outs %x: bad", k)
		for _, s := range f.sessions {
			c.expect(s.number <= c.tx.Bucket(bucketSessions).Sequence() && !s.IsZero(), "fan_outs %x: session %d", k, s.number)
		}
		return nil
	})
}
