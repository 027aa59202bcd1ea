package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one step of an erasure. A step searches in a read transaction and changes what it has found in a write transaction.
const (
	eraseLooks = 2000 // records looked at
	eraseFinds = 100  // sessions or deliveries erased
	// eraseChanges is how many keys a step may delete before it ends: a session may have thousands of events.
	eraseChanges = 2000
)

// erasePhase is a part of an erasure. Deliveries may outlive their session, so it is not enough to erase sessions. Sessions come
// first, so that the deliveries of one that expires meanwhile are found in the second phase. The third phase covers sessions that
// arrived meanwhile.
type erasePhase byte

const (
	eraseSessions   erasePhase = 's'
	eraseDeliveries erasePhase = 'd'
	eraseNewcomers  erasePhase = 'n'
)

// erasePlace is where an erasure goes on.
type erasePlace struct {
	phase erasePhase
	from  uint64 // S or D: the next number to look at
	// session is the S up to which the first phase has looked, during the second phase.
	session uint64
	job     uint64 // 0 for a dry run
}

func (p erasePlace) String() string {
	return fmt.Sprintf("%c%d.%d.%d", p.phase, p.from, p.session, p.job)
}

func parseErasePlace(s string) (p erasePlace, err error) {
	if s == "" {
		return erasePlace{phase: eraseSessions}, nil
	}
	_, err = fmt.Sscanf(s, "%c%d.%d.%d", &p.phase, &p.from, &p.session, &p.job)
	return p, err
}

// after returns the place behind the end of a phase; ok is false behind the last one.
func (p erasePlace) after(reached uint64, dry bool) (next erasePlace, ok bool) {
	switch {
	case p.phase == eraseSessions:
		return erasePlace{phase: eraseDeliveries, session: reached, job: p.job}, true
	case p.phase == eraseDeliveries && !dry: // a dry run needs no newcomers
		return erasePlace{phase: eraseNewcomers, from: p.session, job: p.job}, true
	}
	return erasePlace{}, false
}

// eraseJob is an erasure in progress. It is stored from the first step to the last one, so that it is completed if the process ends.
type eraseJob struct {
	Target engine.Erasure `json:"target"`
	Place  string         `json:"place"`
	Erased engine.Erased  `json:"erased"`
	// Damaged are the texts of the errors about damaged records.
	Damaged []string `json:"damaged,omitempty"`
	// Once is the key of the request, if it has one.
	Once []byte `json:"once,omitempty"`
}

// Erase implements engine.Store.
func (s *Store) Erase(ctx context.Context, what engine.Erasure, cursor string) (engine.ErasedStep, error) {
	at, err := parseErasePlace(cursor)
	if err != nil {
		return engine.ErasedStep{}, fmt.Errorf("place of an erasure: %w", err)
	}
	if cursor == "" && !what.DryRun {
		return s.beginErasure(ctx, at, what)
	}
	var found []uint64
	var damaged []error
	var more bool
	reached := at
	err = s.viewSession(ctx, what.SessionID, func(tx *bbolt.Tx, session finder) (err error) {
		reached = at
		found, damaged, more, err = reached.look(s.newSearch(tx), session, &what)
		return err
	})
	if err != nil {
		return engine.ErasedStep{}, err
	}
	if what.DryRun {
		return s.countErased(ctx, at, reached, found, damaged, more)
	}
	if more && len(found) == 0 && len(damaged) == 0 {
		return engine.ErasedStep{Next: reached.String()}, nil
	}
	var step engine.ErasedStep
	err = s.write(ctx, 64<<10, func(b *batch) error {
		step = engine.ErasedStep{}
		stopped, err := b.erase(at.phase, found, &step)
		if err != nil {
			return err
		}
		step.Damaged = append(step.Damaged, damaged...)
		next, goesOn := reached, more
		if stopped != 0 {
			next.from, goesOn = stopped, true
		}
		if !goesOn {
			next, goesOn = at.after(reached.from, false)
		}
		if goesOn {
			step.Next = next.String()
		}
		return b.keepErasure(at.job, &step)
	})
	if err != nil {
		return engine.ErasedStep{}, err
	}
	return step, nil
}

// beginErasure stores an erasure.
func (s *Store) beginErasure(ctx context.Context, at erasePlace, what engine.Erasure) (step engine.ErasedStep, err error) {
	err = s.write(ctx, 1024, func(b *batch) (err error) {
		if err := b.refuseRepeated(what.Once); err != nil {
			return err
		}
		if at.job, err = b.next(b.jobs); err != nil {
			return err
		}
		j := eraseJob{Target: what, Place: at.String()}
		if what.Once != nil {
			j.Once = what.Once.Key[:]
		}
		if err := b.putJob(at.job, job{Erasure: &j}); err != nil {
			return err
		}
		return b.remember(what.Once, engine.Done{})
	})
	if err != nil {
		return engine.ErasedStep{}, err
	}
	return engine.ErasedStep{Next: at.String()}, nil
}

// keepErasure stores how far an erasure has come. After the last step it removes it. If its job is damaged, the erasure goes on without.
func (b *batch) keepErasure(number uint64, step *engine.ErasedStep) error {
	key := u64key(number)
	v := b.jobs.Get(key)
	if v == nil {
		return nil
	}
	j, err := decodeJob(key, v)
	if b.s.passes(err) || err == nil && j.Erasure == nil {
		return nil
	}
	if err != nil {
		return err
	}
	e := j.Erasure
	for _, err := range step.Damaged {
		if text := err.Error(); !slices.Contains(e.Damaged, text) && len(e.Damaged) < maxNamed {
			e.Damaged = append(e.Damaged, text)
		}
	}
	e.Erased.Add(step.Erased)
	e.Erased.Damaged = int64(len(e.Damaged))
	if step.Next != "" {
		e.Place = step.Next
		return b.putJob(number, j)
	}
	if err := b.rememberErased(e.Once, e.Erased); err != nil {
		return err
	}
	return b.delete(b.jobs, key)
}

// unfinishedErasures reads the erasures that are stored. It passes damaged ones.
func (s *Store) unfinishedErasures(tx *bbolt.Tx) (list []engine.UnfinishedErasure) {
	for k, v := range s.entries(tx, bucketJobs, nil, nil) {
		if j, err := decodeJob(k, v); err == nil && j.Erasure != nil {
			list = append(list, engine.UnfinishedErasure{Target: j.Erasure.Target, Cursor: j.Erasure.Place, Erased: j.Erasure.Erased})
		}
	}
	return list
}

// countErased is a step of a dry run.
func (s *Store) countErased(ctx context.Context, at, reached erasePlace, found []uint64, damaged []error, more bool) (engine.ErasedStep, error) {
	var step engine.ErasedStep
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		step = engine.ErasedStep{Damaged: slices.Clone(damaged)}
		for _, number := range found {
			if err := s.countFound(tx, at.phase, number, &step); err != nil && !errors.Is(err, ErrCorrupt) {
				return err
			} else if err != nil {
				step.Damaged = append(step.Damaged, err)
			}
		}
		return nil
	})
	if err != nil {
		return engine.ErasedStep{}, err
	}
	next, ok := reached, true
	if !more {
		next, ok = at.after(reached.from, true)
	}
	if ok {
		step.Next = next.String()
	}
	return step, nil
}

// countFound counts what is stored of a session or a delivery.
func (s *Store) countFound(tx *bbolt.Tx, phase erasePhase, number uint64, step *engine.ErasedStep) error {
	numbers := []uint64{number}
	if phase != eraseDeliveries {
		v := tx.Bucket(bucketSessions).Get(u64key(number))
		if v == nil {
			return nil
		}
		r, err := decodeSession(number, v)
		if err != nil {
			return err
		}
		step.Erased.Sessions++
		step.Erased.Events += int64(r.Events)
		numbers = numbers[:0]
		for ref := range s.refs(tx, &r) {
			numbers = append(numbers, s.numberOf(tx, ref.ID))
		}
	}
	for _, number := range numbers {
		d, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
		switch {
		case errors.Is(err, ErrCorrupt):
			step.Damaged = append(step.Damaged, err)
		case err != nil:
			return err
		case d.number != 0:
			step.Erased.Deliveries++
			step.Erased.Attempts += int64(d.Attempts)
		}
	}
	return nil
}

// look walks the numbers, as far as one step may go, and returns those to erase. more reports whether numbers are left; damaged lists
// records that could not be read.
func (p *erasePlace) look(in *search, session finder, what *engine.Erasure) (found []uint64, damaged []error, more bool, err error) {
	bucket, matches := bucketSessions, in.isErased
	if p.phase == eraseDeliveries {
		bucket, matches = bucketDeliveries, in.isLeftOf
	} else if what.SessionID != uuid.Nil {
		switch r, err := session.read(in.tx); {
		case errors.Is(err, ErrCorrupt): // what leads to the session is damaged, or its head: search all heads
			damaged = append(damaged, err)
		case err == nil && r.number != 0:
			return []uint64{r.number}, nil, false, nil
		case err != nil || !in.store.numbers.incomplete:
			return nil, nil, false, err
		}
	}
	for k, v := range in.store.entries(in.tx, bucket, nil, u64key(p.from)) {
		if !in.look(eraseLooks) || len(found) == eraseFinds {
			return found, damaged, true, nil
		}
		number := binary.BigEndian.Uint64(k)
		switch ok, err := matches(number, v, what); {
		case errors.Is(err, ErrCorrupt): // one damaged record must not stop the erasure of the others
			damaged = append(damaged, err)
		case err != nil:
			return nil, nil, false, err
		case ok:
			found = append(found, number)
		}
		p.from = number + 1
	}
	return found, damaged, false, nil
}

// erase erases sessions or deliveries, as far as one step may go. It returns the first number that it is not done with, 0 if there is none.
// Each session has a share of the step: sessions with thousands of deliveries have them in the same lanes, one behind the other.
func (b *batch) erase(phase erasePhase, numbers []uint64, step *engine.ErasedStep) (left uint64, err error) {
	end, share := b.changes+eraseChanges, eraseChanges/max(1, len(numbers))
	for _, number := range numbers {
		done := b.changes <= end
		switch {
		case !done:
		case phase == eraseDeliveries:
			err = b.eraseDelivery(number, step)
		default:
			done, err = b.eraseSession(number, share, step)
		}
		if err != nil {
			return 0, err
		}
		if !done && left == 0 {
			left = number
		}
	}
	return left, nil
}

// eraseSession erases a session and its deliveries. It stops after about so many changes, because there may be thousands of deliveries; done
// reports whether the session is gone. If the session expired since the search, the second phase finds its deliveries.
func (b *batch) eraseSession(number uint64, most int, step *engine.ErasedStep) (done bool, err error) {
	v := b.sessions.Get(u64key(number))
	if v == nil {
		return true, nil
	}
	r, err := decodeSession(number, v)
	if errors.Is(err, ErrCorrupt) {
		step.Damaged = append(step.Damaged, err)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	end := b.changes + most
	for _, ref := range b.someRefs(&r, maxMarksInHead+most+1) { // each mark outside the head is a change: no more are needed
		if b.changes > end {
			return false, b.put(b.sessions, u64key(r.number), r.encode())
		}
		if err := b.eraseDelivery(b.s.numberOf(b.tx, ref.ID), step); err != nil {
			return false, err
		}
		if err := b.unmark(&r, ref); err != nil {
			return false, err
		}
	}
	step.Erased.Sessions++
	step.Erased.Events += int64(r.Events)
	return true, b.removeSession(&r)
}

// eraseDelivery erases a delivery. A damaged one stays, because it is not known what belongs to it; the erasure goes on without it.
func (b *batch) eraseDelivery(number uint64, step *engine.ErasedStep) error {
	r, err := b.s.readDelivery(b.deliveries, number)
	if errors.Is(err, ErrCorrupt) {
		step.Damaged = append(step.Damaged, err)
		return nil
	}
	if err != nil || r.number == 0 {
		return err
	}
	step.Erased.Deliveries++
	step.Erased.Attempts += int64(r.Attempts)
	step.Deleted = append(step.Deleted, r.Delivery)
	return b.removeDelivery(&r)
}
