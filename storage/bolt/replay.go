package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one step of a replay.
const (
	replayLooks = 1000 // entries looked at
	replayStep  = 500  // deliveries queued
)

// replayJob is a replay in progress. It walks numbers once, upwards: those of deliveries, or those of sessions for deliveries that are
// missing.
type replayJob struct {
	engine.Replay
	// From is the next number to look at, To the last one.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Replay implements engine.Store.
func (s *Store) Replay(ctx context.Context, r engine.Replay) (int64, error) {
	j := replayJob{Replay: r, From: 1}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		if r.Scope == engine.ReplayMissing {
			j.To = tx.Bucket(bucketSessions).Sequence()
			return nil
		}
		j.To = tx.Bucket(bucketDeliveries).Sequence()
		between := s.numbersBetween(tx, engine.DeliveryQuery{Since: r.Since, Until: r.Until})
		if between != nil {
			j.From, j.To = max(j.From, between.from), min(j.To, between.to)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	// Count page by page, so that no transaction is open for long.
	j.Count = 0
	for counted, more := j, true; more; {
		err := s.view(ctx, func(tx *bbolt.Tx) error {
			w, err := r.Webhook(s.hooks.Load())
			if err != nil {
				return err
			}
			var found []replayTarget
			var damaged []error
			found, damaged, more, err = counted.look(replaySearch{s, tx, w, s.hooks.Load()}, math.MaxInt)
			j.Count += int64(len(found))
			for _, err := range damaged {
				s.passes(err)
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	if r.DryRun || j.Count == 0 && r.Once == nil {
		return j.Count, nil
	}
	err = s.write(ctx, 1024, func(b *batch) error {
		if err := b.refuseRepeated(r.Once); err != nil {
			return err
		}
		if _, err := r.Webhook(b.hooks); err != nil {
			return err
		}
		if j.Count > 0 {
			number, err := b.next(b.jobs)
			if err != nil {
				return err
			}
			if err := b.putJob(number, job{Replay: &j}); err != nil {
				return err
			}
		}
		return b.remember(r.Once, engine.Done{WebhookID: r.WebhookID, Replay: &j.Replay})
	})
	return j.Count, err
}

// replayTarget is a delivery to send again. If its number is 0, it is a session to create a delivery for.
type replayTarget struct {
	delivery deliveryRecord
	session  sessionRecord
}

// replaySearch is where a replay looks for its targets.
type replaySearch struct {
	store *Store
	tx    *bbolt.Tx
	hook  *engine.Webhook
	// marked has the cancellations in progress; nil to ignore them. Deliveries that they cover count as cancelled: they will be when the
	// replay reaches them.
	marked *engine.WebhookSet
}

// look walks the numbers, as far as one step may go, and returns at most that many targets. more reports whether numbers are left;
// damaged lists records that could not be read.
func (j *replayJob) look(in replaySearch, most int) (found []replayTarget, damaged []error, more bool, err error) {
	tx, w := in.tx, in.hook
	bucket, prefix := bucketByWebhook, u32key(w.ID)
	switch j.Scope {
	case engine.ReplayMissing:
		bucket, prefix = bucketSessions, nil
	case engine.ReplayFailed:
		bucket, prefix = bucketUndelivered, undeliveredPrefix(w.ID, engine.StatusFailed)
	case engine.ReplayFiltered:
		bucket, prefix = bucketUndelivered, undeliveredPrefix(w.ID, engine.StatusFiltered)
	}
	looked := 0
	for k, v := range in.store.entries(tx, bucket, prefix, u64key(j.From)) {
		number := binary.BigEndian.Uint64(k[len(prefix):])
		if number > j.To {
			break
		}
		if looked++; looked > replayLooks || len(found) == most {
			return found, damaged, true, nil
		}
		j.From = number + 1
		target, ok, err := j.target(in, number, v)
		if errors.Is(err, ErrCorrupt) {
			damaged = append(damaged, err)
			continue
		}
		if err != nil {
			return nil, nil, false, err
		}
		if ok {
			found = append(found, target)
		}
	}
	return found, damaged, false, nil
}

// target returns the target of a number; ok reports whether it is to be replayed. If number is a session's, head is the session's head.
func (j *replayJob) target(in replaySearch, number uint64, head []byte) (t replayTarget, ok bool, err error) {
	w := in.hook
	if j.Scope == engine.ReplayMissing {
		if t.session, err = decodeSession(number, head); err != nil || !j.IncludesSession(&t.session.SessionHead, w) {
			return t, false, err
		}
		id, err := deliveryOf(in.tx.Bucket(bucketMarks), &t.session, w.ID, engine.KindComplete)
		if err != nil || id == uuid.Nil {
			return t, err == nil, err
		}
		if number, err = in.newest(&t.session, in.store.numberOf(in.tx, id)); err != nil {
			return t, false, err
		}
	}
	if t.delivery, err = in.store.readDelivery(in.tx.Bucket(bucketDeliveries), number); err != nil || t.delivery.number == 0 {
		return t, false, err // it was delivered or failed, and its retention has ended
	}
	d := &t.delivery
	covered := in.marked != nil && in.marked.Covered(&d.Delivery)
	from := d.source(in.tx.Bucket(bucketSessions))
	if !j.Includes(&d.Delivery, w, from, covered) {
		return t, false, nil
	}
	if from.Overtaken, err = in.store.isOvertaken(in.tx, d); err != nil || !from.Overtaken {
		return t, err == nil, err
	}
	return t, j.Includes(&d.Delivery, w, from, covered), nil
}

// newest returns the number of the newest update of a session, if its complete delivery, which has the given number, has failed or was cancelled:
// the webhook has the session if it has the update. Else it returns the number of the complete one.
func (in *replaySearch) newest(r *sessionRecord, complete uint64) (uint64, error) {
	best, err := in.store.readDelivery(in.tx.Bucket(bucketDeliveries), complete)
	if err != nil || best.Status != engine.StatusCancelled && best.Status != engine.StatusFailed {
		return complete, err
	}
	err = in.store.eachStored(in.tx, in.store.refsTo(in.tx, r, in.hook.ID), func(d *deliveryRecord) (more bool, err error) {
		if d.Overtakes(&best.Delivery) {
			best = *d
		}
		return true, nil
	})
	return best.number, err
}

// stepReplay does one step of a replay. It reports whether there is more to do.
func (b *batch) stepReplay(j *replayJob, now time.Time, m *engine.Maintained) (more bool, err error) {
	w, err := j.Webhook(b.hooks)
	if err != nil {
		return false, nil // the webhook is switched off or deleted: send nothing
	}
	found, damaged, more, err := j.look(replaySearch{store: b.s, tx: b.tx, hook: w}, replayStep)
	if err != nil {
		return false, err
	}
	m.Damaged = append(m.Damaged, damaged...)
	for i := range found {
		q, err := b.replay(&found[i], w, now)
		if err != nil {
			return false, err
		}
		m.Queued = append(m.Queued, q)
	}
	j.Done += int64(len(found))
	return more, nil
}

func (b *batch) replay(t *replayTarget, w *engine.Webhook, now time.Time) (engine.Queued, error) {
	if t.delivery.number != 0 {
		d := t.delivery
		if err := d.Requeue(w, d.source(b.sessions), now); err != nil {
			return engine.Queued{}, err
		}
		return engine.Queued{Lane: d.Lane(), At: now}, b.saveDelivery(&t.delivery, &d)
	}
	d, err := b.makeTriggered(&t.session, &engine.Trigger{WebhookID: w.ID, Kind: engine.KindComplete, DueAt: now})
	if err != nil {
		return engine.Queued{}, err
	}
	return engine.Queued{Lane: d.Lane(), At: now}, b.put(b.sessions, u64key(t.session.number), t.session.encode())
}

// endReplays ends a webhook's replays. Deliveries that they have not queued yet are not sent again.
func (b *batch) endReplays(webhookID uint32) error {
	var keys [][]byte
	err := b.jobs.ForEach(func(k, v []byte) error {
		j, err := decodeJob(k, v)
		if err == nil && j.Replay != nil && j.Replay.WebhookID == webhookID {
			keys = append(keys, bytes.Clone(k))
		}
		if b.s.passes(err) {
			return nil
		}
		return err
	})
	for _, k := range keys {
		if err := b.delete(b.jobs, k); err != nil {
			return err
		}
	}
	return err
}

// replays returns the replays in progress.
func (b *batch) replays() ([]engine.Replay, error) {
	var list []engine.Replay
	err := b.jobs.ForEach(func(k, v []byte) error {
		j, err := decodeJob(k, v)
		if b.s.passes(err) {
			return nil
		}
		if j.Replay != nil {
			list = append(list, j.Replay.Replay)
		}
		return err
	})
	return list, err
}
