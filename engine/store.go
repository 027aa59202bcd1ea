package engine

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Store keeps events, webhooks, deliveries and attempts. The engine owns the rules; a Store owns the bytes. Several processes may share the
// same data, each with a Store and an Engine of its own. Every sentence here holds in that case, too.
//
// # Changes
//
// A method that changes something returns nil only when the change is durable. Others see all of a change or nothing of it. All methods may
// be called concurrently. A method decides by the state that its own transaction sees, with the pure functions of this package:
// [Append.Admit], [Freeze.Fits], [AttemptRecord.Apply], [Delivery.Requeue], [Replay.Includes] and the like. They take values and return
// values, so a Store may call them again, as when it repeats a transaction.
//
// # Errors
//
//   - [ErrUnavailable]: the Store does not work. The outcome of the change is unknown: it may have been stored.
//   - [ErrTransient], which is an ErrUnavailable: the cause is expected to pass within seconds, such as a lost connection or contention.
//     It ends nothing: callers wait and repeat the call.
//   - [ErrFull]: there is no room for this change. Nothing of it was stored; the same call may succeed later.
//   - [ErrLost]: this process no longer owns its lanes. All its claims have ended. The Store can be used again after a new Watch.
//
// # Damage
//
// A damaged record hides no other. A call that walks through records skips it and names it: in the Damaged of its result, or of a later
// Maintain. A call for one record, and no other, fails if that record is damaged.
//
// # Ownership and claims
//
// A webhook's lanes belong to one process at a time. Only the owner claims deliveries of a lane, and only the owner of a claim may freeze
// and record. A claim ends with RecordAttempt, with a Freeze that returns [ErrNotSendable] or drops the trigger, with Release, with
// ErrLost, or with the process. A claimed delivery is not claimed again before that. Who freezes or records without the claim gets an
// error, and nothing changes.
//
// # Contexts
//
// A call whose ctx has ended before its transaction began returns the error of ctx and changes nothing. No claim exists of which the caller
// was not told: after an error of ClaimDue or AppendEvents, nothing is claimed.
type Store interface {
	// Watch reports which lanes this process owns and what other processes have changed. It returns nil when ctx ends. It calls f one call
	// at a time, and soon for the first time, even if this process owns nothing yet. The return of f acknowledges the news: the work that
	// the news has told to stop has stopped. Any error ends the Watch. After ErrLost, Watch may be called again; any other error ends the
	// engine. There is one Watch at a time.
	Watch(ctx context.Context, f func(News)) error

	// Mine reports whether an attempt for a webhook may begin now: this process owns the webhook's lanes, beyond doubt. It is cheap. It
	// returns false once the Store has failed, because an attempt that cannot be recorded must not be sent. Where it becomes true again without
	// News.Own, News.Webhooks names the webhook afterwards.
	Mine(webhookID uint32) bool

	// OpenElsewhere reports whether another process owns the webhook's lanes and has said nothing lately against sending to its endpoint. A payload
	// that is due at once may be frozen where its events arrive then. It is cheap.
	OpenElsewhere(webhookID uint32) bool

	// AppendEvents adds events to their sessions, in the order of their arrival, and makes a delivery for each trigger that Append.Admit
	// returns. Where Decision.Late says so, Append.AdmitLate completes the decision, and Trigger.LateEffect decides about each trigger of kind
	// update. If Admit refuses events of any session, nothing is stored, and the error is an InputErrors with all refused events. With
	// Append.Partial, Admit leaves such events out instead: Appended.Refused names them, and the others are stored.
	//
	// Where Admit returns a FanOut, its transaction keeps that in place of deliveries. The keeper (News.Keeper) makes them soon afterwards, in
	// bounded steps, while its Watch runs: those of FanOut.AppendTriggers for each webhook that was there when the events were stored, as its
	// settings are then. The owners of the lanes get the news. A session is kept as long as deliveries of it may still have to be made; an
	// erased one gets none.
	AppendEvents(ctx context.Context, a Append) (Appended, error)

	// ClaimDue claims deliveries that are due at now, the oldest first in each lane, up to the room of each request. It also reads what is
	// needed to send them. It skips deliveries that a cancellation covers, and lanes of other owners. The answer has one entry for each
	// request, in the same order.
	ClaimDue(ctx context.Context, now time.Time, requests []ClaimRequest) ([]ClaimResult, error)

	// Freeze stores the body of a claimed scheduled delivery, which becomes pending, and does to the other deliveries of the session for
	// the webhook what Freeze.Supersede says. If Freeze.Ends, it stores no body, and the claim ends. In both cases Freeze.Apply says what
	// becomes of the delivery. Otherwise, without a body, it removes the delivery's trigger, without a trace. ErrMoreEvents means that
	// the session has other events than Freeze.Events by now: nothing was changed, Frozen.Session is the session as it is now, and the
	// claim is still held. ErrNotSendable means that Freeze.Fits returned false, or that the delivery was erased; its claim has ended. After
	// ErrTransient and ErrFull the claim is still held.
	Freeze(ctx context.Context, f Freeze) (Frozen, error)

	// RecordAttempt adds an attempt of a claimed delivery, ends the claim, and moves the delivery on, all as AttemptRecord.Apply decides.
	// ErrNotSendable means that the delivery was erased meanwhile: its claim has ended, and only what AttemptRecord.ApplyErased returns is
	// kept of the attempt. After any other error but ErrLost the claim is still held, so that an attempt that cannot be recorded is not
	// sent again and again.
	RecordAttempt(ctx context.Context, r AttemptRecord) (Recorded, error)

	// Release ends the claims of deliveries that were claimed and not attempted. They are due as before.
	Release(ctx context.Context, claimed []Delivery) error

	// Reschedule changes by hand when a delivery is due; see type Reschedule. It returns the delivery as it is now.
	Reschedule(ctx context.Context, id uuid.UUID, how Reschedule, now time.Time) (Delivery, error)

	// Enqueue queues a payload that belongs to no session for a webhook, frozen and due. ErrNotFound means that there is no such webhook.
	Enqueue(ctx context.Context, q Enqueue) (Delivery, error)

	// Session returns what is stored of a session, and those of its deliveries that are still stored. Damaged deliveries are left out. It
	// fails if the session or its events are damaged.
	Session(ctx context.Context, id uuid.UUID) (SessionRecord, []Delivery, error)

	// Delivery returns a delivery, its payload (nil while it is scheduled, or if it is damaged), and its attempts, oldest first, without
	// damaged ones.
	Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error)

	// Deliveries returns one page of the deliveries that a query selects.
	Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error)

	// Sessions returns one page of the sessions that a query selects, newest first.
	Sessions(ctx context.Context, q SessionQuery) (SessionPage, error)

	// Webhooks returns the webhooks as this process knows them: with all changes made through this Store, and with changes made elsewhere
	// up to the last news that was acknowledged. It is cheap and never fails. The set that a transaction decides by is at least as new.
	Webhooks() *WebhookSet

	// Current returns nil if Webhooks has all changes that were complete when Current was called, wherever they were made: a change is complete when its
	// call has returned. A process that may have missed some, because it was cut off from the data, reads them first. It is cheap for any other one. An
	// error, an ErrUnavailable, means that the process must not answer from what it knows.
	Current(ctx context.Context) error

	// PutWebhook stores a change of a webhook. Once it has returned, no process begins an attempt that the change forbids: an attempt of a
	// delivery that one of its cancellations covers, or an attempt with settings from before the change.
	PutWebhook(ctx context.Context, c WebhookChange) (WebhookChanged, error)

	// Replay counts the deliveries of a replay, in bounded reads. Unless it is a dry run, it stores the replay, and Maintain carries it
	// out. It returns the count. ErrNotFound means that there is no such webhook, ErrConflict that it is inactive.
	Replay(ctx context.Context, r Replay) (int64, error)

	// Done returns what a request with that key has done. ErrNotFound means that there was none, or that it is forgotten.
	//
	// A change with a Once, which PutWebhook, Enqueue, Replay and Erase may get, keeps in its own transaction what it has done. If a request with the
	// key is remembered, it returns ErrRepeated instead, and changes nothing. A change that fails is not remembered. A request is remembered
	// until Done.Forgotten, or until there are more than MaxOnce; Maintain removes it then. An erasure is remembered when it begins, and has
	// Done.Erased when it is complete.
	Done(ctx context.Context, key OnceKey) (Done, error)

	// Erase carries out one bounded step of an erasure. cursor is ErasedStep.Next of the step before; "" begins. It covers everything that
	// is stored when it begins. Data that is added meanwhile is covered only where the erasure has not passed yet. The claim of an erased
	// delivery lasts until its holder ends it. The first step stores the erasure and the last one removes it: if the process ends in between,
	// Maintain of a later one returns it. A person is found as Person.InEvents and InPayload find him, also in deliveries that have outlived
	// their session. A dry run counts and changes nothing.
	Erase(ctx context.Context, target Erasure, cursor string) (ErasedStep, error)

	// Maintain carries out one bounded step of the background work: cancellations, replays, retention. Only one process calls it, the
	// keeper (News.Keeper). It also returns the erasures that processes have left which ended, each once.
	//
	// A session keeps the id of its complete delivery for a webhook when that delivery's retention has ended, unless it was cancelled and no
	// update has told the webhook of the session, or will: then it is missing, as ReplayMissing has it. A delivery that is KeptWithSession is
	// removed by its retention only once its session is gone.
	Maintain(ctx context.Context, now time.Time, r Retention) (Maintained, error)

	// Stats returns counts that the Store maintains as it changes data: it never walks the queue. With probe it also proves that the store
	// can write. What is due is due at now, which may be earlier than in the call before: a clock may be set back. It returns when ctx ends,
	// even while the store hangs.
	Stats(ctx context.Context, now time.Time, probe bool) (Stats, error)
}

// Owned is a webhook whose lanes a process comes to own.
type Owned struct {
	// Health is the stored health of its endpoint.
	Health Health
	// Webhook is the webhook that the health is about: it may have changed since.
	Webhook *Webhook
}

// News is what Watch reports. All of it is true at the time of the call.
type News struct {
	// Own are the webhooks whose lanes this process owns from now on. It need not name a webhook that was made through this Store: Mine tells.
	Own map[uint32]Owned
	// Yield are the webhooks whose lanes this process must give up: it begins no attempt any more, and releases its claims. Another process
	// may own their lanes once no claim is left.
	Yield []uint32
	// Queued names lanes of this process in which other processes have queued deliveries, and when these are due.
	Queued []Queued
	// Late is how many events were counted as late, in steps of fan-outs; see Appended.Late.
	Late int
	// Ended are deliveries that other processes have cancelled, erased or queued again. They must not be sent as they were claimed.
	Ended []Delivery
	// Webhooks are the webhooks that were created, changed or deleted elsewhere. Store.Webhooks has the changes already.
	Webhooks []uint32
	// Work tells the keeper that other processes have caused background work, such as a replay, or left it when they ended: Maintain is called soon.
	Work bool
	// CutOff tells that attempts in flight must end now, without a result: others may take the lanes over. The claims are still held, and attempts
	// begin again when Mine allows it.
	CutOff bool
	// Keeper reports whether this process carries out the background work; see Store.Maintain.
	Keeper bool
}

// Appended is the result of AppendEvents.
type Appended struct {
	// Queued names the lanes that got deliveries, and when these are due. The deliveries in Claimed are not part of it.
	Queued []Queued
	// Claimed are the deliveries that were due on arrival and whose lane was open. They are claimed for this process, in the order in which
	// they were made. Those whose payload was handed in are frozen.
	Claimed []Claimed
	// Duplicates is the sum of the Decision.Duplicates of all sessions.
	Duplicates int
	// Refused has the Decision.Refused of all sessions.
	Refused InputErrors
	// Late is how many events were counted as late, once for each webhook; see LateCounted.
	Late int
}

// Reschedule says how a delivery's due time is changed by hand.
type Reschedule uint8

const (
	// RescheduleNow makes a delivery due at once. A scheduled or pending delivery is due now. A delivery in a final state becomes pending
	// again with the same bytes, or scheduled if it has no payload yet, and starts its retry schedule again. ErrConflict says why it cannot
	// be sent again; see Delivery.Requeue.
	RescheduleNow Reschedule = iota + 1
	// RescheduleNever cancels a waiting delivery. ErrConflict means that the delivery is not waiting.
	RescheduleNever
)

// WebhookChange is a change of a webhook, for Store.PutWebhook.
type WebhookChange struct {
	// Webhook is the webhook after the change. ID 0 creates one. Revision is the one that the webhook was read with; if the stored one
	// differs, PutWebhook returns ErrRevision. The Store raises it. ErrRevision is also returned for a new webhook with Operations set if
	// there is one already, whoever made it: there is at most one.
	Webhook Webhook
	// Unchanged asks only whether the stored webhook has the revision of Webhook: nothing is changed. A process that is cut off from the others may
	// know an older one, and must not answer from that.
	Unchanged bool
	// Deleted removes the webhook. Its deliveries stay.
	Deleted bool
	// Cancels are the cancellations that the change causes. CancelAll also ends the webhook's replays.
	Cancels []Cancellation
	// Notice is the payload of a system event. It is queued for the operations webhook if there is one and it is active. Nil means no
	// event.
	Notice []byte
	// Once is the request that the change is made for, if it has a key; see Store.Done.
	Once *Once
}

// WebhookChanged is the result of PutWebhook.
type WebhookChanged struct {
	// Webhook is the webhook as it is stored now.
	Webhook Webhook
	// Queued names the lanes that got deliveries, and when these are due.
	Queued []Queued
}

// Maintained is the result of a step of the background work.
type Maintained struct {
	// Next is when to call Maintain again: at once if there is more work, never later than in an hour.
	Next time.Time
	// Cancelled is how many deliveries were cancelled.
	Cancelled int
	// Queued names the lanes in which a replay has queued deliveries, and when these are due.
	Queued []Queued
	// Expired counts what was removed at the end of its retention, Evicted what was removed earlier because the store was nearly full.
	Expired, Evicted Removed
	// Damaged has an error for each record that could not be read. Such a record was skipped. Records are among them that other calls have
	// skipped whose results have no place for it.
	Damaged []error
	// Erasures are to be completed by this process: their own processes ended before them.
	Erasures []UnfinishedErasure
}

// Removed counts what was removed.
type Removed struct{ Sessions, Deliveries int }

// Queued says that a lane got a delivery that is due at At, in UTC.
type Queued struct {
	Lane Lane
	At   time.Time
}

// ClaimRequest asks for deliveries of one lane.
type ClaimRequest struct {
	Lane Lane
	Room int // how many may be claimed, at least 1
}

// ClaimResult is the answer to one ClaimRequest.
type ClaimResult struct {
	Claimed []Claimed
	// Next is when the next delivery of the lane is due. It is set if fewer deliveries were claimed than there was room for; zero means
	// that none waits that is not claimed. A Store may return an earlier time.
	Next time.Time
	// Damaged has an error for each due delivery that could not be read. It stays claimed, so that it does not block the deliveries behind
	// it.
	Damaged []error
}

// Claimed is a claimed delivery with what is needed to send it.
type Claimed struct {
	Delivery Delivery
	// Session is set for a scheduled delivery of a session: its payload is rendered from it.
	Session *SessionRecord
	// Payload is the body of a pending delivery, or the system event that the body of a scheduled one is built from.
	Payload []byte
}

// SessionRecord is what is stored of a session.
type SessionRecord struct {
	Head    SessionHead
	Batches []EventBatch
}

// EventBatch holds the events of one request for one session.
type EventBatch struct {
	ReceivedAt time.Time
	// JSON is an array of the events as they were received.
	JSON []byte
}

// Events decodes the events of the session, in the order of their arrival. An event without a time of its own did not happen before those that had arrived
// when it came, even if the clock of the process that received it says so: clocks of several processes differ, and one that was fast may be set back.
func (s *SessionRecord) Events() ([]Event, error) {
	var all []Event
	var latest time.Time // at which one was received so far
	for _, b := range s.Batches {
		events, err := DecodeEvents(b.JSON, b.ReceivedAt)
		if err != nil {
			return nil, err
		}
		if b.ReceivedAt.After(latest) {
			latest = b.ReceivedAt
		}
		for i := range events {
			if events[i].Time.Equal(b.ReceivedAt) {
				events[i].Time = latest
			}
		}
		if all == nil {
			all = events
		} else {
			all = append(all, events...)
		}
	}
	return all, nil
}

// Enqueue is a body that belongs to no session, for Store.Enqueue. If it is a system event, and Webhook.NeedsBuild, the delivery is scheduled: the body
// is built when it is claimed.
type Enqueue struct {
	WebhookID uint32
	Kind      Kind
	Payload   []byte
	// Shaped, ContentType and URLValues are those of Delivery.
	Shaped      bool
	ContentType string
	URLValues   URLValues
	// At is when the delivery is due: at once.
	At time.Time
	// Once is the request that it is queued for, if it has a key; see Store.Done.
	Once *Once
}

// Delivery returns the delivery to make of it for its webhook, without what the Store gives it.
func (q *Enqueue) Delivery(w *Webhook) Delivery {
	d := Delivery{WebhookID: w.ID, Kind: q.Kind, Status: StatusPending, DueAt: q.At, NextAttemptAt: q.At, FrozenAt: q.At, Shaped: q.Shaped,
		ContentType: q.ContentType, URLValues: q.URLValues}
	if q.Kind == KindOperation && w.NeedsBuild() {
		d.Status, d.FrozenAt = StatusScheduled, time.Time{}
	}
	return d
}

// Freeze is the body to store with a claimed delivery. A nil Payload drops the delivery's trigger, unless Freeze.Ends.
type Freeze struct {
	// Delivery is the delivery as it was claimed.
	Delivery Delivery
	Payload  []byte
	// Shaped, ContentType and URLValues are those of Delivery.
	Shaped      bool
	ContentType string
	URLValues   URLValues
	// Filtered means that the webhook's filter did not let the payload through. BuildError is that of Delivery.
	Filtered   bool
	BuildError string
	// Webhook is the webhook whose programs were run.
	Webhook *Webhook
	// Failure is about the system event if they have failed.
	Failure Failure
	// Events is how many events the payload was built from: all that the session had. 0 for a system event.
	Events int
	At     time.Time
}

// Frozen is the result of Freeze.
type Frozen struct {
	// Superseded are the deliveries that were cancelled because the frozen payload tells more, as they are now. Their claims last.
	Superseded []Delivery
	// Session is set with ErrMoreEvents.
	Session *SessionRecord
	// Delivery is the delivery as it is stored now, if Freeze.Ends.
	Delivery Delivery
	// Queued names the lanes that got system events, and when these are due.
	Queued []Queued
}

// Recorded is the result of RecordAttempt.
type Recorded struct {
	// Delivery is the delivery as it is stored now.
	Delivery Delivery
	// Moved reports whether the attempt has moved a waiting delivery on; see AttemptEffect.Moved.
	Moved bool
	// Queued names the lanes that got other deliveries, such as system events, and when these are due.
	Queued []Queued
}

// DeliveryQuery selects deliveries. A zero field selects all.
type DeliveryQuery struct {
	WebhookID uint32
	SessionID uuid.UUID
	Status    Status
	// Since and Until bound CreatedAt, both inclusive.
	Since, Until time.Time
	// LateEvents selects those that lack events; see Delivery.LateEvents.
	LateEvents bool
	// Limit is the maximum number of deliveries of a page, at least 1.
	Limit int
	// Cursor is DeliveryPage.NextCursor of the page before; all other fields must be the same. "" asks for the first page. Any
	// other text is refused with an InputErrors.
	Cursor string
}

// DeliveryPage is a page of deliveries, newest first. Scheduled or pending deliveries, if Status asks for them, are in the order of their
// next attempt, latest first.
type DeliveryPage struct {
	Items []Delivery
	// NextCursor is "" on the last page. A page before the last may hold fewer deliveries than Limit, even none: a Store bounds how many it
	// reads for a page.
	NextCursor string
}

// SessionQuery selects sessions. A zero field selects all; a session must fit all fields that are set.
type SessionQuery struct {
	ContentID uuid.UUID
	// Visitor, Email and Phone are those of a person, as in Person.
	Visitor *int64
	Email   string
	Phone   string
	State   SessionState
	// Since and Until bound FirstReceivedAt, both inclusive.
	Since, Until time.Time
	// Limit is the maximum number of sessions of a page, at least 1.
	Limit int
	// Cursor is SessionPage.NextCursor of the page before; all other fields must be the same. "" asks for the first page. Any other text is
	// refused with an InputErrors.
	Cursor string
}

// Persons returns the persons who must all occur in a session.
func (q *SessionQuery) Persons() (all []Person) {
	for _, p := range []Person{{Visitor: q.Visitor}, {Email: q.Email}, {Phone: q.Phone}} {
		if p != (Person{}) {
			all = append(all, p)
		}
	}
	return all
}

// Includes reports whether a query selects a session by its head alone, without regard to persons.
func (q *SessionQuery) Includes(h *SessionHead) bool {
	return (q.ContentID == uuid.Nil || h.Identity.ContentID == q.ContentID) &&
		(q.State == "" || h.State() == q.State) &&
		(q.Since.IsZero() || !h.FirstReceivedAt.Before(q.Since)) &&
		(q.Until.IsZero() || !h.FirstReceivedAt.After(q.Until))
}

// SessionPage is a page of sessions, those first that began last: by the receipt of their first event.
type SessionPage struct {
	// Items are without their Deliveries.
	Items []SessionHead
	// NextCursor is "" on the last page. A page before the last may hold fewer sessions than Limit, even none: a Store bounds how much it reads
	// for a page.
	NextCursor string
}

// Retention is how long finished data is kept.
type Retention struct {
	// Sessions is counted from the receipt of the last event. A session is kept longer while one of its deliveries waits.
	Sessions time.Duration
	// Deliveries is counted from the final state; see Delivery.KeptWithSession for those that are kept longer.
	Deliveries time.Duration
}

// Stats is what a Store reports without walking its data.
type Stats struct {
	// Webhooks has an entry for each webhook that has deliveries. A deleted webhook has one while some of its deliveries are kept.
	Webhooks map[uint32]WebhookStats
	// Health has an entry for each webhook whose health is not the zero value.
	Health map[uint32]Health
	// Replays are the replays that are not done yet, oldest first.
	Replays []Replay
	// FanningOut is how many sessions have deliveries that are still to be made; see AppendEvents.
	FanningOut int64
	// SizeBytes is the size of the database.
	SizeBytes int64
	// Full is the ErrFull with which events are refused now; nil while they are accepted.
	Full error
	// File is set by a Store that keeps its data in a file of its own. It is nil for any other Store: the room of a database server is not
	// hookbolt's concern.
	File *FileStats
}

// FileStats describes the file of a Store and the disk below it.
type FileStats struct {
	// FreeBytes is how much of the file (Stats.SizeBytes) is free for new data.
	FreeBytes int64
	// MaxBytes is how much of the file may be in use, 0 for no limit. MinFreeBytes is how much must be left on the disk and in the file
	// together.
	MaxBytes, MinFreeBytes int64
	// DiskFreeBytes is how much is left on the disk, -1 if that is not known.
	DiskFreeBytes int64
}

// WebhookStats counts the stored deliveries of a webhook.
type WebhookStats struct {
	Scheduled, Pending, Delivered, Failed, Cancelled, Filtered int64
	// Due is how many of the scheduled and pending deliveries are due, without tests. After many have become due at once it may lag by some
	// calls, or seconds: a Store bounds what it counts for one call.
	Due int64
	// Claimed is how many of the scheduled and pending deliveries are claimed, by any process, without tests. ClaimedTests is how many
	// tests are claimed.
	Claimed, ClaimedTests int64
	// Late is how many deliveries lack events that came after their payload was built; see Delivery.LateEvents.
	Late int64
	// Parked is how many of the failed ones are Delivery.Parked.
	Parked int64
	// OldestDueAt is since when the delivery with the oldest due time has been due. That is its due time, or its creation if that is later:
	// deliveries of old sessions are due at once. Zero if none is due.
	OldestDueAt time.Time
}
