package postgres

import (
	"context"

	"hookbolt/engine"
)

// Replay implements engine.Store.
func (s *Store) Replay(context.Context, engine.Replay) (int64, error) { return 0, errNotBuilt }
