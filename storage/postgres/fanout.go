package postgres

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// A fan-out makes the deliveries of a request that leads to more of them than a transaction should hold. Its rows are written with the events. Each step
// makes deliveries of the oldest rows, with their marks, and says in the rows how far it came.

const (
	// fanOutSessions is how many sessions a row has at most. A step makes deliveries of all of them for a few webhooks: so it changes few lanes.
	fanOutSessions = 64
	// fanOutStep is how many deliveries a step makes, because other mutations wait for it.
	fanOutStep = 512
	// fanOutRows is how many rows a step reads. Full ones take that much of it at least.
	fanOutRows = fanOutStep / fanOutSessions
)

// fanOut is a row of fan_outs: sessions, and the webhooks that their deliveries are still to be made for.
type fanOut struct {
	after, last uint32 // ids of webhooks: above after, up to last
	sessions    []fannedOut
}

type fannedOut struct {
	id uuid.UUID // of the session
	no int64     // of the session: one that was erased, and begins anew under the same id, has another one
	engine.FanOut
}

func (f *fanOut) encode() []byte {
	e := newRecord(16 + 64*len(f.sessions))
	e.Uint(uint64(f.after))
	e.Uint(uint64(f.last))
	for i := range f.sessions {
		s := &f.sessions[i]
		e.UUID(s.id)
		e.Uint(uint64(s.no))
		e.Time(s.StartedAt)
		e.Time(s.FinishedAt)
		e.Bool(s.Continued)
		e.Bool(s.WasFinished)
		e.Time(s.ReceivedAt)
		e.Duration(s.Settle)
		e.Uint(uint64(s.Late.Events))
		e.Uint(uint64(s.Late.Before))
		e.Bool(s.Late.Answers)
		e.Bool(s.Late.Leads)
		e.Bool(s.Late.Rest)
	}
	return e.Bytes()
}

func decodeFanOut(no int64, body []byte) (*fanOut, error) {
	d := openRecord(body)
	f := &fanOut{after: d.Count(), last: d.Count()}
	for d.More() {
		s := fannedOut{id: d.UUID(), no: int64(d.Uint()), FanOut: engine.FanOut{StartedAt: d.Time(), FinishedAt: d.Time(), Continued: d.Bool(), WasFinished: d.Bool(), ReceivedAt: d.Time(), Settle: d.Duration(),
			Late: engine.Late{Events: int(d.Count()), Before: int(d.Count()), Answers: d.Bool(), Leads: d.Bool(), Rest: d.Bool()}}}
		f.sessions = append(f.sessions, s)
	}
	if !d.OK() {
		return nil, damage("fan-out", no)
	}
	return f, nil
}

// beginFanOut stores the sessions whose deliveries are made later. Webhooks that are created from now on get none of them: their ids are higher.
func (b *batch) beginFanOut(sessions []fannedOut) error {
	all := b.hooks.All()
	if len(sessions) == 0 || len(all) == 0 {
		return nil
	}
	parts := slices.Collect(slices.Chunk(sessions, fanOutSessions))
	var nos []int64
	err := b.query(func(found pgx.Rows) error {
		var no int64
		err := found.Scan(&no)
		nos = append(nos, no)
		return err
	}, "SELECT nextval($1::text::regclass) FROM generate_series(1, $2::int)", b.s.sql("@.numbers"), len(parts))
	if err != nil {
		return err
	}
	for i, part := range parts {
		b.fanOuts.read(nos[i], nil)
		b.putFanOut(nos[i], &fanOut{last: all[len(all)-1].ID, sessions: part})
	}
	b.fanningOut += int64(len(sessions))
	b.after = append(b.after, b.s.wakeFanOut)
	return nil
}

// putFanOut replaces a row of fan_outs. nil removes it.
func (b *batch) putFanOut(no int64, f *fanOut) {
	b.changes++
	b.fanOuts.put(no, f)
}

// wakeFanOut has Watch go on with the fan-outs.
func (s *Store) wakeFanOut() {
	select {
	case s.fanOutWake <- struct{}{}:
	default:
	}
}

// stepFanOut makes a bounded number of deliveries of the oldest fan-outs, and calls report with what it has queued. more tells that there was one.
func (s *Store) stepFanOut(ctx context.Context, report func(engine.News)) (more bool, err error) {
	if s.fanningOut.Load() == 0 {
		return false, nil
	}
	var step fanOutStepDone
	err = s.write(ctx, mutation{walks: true, run: func(b *batch) error {
		step = fanOutStepDone{}
		return b.stepFanOut(&step)
	}})
	if err != nil {
		return false, err
	}
	report(engine.News{Keeper: true, Queued: step.queued, Late: step.late})
	return true, nil
}

// fanOutStepDone is what a step of the fan-outs has made.
type fanOutStepDone struct {
	queued []engine.Queued // the lanes that got deliveries
	late   int             // events that were counted as late
}

// storedFanOut is a row of fan_outs with its number.
type storedFanOut struct {
	no int64
	*fanOut
}

// stepFanOut makes deliveries. It reads all rows and all sessions of the step first.
func (b *batch) stepFanOut(done *fanOutStepDone) error {
	list, err := b.oldestFanOuts()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		b.fanningOut -= b.s.fanningOut.Load() // what is left cannot be read
		return nil
	}
	var n needs
	for _, f := range list {
		for i := range f.sessions {
			n.session(f.sessions[i].id, false)
		}
	}
	n.dropKnown(b)
	if err := b.load(&n, false); err != nil {
		return err
	}
	for made := 0; made < fanOutStep && len(list) > 0; list = list[1:] {
		took, err := b.continueFanOut(list[0], fanOutStep-made, done)
		if err != nil {
			return err
		}
		made += took
	}
	return nil
}

// oldestFanOuts returns the first rows that can be read.
func (b *batch) oldestFanOuts() (list []storedFanOut, err error) {
	after, read := int64(0), fanOutRows
	for len(list) == 0 && read == fanOutRows {
		read = 0
		err := b.query(func(found pgx.Rows) error {
			read++
			var body []byte
			if err := found.Scan(&after, &body); err != nil {
				return err
			}
			f, err := decodeFanOut(after, body)
			if b.s.passes(err) {
				return nil
			}
			b.fanOuts.read(after, f)
			list = append(list, storedFanOut{after, f})
			return err
		}, "SELECT no, body FROM @.fan_outs WHERE no > $1 ORDER BY no LIMIT $2 FOR UPDATE", after, fanOutRows)
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// continueFanOut makes deliveries of a row: each webhook that it comes to is one for each session that it matches, and these are most at most. It adds
// them to done, and returns what part of most they took, at least 1: reading the sessions takes a part as well.
func (b *batch) continueFanOut(f storedFanOut, most int, done *fanOutStepDone) (took int, err error) {
	sessions, of, err := b.fannedOut(f.fanOut)
	if err != nil {
		return 0, err
	}
	hooks, matches, last := b.hooks.NextInFanOut(of, f.after, f.last, most)
	if err := b.fanOutTo(hooks, sessions, of, done); err != nil {
		return 0, err
	}
	switch {
	case last:
		b.fanningOut -= int64(len(f.sessions))
		b.putFanOut(f.no, nil)
		return len(f.sessions) + matches, nil
	case len(hooks) == 0: // the next step has room
		return most, nil
	}
	after := *f.fanOut
	after.after = hooks[len(hooks)-1].ID
	b.putFanOut(f.no, &after)
	return len(f.sessions) + matches, nil
}

// fannedOut returns copies of the sessions of a row, without those that were erased or cannot be read.
func (b *batch) fannedOut(f *fanOut) (sessions []*sessionRow, of []engine.FannedOut, err error) {
	for i := range f.sessions {
		s := &f.sessions[i]
		stored, err := b.session(s.id)
		if b.s.passes(err) || err == nil && (stored == nil || stored.no != s.no) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		r := *stored
		r.Deliveries = slices.Clone(r.Deliveries)
		sessions = append(sessions, &r)
		of = append(of, engine.FannedOut{FanOut: s.FanOut, ContentID: r.Identity.ContentID})
	}
	return sessions, of, nil
}

// fanOutTo makes the deliveries of sessions for some webhooks.
func (b *batch) fanOutTo(hooks []*engine.Webhook, sessions []*sessionRow, of []engine.FannedOut, done *fanOutStepDone) error {
	all := make([]triggered, len(sessions))
	var pairs []markPair
	for i, r := range sessions {
		all[i].session = r
		for _, w := range hooks {
			all[i].triggers = of[i].AppendTriggers(all[i].triggers, &r.SessionHead, w)
			if b.hasStoredMarks(r) {
				pairs = append(pairs, markPair{r.no, w.ID})
			}
		}
	}
	if err := b.readMarks(pairs); err != nil {
		return err
	}
	if err := b.readAhead(all); err != nil {
		return err
	}
	for i := range all {
		if err := b.fanOutSession(&all[i], done); err != nil {
			return err
		}
	}
	return nil
}

// fanOutSession makes the deliveries of a session.
func (b *batch) fanOutSession(s *triggered, done *fanOutStepDone) error {
	before := len(done.queued)
	for i := range s.triggers {
		t := &s.triggers[i]
		if !t.Moves && t.Kind != engine.KindUpdate {
			if id, err := b.deliveryOf(s.session, t.WebhookID, t.Kind); err != nil {
				return err
			} else if id != uuid.Nil {
				continue // a replay was faster
			}
		}
		d, late, err := b.trigger(s.session, t)
		if err != nil {
			return err
		}
		done.late += late
		if d != nil {
			done.queued = append(done.queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
		}
	}
	if len(done.queued) > before {
		b.putSession(s.session)
	}
	return nil
}
