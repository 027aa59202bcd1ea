package postgres

import (
	"slices"
	"sync"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// unheard is what batches have changed whose callers were told that the outcome is unknown, and which turned out to be stored. Nobody else would ever look
// for a delivery that was queued so, or know of a webhook that was changed so. Watch reports it, as if another process had done it. It is also how Watch
// learns that the database is back.
type unheard struct {
	mu   sync.Mutex
	news engine.News // guarded by mu, as upTo
	acks acks        // what is acknowledged with them
}

// take returns the news since the last call; ok is false if there are none.
func (u *unheard) take() (news engine.News, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	news, u.news = u.news, engine.News{}
	return news, len(news.Queued)+len(news.Ended)+len(news.Webhooks) > 0 || news.Work
}

// takeAll returns the news since the last call, and up to where the news of others are acknowledged with them; ok is false if there is nothing to report.
func (u *unheard) takeAll() (news engine.News, a acks, ok bool) {
	u.mu.Lock()
	a, u.acks = u.acks, acks{}
	u.mu.Unlock()
	news, ok = u.take()
	return news, a, ok
}

// work has the keeper look for background work.
func (u *unheard) work(s *Store) {
	u.mu.Lock()
	u.news.Work = true
	u.mu.Unlock()
	u.wake(s)
}

// add adds the changes of a batch, and wakes Watch.
func (u *unheard) add(b *batch) {
	u.mu.Lock()
	u.news.Webhooks = append(u.news.Webhooks, b.webhooks.order...)
	for _, p := range b.queued {
		u.news.Queued = append(u.news.Queued, engine.Queued{Lane: p.lane, At: fields.Time(p.at)})
	}
	b.deliveries.each(func(id uuid.UUID, before, _ *deliveryRow) {
		if before != nil && b.s.isClaimed(id) && !slices.Contains(b.ends, id) {
			u.news.Ended = append(u.news.Ended, before.Delivery)
		}
	})
	u.mu.Unlock()
	u.wake(b.s)
}

// back adds all webhooks, because the database is back: while it was away no attempt could begin, and the engine looks again at the lanes that it is told of.
func (u *unheard) back(s *Store) {
	u.mu.Lock()
	for _, w := range s.hooks.Load().All() {
		u.news.Webhooks = append(u.news.Webhooks, w.ID)
	}
	u.mu.Unlock()
	u.wake(s)
}

// wake wakes Watch.
func (u *unheard) wake(s *Store) {
	select {
	case s.fanOutWake <- struct{}{}:
	default: // it is awake already
	}
}
