package bolt

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// job is a cancellation or a replay that is being carried out.
type job struct {
	*engine.Cancellation            // nil for a replay
	Replay               *replayJob `json:"replay,omitempty"`
	// Cursor is the key of the queue up to which a cancellation has been carried out.
	Cursor []byte `json:"cursor,omitempty"`
}

// PutWebhook implements engine.Store.
func (s *Store) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.Webhook, error) {
	var stored engine.Webhook
	err := s.write(ctx, 1024, func(b *batch) error {
		w := c.Webhook
		if w.ID != 0 {
			present := b.hooks.Get(w.ID)
			if present == nil {
				return fmt.Errorf("webhook %d: %w", w.ID, engine.ErrNotFound)
			}
			if present.Revision != w.Revision {
				return engine.ErrRevision
			}
		} else {
			id, err := b.next(b.webhooks)
			if err != nil {
				return err
			}
			w.ID = uint32(id)
		}
		w.Revision++
		key := u32key(w.ID)
		if c.Deleted {
			if err := b.delete(b.webhooks, key); err != nil {
				return err
			}
		} else {
			body, err := json.Marshal(w)
			if err != nil {
				return err
			}
			if err := b.put(b.webhooks, key, sealBytes(key, body)); err != nil {
				return err
			}
		}
		for _, cancel := range c.Cancels {
			if cancel.Scope == engine.CancelAll {
				if err := b.endReplays(w.ID); err != nil {
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
		if c.Deleted {
			c.Health.Order = math.MaxUint64 // an attempt that is under way brings nothing back
		}
		b.setHealth(w.ID, c.Health)
		if err := b.notify(c.Notice, w.UpdatedAt); err != nil {
			return err
		}
		stored = w
		hooks := slices.DeleteFunc(slices.Clone(b.hooks.All()), func(h *engine.Webhook) bool { return h.ID == w.ID })
		if !c.Deleted {
			hooks = append(hooks, &w)
		}
		return b.setWebhooks(hooks)
	})
	return stored, err
}

// setWebhooks makes the set of webhooks anew, with the cancellations that the jobs are about.
func (b *batch) setWebhooks(hooks []*engine.Webhook) error {
	cancels, err := readCancellations(b.jobs)
	if err == nil {
		b.hooks = engine.NewWebhookSet(hooks, cancels)
	}
	return err
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
	if (j.Cancellation == nil) == (j.Replay == nil) {
		return j, fmt.Errorf("%w: jobs %x: not one of a cancellation and a replay", ErrCorrupt, key)
	}
	return j, nil
}

func readCancellations(jobs *bbolt.Bucket) ([]engine.Cancellation, error) {
	var cancels []engine.Cancellation
	err := jobs.ForEach(func(k, v []byte) error {
		j, err := decodeJob(k, v)
		if j.Cancellation != nil {
			cancels = append(cancels, *j.Cancellation)
		}
		return err
	})
	return cancels, err
}
