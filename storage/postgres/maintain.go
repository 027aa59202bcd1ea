package postgres

import (
	"context"
	"time"

	"hookbolt/engine"
)

// Maintain implements engine.Store.
func (s *Store) Maintain(context.Context, time.Time, engine.Retention) (engine.Maintained, error) {
	return engine.Maintained{}, errNotBuilt
}
