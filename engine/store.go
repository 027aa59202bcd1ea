package engine

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Store keeps events, webhooks and the queue. The engine owns the rules, a Store the bytes. Several processes may share what a
// Store keeps, each with a Store and an Engine of its own; every sentence here holds then, too.
//
// # Changes
//
// A method that changes something returns nil only when the change is durable. Either all of it is seen or none. All methods may be
// called concurrently. What a method decides, it decides by the state that its own transaction sees, with the pure functions of this
// package: [Append.Admit], [Freeze.Fits], [AttemptRecord.Apply], [Delivery.Requeue], [Replay.Includes] and their like. They take values and
// return values, and a Store may call them again.
//
// # Errors
//
//   - [ErrUnavailable]: the Store takes no work. Nothing is known of the change: it may have been stored.
//   - [ErrTransient], which is an ErrUnavailable: the cause is expected to pass within seconds, such as a lost connection or contention.
//     It ends nothing: callers wait and repeat the call.
//   - [ErrFull]: there is no room for this change. Nothing of it was stored; the same call may succeed later.
//   - [ErrLost]: this process no longer owns what it had. All its claims have ended. The Store can be used again after a new Watch.
//
// # Ownership and claims
//
// A webhook's lanes belong to one process at a time. Only the owner claims deliveries of a lane, and only the owner of a claim may
// freeze and record. A claim ends with RecordAttempt, Freeze with [ErrNotSendable] or a dropped trigger, Release, ErrLost, or the
// process. A claimed delivery is not claimed again before that.
type Store interface {
	// Watch reports what this process comes to own and what other processes have changed, until ctx ends; then it returns nil. It calls
	// f one call at a time, the first time soon, even if nothing is owned yet. That f has returned acknowledges the news: what it told
	// to stop has stopped. Any other return is an error: ErrLost, after which Watch may be called again, or one that ends the engine.
	// There is one Watch at a time.
	Watch(ctx context.Context, f func(News)) error

	// Mine tells whether an attempt for a webhook may begin now: this process owns its lanes, beyond doubt. It is cheap, and answers
	// false once the Store has failed, for what cannot be recorded must not be sent.
	Mine(webhookID uint32) bool

	// AppendEvents adds events, in the order of their arrival, to their sessions, and makes a delivery for each trigger that Append.Admit
	// decides on. If Admit refuses events of any session, nothing is stored, and the error is an InputErrors with all that is refused.
	AppendEvents(ctx context.Context, a Append) (Appended, error)

	// ClaimDue claims deliveries that are due at now, oldest first in each lane, up to each request's room, and reads what it takes to
	// send them. What a cancellation covers is passed over, and so are lanes of other owners. The answer has one entry for each request,
	// in the same order.
	ClaimDue(ctx context.Context, now time.Time, requests []ClaimRequest) ([]ClaimResult, error)

	// Freeze stores the payload of a claimed scheduled delivery, which becomes pending; or, where there is no payload, removes
	// its trigger without a trace. ErrNotSendable means that Freeze.Fits has said no, or that the delivery was erased; its claim has
	// ended then. After ErrTransient and ErrFull the claim is still there.
	Freeze(ctx context.Context, f Freeze) error

	// RecordAttempt adds an attempt of a claimed delivery, ends the claim, and moves the delivery on, all as AttemptRecord.Apply says.
	// ErrNotSendable means that the delivery was erased meanwhile: its claim has ended, and of the attempt only what Apply says of an
	// erased one is kept. After any other error but ErrLost the claim stays: what cannot be recorded must not be sent again and again.
	RecordAttempt(ctx context.Context, r AttemptRecord) (Recorded, error)

	// Release ends the claims of deliveries that were claimed and not attempted: they are due as before.
	Release(ctx context.Context, claimed []Delivery) error

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

	// Webhooks returns the webhooks as this process knows them: with all that was changed through this Store, and with what was changed
	// elsewhere up to the last news that was acknowledged. It is cheap and never fails. The set that a transaction decides by is at least as new.
	Webhooks() *WebhookSet

	// PutWebhook carries out a change of a webhook. When it has returned, no process begins an attempt that the change forbids: of a
	// delivery that one of its cancellations covers, or with settings from before it.
	PutWebhook(ctx context.Context, c WebhookChange) (WebhookChanged, error)

	// Replay counts what a replay is about, in bounded looks, and, unless it is a dry run, leaves the replay to Maintain. It returns the
	// count. ErrNotFound means that there is no such webhook, ErrConflict that it is switched off.
	Replay(ctx context.Context, r Replay) (int64, error)

	// Erase carries out one bounded step of an erasure, from where the step before has left it; "" begins. It covers all that is
	// stored when it begins, and what is added meanwhile up to where it has not been yet. The claim of a delivery that it erases goes
	// on until whoever holds it ends it.
	Erase(ctx context.Context, target Erasure, cursor string) (ErasedStep, error)

	// Maintain carries out one bounded step of the work that waits in the background: cancellations, replays, retention. One process
	// calls it, the one that is the keeper (News.Keeper).
	Maintain(ctx context.Context, now time.Time, r Retention) (Maintained, error)

	// Stats returns counts that are kept, not made: it never walks the queue. probe makes it prove that the store can write. It
	// returns when ctx ends, also while the store hangs.
	Stats(ctx context.Context, now time.Time, probe bool) (Stats, error)
}

// News is what Watch reports. All of it is true when it is given.
type News struct {
	// Own are the webhooks whose lanes this process owns from now on, with the health of their endpoints as it is stored.
	Own map[uint32]Health
	// Yield are the webhooks whose lanes this process is to give up: it begins no attempt any more and releases what it has claimed.
	// Their lanes are somebody else's when no claim is left.
	Yield []uint32
	// Queued was put into lanes of this process by others.
	Queued []Queued
	// Ended are deliveries that others have cancelled, erased or queued again: they are not to be sent as they were claimed.
	Ended []Delivery
	// Webhooks are those that were changed, made or deleted elsewhere: Webhooks has them already.
	Webhooks []uint32
	// Keeper tells whether this process is the one that carries out the background work.
	Keeper bool
}

// Appended is what came of a request's events.
type Appended struct {
	// Queued says what was put into lanes.
	Queued []Queued
	// Claimed are the deliveries that are due already and whose lane is open: claimed for this process, in the order in which they
	// were made. Those whose payload was handed in are frozen.
	Claimed []Claimed
}

// Reschedule is a change by hand of when a delivery is due.
type Reschedule uint8

const (
	// RescheduleNow makes a delivery due at once: a scheduled or pending one is moved to now, one in a final state becomes pending
	// again with the same bytes, or scheduled if it has none yet, with a fresh schedule. ErrConflict means that its webhook is gone
	// or switched off, or that there is nothing left to build it from (MayRequeue).
	RescheduleNow Reschedule = iota + 1
	// RescheduleNever cancels a delivery that waits. ErrConflict means that it does not.
	RescheduleNever
)

// WebhookChange is a change of a webhook.
type WebhookChange struct {
	// Webhook is the webhook as it is to be. ID 0 makes a new one. Revision must be the one that it was read with, else
	// PutWebhook returns ErrRevision; the Store raises it. ErrRevision is returned as well for a new webhook with Operations where there
	// is one already, whoever made it: there is at most one.
	Webhook Webhook
	// Deleted removes it: its deliveries stay.
	Deleted bool
	// Cancels are the cancellations that the change leads to. CancelAll ends the webhook's replays as well.
	Cancels []Cancellation
	// Notice is queued for the operations webhook, if there is one that is active; nil means nothing.
	Notice []byte
}

// WebhookChanged is what came of a change of a webhook.
type WebhookChanged struct {
	// Webhook is the webhook as it is now.
	Webhook Webhook
	// Queued says what was put into lanes.
	Queued []Queued
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

// Queued says that something was put into a lane.
type Queued struct {
	Lane Lane
	At   time.Time
}

// ClaimRequest asks for deliveries of a lane.
type ClaimRequest struct {
	Lane Lane
	Room int // how many may be claimed, at least 1
}

// ClaimResult is what was claimed of a lane.
type ClaimResult struct {
	Claimed []Claimed
	// Next is when to look again, if fewer were claimed than there was room for: when the lane's next delivery is due. Zero
	// means that nothing waits. A Store may name an earlier time.
	Next time.Time
	// Damaged names what is due and could not be read. It stays claimed, so that others are not kept waiting.
	Damaged []error
}

// Claimed is a claimed delivery with what it takes to send it.
type Claimed struct {
	Delivery Delivery
	// Session is set for a scheduled delivery, to render the payload from.
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
	// Delivery is the delivery as it was claimed.
	Delivery Delivery
	Payload  []byte
	At       time.Time
}

// Recorded is what came of recording an attempt.
type Recorded struct {
	// Delivery is the delivery as it is now.
	Delivery Delivery
	// Moved tells that the attempt has moved the delivery, and not what was done to it while the attempt was under way.
	Moved bool
	// Queued says what was put into lanes beside the delivery itself.
	Queued []Queued
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
	// SizeBytes is how much the database takes.
	SizeBytes int64
	// Full says why no events are taken in, with ErrFull; nil while they are.
	Full error
	// File is set by a Store that keeps its data in a file of its own; nil for any other, whose room is somebody else's business.
	File *FileStats
}

// FileStats is what a Store knows of the file that it keeps its data in, and of the disk below it.
type FileStats struct {
	// FreeBytes is the part of the file (Stats.SizeBytes) that is free for new data.
	FreeBytes int64
	// MaxBytes is how much of the file may be in use, 0 for no limit; MinFreeBytes what must be left on the disk and in the file.
	MaxBytes, MinFreeBytes int64
	// DiskFreeBytes is what is left on the disk, -1 where that is not known.
	DiskFreeBytes int64
}

// WebhookStats counts the deliveries that are kept for a webhook.
type WebhookStats struct {
	Scheduled, Pending, Delivered, Failed, Cancelled int64
	// Due is how many of the scheduled and pending ones are due, tests not counted.
	Due int64
	// Claimed is how many of the scheduled and pending ones are claimed, whoever has them, tests not counted; ClaimedTests is how many
	// tests are.
	Claimed, ClaimedTests int64
	// OldestDueAt is since when the one with the oldest due time has been due: that time, or its creation if that is later (old
	// sessions are due at once). Zero if none is due.
	OldestDueAt time.Time
}
