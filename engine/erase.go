package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Erasure says whose data is to go.
type Erasure struct {
	// SessionID is the session to erase, unless Visitor is set.
	SessionID uuid.UUID
	// Visitor is the poltio_user_id of which all sessions are to be erased; nil for a single session.
	Visitor *int64
}

// Erased counts what was erased.
type Erased struct{ Sessions, Events, Deliveries, Attempts int64 }

// Add adds to the counts.
func (e *Erased) Add(more Erased) {
	e.Sessions += more.Sessions
	e.Events += more.Events
	e.Deliveries += more.Deliveries
	e.Attempts += more.Attempts
}

// ErasedStep is what a step of an erasure has come to.
type ErasedStep struct {
	Erased Erased
	// Deleted are the deliveries that are no longer there.
	Deleted []Delivery
	// Next is where the next step goes on; "" if this was the last.
	Next string
	// Damaged names what could not be read, and may or may not have been to be erased.
	Damaged []error
}

// Erase erases a session, or all that is kept of a visitor's sessions: events, payloads, attempts, and what waits to be sent. An
// attempt that is under way is not cut off, but leaves no trace; apart from it nothing of what is erased is sent once Erase has
// returned. It works in steps: after an error, or if ctx ends, what is gone is gone, and another call erases the rest.
// ErrNotFound means that nothing is kept of the session. A visitor of whom nothing is kept is no error: that there is nothing to
// erase is what the caller wants, and no id that he got from hookbolt has turned out to be wrong.
func (e *Engine) Erase(ctx context.Context, target Erasure) (Erased, error) {
	var total Erased
	for cursor, first := "", true; first || cursor != ""; first = false {
		step, err := e.store.Erase(ctx, target, cursor)
		if err != nil {
			return total, err
		}
		for i := range step.Deleted {
			e.lanes.cancel(step.Deleted[i].ID)
		}
		e.reportDamaged(step.Damaged)
		total.Add(step.Erased)
		cursor = step.Next
	}
	if target.Visitor == nil && total == (Erased{}) {
		return total, fmt.Errorf("session %s: %w", target.SessionID, ErrNotFound)
	}
	return total, nil
}

// PayloadVisitor returns the poltio_user_id that a payload holds, nil if there is none. It reads no further than that.
func PayloadVisitor(body []byte) (*int64, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if begin, err := d.Token(); err != nil {
		return nil, err
	} else if begin != json.Delim('{') {
		return nil, errors.New("a payload must be a JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		if name == "poltio_user_id" {
			var id *int64
			if err := d.Decode(&id); err != nil {
				return nil, err
			}
			return id, nil
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
