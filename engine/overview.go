package engine

import (
	"context"
	"errors"
	"time"
)

// Overview is the state of the whole at one moment.
type Overview struct {
	// Scheduled wait for their time, Due for a free place, Held for their webhook to be resumed; InFlight are taken up.
	Scheduled, Due, InFlight, Held int64
	// OldestDueAge is that of the oldest due delivery of a webhook that is not held; 0 if none is due.
	OldestDueAge time.Duration
	// Stored counts the deliveries that are kept.
	Stored map[Status]int64
	// Webhooks counts the webhooks by state. Failing ones get probes only, and are not counted as active.
	Webhooks struct{ Active, Failing, Paused, Inactive int }
	// PerWebhook has the counts of each webhook.
	PerWebhook map[uint32]WebhookStats
	// Replays are those on their way, oldest first.
	Replays []Replay
	// SizeBytes is how much the database takes.
	SizeBytes int64
	// File is what is known of the database file and of its disk; nil if the store has none.
	File *FileStats
	// Full says why no events are taken in, with ErrFull; nil while they are.
	Full error
}

// Overview returns the state of the whole. It costs a look at each webhook's lane, never one at the queue.
func (e *Engine) Overview(ctx context.Context) (Overview, error) {
	now := utcNow()
	s, err := e.store.Stats(ctx, now, false)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{
		Stored: make(map[Status]int64), PerWebhook: s.Webhooks, Replays: s.Replays, SizeBytes: s.SizeBytes, File: s.File, Full: s.Full,
	}
	hooks := e.store.Webhooks()
	for _, w := range hooks.All() {
		switch {
		case !w.Active:
			o.Webhooks.Inactive++
		case w.Paused:
			o.Webhooks.Paused++
		case !s.Health[w.ID].FailingSince.IsZero():
			o.Webhooks.Failing++
		default:
			o.Webhooks.Active++
		}
	}
	for id, c := range s.Webhooks {
		o.Stored[StatusScheduled] += c.Scheduled
		o.Stored[StatusPending] += c.Pending
		o.Stored[StatusDelivered] += c.Delivered
		o.Stored[StatusFailed] += c.Failed
		o.Stored[StatusCancelled] += c.Cancelled
		// What is claimed was due. A store may count a moment apart: no part may come out below 0.
		waiting := max(0, c.Scheduled+c.Pending-c.Claimed-c.ClaimedTests)
		o.InFlight += c.Claimed + c.ClaimedTests
		if w := hooks.Get(id); w == nil || w.Paused || !w.Active {
			o.Held += waiting
			continue
		}
		due := min(max(0, c.Due-c.Claimed), waiting)
		o.Due += due
		o.Scheduled += waiting - due
		if !c.OldestDueAt.IsZero() {
			o.OldestDueAge = max(o.OldestDueAge, now.Sub(c.OldestDueAt))
		}
	}
	return o, nil
}

// Ready tells whether events can be taken in and delivered: the store writes, it has room, and Run is running.
func (e *Engine) Ready(ctx context.Context) error {
	if !e.running.Load() {
		return errors.New("the engine is not running")
	}
	stats, err := e.store.Stats(ctx, utcNow(), true)
	if err != nil {
		return err
	}
	return stats.Full
}
