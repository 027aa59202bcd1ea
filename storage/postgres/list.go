package postgres

import (
	"context"

	"hookbolt/engine"
)

// Deliveries implements engine.Store.
func (s *Store) Deliveries(context.Context, engine.DeliveryQuery) (engine.DeliveryPage, error) {
	return engine.DeliveryPage{}, errNotBuilt
}

// Sessions implements engine.Store.
func (s *Store) Sessions(context.Context, engine.SessionQuery) (engine.SessionPage, error) {
	return engine.SessionPage{}, errNotBuilt
}
