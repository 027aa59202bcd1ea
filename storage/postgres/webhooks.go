package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// PutWebhook implements engine.Store.
func (s *Store) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	if c.Unchanged {
		return engine.WebhookChanged{Webhook: c.Webhook}, s.isCurrent(ctx, c.Webhook)
	}
	done, epoch, err := s.putWebhook(ctx, c)
	if err == nil && s.fleet != nil {
		err = s.fleet.barrier(seenEpoch, epoch)
	}
	return done, err
}

// putWebhook is PutWebhook without the wait for other processes. epoch is that of the change.
func (s *Store) putWebhook(ctx context.Context, c engine.WebhookChange) (done engine.WebhookChanged, epoch int64, err error) {
	s.owning.RLock() // see Watch
	defer s.owning.RUnlock()
	needs := func(_ *batch, n *needs) {
		n.once(c.Once)
		if c.Webhook.ID != 0 {
			n.webhook(c.Webhook.ID)
		}
	}
	err = s.write(ctx, mutation{size: 1024, needs: needs, walks: true, isAwaited: true, run: func(b *batch) error {
		w := c.Webhook // run may be called again
		if err := b.lockSet(); err != nil {
			return err
		}
		epoch = b.raised
		if err := b.refuseRepeated(c.Once); err != nil {
			return err
		}
		before, err := b.beforeChange(&w)
		if err != nil {
			return err
		}
		w.Revision++
		if err := b.beginCancellations(w.ID, c.Cancels); err != nil {
			return err
		}
		b.saveWebhook(&w, c.Deleted)
		if before == nil {
			b.ownNew(w.ID)
		}
		if c.Deleted || before != nil && engine.ResetsHealth(before, &w) {
			b.resetHealth(w.ID)
		}
		var notices [][]byte
		if c.Notice != nil {
			notices = append(notices, c.Notice)
		}
		// The system event is about the change, and goes to the operations webhook as it was before it.
		done.Queued = b.notify(notices, w.UpdatedAt)
		done.Webhook = w
		if c.Deleted {
			b.hooks = b.hooks.Without(w.ID)
		} else {
			b.hooks = b.hooks.With(&w)
		}
		if err := b.setCancellations(); err != nil {
			return err
		}
		return b.remember(c.Once, engine.Done{WebhookID: w.ID})
	}})
	return done, epoch, err
}

// isCurrent returns nil if the stored webhook has the revision of this one. A transaction that begins has read what others have changed; see adopt.
func (s *Store) isCurrent(ctx context.Context, w engine.Webhook) error {
	needs := func(_ *batch, n *needs) { n.webhook(w.ID) }
	return s.write(ctx, mutation{needs: needs, run: func(b *batch) error {
		_, err := b.beforeChange(&w)
		return err
	}})
}

// ownNew makes this process the owner of a new webhook's lanes if it should be.
func (b *batch) ownNew(webhookID uint32) {
	f := b.s.fleet
	if f == nil || !f.watches() || f.gives() || rank(webhookID, b.s.memberID.Load(), f.sortedMembers()) > 0 {
		return
	}
	b.exec("INSERT INTO @.lanes (webhook_id, owner) VALUES ($1, $2)", int32(webhookID), b.s.memberID.Load())
	b.exec("UPDATE @.fleet SET layout = layout + 1")
	b.after = append(b.after, func() {
		f.own(true, webhookID)
		wake(f.balance) // which reports it
	})
}

// beforeChange returns the stored webhook that a change applies to. For a new webhook it returns nil and assigns the id. It refuses a change that is
// based on an older revision.
func (b *batch) beforeChange(w *engine.Webhook) (*engine.Webhook, error) {
	if w.ID == 0 {
		if w.Operations && b.hooks.Operations() != nil {
			return nil, engine.ErrRevision
		}
		id, err := b.number("webhook_ids")
		w.ID = uint32(id)
		b.webhooks.read(w.ID, nil)
		return nil, err
	}
	present, _ := b.webhooks.get(w.ID) // named by PutWebhook
	if present == nil {
		return nil, fmt.Errorf("webhook %d: %w", w.ID, engine.ErrNotFound)
	}
	if present.Revision != w.Revision {
		return nil, engine.ErrRevision
	}
	return present, nil
}

// saveWebhook replaces a webhook's row, or deletes it.
func (b *batch) saveWebhook(w *engine.Webhook, deleted bool) {
	b.changes++
	if deleted {
		b.webhooks.put(w.ID, nil)
		return
	}
	b.webhooks.put(w.ID, w)
}

// queueWebhooks reads and locks webhooks.
func (b *batch) queueWebhooks(p *pgx.Batch, ids []uint32) {
	list := make([]int32, len(ids))
	for i, id := range ids {
		list[i] = int32(id)
		b.webhooks.read(id, nil)
	}
	p.Queue(b.s.sql("SELECT settings::text FROM @.webhooks WHERE id = ANY($1) ORDER BY id FOR UPDATE"), list).Query(func(found pgx.Rows) error {
		for found.Next() {
			var text []byte
			if err := found.Scan(&text); err != nil {
				return err
			}
			w, err := decodeWebhook(text)
			if err != nil {
				return err
			}
			b.webhooks.read(w.ID, w)
			if u := unknownFields(text, reflect.TypeFor[engine.Webhook]()); len(u) > 0 {
				set(&b.unknown, w.ID, u)
			}
		}
		return nil
	})
}

func scanWebhook(found pgx.Rows) (*engine.Webhook, error) {
	var text []byte
	if err := found.Scan(&text); err != nil {
		return nil, err
	}
	return decodeWebhook(text)
}

func decodeWebhook(text []byte) (*engine.Webhook, error) {
	w := new(engine.Webhook)
	if err := json.Unmarshal(text, w); err != nil {
		return nil, damage("webhook", err)
	}
	return w, nil
}

// readWebhooks reads all webhooks, and the cancellations in progress.
func (s *Store) readWebhooks(ctx context.Context, conn *pgx.Conn) (*engine.WebhookSet, error) {
	var hooks []*engine.Webhook
	found, err := conn.Query(ctx, s.sql("SELECT settings::text FROM @.webhooks"))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		w, err := scanWebhook(found)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, w)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	jobs, err := s.readJobs(ctx, conn)
	if err != nil {
		return nil, err
	}
	return engine.NewWebhookSet(hooks, cancellationsOf(jobs, hooks)), nil
}

// readHealth reads the health of all endpoints.
func (s *Store) readHealth(ctx context.Context, conn *pgx.Conn) (map[uint32]engine.Health, error) {
	return s.queryHealth(ctx, conn, "")
}

// HealthElsewhere returns the health of the endpoints of those of the webhooks whose lanes this process does not own.
func (s *Store) HealthElsewhere(ctx context.Context, webhooks []uint32) (all map[uint32]engine.Health, err error) {
	others := slices.DeleteFunc(slices.Clone(webhooks), s.owns)
	if len(others) == 0 {
		return nil, nil
	}
	err = s.view(ctx, func(conn *pgx.Conn) error {
		all, err = s.queryHealth(ctx, conn, " WHERE webhook_id = ANY($1)", webhookList(others))
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range others {
		if _, ok := all[id]; !ok { // a healthy one has no row
			all[id] = engine.Health{}
		}
	}
	return all, nil
}

// webhookList is an argument for the ids of webhooks.
func webhookList(ids []uint32) []int32 {
	list := make([]int32, len(ids))
	for i, id := range ids {
		list[i] = int32(id)
	}
	return list
}

func (s *Store) queryHealth(ctx context.Context, conn *pgx.Conn, which string, args ...any) (map[uint32]engine.Health, error) {
	all := make(map[uint32]engine.Health)
	found, err := conn.Query(ctx, s.sql("SELECT webhook_id, health::text FROM @.health"+which), args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var id uint32
		var text []byte
		var h engine.Health
		if err := found.Scan(&id, &text); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &h); err != nil {
			return nil, damage("health", id)
		}
		h.Order, h.Notified = 0, false
		all[id] = h
	}
	return all, found.Err()
}
