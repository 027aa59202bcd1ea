package postgres

import "hookbolt/engine"

// planLate completes the decision about events of a session that had finished before.
func (b *batch) planLate(*engine.Append, *sessionPlan, *planRoom) error { return errNotBuilt }

// late does what late events lead to for a webhook. It returns the delivery that they have queued, nil if there is none, and how many events were
// counted. The caller stores the session's row.
func (b *batch) late(*sessionRow, *engine.Trigger) (*deliveryRow, int, error) {
	return nil, 0, errNotBuilt
}
