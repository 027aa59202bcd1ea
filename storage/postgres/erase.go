package postgres

import (
	"context"

	"hookbolt/engine"
)

// Erase implements engine.Store.
func (s *Store) Erase(context.Context, engine.Erasure, string) (engine.ErasedStep, error) {
	return engine.ErasedStep{}, errNotBuilt
}
