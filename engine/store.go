package engine

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Store keeps events, webhooks and the queue. The engine owns the rules, a Store the bytes: it is written so that a second
// implementation, on a database that several processes share, would not touch the engine.
//
// Every method that changes something must not return nil until the change is durable, and either all of it or none is ever
// seen. All methods may be called at once. Where a Store can take no work, they return an error that is ErrUnavailable, and where it has
// no room for this change ErrFull: the same call may succeed later.
type Store interface {
	// AppendEvents adds events, in the order of their arrival, to their sessions, and queues a delivery for each trigger that
	// decide asks for. Events whose id their session has already are left out before decide sees them. decide is called once
	// for each session with a fresh event, must be pure, and may be called again. If it fails, nothing is stored. A trigger that is Ready
	// is frozen, claimed and handed over in place of being queued; the answer has the others.
	AppendEvents(ctx context.Context, events []Event, decide Decide) ([]Queued, error)

	// TakeDue claims deliveries that are due at now, oldest first in each lane, up to each lane's room, and reads what it
	// takes to send them. A claimed delivery is not taken again before RecordAttempt, Freeze with ErrGone or a dropped trigger,
	// or Release. What a cancellation covers is passed over. The answer has one entry for each lane, in the same order.
	TakeDue(ctx context.Context, now time.Time, rooms []LaneRoom) ([]LaneTake, error)

	// Freeze stores the payload of a claimed scheduled delivery, which becomes pending; or, where there is no payload, removes
	// its trigger without a trace. ErrGone means that it is not to be sent any more; its claim has ended then. After any other
	// error the claim is still there.
	Freeze(ctx context.Context, f Freeze) error

	// RecordAttempt adds an attempt of a claimed delivery, ends the claim, and moves the delivery on. If it was cancelled or
	// queued again while the attempt was under way, the attempt is added and only a 2xx moves it. It returns the delivery as
	// it is then. ErrGone means that it was erased meanwhile: its claim has ended, and of the attempt only Health and Notices are
	// kept. After any other error the claim stays: what cannot be recorded must not be sent again and again.
	RecordAttempt(ctx context.Context, r AttemptRecord) (Delivery, error)

	// Release ends the claims of deliveries that were taken but not attempted: they are due as before.
	Release(taken []Delivery)

	// Reschedule changes when a delivery is due, by hand; see Reschedule.
	Reschedule(ctx context.Context, id uuid.UUID, how Reschedule, now time.Time) (Delivery, error)

	// Enqueue queues a payload that is about no session for a webhook, due at now. ErrNotFound means that there is no such webhook.
	Enqueue(ctx context.Context, webhookID uint32, kind Kind, payload []byte, now time.Time) (Delivery, error)

	// Session returns what is stored of a session, and its deliveries that are still kept.
	Session(ctx context.Context, id uuid.UUID) (SessionRecord, []Delivery, error)

	// Delivery returns a delivery, its payload (nil while it is scheduled), and its attempts, oldest first.
	Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error)

	// Deliveries lists deliveries.
	Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error)

	// Webhooks returns the present webhooks. It is cheap and never fails.
	Webhooks() *WebhookSet

	// PutWebhook carries out a change of a webhook, and returns it as it is then.
	PutWebhook(ctx context.Context, c WebhookChange) (Webhook, error)

	// Replay counts what a replay is about, bounding what it looks at under one lock, and, unless it is a dry run, leaves the replay
	// to Maintain. It returns the count. ErrNotFound means that there is no such webhook, ErrConflict that it is switched off.
	Replay(ctx context.Context, r Replay) (int64, error)

	// Erase carries out one bounded step of an erasure, from where the step before has left it; "" begins. It covers all that is
	// stored when it begins, and what is added meanwhile up to where it has not been yet. The claim of a delivery that it erases goes
	// on until whoever holds it ends it.
	Erase(ctx context.Context, what Erasure, place string) (ErasedStep, error)

	// Maintain carries out one bounded step of the work that waits in the background: cancellations, replays, retention.
	Maintain(ctx context.Context, now time.Time, r Retention) (Maintained, error)

	// Stats returns counts that are kept, not made: it never walks the queue. probe makes it prove that the store can write. It
	// returns when ctx ends, also while the store hangs.
	Stats(ctx context.Context, now time.Time, probe bool) (Stats, error)
}

// Reschedule is a change by hand of when a delivery is due.
type Reschedule uint8

const (
	// RescheduleNow makes a delivery due at once: a scheduled or pending one is moved to now, one in a final state becomes pending
	// again with the same bytes, or scheduled if it has none yet, with a fresh schedule. ErrConflict means that its webhook is gone
	// or switched off, or that there is nothing left to build it from.
	RescheduleNow Reschedule = iota + 1
	// RescheduleNever cancels a delivery that waits. ErrConflict means that it does not.
	RescheduleNever
)

// WebhookChange is a change of a webhook.
type WebhookChange struct {
	// Webhook is the webhook as it is to be. ID 0 makes a new one. Revision must be the one that it was read with, else
	// PutWebhook returns ErrRevision; the Store raises it.
	Webhook Webhook
	// Deleted removes it: its deliveries stay.
	Deleted bool
	// Cancels are the cancellations that the change leads to. CancelAll ends the webhook's replays as well.
	Cancels []Cancellation
	// Health is the health of its endpoint, kept as AttemptRecord.Health is.
	Health Health
	// Notice is queued for the operations webhook, if there is one that is active; nil means nothing.
	Notice []byte
}

// Maintained is what a step of the background work has come to.
type Maintained struct {
	// Next is when the next step makes sense: at once if more waits, never later than an hour.
	Next time.Time
	// Cancelled is how many deliveries were cancelled.
	Cancelled int
	// Queued says what a replay has put into lanes.
	Queued []Queued
	// Expired is what was removed after its retention, Evicted what was removed before, because the store was nearly full.
	Expired, Evicted Removed
	// Damaged names what could not be read, and was passed over.
	Damaged []error
}

// Removed counts what was removed.
type Removed struct{ Sessions, Deliveries int }

// Decide turns the fresh events of one session into a decision; see Admit.
type Decide func(head SessionHead, fresh []Event, hooks *WebhookSet) (Decision, error)

// Queued says that something was put into a lane.
type Queued struct {
	Lane Lane
	At   time.Time
}

// LaneRoom is how many deliveries may be taken from a lane.
type LaneRoom struct {
	Lane Lane
	Room int // at least 1
}

// LaneTake is what was taken from a lane.
type LaneTake struct {
	Taken []Taken
	// Next is when to look again, if fewer were taken than there was room for: when the lane's next delivery is due. Zero
	// means that nothing waits. A Store may name an earlier time.
	Next time.Time
	// Damaged names what is due and could not be read. It stays claimed, so that others are not kept waiting.
	Damaged []error
}

// Taken is a claimed delivery with what it takes to send it.
type Taken struct {
	Delivery Delivery
	// Session is set for a scheduled delivery, to build the payload from.
	Session *SessionRecord
	// Payload is set for a pending one.
	Payload []byte
}

// SessionRecord is what is stored of a session.
type SessionRecord struct {
	Head    SessionHead
	Batches []EventBatch
}

// EventBatch is the events of one request, for one session.
type EventBatch struct {
	ReceivedAt time.Time
	// JSON is a list of the events as they came.
	JSON []byte
}

// Events decodes the session's events, in the order of their arrival.
func (s *SessionRecord) Events() ([]Event, error) {
	var all []Event
	for _, b := range s.Batches {
		events, err := DecodeEvents(b.JSON, b.ReceivedAt)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = events
		} else {
			all = append(all, events...)
		}
	}
	return all, nil
}

// Freeze is the payload of a delivery; Payload nil drops its trigger.
type Freeze struct {
	Delivery Delivery
	Payload  []byte
	At       time.Time
}

// AttemptRecord is an attempt that has ended and what it leads to.
type AttemptRecord struct {
	// Delivery is the delivery as it was taken.
	Delivery Delivery
	Attempt  Attempt
	Next     Next
	At       time.Time
	// Health is that of the webhook's endpoint since the attempt. It is kept unless what is kept has a higher Order.
	Health Health
	// Notices returns what is queued for the operations webhook, if there is one that is active, for the delivery as it is after the
	// attempt, an empty one if it was erased; what is nil is passed over. It is pure, and may be called again. Nil means nothing.
	Notices func(after *Delivery) [][]byte
}

// DeliveryQuery chooses deliveries. Zero fields choose all.
type DeliveryQuery struct {
	WebhookID uint32
	SessionID uuid.UUID
	Status    Status
	// Since and Until bound CreatedAt, both inclusive.
	Since, Until time.Time
	// Limit is the most items of a page, at least 1.
	Limit int
	// Cursor is DeliveryPage.NextCursor of the page before, with all other fields the same.
	Cursor string
}

// DeliveryPage is a page of deliveries, newest first; those that are asked for as scheduled or pending come in the order of
// their next attempt, latest first.
type DeliveryPage struct {
	Items []Delivery
	// NextCursor is "" on the last page. A page may hold fewer items than its limit, even none, before the last one: a Store
	// bounds what it looks at for a page.
	NextCursor string
}

// Retention says how long finished things are kept.
type Retention struct {
	// Sessions is counted from the last event's receipt; a session is kept while something of it waits.
	Sessions time.Duration
	// Deliveries is counted from the final state.
	Deliveries time.Duration
}

// Stats is what a Store knows without looking.
type Stats struct {
	// Webhooks has an entry for each webhook that has deliveries, deleted ones with what is left of theirs.
	Webhooks map[uint32]WebhookStats
	// Health has an entry for each webhook whose last attempt has failed.
	Health map[uint32]Health
	// Replays are those on their way, oldest first.
	Replays []Replay
	// SizeBytes is the database file's size, FreeBytes the part of it that is free for new data.
	SizeBytes, FreeBytes int64
	// MaxBytes is how much of the file may be in use, 0 for no limit; MinFreeBytes what must be left on the disk and in the file.
	MaxBytes, MinFreeBytes int64
	// DiskFreeBytes is what is left on the disk, -1 where that is not known.
	DiskFreeBytes int64
	// Full says why no events are taken in, with ErrFull; nil while they are.
	Full error
}

// WebhookStats counts the deliveries that are kept for a webhook.
type WebhookStats struct {
	Scheduled, Pending, Delivered, Failed, Cancelled int64
	// Due is how many of the scheduled and pending ones are due.
	Due int64
	// OldestDueAt is since when the one with the oldest due time has been due: that time, or its creation if that is later (old
	// sessions are due at once). Zero if none is due.
	OldestDueAt time.Time
}
