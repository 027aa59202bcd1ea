package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"hookbolt/engine"
)

// What a process has to know of another one's change it acknowledges: the caller of the change waits for that.

// touch has the writer begin a transaction: so it reads the webhooks that others have changed, or finds that this process is no member any more. All batches
// that were begun before have ended then.
func (f *fleet) touch(ctx context.Context) error {
	return f.s.write(ctx, mutation{run: func(*batch) error { return nil }})
}

// hear hands what the polls bring to Watch, or acknowledges it itself while there is no Watch.
func (f *fleet) hear(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.heard:
		}
		for !f.hearOnce(ctx) {
			if !sleepFor(ctx, f.beat/pollsPerBeat) {
				return
			}
		}
	}
}

// hearOnce is hear for what is there. It returns false if that has to be tried again.
func (f *fleet) hearOnce(ctx context.Context) bool {
	joins := f.joins.Load()
	f.mu.Lock()
	inbox, epoch := f.inbox, f.stored
	f.inbox = nil
	f.mu.Unlock()
	upTo := make(seen)
	urgent := false
	for _, one := range inbox {
		f.s.hearQueued(one.queued)
		upTo[one.writer] = max(upTo.of(one.writer), one.n)
		urgent = urgent || len(one.ended) > 0
	}
	if f.epoch.Load() != epoch || f.ackedEpoch() < epoch {
		if err := f.touch(ctx); err != nil || f.epoch.Load() < epoch {
			f.mu.Lock()
			if f.joins.Load() == joins {
				f.inbox = append(inbox, f.inbox...)
			}
			f.mu.Unlock()
			return ctx.Err() != nil || f.joins.Load() != joins
		}
		upTo[seenEpoch], urgent = f.epoch.Load(), true
	}
	if f.joins.Load() != joins {
		return true
	}
	if !f.watches() {
		f.ack(acks{upTo, urgent})
		return true
	}
	f.s.unheard.hear(f.s, inbox, acks{upTo, urgent})
	return true
}

func (f *fleet) ackedEpoch() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked[seenEpoch]
}

// acks are news of others that are acknowledged. If somebody waits for that, they are urgent; else the next beat tells of them.
type acks struct {
	upTo   seen
	urgent bool
}

func (a *acks) add(more acks) {
	if a.upTo == nil {
		a.upTo = make(seen)
	}
	a.upTo.raise(more.upTo)
	a.urgent = a.urgent || more.urgent
}

// ack acknowledges news of others.
func (f *fleet) ack(a acks) {
	f.mu.Lock()
	f.acked.raise(a.upTo)
	f.ackDue = f.ackDue || a.urgent
	was := f.owing()
	f.setOwes()
	f.mu.Unlock()
	if was >= idleAfter*f.beat && f.owing() == 0 { // attempts may begin again
		f.s.unheard.back(f.s)
	}
	if a.urgent {
		wake(f.kick)
	}
}

// debt is a batch of a writer, or an epoch, that somebody waits for to be acknowledged. since is when the last read was begun that did not show it: who waits
// has begun later.
type debt struct {
	to, n int64
	since time.Time
}

// setOwes notes since when others wait for something. The caller holds mu.
func (f *fleet) setOwes() {
	f.debts = slices.DeleteFunc(f.debts, func(d debt) bool { return f.acked.of(d.to) >= d.n })
	if len(f.debts) == 0 {
		f.owes.Store(nil)
		return
	}
	oldest := f.debts[0].since
	f.owes.Store(&oldest)
}

// errUnacknowledged is the cause of an error of a change that is stored, and of which not all processes know.
var errUnacknowledged = errors.New("the change is stored, but not all processes have acknowledged it")

// barrier waits until all other members have acknowledged a batch of this process, or an epoch, or are dead. It waits for no longer than deadAfter beats: by then,
// who does not acknowledge begins no attempts any more. n is that of the batch, for the writer that the process had at the commit.
func (f *fleet) barrier(what int64, n int64) error {
	began := time.Now()
	end := time.NewTimer(deadAfter * f.beat)
	defer end.Stop()
	look := time.NewTicker(f.beat)
	defer look.Stop()
	for {
		f.mu.Lock()
		polled, fresh := f.polledNow, f.pollAt.After(began)
		open := 0
		for _, m := range f.members {
			if m.state != stateLeft && m.seen.of(what) < n {
				open++
			}
		}
		f.mu.Unlock()
		if fresh && open == 0 {
			return nil
		}
		if !f.alive() {
			return fmt.Errorf("%w: %w", engine.ErrAway, errUnacknowledged)
		}
		wake(f.kick)
		select {
		case <-polled:
		case <-look.C:
		case <-end.C:
			if !f.alive() {
				return fmt.Errorf("%w: %w", engine.ErrAway, errUnacknowledged)
			}
			return nil
		case <-f.s.stopped:
			return f.s.unavailable()
		}
	}
}

// haveSeen reports whether all other members have acknowledged a batch, or an epoch.
func (f *fleet) haveSeen(what, n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		if m.state != stateLeft && m.seen.of(what) < n {
			return false
		}
	}
	return true
}

// toldElsewhere is a batch that has ended deliveries of other processes' lanes; zero for none.
type toldElsewhere struct{ writer, n int64 }

// tells returns the batch if one of these deliveries is in a lane of another process. Its owner may have claimed it.
func (b *batch) tells(ended []engine.Delivery) (t toldElsewhere) {
	if slices.ContainsFunc(ended, func(d engine.Delivery) bool { return !b.s.owns(d.WebhookID) }) {
		t = toldElsewhere{b.s.writerID, b.n}
	}
	return t
}

// awaitTold waits until the owners know what a batch has ended.
func (s *Store) awaitTold(t toldElsewhere) error {
	if t.writer == 0 {
		return nil
	}
	return s.fleet.barrier(t.writer, t.n)
}

// foldable returns the writers whose rows may be folded, each up to where all members but its own have read.
func (f *fleet) foldable() (all []foldableWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	me, known := f.s.memberID.Load(), false
	add := func(w fleetWriter) {
		to := int64(math.MaxInt64)
		reads := func(id int64, has seen) {
			if w.Adopted || id != w.Member {
				to = min(to, has.of(w.ID)+1)
			}
		}
		reads(me, f.acked)
		for id, m := range f.members {
			if m.state != stateLeft {
				reads(id, m.seen)
			}
		}
		all = append(all, foldableWriter{w.ID, f.s.folded.of(w.ID), to, w.Adopted})
	}
	for _, w := range f.writers {
		known = known || w.ID == f.s.writerID
		add(w)
	}
	if !known { // the poll was before it
		add(fleetWriter{ID: f.s.writerID, Member: me})
	}
	return all
}
