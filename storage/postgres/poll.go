package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// poller has the connection that a member beats on.
type poller struct {
	f      *fleet
	conn   *pgx.Conn
	joined int64     // fleet.joins at the last poll
	beatAt time.Time // when the next beat is due
	state  memberState
}

func (p *poller) drop() {
	if p.conn != nil {
		closeConn(p.conn)
		p.conn = nil
	}
}

// connect makes sure that there is a connection: the end of the last poll may have closed it.
func (p *poller) connect(ctx context.Context) (err error) {
	if p.conn == nil || p.conn.IsClosed() {
		p.conn, err = p.f.s.connect(ctx)
	}
	return err
}

// end tells the others that this process has ended.
func (p *poller) end() {
	<-p.f.s.stopped // what it has accepted is written
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if p.connect(ctx) != nil {
		return
	}
	_, err := p.conn.Exec(ctx, p.f.s.sql("UPDATE @.members SET state = $2, beat = beat + 1 WHERE id = $1"), p.f.s.memberID.Load(), int16(stateLeft))
	if err != nil {
		p.drop()
		return
	}
	p.f.s.release(p.conn)
}

// pollTimeout bounds a poll, in beats: one that takes longer is tried again on another connection.
const pollTimeout = 2

// poll beats if it is time to, reads who the others are, and what they have done. It returns when to call it again.
func (p *poller) poll(parent context.Context) (wait time.Duration, err error) {
	f, s := p.f, p.f.s
	ctx, cancel := context.WithTimeout(parent, max(pollTimeout*f.beat, pollTimeout*time.Second))
	defer cancel()
	if err := p.connect(ctx); err != nil {
		return 0, err
	}
	began, me := time.Now(), s.memberID.Load()
	if joins := f.joins.Load(); joins != p.joined {
		p.joined, p.beatAt = joins, time.Time{}
	}
	state := f.state()
	f.mu.Lock()
	beats := !began.Before(p.beatAt) || f.ackDue || state != p.state
	if f.owing() > cutAfter*f.beat { // the engine hangs: others take over
		beats = false
	}
	f.ackDue = f.ackDue && !beats
	acked, tailed := maps.Clone(f.acked), maps.Clone(f.tail)
	f.mu.Unlock()
	var b pgx.Batch
	var raised int64
	if beats {
		b.Queue(s.sql("UPDATE @.members SET beat = beat + 1, state = $2, seen = $3, claimed = $4, impeded = $5 WHERE id = $1"), me, int16(state), acked.encode(), s.tallyClaims().encode(), encodeWebhooks(f.impeded())).
			Exec(func(tag pgconnTag) error { raised = tag.RowsAffected(); return nil })
	}
	got := f.queuePoll(&b, me, tailed)
	if err := p.conn.SendBatch(ctx, &b).Close(); err != nil {
		f.mu.Lock()
		f.ackDue = f.ackDue || beats
		f.mu.Unlock()
		return 0, err
	}
	if p.joined != f.joins.Load() { // it has joined anew meanwhile: this is of the member before
		return 0, nil
	}
	if beats && raised == 0 {
		// It was taken for dead. The writer finds that out, and joins anew.
		p.beatAt = began.Add(f.beat)
		f.work.Go(func() { _ = f.touch(context.Background()) })
		return f.beat / pollsPerBeat, nil
	}
	if beats {
		p.beaten(began, state)
	}
	s.fanningOut.Store(got.fanningOut)
	for _, id := range f.note(began, got) {
		f.takeOver(parent, id)
	}
	if got.fanningOut > 0 && f.keeper() {
		s.wakeFanOut()
	}
	if !f.hasOthers() {
		return f.beat, nil
	}
	return f.beat / pollsPerBeat, nil
}

// beaten notes a beat that was stored, and when it was begun.
func (p *poller) beaten(began time.Time, state memberState) {
	f := p.f
	p.beatAt, p.state = began.Add(f.beat), state
	revived := !f.alive()
	f.lastBeat.Store(&began)
	if revived { // attempts may begin again: the engine looks at its lanes
		f.s.unheard.back(f.s)
	}
}

// state is what this process does.
func (f *fleet) state() memberState {
	switch {
	case f.drains():
		return stateDraining
	case f.watches():
		return stateWatching
	}
	return stateJoined
}

// queuePoll adds the reads of a poll to a round trip. The result is there when it has ended.
func (f *fleet) queuePoll(b *pgx.Batch, me int64, tailed seen) *polled {
	s, got := f.s, new(polled)
	b.Queue(s.sql("SELECT id, beat, version, about, state, seen, claimed, impeded FROM @.members WHERE id <> $1"), me).Query(func(rows pgx.Rows) (err error) {
		got.members, err = scanMembers(rows)
		return err
	})
	b.Queue(s.sql("SELECT epoch, layout, (SELECT COALESCE(sum(sessions), 0)::bigint FROM @.fan_outs), (SELECT COALESCE(max(no), 0) FROM @.jobs) FROM @.fleet")).QueryRow(func(row pgx.Row) error {
		return row.Scan(&got.epoch, &got.layout, &got.fanningOut, &got.job)
	})
	b.Queue(s.sql("SELECT id, member, adopted FROM @.writers")).Query(func(rows pgx.Rows) (err error) {
		got.writers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[fleetWriter])
		return err
	})
	if f.hasOthers() {
		writers, ns := tailed.lists()
		b.Queue(s.sql(newsSince), me, writers, ns).Query(func(rows pgx.Rows) (err error) {
			got.news, err = scanNews(rows, s)
			return err
		})
	}
	return got
}

// takeOver takes a dead member over, beside the beats.
func (f *fleet) takeOver(ctx context.Context, id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[id]
	if m == nil || f.taking[id] {
		return
	}
	f.taking[id] = true
	f.work.Go(func() {
		switch err := f.s.takeOverMember(ctx, id, m.beat); {
		case err == nil:
			if m.state != stateLeft {
				f.tookOver.Add(1)
			}
			f.s.log.Info("the lanes of a process that has ended are free", "ended", id, "host", m.about.Host)
			wake(f.kick)
		case !errors.Is(err, errStillThere) && ctx.Err() == nil:
			f.s.log.Warn("the lanes of a process that has ended cannot be taken over yet", "ended", id, "error", err)
		}
		f.mu.Lock()
		delete(f.taking, id)
		f.mu.Unlock()
	})
}

// fleetWriter is a row of writers.
type fleetWriter struct {
	ID, Member int64
	Adopted    bool
}

// polled is what a poll has read.
type polled struct {
	members       []*member
	writers       []fleetWriter
	epoch, layout int64
	job           int64 // the newest
	fanningOut    int64
	news          []heardNews
}

func scanMembers(rows pgx.Rows) (all []*member, err error) {
	for rows.Next() {
		m := new(member)
		var state int16
		var about, acks, claimed, impeded []byte
		if err := rows.Scan(&m.id, &m.beat, &m.version, &about, &state, &acks, &claimed, &impeded); err != nil {
			return nil, err
		}
		m.state, m.about, m.seen, m.claimed, m.impeded = memberState(state), decodeAbout(about), decodeSeen(acks), decodeTally(claimed), decodeWebhooks(impeded)
		all = append(all, m)
	}
	return all, nil
}

// note takes over what a poll has read, and returns the members that are dead.
func (f *fleet) note(began time.Time, p *polled) (dead []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// While nothing could be read, nobody could be heard.
	before, answered := f.lastRead, time.Now()
	gap := max(0, began.Sub(before)-pollTimeout*f.beat)
	f.lastRead = began
	known := f.members
	f.members = make(map[int64]*member, len(p.members))
	changed := p.layout != f.layout || len(p.members) != len(known)
	for _, m := range p.members {
		m.heardAt = answered // the beat may have been begun while this poll was under way
		if old := known[m.id]; old == nil || old.state != m.state {
			changed = true
		} else if old.beat == m.beat {
			m.heardAt = old.heardAt.Add(gap)
		}
		f.members[m.id] = m
		if m.state == stateLeft || began.Sub(m.heardAt) >= deadAfter*f.beat || m.about.Process.hasEnded(f.about.Process) {
			dead = append(dead, m.id)
		}
	}
	if p.job > f.job || len(p.members) < len(known) { // its erasures are left
		f.s.unheard.work(f.s)
	}
	f.noteImpeded()
	f.layout, f.writers, f.job = p.layout, p.writers, max(f.job, p.job)
	if p.epoch > f.stored {
		f.debts = append(f.debts, debt{seenEpoch, p.epoch, before})
	}
	for _, one := range p.news {
		f.tail[one.writer] = max(f.tail.of(one.writer), one.n)
		if len(one.ended) > 0 {
			f.debts = append(f.debts, debt{one.writer, one.n, before})
		}
	}
	f.setOwes()
	f.inbox = append(f.inbox, p.news...)
	if len(p.news) > 0 || p.epoch != f.stored {
		f.stored = p.epoch
		wake(f.heard)
	}
	f.forgetWriters()
	if changed {
		wake(f.balance)
	}
	f.pollAt = began
	close(f.polledNow)
	f.polledNow = make(chan struct{})
	return dead
}

// forgetWriters forgets how far those were read that are gone. The caller holds mu.
func (f *fleet) forgetWriters() {
	there := map[int64]bool{seenEpoch: true}
	for _, w := range f.writers {
		there[w.ID] = true
	}
	gone := func(writer, _ int64) bool { return !there[writer] }
	maps.DeleteFunc(f.tail, gone)
	maps.DeleteFunc(f.acked, gone)
	f.debts = slices.DeleteFunc(f.debts, func(d debt) bool { return !there[d.to] })
}
