package engine

import "time"

// What may be removed. These functions are pure. A Store calls them in its transaction, with the stored records.

// idleSession is how long an unfinished session must have had no event before it may be evicted: its visitor may come back until then.
const idleSession = 24 * time.Hour

// Expired reports whether a session's last event was received at oldest or before, so that retention may remove it. A session that a
// waiting delivery needs stays all the same.
func (h *SessionHead) Expired(oldest time.Time) bool { return !h.LastReceivedAt.After(oldest) }

// Evictable reports whether a session may be removed early because the store is nearly full: it has finished, or has had no event for a
// day. A session that a waiting delivery needs stays all the same.
func (h *SessionHead) Evictable(now time.Time) bool {
	return !h.FinishedAt.IsZero() || now.Sub(h.LastReceivedAt) >= idleSession
}

// KeptWithSession reports whether a delivery is kept beyond its retention while its session is stored: it has no body yet, and a late event or a
// mended program may still lead to one.
func (d *Delivery) KeptWithSession() bool {
	return d.Status == StatusFiltered && d.Kind == KindComplete || d.Parked() && d.Kind.OfSession()
}

// FinishedBy reports whether a delivery has been in its final state since at or before. It is false if the delivery was sent again since:
// then it ends later.
func (d *Delivery) FinishedBy(at time.Time) bool {
	return !d.FinishedAt.IsZero() && !d.FinishedAt.After(at)
}
