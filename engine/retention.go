package engine

import "time"

// What may be removed. These functions are pure: a Store calls them in its transaction, with what is stored.

// idleSession is for how long nothing of a session that has not finished must have come in until it may be evicted: its visitor may come
// back.
const idleSession = 24 * time.Hour

// Expired tells whether a session's last event came before oldest, so that the session may go by age. One of which a delivery waits stays
// all the same.
func (h *SessionHead) Expired(oldest time.Time) bool { return !h.LastReceivedAt.After(oldest) }

// Evictable tells whether a session may go before its time, because the store is nearly full: it has finished, or nothing has been heard
// of it for a day. One of which a delivery waits stays all the same.
func (h *SessionHead) Evictable(now time.Time) bool {
	return !h.FinishedAt.IsZero() || now.Sub(h.LastReceivedAt) >= idleSession
}

// FinishedBy tells whether a delivery has been in its final state since at or before. One that was sent again since has another end,
// or will have one.
func (d *Delivery) FinishedBy(at time.Time) bool {
	return !d.FinishedAt.IsZero() && !d.FinishedAt.After(at)
}
