package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
)

// Bounds of one batch. They limit how long its first caller waits for the others.
const (
	maxBatchMutations = 512
	maxBatchBytes     = 4 << 20
	// A mutation of more than bulkBytes is large. Large mutations have a queue of their own, so that attempts and single sessions do not wait for
	// several imports. A batch takes no further large mutation once it has maxBulkBytes.
	maxBulkBytes = 2 << 20
	bulkBytes    = 64 << 10
	// maxBatchChanges bounds the changes of a batch. A batch that has made so many leaves its other mutations to the next one.
	maxBatchChanges = 10_000
)

const (
	// maxTries is how often a batch begins anew because others were in the way; then each of its mutations is tried alone.
	maxTries = 5
	// maxRounds is how often mutations may name further rows before they run.
	maxRounds = 3
	// inHand is the part of Options.Patience that is left for a mutation's transaction when the wait for the writer ends.
	inHand = 5
)

type pgconnTag = pgconn.CommandTag

// errRolledBack is returned where a commit was answered by a rollback.
var errRolledBack = errors.New("the transaction was rolled back")

// mutation is one caller's change.
type mutation struct {
	// needs names the rows that run will read, as far as they are known from what the batch has read already. It may be nil. It is called again until
	// nothing is new.
	needs func(b *batch, n *needs)
	// run makes the change. It may be called again, so it must have no effect outside its batch. An error before its first change fails this caller
	// alone. An error after a change makes the others start again without it.
	run func(*batch) error
	// walks tells that run reads by SQL of its own; see batch.query. It is the first one of its batch.
	walks bool
	// isAwaited tells that a mutation which walks is short, and somebody waits for it: it is cut off as one that does not walk.
	isAwaited bool
	size      int        // about how many bytes it writes
	done      chan error // capacity 1; answer sends, the caller receives
	// answered is set by answer. Owned by the writer.
	answered bool
	arrived  time.Time
	// accepted is set by the writer when it takes the mutation, or by the caller when it waits no longer.
	accepted *atomic.Bool
}

// answer sends the caller its answer. The first answer is the only one.
func (m *mutation) answer(err error) {
	if !m.answered {
		m.answered = true
		m.done <- err
	}
}

// write hands a mutation to the writer and waits until it is durable. ctx, and Options.Patience, bound only the wait for the writer. A change that the
// writer has accepted may become durable, and the caller has to know.
func (s *Store) write(ctx context.Context, m mutation) error {
	if err := ctx.Err(); err != nil { // the select below may choose the writer all the same
		return err
	}
	m.done, m.arrived, m.accepted = make(chan error, 1), time.Now(), new(atomic.Bool)
	wait := time.NewTimer(s.opts.Patience - s.opts.Patience/inHand)
	defer wait.Stop()
	queue := s.mutations
	switch {
	case m.walks:
		queue = s.walks
	case m.size >= bulkBytes:
		queue = s.bulk
	}
	select {
	case queue <- &m:
	case <-s.stopped:
		return s.unavailable()
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return s.busy()
	}
	select {
	case err := <-m.done:
		return err
	case <-s.stopped: // the writer answers what it has begun before it ends
	case <-wait.C:
		if m.accepted.CompareAndSwap(false, true) {
			return s.busy()
		}
		select {
		case err := <-m.done:
			return err
		case <-s.stopped:
		}
	}
	select {
	case err := <-m.done:
		return err
	default:
		return s.unavailable()
	}
}

// writer is the goroutine that makes all changes. It ends when quit is closed, or this process is fenced off.
func (s *Store) writer() {
	defer close(s.stopped)
	defer func() {
		s.stopDialing()
		if s.conn != nil {
			s.release(s.conn)
		}
	}()
	var mutations []*mutation
	for {
		var got chan dialed
		if s.dial != nil {
			got = s.dial.got
		}
		mutations = mutations[:0]
		select {
		case d := <-got:
			switch err := s.take(d); {
			case err == nil || judge(err) != fenced:
			case s.fleet != nil:
				s.fleet.lose()
			default:
				s.fail(err)
				return
			}
			continue
		case m := <-s.walks:
			mutations = m.addTo(mutations)
		case m := <-s.mutations:
			mutations = m.addTo(mutations)
		case m := <-s.bulk:
			mutations = m.addTo(mutations)
		case <-s.quit:
			return
		}
		if len(mutations) == 0 {
			continue
		}
		mutations = s.gather(mutations)
		if err := s.commit(mutations); err != nil {
			s.fail(err)
			return
		}
		clear(mutations) // a request may be large; do not keep it alive
	}
}

// addTo accepts a mutation, unless its caller waits no longer.
func (m *mutation) addTo(list []*mutation) []*mutation {
	if m.accepted.CompareAndSwap(false, true) {
		list = append(list, m)
	}
	return list
}

// gather adds the mutations that wait already to a batch. It first lets other goroutines run, such as callers that the commit before has just
// answered. A mutation that walks comes first.
func (s *Store) gather(mutations []*mutation) []*mutation {
	size := mutations[0].size
	drain := func(queue chan *mutation, most int) {
		for len(queue) > 0 && len(mutations) < maxBatchMutations && size < most {
			had := len(mutations)
			if mutations = (<-queue).addTo(mutations); len(mutations) > had {
				size += mutations[had].size
			}
		}
	}
	if !mutations[0].walks && len(s.walks) > 0 {
		mutations = (<-s.walks).addTo(mutations)
		last := len(mutations) - 1
		mutations[0], mutations[last] = mutations[last], mutations[0]
	}
	for had := 0; had < len(mutations); {
		had = len(mutations)
		runtime.Gosched()
		drain(s.mutations, maxBatchBytes)
		drain(s.bulk, maxBulkBytes)
	}
	return mutations
}

// commit makes mutations durable and answers all of them. It returns an error if this process must not write any more.
func (s *Store) commit(mutations []*mutation) (err error) {
	defer func() {
		for _, m := range mutations {
			if err != nil {
				m.answer(fmt.Errorf("%w: %w", engine.ErrUnavailable, err))
			}
		}
	}()
	left, tries, giveUp := mutations, 0, s.giveUpAt(mutations)
	for len(left) > 0 {
		rest, failure := s.tryCommit(left, giveUp)
		if failure == nil {
			left, tries = rest, 0
			continue
		}
		v := judge(failure)
		s.met(v, failure)
		switch {
		case errors.Is(failure, ErrSchema): // shut out by a newer version
			return failure
		case v == fenced && s.fleet != nil && tries < maxTries:
			s.fleet.lose()
			left = slices.DeleteFunc(slices.Clone(left), func(m *mutation) bool { return m.answered })
			tries++
		case v == fenced && s.fleet != nil:
			answerAll(left, s.transient(failure))
			return nil
		case v == fenced:
			return failure
		case v == lost && !isAway(failure) && s.wait(tries, giveUp):
			tries++
		case v == lost, v == again && time.Until(giveUp) < waitOf(failure):
			answerAll(left, s.transient(failure))
			return nil
		case v == full:
			answerAll(left, fmt.Errorf("%w: the database server has none", engine.ErrFull))
			return nil
		case v == again && tries < maxTries:
			tries++
		case len(left) == 1 && (v == again || v == missing):
			answerAll(left, s.transient(failure))
			return nil
		case len(left) == 1:
			answerAll(left, failure)
			return nil
		default:
			for _, m := range left {
				if err := s.commit([]*mutation{m}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return nil
}

// waitOf is for how long a transaction that begins anew may wait for what has failed it.
func waitOf(err error) time.Duration {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == codeLocked {
		return lockTimeout
	}
	return 0
}

// giveUpAt is when the callers of a batch have waited for long enough.
func (s *Store) giveUpAt(mutations []*mutation) time.Time {
	oldest := mutations[0].arrived
	for _, m := range mutations {
		if m.arrived.Before(oldest) {
			oldest = m.arrived
		}
	}
	return oldest.Add(s.opts.Patience)
}

// whileAwaited is the context of a transaction. It ends while there is still time to find out whether a lost commit was carried out, before giveUp. A
// mutation that walks may take as long as the server lets it: it would take as long when it is repeated.
func (s *Store) whileAwaited(mutations []*mutation, giveUp time.Time) (context.Context, context.CancelFunc) {
	if m := mutations[0]; m.walks && !m.isAwaited {
		return context.WithCancel(context.Background())
	}
	end, atLeast := giveUp.Add(-lastTry), time.Now().Add(max(s.opts.Patience/inHand, lastTry))
	if end.Before(atLeast) {
		end = atLeast
	}
	return context.WithDeadline(context.Background(), end)
}

// wait waits before a batch begins anew that has lost its connection so often already. It returns false if it is time to give up.
func (s *Store) wait(tries int, giveUp time.Time) bool {
	wait := min(minReconnect<<min(tries, 10), maxReconnect)
	if tries == 0 {
		wait = 0
	}
	if time.Until(giveUp) <= wait {
		return false
	}
	select {
	case <-time.After(wait):
		return true
	case <-s.quit:
		return false
	}
}

func answerAll(mutations []*mutation, err error) {
	for _, m := range mutations {
		m.answer(err)
	}
}

// unsettled is a batch whose commit was sent and not answered.
type unsettled struct {
	b       *batch
	applied []*mutation
}

// tryCommit is commit in a single transaction. It returns the mutations that are left for another one. If the commit was sent and not answered, it
// waits for the connection and settles whether it was carried out.
func (s *Store) tryCommit(mutations []*mutation, giveUp time.Time) (left []*mutation, err error) {
	if err := s.ready(giveUp); err != nil {
		return nil, err
	}
	began := time.Now()
	ctx, cancel := s.whileAwaited(mutations, giveUp)
	defer cancel()
	b := s.newBatch(ctx, s.conn)
	defer func() {
		switch {
		case err != nil && judge(err) == lost: // it may still seem to work, as one to a server that is a standby now does
			s.drop()
		case err != nil || b.changes == 0:
			s.rollback()
		}
	}()
	if err := b.prepare(mutations); err != nil {
		return nil, err
	}
	applied, left, again := b.apply(mutations)
	switch {
	case b.failure != nil:
		return nil, b.failure
	case again != nil:
		b.changes = 0 // it is rolled back
		return append(again, left...), nil
	}
	if b.changes == 0 { // and nothing is written
		b.publish(true)
		answerAll(applied, nil)
		return left, nil
	}
	s.claim(b.claims...) // before readers can see the deliveries
	err = b.flush()
	if err == nil && isUnreplicated(s.conn) {
		err = errUnreplicated
	}
	if err != nil {
		return s.settleFailed(&unsettled{b, applied}, left, err, giveUp)
	}
	s.acked = b.n
	s.opts.ObserveCommit(len(applied), time.Since(began))
	s.works()
	b.publish(true)
	answerAll(applied, nil)
	return left, nil
}

// settleFailed handles a flush that has failed. If its outcome is unknown, it finds it out.
func (s *Store) settleFailed(u *unsettled, left []*mutation, err error, giveUp time.Time) ([]*mutation, error) {
	committed := false
	if judge(err) == lost {
		s.open = u
		s.drop()
		readyErr := s.ready(giveUp)
		committed = u.b == nil // settle takes it away
		if readyErr != nil && !committed {
			err = readyErr
		}
	}
	if committed {
		return left, nil
	}
	for _, c := range u.b.claims {
		s.unclaim(c.id)
	}
	return nil, err
}

// prepare begins the transaction and reads what the mutations name.
func (b *batch) prepare(mutations []*mutation) error {
	for round := range maxRounds {
		var n needs
		for _, m := range mutations {
			if m.needs != nil {
				m.needs(b, &n)
			}
		}
		n.dropKnown(b)
		if round > 0 && n.empty() {
			return nil
		}
		if err := b.load(&n, round == 0); err != nil {
			return err
		}
	}
	return nil
}

// apply runs mutations one after another, as many as a batch may hold, and answers those that fail. left are those that have not run. One that fails
// before its first change has failed alone. If one fails later, the changes are forgotten and the others run again. again is not nil if this
// takes another transaction: one of them has changed rows by SQL of its own, or the connection has failed.
func (b *batch) apply(mutations []*mutation) (applied, left, again []*mutation) {
	for i := 0; i < len(mutations); i++ {
		m, before := mutations[i], b.changes
		if before > maxBatchChanges || i > 0 && m.walks {
			return applied, mutations[i:], nil
		}
		err := m.run(b)
		if err == nil {
			applied = append(applied, m)
			continue
		}
		if b.failure == nil && isOfTransaction(err) {
			b.failure = err
		}
		if b.failure != nil {
			return nil, nil, nil
		}
		m.answer(err)
		if b.changes == before {
			continue
		}
		others := append(applied[:len(applied):len(applied)], mutations[i+1:]...)
		if b.walked {
			return nil, nil, others
		}
		b.reset()
		mutations, applied, i = others, nil, -1
	}
	return applied, nil, nil
}

// publish makes the batch visible in memory. If its callers were told meanwhile that the outcome is unknown, its claims do not end: they repeat the call.
func (b *batch) publish(told bool) {
	s := b.s
	for id, h := range b.health {
		if b.hooks.Get(id) == nil {
			delete(s.health, id)
		} else {
			s.health[id] = h
		}
	}
	if len(b.health) > 0 && s.fleet != nil {
		s.fleet.setImpeding()
	}
	if s.hooks.Swap(b.hooks) != b.hooks {
		s.forgetLanes(b.hooks)
	}
	if b.changes > 0 { // it was committed
		s.sessionNos = b.sessionNos
		if b.raised != 0 {
			s.fleet.epoch.Store(b.raised)
		}
	}
	s.queued(b.queued)
	s.fanningOut.Add(b.fanningOut)
	if s.untrimmed += b.remembered; b.trimmed {
		s.untrimmed = 0
	}
	if told {
		s.unclaim(b.ends...)
	} else {
		s.unheard.add(b)
	}
	for _, f := range b.after {
		f()
	}
	s.due.follow(b)
}

// send sends statements in one round trip and reads their results. The error of a statement ends the trip.
func (s *Store) send(ctx context.Context, conn *pgx.Conn, p *pgx.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	s.trips.Add(1)
	return conn.SendBatch(ctx, p).Close()
}

// rollback ends a transaction that failed, or that has changed nothing.
func (s *Store) rollback() {
	if s.conn == nil || s.conn.IsClosed() || s.conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
	defer cancel()
	if _, err := s.conn.Exec(ctx, "ROLLBACK"); err != nil {
		s.drop()
	}
}

// drop closes the writer's connection.
func (s *Store) drop() {
	if s.conn != nil {
		closeConn(s.conn)
		s.conn = nil
	}
}

// awayError is the failure to get a connection.
type awayError struct{ err error }

func away(err error) error {
	if isAway(err) {
		return err
	}
	return &awayError{err}
}

func isAway(err error) bool { _, is := errors.AsType[*awayError](err); return is }

func (e *awayError) Error() string { return "the database is away: " + e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// isOfTransaction reports whether an error of a mutation is one of the database: the transaction has failed, and not the mutation.
func isOfTransaction(err error) bool {
	_, ok := errors.AsType[*pgconn.PgError](err)
	return ok || isLost(err)
}
