package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"hookbolt/engine/jsonread"
)

// ErrErasureStopped is returned by Erase when Run ends before the erasure does. The erasure is stored: the next Run completes it.
var ErrErasureStopped = errors.New("the erasure was stopped and goes on after the next start")

// Erasure says whose data to erase. Exactly one of the first four fields is set. Its JSON form is the stored one.
type Erasure struct {
	// SessionID is the session to erase.
	SessionID uuid.UUID `json:"session_id,omitzero"`
	// Visitor, Email and Phone are those of a person, as in Person: all sessions in which they occur are erased.
	Visitor *int64 `json:"poltio_user_id,omitempty"`
	Email   string `json:"email,omitempty"`
	Phone   string `json:"phone,omitempty"`
	// DryRun only counts.
	DryRun bool `json:"-"`
	// Once is the request that begins it, if it has a key; see Store.Done. A dry run has no effect, and is not remembered.
	Once *Once `json:"-"`
}

// Person returns the person to erase; ok is false if a session is erased.
func (e *Erasure) Person() (p Person, ok bool) {
	p = Person{Visitor: e.Visitor, Email: e.Email, Phone: e.Phone}
	return p, p != Person{}
}

// ParseErasure parses an erasure from a JSON object: one of email, phone, poltio_user_id and session_id, and optionally dry_run. The error is
// an InputErrors.
func ParseErasure(body []byte) (Erasure, error) {
	var what Erasure
	given := 0
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "session_id", "poltio_user_id", "email", "phone", "dry_run":
		default:
			return false
		}
		if r.Null() {
			return true
		}
		given++
		switch string(key) {
		case "session_id":
			what.SessionID = r.UUID()
		case "poltio_user_id":
			what.Visitor = new(r.AnyInteger())
		case "email":
			if what.Email = FoldEmail(r.Text()); what.Email == "" {
				r.Fail("must not be empty")
			}
		case "phone":
			if what.Phone = FoldPhone(r.Text()); what.Phone == "" {
				r.Fail("must have a digit")
			}
		case "dry_run":
			what.DryRun, given = r.Bool(), given-1
		}
		return true
	})
	if err == nil && given != 1 {
		err = InputErrors{{Detail: fmt.Sprintf("must have exactly one of email, phone, poltio_user_id and session_id (got %d of them)", given)}}
	}
	if err != nil {
		return Erasure{}, err
	}
	return what, nil
}

// Erased counts what was erased. Its JSON form is the stored one.
type Erased struct {
	Sessions   int64 `json:"sessions"`
	Events     int64 `json:"events"`
	Deliveries int64 `json:"deliveries"`
	Attempts   int64 `json:"attempts"`
	// Damaged is how many records the erasure met that could not be read. They are still stored, and it is unknown whether they should have
	// been erased. The log names them.
	Damaged int64 `json:"damaged"`
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

// UnfinishedErasure is an erasure that a process began and did not complete.
type UnfinishedErasure struct {
	Target Erasure
	Cursor string
	// Erased is what it has erased so far.
	Erased Erased
}

// Erase erases a session, or all sessions in which a person occurs: events, payloads, attempts, and waiting deliveries. It covers what was
// stored when it began. An attempt in flight is not cut off, but it is not recorded. Apart from it, no erased data is sent after Erase has
// returned. Damaged records are skipped, counted and named in the log; all else is erased.
//
// Erase works in steps beside other calls. Once it is stored, an erasure is completed: if ctx ends, by this process, and if the process ends,
// by the next one. ErrErasureStopped says the latter. While the store has no room, or fails with ErrTransient or ErrLost, the erasure
// waits.
//
// ErrNotFound means that nothing is stored of the session. For a person it is no error if nothing is stored: the result is what the caller
// wants, and his id is not one that hookbolt gave him.
func (e *Engine) Erase(ctx context.Context, target Erasure) (Erased, error) {
	step, err := e.store.Erase(ctx, target, "")
	if err != nil {
		return Erased{}, err
	}
	if target.DryRun {
		return e.continueErasure(ctx, UnfinishedErasure{Target: target, Cursor: step.Next, Erased: step.Erased})
	}
	work := e.erasures.start(func(ctx context.Context) (Erased, error) {
		return e.continueErasure(ctx, UnfinishedErasure{Target: target, Cursor: step.Next})
	})
	select {
	case <-work.done:
		return work.total, work.err
	case <-ctx.Done():
		return Erased{}, ctx.Err()
	}
}

// continueErasure carries out the steps of an erasure that are left.
func (e *Engine) continueErasure(ctx context.Context, u UnfinishedErasure) (Erased, error) {
	total, before := u.Erased, u.Erased.Damaged
	damaged := make(map[string]bool)
	for cursor := u.Cursor; cursor != ""; {
		step, err := e.store.Erase(ctx, u.Target, cursor)
		switch {
		case errors.Is(err, ErrFull), errors.Is(err, ErrTransient), errors.Is(err, ErrLost): // an erasure needs no lanes, and Run watches again
			e.observeStore(err)
			if !sleep(ctx, fullRetry) {
				return total, ctx.Err()
			}
			continue
		case err != nil:
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
		total.Damaged = before + int64(len(damaged))
		cursor = step.Next
	}
	if u.Target.SessionID != uuid.Nil && total == (Erased{}) {
		return total, fmt.Errorf("session %s: %w", u.Target.SessionID, ErrNotFound)
	}
	return total, nil
}

// resumeErasures completes erasures that processes have left which ended in the middle of them, one after the other.
func (e *Engine) resumeErasures(left []UnfinishedErasure) {
	if len(left) == 0 {
		return
	}
	e.erasures.start(func(ctx context.Context) (Erased, error) {
		for _, u := range left {
			total, err := e.continueErasure(ctx, u)
			switch {
			case ctx.Err() != nil, errors.Is(err, ErrUnavailable):
				return total, err
			case err != nil && !errors.Is(err, ErrNotFound):
				e.log.Error("an erasure failed; it goes on after the next start", "error", err)
			default: // whose data it was is not for the log
				e.log.Info("an interrupted erasure is complete", "sessions", total.Sessions, "events", total.Events,
					"deliveries", total.Deliveries, "attempts", total.Attempts, "damaged", total.Damaged)
			}
		}
		return Erased{}, nil
	})
}

// erasures are the erasures that this process carries out.
type erasures struct {
	mu      sync.Mutex
	running map[*erasing]bool // guarded by mu
}

// erasing is an erasure in progress.
type erasing struct {
	cancel context.CancelFunc
	done   chan struct{} // closed at the end; total and err are set before
	total  Erased
	err    error
}

// start starts an erasure, which goes on until it is complete, or stop is called.
func (s *erasures) start(work func(ctx context.Context) (Erased, error)) *erasing {
	ctx, cancel := context.WithCancel(context.Background())
	w := &erasing{cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = make(map[*erasing]bool)
	}
	s.running[w] = true
	go func() {
		w.total, w.err = work(ctx)
		if errors.Is(w.err, context.Canceled) {
			w.err = ErrErasureStopped
		}
		s.mu.Lock()
		delete(s.running, w)
		s.mu.Unlock()
		cancel()
		close(w.done)
	}()
	return w
}

// stop stops the erasures that are in progress, between two steps, and waits for them.
func (s *erasures) stop() {
	s.mu.Lock()
	var all []*erasing
	for w := range s.running {
		w.cancel()
		all = append(all, w)
	}
	s.mu.Unlock()
	for _, w := range all {
		<-w.done
	}
}
