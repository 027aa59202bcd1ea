package bolt

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// job is a cancellation, a replay or an erasure in progress.
type job struct {
	*engine.Cancellation            // nil for the others
	Replay               *replayJob `json:"replay,omitempty"`
	Erasure              *eraseJob  `json:"erasure,omitempty"`
	// Cursor is the last queue key that the cancellation has handled.
	Cursor []byte `json:"cursor,omitempty"`
}

// PutWebhook implements engine.Store.
func (s *Store) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	s.owning.RLock() // see Watch
	defer s.owning.RUnlock()
	var done engine.WebhookChanged
	err := s.write(ctx, 1024, func(b *batch) error {
		w := c.Webhook // run may be called again
		if err := b.refuseRepeated(c.Once); err != nil {
			return err
		}
		before, err := b.beforeChange(&w)
		if err != nil || c.Unchanged {
			done.Webhook = w
			return err
		}
		w.Revision++
		if err := b.saveWebhook(&w, c.Deleted); err != nil {
			return err
		}
		if err := b.beginCancellations(w.ID, c.Cancels); err != nil {
			return err
		}
		if c.Deleted || before != nil && engine.ResetsHealth(before, &w) {
			b.setHealth(w.ID, engine.Health{Order: b.healthOf(w.ID).Order})
		}
		var notices [][]byte
		if c.Notice != nil {
			notices = append(notices, c.Notice)
		}
		if done.Queued, err = b.notify(notices, w.UpdatedAt); err != nil {
			return err
		}
		done.Webhook = w
		if c.Deleted {
			b.hooks = b.hooks.Without(w.ID)
		} else {
			b.hooks = b.hooks.With(&w)
		}
		b.setCancellations()
		return b.remember(c.Once, engine.Done{WebhookID: w.ID})
	})
	return done, err
}

// beforeChange returns the stored webhook that a change applies to. For a new webhook it returns nil and assigns the id. It refuses a
// change that is based on an older revision.
func (b *batch) beforeChange(w *engine.Webhook) (*engine.Webhook, error) {
	if w.ID == 0 {
		if w.Operations && b.hooks.Operations() != nil {
			return nil, engine.ErrRevision
		}
		id, err := b.next(b.webhooks)
		w.ID = uint32(id)
		return nil, err
	}
	present := b.hooks.Get(w.ID)
	if present == nil {
		return nil, fmt.Errorf("webhook %d: %w", w.ID, engine.ErrNotFound)
	}
	if present.Revision != w.Revision {
		return nil, engine.ErrRevision
	}
	return present, nil
}

// saveWebhook writes a webhook's record, or deletes it.
func (b *batch) saveWebhook(w *engine.Webhook, deleted bool) error {
	key := u32key(w.ID)
	if deleted {
		return b.delete(b.webhooks, key)
	}
	body, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return b.put(b.webhooks, key, sealBytes(key, body))
}

// beginCancellations adds a job for each cancellation of a webhook.
func (b *batch) beginCancellations(webhookID uint32, cancels []engine.Cancellation) error {
	for _, cancel := range cancels {
		if cancel.Scope == engine.CancelAll {
			if err := b.endReplays(webhookID); err != nil {
				return err
			}
		}
		number, err := b.next(b.jobs)
		if err != nil {
			return err
		}
		if err := b.putJob(number, job{Cancellation: &cancel}); err != nil {
			return err
		}
	}
	return nil
}

// setCancellations reads the cancellations in progress, as the set of webhooks has them.
func (b *batch) setCancellations() {
	cancels, damaged := readCancellations(b.jobs, b.hooks.All())
	for _, err := range damaged {
		b.s.passes(err)
	}
	b.hooks = b.hooks.WithCancellations(cancels)
}

func (b *batch) putJob(number uint64, j job) error {
	body, err := json.Marshal(j)
	if err != nil {
		return err
	}
	key := u64key(number)
	return b.put(b.jobs, key, sealBytes(key, body))
}

func decodeJob(key, value []byte) (job, error) {
	var j job
	body, err := unseal(bucketJobs, key, value)
	if err != nil {
		return j, err
	}
	if err := json.Unmarshal(body, &j); err != nil {
		return j, fmt.Errorf("%w: jobs %x: %v", ErrCorrupt, key, err)
	}
	kinds := 0
	for _, is := range []bool{j.Cancellation != nil, j.Replay != nil, j.Erasure != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return j, fmt.Errorf("%w: jobs %x: not one of a cancellation, a replay and an erasure", ErrCorrupt, key)
	}
	return j, nil
}

// readCancellations reads the cancellations in progress. It passes damaged jobs and returns an error for each. Any of these may be the
// cancellation of a webhook that was switched off, so lostCancellations takes their place.
func readCancellations(jobs *bbolt.Bucket, hooks []*engine.Webhook) (cancels []engine.Cancellation, damaged []error) {
	c := jobs.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		j, err := decodeJob(k, v)
		switch {
		case err != nil:
			damaged = append(damaged, err)
		case j.Cancellation != nil:
			cancels = append(cancels, *j.Cancellation)
		}
	}
	if len(damaged) > 0 {
		cancels = append(cancels, lostCancellations(hooks)...)
	}
	return cancels, damaged
}

// lostCancellations returns the cancellations of all webhooks that are switched off, as the webhooks themselves tell them. They cancel
// nothing that was not cancelled.
func lostCancellations(hooks []*engine.Webhook) (cancels []engine.Cancellation) {
	for _, w := range hooks {
		if !w.Active && w.CancelledUpTo > 0 {
			cancels = append(cancels, engine.Cancellation{WebhookID: w.ID, Revision: w.CancelledUpTo, Scope: engine.CancelAll})
		}
	}
	return cancels
}
