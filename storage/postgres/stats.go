package postgres

import (
	"context"
	"time"

	"hookbolt/engine"
)

// Stats implements engine.Store.
func (s *Store) Stats(context.Context, time.Time, bool) (engine.Stats, error) {
	return engine.Stats{}, errNotBuilt
}
