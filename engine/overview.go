package engine

import (
	"context"
	"errors"
	"time"
)

// Overview is the state of all webhooks, deliveries and the database at one moment.
type Overview struct {
	// Scheduled deliveries wait for their time, Due ones for the limits to allow an attempt, Held ones for their webhook to be resumed.
	// InFlight ones are claimed.
	Scheduled, Due, InFlight, Held int64
	// FanningOut is how many sessions have deliveries that are still to be made; none of the counts has these.
	FanningOut int64
	// OldestDueAge is how long the oldest due delivery has been due, without those of paused and inactive webhooks; 0 if none is due.
	OldestDueAge time.Duration
	// StalledFor is the longest time for which a webhook of this process could have sent a due delivery and made no attempt; 0 if none is
	// due. Unlike OldestDueAge it does not grow while a lane makes progress, or waits for its next probe or for its rate limit.
	StalledFor time.Duration
	// Stored counts the stored deliveries by state.
	Stored map[Status]int64
	// WithLateEvents counts the stored deliveries that lack events; see Delivery.LateEvents.
	WithLateEvents int64
	// Parked counts the failed ones that wait for the programs of their webhook to be mended; see Delivery.Parked.
	Parked int64
	// Webhooks counts the webhooks by state. A failing webhook gets probes only, a throttled one is held or slowed down; neither is counted as
	// active.
	Webhooks struct{ Active, Failing, Throttled, Paused, Inactive int }
	// PerWebhook has the counts of each webhook that has deliveries.
	PerWebhook map[uint32]WebhookStats
	// Replays are the replays that are not done yet, oldest first.
	Replays []Replay
	// SizeBytes is the size of the database.
	SizeBytes int64
	// File describes the database file and its disk; nil if the store has no file.
	File *FileStats
	// Full is the ErrFull with which events are refused now; nil while they are accepted.
	Full error
}

// Overview returns the state of the whole engine. Its cost grows with the number of webhooks, not with the queue.
func (e *Engine) Overview(ctx context.Context) (Overview, error) {
	now := utcNow()
	s, err := e.store.Stats(ctx, now, false)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{
		Stored: make(map[Status]int64), PerWebhook: s.Webhooks, Replays: s.Replays, FanningOut: s.FanningOut, SizeBytes: s.SizeBytes, File: s.File, Full: s.Full,
	}
	hooks := e.store.Webhooks()
	for _, w := range hooks.All() {
		h := s.Health[w.ID]
		_, throttled := h.Throttled(now)
		switch {
		case !w.Active:
			o.Webhooks.Inactive++
		case w.Paused:
			o.Webhooks.Paused++
		case h.Failing():
			o.Webhooks.Failing++
		case throttled:
			o.Webhooks.Throttled++
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
		o.Stored[StatusFiltered] += c.Filtered
		o.Parked += c.Parked
		o.WithLateEvents += c.Late
		// A claimed delivery was due. The counts may be from different moments, so no difference may become negative.
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
			o.StalledFor = max(o.StalledFor, e.lanes.stalledFor(id, c.OldestDueAt))
		}
	}
	return o, nil
}

// Ready returns an error unless events can be accepted and delivered: the store can write, it has room, and Run is running. A Store may have a
// method Ready of its own; its error may be a *NotReadyError.
func (e *Engine) Ready(ctx context.Context) error {
	if !e.running.Load() {
		return errors.New("the engine is not running")
	}
	if store, ok := e.store.(interface{ Ready(context.Context) error }); ok {
		return store.Ready(ctx)
	}
	stats, err := e.store.Stats(ctx, utcNow(), true)
	if err != nil {
		return err
	}
	return stats.Full
}
