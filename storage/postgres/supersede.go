package postgres

import "hookbolt/engine"

// supersede cancels the deliveries that a payload supersedes as it is frozen. r is its delivery. It returns engine.ErrMoreEvents, with the session in
// done, if the payload lacks events.
func (b *batch) supersede(r *deliveryRow, f *engine.Freeze, done *engine.Frozen) error {
	session, err := b.session(r.SessionID)
	if b.s.passes(err) {
		return nil
	}
	if err != nil || session == nil || session.no != r.sessionNo {
		return err
	}
	if session.Events != f.Events {
		record, err := b.sessionRecord(session)
		if err != nil {
			return err
		}
		done.Session = &record
		return engine.ErrMoreEvents
	}
	if f.Ends() {
		return nil
	}
	refs, err := b.refsTo(session, r.WebhookID)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		old, err := b.delivery(ref.ID)
		if b.s.passes(err) || err == nil && (old == nil || old.ID == r.ID) {
			continue
		}
		if err != nil {
			return err
		}
		d := *old
		switch f.Supersede(&d.Delivery, session.FinishedAt) {
		case engine.SupersedeDrops:
			b.removeDelivery(old)
		case engine.SupersedeCancels:
			done.Superseded = append(done.Superseded, d.Delivery)
			b.saveDelivery(&d)
		case engine.SupersedeTells:
			b.saveDelivery(&d)
		}
	}
	return nil
}
