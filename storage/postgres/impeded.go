package postgres

import "slices"

// A member tells with its beats to which endpoints of its webhooks deliveries wait, because they fail or have refused load. For the others, those that take events
// in freeze payloads as they arrive, also for lanes of other members. Behind an endpoint that takes nothing, payloads would be frozen long before they are sent.

// OpenElsewhere implements engine.Store.
func (s *Store) OpenElsewhere(webhookID uint32) bool {
	return s.fleet != nil && !s.owns(webhookID) && !(*s.fleet.impededElsewhere.Load())[webhookID]
}

// setImpeding notes which webhooks have an endpoint to which deliveries wait. The writer calls it.
func (f *fleet) setImpeding() {
	var ids []uint32
	for id, h := range f.s.health {
		if h.Impedes() {
			ids = append(ids, id)
		}
	}
	f.impeding.Store(&ids)
}

// impeded returns those whose lanes are this process's own.
func (f *fleet) impeded() (ids []uint32) {
	for _, id := range *f.impeding.Load() {
		if f.s.owns(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// noteImpeded notes those of the other members, as they were read. The caller holds mu.
func (f *fleet) noteImpeded() {
	all := make(map[uint32]bool)
	for _, m := range f.members {
		for _, id := range m.impeded {
			all[id] = true
		}
	}
	f.impededElsewhere.Store(&all)
}

func encodeWebhooks(ids []uint32) []byte {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	e := newRecord(4 * len(ids))
	for _, id := range ids {
		e.Uint(uint64(id))
	}
	return e.Bytes()
}

func decodeWebhooks(b []byte) (ids []uint32) {
	for d := openRecord(b); d.More(); {
		ids = append(ids, d.Count())
	}
	return ids
}
