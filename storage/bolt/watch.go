package bolt

import (
	"context"

	"hookbolt/engine"
)

// Watch implements engine.Store. The one process that has the file owns all lanes from the start, and nobody else changes anything.
// What it reports later are the deliveries of fan-outs, which it makes itself.
func (s *Store) Watch(ctx context.Context, f func(engine.News)) error {
	if err := s.ownAll(ctx, f); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return s.fanOut(ctx, f)
}

// ownAll calls f with all webhooks. They cannot change meanwhile, so that the health it reports is current.
func (s *Store) ownAll(ctx context.Context, f func(engine.News)) error {
	s.owning.Lock()
	defer s.owning.Unlock()
	news := engine.News{Keeper: true}
	err := s.submitRead(ctx, 0, func(b *batch) error {
		news.Own = make(map[uint32]engine.Owned) // it may be called again
		for _, w := range b.hooks.All() {
			news.Own[w.ID] = engine.Owned{Health: b.healthOf(w.ID), Webhook: w}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f(news)
	return nil
}

// Mine implements engine.Store. The engine asks it several times for each delivery, under a lock: a select over the channels that say the same
// cost a tenth of the throughput.
func (s *Store) Mine(uint32) bool { return !s.ended.Load() }

// OpenElsewhere implements engine.Store. There are no other processes.
func (s *Store) OpenElsewhere(uint32) bool { return false }
