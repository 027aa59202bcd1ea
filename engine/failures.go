package engine

import (
	"context"
	"sync"
	"time"
)

// failuresInterval is how long after a system event about a failed delivery none is sent about another one of the same webhook, if people
// get them.
const failuresInterval = time.Hour

// failures keeps system events about failed deliveries few, if people get them: an endpoint that was given up may have a million. The first of
// a webhook is told at once. Those of the hour after it are counted, and told together: by the next one, at the end of the hour, or at a stop.
//
// The counts are in memory. If the process is killed, those of an hour are not told, which began with an event about their webhook.
type failures struct {
	mu        sync.Mutex
	byWebhook map[uint32]*untold // guarded by mu
}

// untold is what there is to tell of a webhook's failed deliveries.
type untold struct {
	toldAt time.Time // when the last event was queued, by the monotonic clock; zero if none was
	count  int       // deliveries that have failed since, without an event
	last   Delivery  // the last of them
}

func (u *untold) isDue() bool { return time.Since(u.toldAt) >= failuresInterval }

// Failure says what the system event about a delivery that has failed for good tells.
type Failure struct {
	// More is how many other deliveries it tells of. Quietly means that there is no event.
	More    int
	Quietly bool
}

// notice returns the event, nil for none; see failedNotice.
func (f Failure) notice(w *Webhook, d *Delivery, now time.Time) []byte {
	if f.Quietly {
		return nil
	}
	return failedNotice(w, d, f.More, now)
}

// begin decides whether it is told that a delivery of a webhook fails for good. Call end with what became of it.
func (f *failures) begin(webhookID uint32) (is Failure, end func(d *Delivery, hasFailed bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u := f.of(webhookID); u.isDue() {
		is.More, u.toldAt = u.count, time.Now()
	} else {
		is.Quietly = true
	}
	return is, func(d *Delivery, hasFailed bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch u := f.of(webhookID); {
		case hasFailed && is.Quietly:
			u.count, u.last = u.count+1, *d
		case hasFailed:
			u.count -= is.More
		case !is.Quietly:
			u.toldAt = time.Time{}
		}
	}
}

// of returns what there is to tell of a webhook. f.mu is held.
func (f *failures) of(webhookID uint32) *untold {
	u := f.byWebhook[webhookID]
	if u == nil {
		u = new(untold)
		if f.byWebhook == nil {
			f.byWebhook = make(map[uint32]*untold)
		}
		f.byWebhook[webhookID] = u
	}
	return u
}

// due returns what is to be told now, by webhook; all of it, or what has waited for its hour. It forgets webhooks of which there is nothing.
func (f *failures) due(all bool) map[uint32]untold {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make(map[uint32]untold)
	for id, u := range f.byWebhook {
		switch {
		case u.count > 0 && (all || u.isDue()):
			list[id] = *u
		case u.count == 0 && u.isDue():
			delete(f.byWebhook, id)
		}
	}
	return list
}

// told takes back what an event has told.
func (f *failures) told(webhookID uint32, u untold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.of(webhookID)
	now.count, now.toldAt = now.count-u.count, time.Now()
}

// peopleGetOperations reports whether people read the system events one by one, so that there must not be too many.
func (c *Config) peopleGetOperations() bool {
	return IsMailURL(c.OperationsURL) || c.OperationsTransform != ""
}

// beginFailure is failures.begin for a delivery that may fail for good, if people get the events. w is its webhook, nil if it was deleted.
func (e *Engine) beginFailure(mayFail bool, w *Webhook, d *Delivery) (is Failure, end func(d *Delivery, hasFailed bool)) {
	if !mayFail || !e.config().peopleGetOperations() || failedNotice(w, d, 0, d.CreatedAt) == nil {
		return Failure{}, func(*Delivery, bool) {}
	}
	return e.failures.begin(w.ID)
}

// tellFailures queues the system events about failed deliveries that wait for it; all of them, or those whose hour has ended.
func (e *Engine) tellFailures(ctx context.Context, all bool) {
	now := utcNow()
	for id, u := range e.failures.due(all) {
		payload := failedNotice(e.store.Webhooks().Get(id), &u.last, u.count-1, now)
		if payload == nil || e.enqueueOperation(ctx, payload, now) { // nil if the webhook was deleted
			e.failures.told(id, u)
		}
	}
}
