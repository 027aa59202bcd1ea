package postgres

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// The epoch counts the changes of the webhooks and of their cancellations. Who changes them raises it first, and has its lock until the commit, so the changes
// come one after another. Each transaction reads it when it begins: if it is another one than that of the webhooks in memory, these are read again. So what a
// transaction decides is at least as new as all changes that had returned when it began.

// adopt reads the webhooks again, because another process has changed them, and has Watch report what has changed.
func (b *batch) adopt() error {
	s := b.s
	hooks, err := s.readWebhooks(b.ctx, b.conn)
	if err != nil {
		b.failure = err
		return err
	}
	old := s.hooks.Swap(hooks)
	s.fleet.epoch.Store(b.epoch)
	s.forgetLanes(hooks)
	changed := changedWebhooks(old, hooks)
	for _, id := range changed {
		before, after := old.Get(id), hooks.Get(id)
		switch {
		case after == nil:
			delete(s.health, id)
		case before != nil && engine.ResetsHealth(before, after) && s.owns(id):
			// An attempt for the webhook as it was may have been recorded since the change.
			s.health[id] = engine.Health{Order: s.health[id].Order}
			b.resetHealth(id)
		}
	}
	s.unheard.changed(s, changed)
	wake(s.fleet.balance)
	b.hooks = hooks
	return nil
}

// changedWebhooks returns the ids of the webhooks that differ between two sets, by themselves or by their cancellations.
func changedWebhooks(old, now *engine.WebhookSet) (ids []uint32) {
	for _, w := range now.All() {
		before := old.Get(w.ID)
		if before == nil || before.Revision != w.Revision || !slices.Equal(old.Cancellations(w.ID), now.Cancellations(w.ID)) {
			ids = append(ids, w.ID)
		}
	}
	for _, w := range old.All() {
		if now.Get(w.ID) == nil {
			ids = append(ids, w.ID)
		}
	}
	return ids
}

// lockSet begins a change of the set of webhooks: it raises the epoch, and waits for others that change the set. What these have done is read.
func (b *batch) lockSet() error {
	if b.s.fleet == nil || b.raised != 0 {
		return nil
	}
	var raised int64
	err := b.query(func(found pgx.Rows) error { return found.Scan(&raised) }, "UPDATE @.fleet SET epoch = epoch + 1 RETURNING epoch")
	if err != nil {
		return err
	}
	if others := raised - 1; others != b.epoch {
		b.epoch = others
		if err := b.adopt(); err != nil {
			return err
		}
	}
	b.raised = raised
	return nil
}

// resetHealth removes the stored health of an endpoint, whoever owns its lanes.
func (b *batch) resetHealth(webhookID uint32) {
	b.changes++
	b.health[webhookID] = engine.Health{Order: b.healthOf(webhookID).Order}
	set(&b.forced, webhookID, true)
}

// changed adds webhooks that others have changed to the news.
func (u *unheard) changed(s *Store, ids []uint32) {
	u.mu.Lock()
	u.news.Webhooks = append(u.news.Webhooks, ids...)
	u.mu.Unlock()
	u.wake(s)
}
