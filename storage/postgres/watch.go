package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hookbolt/engine"
)

// Watch implements engine.Store. The one process that has the database owns all lanes from the start, and nobody else changes anything. What it
// reports later are the deliveries of fan-outs, which it makes itself, what was stored although its caller was told that the outcome is unknown, and all
// webhooks when the database is back. It is also the keeper, and folds the counts.
func (s *Store) Watch(ctx context.Context, f func(engine.News)) error {
	if s.fleet != nil {
		return s.watchShared(ctx, f)
	}
	for {
		err := s.ownAll(ctx, f)
		if err == nil {
			break
		}
		if ctx.Err() == nil && !errors.Is(err, engine.ErrTransient) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(maxReconnect):
		}
	}
	fold := time.NewTicker(s.opts.FoldInterval)
	defer fold.Stop()
	for {
		if news, ok := s.unheard.take(); ok {
			news.Keeper = true
			f(news)
		}
		var retry <-chan time.Time
		switch more, err := s.stepFanOut(ctx, f); {
		case more:
			select {
			case <-fold.C:
				s.foldNow(ctx)
			default:
			}
			continue
		case errors.Is(err, engine.ErrFull), errors.Is(err, engine.ErrTransient):
			retry = time.After(time.Second)
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("make the deliveries of a fan-out: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.stopped:
			return s.unavailable()
		case <-s.fanOutWake:
		case <-retry:
		case <-fold.C:
			s.foldNow(ctx)
		}
	}
}

// foldNow folds the counts. If it fails, the next one does it.
func (s *Store) foldNow(ctx context.Context) {
	_ = s.write(ctx, mutation{walks: true, run: (*batch).fold})
}

// ownAll calls f with all webhooks. They cannot change meanwhile, so that the health it reports is current.
func (s *Store) ownAll(ctx context.Context, f func(engine.News)) error {
	s.owning.Lock()
	defer s.owning.Unlock()
	news := engine.News{Keeper: true}
	err := s.write(ctx, mutation{run: func(b *batch) error {
		news.Own = make(map[uint32]engine.Owned) // it may be called again
		for _, w := range b.hooks.All() {
			news.Own[w.ID] = engine.Owned{Health: b.healthOf(w.ID), Webhook: w}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	f(news)
	return nil
}

// Mine implements engine.Store. No attempt begins while the database is away: it could not be recorded.
//
// One of several processes sends only for lanes that are its own, and while it is sure that nobody else has taken them over.
func (s *Store) Mine(webhookID uint32) bool {
	return !s.ended.Load() && !s.away.Load() && s.owns(webhookID) && (s.fleet == nil || s.fleet.alive())
}
