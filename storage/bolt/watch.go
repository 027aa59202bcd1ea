package bolt

import (
	"context"
	"maps"

	"hookbolt/engine"
)

// Watch implements engine.Store. The one process that has the file owns all lanes from the start, and nobody else changes anything.
func (s *Store) Watch(ctx context.Context, f func(engine.News)) error {
	if err := s.ownAll(ctx, f); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	<-ctx.Done()
	return nil
}

// ownAll calls f with all webhooks. They cannot change meanwhile, so that the health it reports is current.
func (s *Store) ownAll(ctx context.Context, f func(engine.News)) error {
	s.owning.Lock()
	defer s.owning.Unlock()
	news := engine.News{Keeper: true}
	err := s.submitRead(ctx, 0, func(b *batch) error {
		own := make(map[uint32]engine.Health)
		for _, w := range b.hooks.All() {
			own[w.ID] = b.healthOf(w.ID)
		}
		news.Own = own
		return nil
	})
	if err != nil {
		return err
	}
	f(engine.News{Own: maps.Clone(news.Own), Keeper: true})
	return nil
}

// Mine implements engine.Store. The engine asks it several times for each delivery, under a lock: a select over the channels that say the same
// cost a tenth of the throughput.
func (s *Store) Mine(uint32) bool { return !s.ended.Load() }
