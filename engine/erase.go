package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Erasure says whose data to erase.
type Erasure struct {
	// SessionID is the session to erase, unless Visitor is set.
	SessionID uuid.UUID
	// Visitor is the poltio_user_id whose sessions are erased, all of them; nil for a single session.
	Visitor *int64
}

// Erased counts what was erased.
type Erased struct {
	Sessions, Events, Deliveries, Attempts int64
	// Damaged is how many records the erasure met that could not be read. They are still stored, and it is unknown whether they should have
	// been erased. The log names them.
	Damaged int64
}

// Add adds more to the counts.
func (e *Erased) Add(more Erased) {
	e.Sessions += more.Sessions
	e.Events += more.Events
	e.Deliveries += more.Deliveries
	e.Attempts += more.Attempts
	e.Damaged += more.Damaged
}

// ErasedStep is the result of a step of an erasure.
type ErasedStep struct {
	Erased Erased
	// Deleted are the deliveries that were removed.
	Deleted []Delivery
	// Next is the cursor of the next step; "" if this was the last.
	Next string
	// Damaged has an error for each record that could not be read. Such a record was skipped: it is unknown whether it should have been
	// erased. Two steps may name the same record with the same text.
	Damaged []error
}

// Erase erases a session, or all sessions of a visitor: events, payloads, attempts, and waiting deliveries. An attempt in flight is not cut
// off, but it is not recorded. Apart from it, no erased data is sent after Erase has returned. Erase works in steps: after an error, or if
// ctx ends, the steps before are done, and another call erases the rest. ErrNotFound means that nothing is stored of the session. For a
// visitor it is no error if nothing is stored: the result is what the caller wants, and his id is not one that hookbolt gave him. Damaged
// records are skipped, counted and named in the log; all else is erased.
func (e *Engine) Erase(ctx context.Context, target Erasure) (Erased, error) {
	var total Erased
	damaged := make(map[string]bool)
	for cursor, first := "", true; first || cursor != ""; first = false {
		step, err := e.store.Erase(ctx, target, cursor)
		if err != nil {
			return total, err
		}
		for i := range step.Deleted {
			e.lanes.cancel(step.Deleted[i].ID)
		}
		for _, err := range step.Damaged {
			if text := err.Error(); !damaged[text] {
				damaged[text] = true
				e.reportDamaged([]error{err})
			}
		}
		total.Add(step.Erased)
		total.Damaged = int64(len(damaged))
		cursor = step.Next
	}
	if target.Visitor == nil && total == (Erased{}) {
		return total, fmt.Errorf("session %s: %w", target.SessionID, ErrNotFound)
	}
	return total, nil
}

// PayloadVisitor returns the poltio_user_id of a payload, nil if there is none. It reads no further than that field.
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
