package engine

import (
	"context"
	"errors"
	"time"
)

// maxRenderedBytes bounds the payloads that are rendered for a request before it is stored. Any further payload is rendered when its
// delivery is claimed.
const maxRenderedBytes = 4 << 20

// Ingested says what became of the events of a request.
type Ingested struct {
	// Accepted is how many were accepted, repeated ones included.
	Accepted int
	// Duplicates is how many of them were repeats: their ids were stored before, or stand before in the request.
	Duplicates int
	// Refused has an error for each event that was refused, at most 100. Only IngestPartial stores a request without them.
	Refused InputErrors
	// LeftOut has an error for each field that was left out of an event that was stored, at most 100. Only IngestPartial leaves fields out.
	LeftOut InputErrors
}

// Ingest stores the events of a request. When it returns without an error, they are durable. The error is an InputErrors if events are
// refused; nothing is stored then.
func (e *Engine) Ingest(ctx context.Context, body []byte) (Ingested, error) {
	now := utcNow()
	events, seen, err := parseEvents(body, now)
	var done Appended
	if err == nil && len(events) > 0 {
		done, err = e.append(ctx, NewAppend(events, now))
	}
	if err != nil {
		if _, ok := errors.AsType[InputErrors](err); ok {
			e.metrics.eventsRefused.Add(float64(max(1, seen)))
		}
		return Ingested{}, err
	}
	e.metrics.accepted(len(events))
	return Ingested{Accepted: len(events), Duplicates: done.Duplicates}, nil
}

// IngestPartial is Ingest for clients that may not be there to send the good events of a refused request again, such as pages that end. It
// stores the valid events that their sessions accept, without their optional fields that cannot be read. The error is an InputErrors if the
// request cannot be read or has more than 1,000 invalid events; nothing is stored then.
func (e *Engine) IngestPartial(ctx context.Context, body []byte) (Ingested, error) {
	now := utcNow()
	events, err := parsePartialEvents(body, now)
	accepted := len(events.valid)
	var done Appended
	if err == nil && accepted > 0 {
		a := NewAppend(events.valid, now)
		a.Partial = true
		done, err = e.append(ctx, a)
		accepted -= len(done.Refused)
		events.settleRefused(done.Refused)
	}
	if err != nil {
		if _, ok := errors.AsType[InputErrors](err); ok {
			e.metrics.eventsRefused.Add(float64(max(1, events.seen)))
		}
		return Ingested{}, err
	}
	e.metrics.eventsRefused.Add(float64(events.seen - accepted))
	e.metrics.fieldsLeftOut.Add(float64(events.fieldsLeftOut))
	e.metrics.accepted(accepted)
	return Ingested{Accepted: accepted, Duplicates: done.Duplicates, Refused: events.refused.Sorted(), LeftOut: events.describe()}, nil
}

// append stores events, and starts the deliveries that are due on arrival.
func (e *Engine) append(ctx context.Context, a Append) (Appended, error) {
	hooks := e.store.Webhooks()
	a.Open, a.Settle = e.lanes.openWebhooks(hooks), e.config().Settle
	e.renderPosted(&a, hooks)
	call := e.lanes.beginCall()
	done, err := e.store.AppendEvents(ctx, a)
	unwanted := e.lanes.acceptArrivals(call, done.Claimed)
	e.releaseClaims(ctx, unwanted)
	for i := range unwanted {
		e.lanes.wakeAt(Queued{unwanted[i].Lane(), unwanted[i].NextAttemptAt})
	}
	e.lanes.wakeAt(done.Queued...)
	e.metrics.eventsLate.Add(float64(done.Late))
	e.observeRoom(err)
	return done, err
}

// renderPosted renders the payloads that are due at once for sessions that the request contains as a whole. They are frozen in the same
// transaction that stores the events, if the session is new: this saves a transaction, here or where the lane is.
func (e *Engine) renderPosted(a *Append, hooks *WebhookSet) {
	size, room := 0, MaxTriggers
	for i := range a.Sessions {
		p := &a.Sessions[i]
		d, err := a.Admit(i, SessionHead{}, nil, hooks, room)
		room -= len(d.Triggers)
		if err != nil || len(d.Fresh) != len(p.Events) {
			continue // it continues a session, or is refused: the store decides
		}
		var s *Session
		for _, t := range d.Triggers {
			w := hooks.Get(t.WebhookID)
			if !t.Claim && !(t.dueOnArrival && w.sendsAtOnce() && e.store.OpenElsewhere(w.ID)) || size > maxRenderedBytes {
				continue
			}
			if s == nil {
				s = new(Fold(d.Fresh, time.Time{}))
			}
			if w.NeedsBuild() {
				continue // a request does not wait for programs: the body is built when the delivery is claimed
			}
			body, err := Render(*s, w, t.Kind, a.Now)
			if err != nil {
				continue // the error shows when the delivery is claimed
			}
			p.Payloads = append(p.Payloads, RenderedPayload{w.ID, w.Revision, body})
			size += len(body)
		}
	}
}

// sendsAtOnce reports whether the settings let a delivery be sent as soon as it is due.
func (w *Webhook) sendsAtOnce() bool { return w.Active && !w.Paused && w.RateLimit == nil }

// observeRoom logs when events start to be refused for want of room, and when they are accepted again.
func (e *Engine) observeRoom(err error) {
	switch full := errors.Is(err, ErrFull); {
	case full && !e.full.Swap(true):
		e.log.Warn("events are refused with 503 until there is room for them", "reason", err)
		e.wakeMaintenance()
	case err == nil && e.full.Load() && e.full.Swap(false):
		e.log.Info("there is room for events again")
	}
}
