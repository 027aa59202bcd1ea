package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"hookbolt/engine"
)

// job is a cancellation that is being carried out.
type job struct {
	engine.Cancellation
	// Cursor is the key of the queue up to which it has been carried out.
	Cursor []byte `json:"cursor,omitempty"`
}

// PutWebhook implements engine.Store.
func (s *Store) PutWebhook(ctx context.Context, w engine.Webhook, deleted bool, cancels []engine.Cancellation) (engine.Webhook, error) {
	var stored engine.Webhook
	err := s.write(ctx, 1024, func(b *batch) error {
		w := w
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
		if deleted {
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
		for _, c := range cancels {
			number, err := b.next(b.jobs)
			if err != nil {
				return err
			}
			if err := b.putJob(number, job{Cancellation: c}); err != nil {
				return err
			}
		}
		stored = w
		hooks := slices.DeleteFunc(slices.Clone(b.hooks.All()), func(h *engine.Webhook) bool { return h.ID == w.ID })
		if !deleted {
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
	return j, nil
}

func readCancellations(jobs *bolt.Bucket) ([]engine.Cancellation, error) {
	var cancels []engine.Cancellation
	err := jobs.ForEach(func(k, v []byte) error {
		j, err := decodeJob(k, v)
		cancels = append(cancels, j.Cancellation)
		return err
	})
	return cancels, err
}
