package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// Bounds of one step of an erasure. A step searches on a connection for reading, and the writer changes what it has found.
const (
	eraseLooks = 2000 // sessions or deliveries looked at
	eraseFinds = 100  // sessions or deliveries erased
	// eraseBytes is about how much a step reads of events, or of payloads.
	eraseBytes = 4 << 20
	// eraseChanges is how many rows a step may delete before it ends: a session may have thousands of events.
	eraseChanges = 2000
	// eraseIDLooks is how many deliveries a step looks at to find those of a session by its id. The server does it.
	eraseIDLooks = 20_000
)

// erasePhase is a part of an erasure. Deliveries may outlive their session, so it is not enough to erase sessions. Sessions come first, so that the deliveries of
// one that expires meanwhile are found in the second phase. The third phase covers sessions that arrived meanwhile.
type erasePhase byte

const (
	eraseSessions   erasePhase = 's'
	eraseDeliveries erasePhase = 'd'
	eraseNewcomers  erasePhase = 'n'
)

// erasePlace is where an erasure goes on.
type erasePlace struct {
	phase erasePhase
	// session is the number of the session that the first or third phase goes on behind; during the second phase, up to which the first has looked.
	session  int64
	delivery uuid.UUID // that the second phase goes on behind
	job      int64     // 0 for a dry run
}

func (p erasePlace) String() string {
	return fmt.Sprintf("%c.%d.%s.%d", p.phase, p.session, p.delivery, p.job)
}

func parseErasePlace(s string) (p erasePlace, err error) {
	if s == "" {
		return erasePlace{phase: eraseSessions}, nil
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 || len(parts[0]) != 1 || !strings.Contains("sdn", parts[0]) {
		return p, fmt.Errorf("%q is no place of an erasure", s)
	}
	p.phase = erasePhase(parts[0][0])
	if p.delivery, err = uuid.Parse(parts[2]); err == nil {
		_, err = fmt.Sscanf(parts[1]+" "+parts[3], "%d %d", &p.session, &p.job)
	}
	return p, err
}

// after returns the place behind the end of a phase; ok is false behind the last one.
func (p erasePlace) after(dry bool) (next erasePlace, ok bool) {
	switch {
	case p.phase == eraseSessions:
		return erasePlace{phase: eraseDeliveries, session: p.session, job: p.job}, true
	case p.phase == eraseDeliveries && !dry: // a dry run needs no newcomers
		return erasePlace{phase: eraseNewcomers, session: p.session, job: p.job}, true
	}
	return erasePlace{}, false
}

// Erase implements engine.Store.
func (s *Store) Erase(ctx context.Context, what engine.Erasure, cursor string) (engine.ErasedStep, error) {
	at, err := parseErasePlace(cursor)
	if err != nil {
		return engine.ErasedStep{}, err
	}
	if cursor == "" && !what.DryRun {
		return s.beginErasure(ctx, at, what)
	}
	var found eraseSearch
	var step engine.ErasedStep
	err = s.snapshot(ctx, func(tx pgx.Tx) error {
		step = engine.ErasedStep{}
		found = eraseSearch{s: s, q: reading{s, ctx, tx.Conn()}, what: &what, at: at}
		if err := found.look(); err != nil || !what.DryRun {
			return err
		}
		return found.count(&step)
	})
	if err != nil {
		return engine.ErasedStep{}, err
	}
	if what.DryRun {
		step.Damaged = append(step.Damaged, found.damaged...)
		step.Next = found.next(true)
		return step, nil
	}
	if found.more && found.isEmpty() && len(found.damaged) == 0 && !s.isUnsure(at.job, cursor) {
		return engine.ErasedStep{Next: found.at.String()}, nil
	}
	var told toldElsewhere
	err = s.write(ctx, mutation{size: 64 << 10, walks: true, run: func(b *batch) error {
		told = toldElsewhere{}
		var again bool
		if step, again = s.doneStep(at.job, cursor); again {
			return nil
		}
		found := found // it may be called again
		step = engine.ErasedStep{Damaged: slices.Clone(found.damaged)}
		next, err := b.erase(&found, &step)
		if err != nil {
			return err
		}
		step.Next = next
		done := eraseStep{cursor: cursor, ErasedStep: step}
		b.after = append(b.after, func() { s.keepStep(at.job, done) })
		told = b.tells(step.Deleted)
		return b.keepErasure(at.job, &step)
	}})
	if err == nil {
		err = s.awaitTold(told)
	}
	if err != nil {
		s.keepUnsure(at.job, cursor)
		return engine.ErasedStep{}, err
	}
	if step.Next == "" {
		s.forgetSteps(at.job)
	}
	return step, nil
}

// eraseStep is a step of an erasure that was carried out, or that may have been: its caller was told that the outcome is unknown, and repeats the call. What
// the step has erased is not found again, so the answer is kept. It is in memory, because only the process that has made the call repeats it.
type eraseStep struct {
	cursor string
	unsure bool // nothing is known of it yet
	engine.ErasedStep
}

// doneStep returns the answer of the step that began at a cursor, if it was carried out.
func (s *Store) doneStep(job int64, cursor string) (step engine.ErasedStep, ok bool) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	last, known := s.keeping.steps[job]
	return last.ErasedStep, known && last.cursor == cursor && !last.unsure
}

// isUnsure reports whether the step that began at a cursor may have been carried out.
func (s *Store) isUnsure(job int64, cursor string) bool {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	last, known := s.keeping.steps[job]
	return known && last.cursor == cursor
}

func (s *Store) keepStep(job int64, step eraseStep) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	set(&s.keeping.steps, job, step)
}

// keepUnsure notes that a step may have been carried out, unless it is known that it was.
func (s *Store) keepUnsure(job int64, cursor string) {
	if !s.isUnsure(job, cursor) {
		s.keepStep(job, eraseStep{cursor: cursor, unsure: true})
	}
}

func (s *Store) forgetSteps(job int64) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	delete(s.keeping.steps, job)
}

// beginErasure stores an erasure. If its outcome is unknown, it is nobody's: Maintain returns it in case it was stored.
func (s *Store) beginErasure(ctx context.Context, at erasePlace, what engine.Erasure) (step engine.ErasedStep, err error) {
	needs := func(_ *batch, n *needs) { n.once(what.Once) }
	k := &s.keeping
	var givenUp bool // guarded by k.mu
	err = s.write(ctx, mutation{size: 1024, needs: needs, run: func(b *batch) (err error) {
		if err := b.refuseRepeated(what.Once); err != nil {
			return err
		}
		j := eraseJob{Target: what, Member: s.memberID.Load()}
		if what.Once != nil {
			j.Once = what.Once.Key[:]
		}
		if at.job, err = b.addJob(&job{Erasure: &j}); err != nil {
			return err
		}
		j.Place = at.String()
		no := at.job
		b.after = append(b.after, func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			if !givenUp {
				set(&k.erasing, no, true)
			}
		})
		return b.remember(what.Once, engine.Done{})
	}})
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		givenUp = true
		delete(k.erasing, at.job)
		return engine.ErasedStep{}, err
	}
	return engine.ErasedStep{Next: at.String()}, nil
}

// left returns the erasures that no process goes on with: those that this one has neither begun nor been given.
func (s *Store) left(jobs []numberedJob) (list []engine.UnfinishedErasure) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	for _, one := range jobs {
		if e := one.Erasure; e != nil && !s.keeping.erasing[one.no] && !s.isElsewhere(e) {
			list = append(list, engine.UnfinishedErasure{Target: e.Target, Cursor: e.Place, Erased: e.Erased})
		}
	}
	return list
}

// isElsewhere reports whether another process carries an erasure out.
func (s *Store) isElsewhere(e *eraseJob) bool { return s.fleet != nil && s.fleet.isMember(e.Member) }

// give notes that erasures are given to this process, and returns them.
func (s *Store) give(list []engine.UnfinishedErasure) []engine.UnfinishedErasure {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	for i := range list {
		if p, err := parseErasePlace(list[i].Cursor); err == nil {
			set(&s.keeping.erasing, p.job, true)
		}
	}
	return list
}

// keepErasure stores how far an erasure has come. After the last step it removes it. If its job is damaged, the erasure goes on without.
func (b *batch) keepErasure(no int64, step *engine.ErasedStep) error {
	stored, err := b.oneJob(no)
	if err != nil || stored == nil || stored.Erasure == nil {
		return err
	}
	e := *stored.Erasure
	e.Damaged = slices.Clone(e.Damaged)
	for _, err := range step.Damaged {
		if text := err.Error(); !slices.Contains(e.Damaged, text) && len(e.Damaged) < maxNamed {
			e.Damaged = append(e.Damaged, text)
		}
	}
	e.Erased.Add(step.Erased)
	e.Erased.Damaged = int64(len(e.Damaged))
	if step.Next != "" {
		e.Place, e.Member = step.Next, b.s.memberID.Load()
		b.putJob(no, &job{Erasure: &e})
		return nil
	}
	b.after = append(b.after, func() {
		b.s.keeping.mu.Lock()
		defer b.s.keeping.mu.Unlock()
		delete(b.s.keeping.erasing, no)
	})
	b.putJob(no, nil)
	return b.rememberErased(e.Once, e.Erased)
}

// erase erases what a search has found, as far as one step may go. It returns where the erasure goes on, "" if this was the last step. Each session has a share of
// the step: sessions with thousands of deliveries have them in the same lanes, one behind the other.
func (b *batch) erase(found *eraseSearch, step *engine.ErasedStep) (next string, err error) {
	if found.at.phase == eraseDeliveries {
		return found.next(false), b.eraseDeliveries(found.deliveries, step)
	}
	nos := make([]int64, len(found.sessions))
	for i, r := range found.sessions {
		nos[i] = r.no
	}
	stored, damaged, err := b.lockSessions(nos)
	if err != nil {
		return "", err
	}
	left, share := eraseChanges, eraseChanges/max(1, len(nos))
	var stopped int64 // the first session that is not done with
	for _, no := range nos {
		done := left > 0
		switch r := stored[no]; {
		case damaged[no] != nil:
			step.Damaged = append(step.Damaged, damaged[no])
			continue
		case r == nil: // it has expired since the search: the second phase finds its deliveries
			continue
		case done:
			var changes int
			if changes, done, err = b.eraseSession(r, share, step); err != nil {
				return "", err
			}
			left -= changes
		}
		if !done && stopped == 0 {
			stopped = no
		}
	}
	if stopped != 0 {
		found.at.session, found.more = stopped-1, true
	}
	return found.next(false), nil
}

// eraseSession erases a session and its deliveries. It stops after about so many deliveries, because there may be thousands; done reports whether the session is
// gone.
func (b *batch) eraseSession(r *sessionRow, most int, step *engine.ErasedStep) (changes int, done bool, err error) {
	refs, all, err := b.someRefs(r, maxMarksInHead+most)
	if err != nil {
		return 0, false, err
	}
	ids := make(uuids, len(refs))
	for i := range refs {
		ids[i] = refs[i].ID
	}
	before := step.Erased
	if err := b.eraseDeliveries(ids, step); err != nil {
		return 0, false, err
	}
	changes = len(ids) + int(step.Erased.Attempts-before.Attempts)
	if all {
		step.Erased.Sessions++
		step.Erased.Events += int64(r.Events)
		b.removeSession(r)
		return changes + r.batches, true, nil
	}
	after := *r
	after.Deliveries = nil // they are among the first
	for _, ref := range refs[len(r.Deliveries):] {
		after.marks--
		key := markKey{r.no, ref}
		if _, known := b.marks.get(key); !known {
			b.marks.read(key, new(struct{}))
		}
		b.marks.put(key, nil)
	}
	b.putSession(&after)
	return changes + len(refs), false, nil
}

// someRefs returns marks of a session, those of its row first, and at most so many; all reports whether these are all.
func (b *batch) someRefs(r *sessionRow, most int) (refs []engine.DeliveryRef, all bool, err error) {
	refs = slices.Clone(r.Deliveries)
	if r.marks == 0 {
		return refs, true, nil
	}
	room := max(1, most-len(refs))
	err = b.query(func(found pgx.Rows) error {
		ref, err := scanMark(found)
		refs = append(refs, ref)
		return err
	}, "SELECT webhook_id, kind, delivery_id FROM @.marks WHERE session_no = $1 ORDER BY webhook_id, kind, delivery_id LIMIT $2", r.no, room+1)
	if all = len(refs) <= len(r.Deliveries)+room; !all {
		refs = refs[:len(r.Deliveries)+room]
	}
	return refs, all, err
}

// eraseDeliveries erases deliveries. A damaged one stays, because it is not known what belongs to it; the erasure goes on without it.
func (b *batch) eraseDeliveries(ids uuids, step *engine.ErasedStep) error {
	damaged, err := b.lockDeliveries(ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if damaged[id] != nil {
			step.Damaged = append(step.Damaged, damaged[id])
			continue
		}
		r, _ := b.deliveries.get(id)
		if r == nil {
			continue
		}
		step.Erased.Deliveries++
		step.Erased.Attempts += int64(r.Attempts)
		step.Deleted = append(step.Deleted, r.Delivery)
		b.removeDelivery(r)
	}
	return nil
}
