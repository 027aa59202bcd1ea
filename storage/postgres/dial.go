package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

const (
	// minReconnect and maxReconnect bound the wait between two attempts to connect.
	minReconnect = 10 * time.Millisecond
	maxReconnect = time.Second
	// askedReconnect is the least time between two attempts to connect if a batch asks for one.
	askedReconnect = 50 * time.Millisecond
	// lastTry bounds how long a batch waits for the attempt to connect that it has asked for. It waits for one also if the database has been away for too
	// long already: it may be back.
	lastTry = time.Second
	// slowDial is how long an attempt to connect may take before the database counts as away: until then, attempts begin.
	slowDial = 500 * time.Millisecond
)

// errNoAnswer is the cause while the first attempt to connect is still going on.
var errNoAnswer = errors.New("the server has not answered yet")

// dialer gets a connection for the writer. Its goroutine tries until it has one, so that nobody has to wait for an attempt to connect: a server that
// does not answer at all makes each one last for seconds.
type dialer struct {
	cancel context.CancelFunc
	began  time.Time
	got    chan dialed    // capacity 1; the end of the goroutine
	failed chan failedTry // capacity 1; the last attempt that has failed
	now    chan struct{}  // capacity 1; the writer asks for an attempt
}

// dialed is what a dialer ends with: a connection, or an error that no further attempt mends.
type dialed struct {
	conn      *pgx.Conn
	committed bool // the unsettled batch was carried out
	setBack   bool // the database has lost what was acknowledged
	err       error
}

type failedTry struct {
	began time.Time
	err   error
}

// ready makes sure that the writer has a connection, and that no batch is unsettled. It waits for a database that is away, but at most until giveUp, and
// not longer than Options.Patience after it was lost. Later calls wait for one attempt.
func (s *Store) ready(giveUp time.Time) error {
	if s.conn != nil && s.conn.IsClosed() {
		s.drop()
	}
	if s.conn != nil {
		return s.joinAgain()
	}
	asked := time.Now()
	d := s.startDialing()
	if last := d.began.Add(s.opts.Patience); last.Before(giveUp) {
		giveUp = last
	}
	tried := false // since it was asked for
	timer, slow := time.NewTimer(time.Until(giveUp)), time.NewTimer(slowDial)
	defer timer.Stop()
	defer slow.Stop()
	var err error = errNoAnswer
	if last := s.trouble.Load(); s.away.Load() && last != nil {
		err = last.err
	}
	for {
		select {
		case got := <-d.got:
			if err := s.take(got); err != nil {
				return err
			}
			return s.joinAgain()
		case try := <-d.failed:
			err = try.err
			if tried = tried || !try.began.Before(asked); tried && !time.Now().Before(giveUp) {
				return away(err)
			}
		case <-slow.C:
			s.away.Store(true)
		case <-timer.C:
			if left := time.Until(asked.Add(lastTry)); !tried && left > 0 {
				timer.Reset(left)
				continue
			}
			s.away.Store(true)
			return away(err)
		case <-s.quit:
			return away(err)
		}
	}
}

// joinAgain makes this process a member again, if others have taken it for dead. It begins anew where the database was set back.
func (s *Store) joinAgain() error {
	if s.stale {
		return s.beginAnew()
	}
	if s.fleet == nil || s.fleet.joined {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
	defer cancel()
	err := s.fleet.join(ctx, s.conn)
	if err != nil {
		s.drop()
	}
	return err
}

// startDialing returns the dialer, with an attempt to connect soon.
func (s *Store) startDialing() *dialer {
	if s.dial == nil {
		ctx, cancel := context.WithCancel(context.Background())
		d := &dialer{cancel: cancel, began: time.Now(), got: make(chan dialed, 1), failed: make(chan failedTry, 1), now: make(chan struct{}, 1)}
		var unsettled *int64
		if s.open != nil {
			unsettled = new(s.open.b.n)
		}
		s.awaySince.Store(d.began.UnixNano())
		go s.keepDialing(ctx, d, unsettled, s.acked)
		s.dial = d
		return d
	}
	select {
	case s.dial.now <- struct{}{}:
	default:
	}
	return s.dial
}

// stopDialing ends the dialer.
func (s *Store) stopDialing() {
	if s.dial == nil {
		return
	}
	s.dial.cancel()
	if got := <-s.dial.got; got.conn != nil {
		closeConn(got.conn)
	}
	s.dial = nil
}

// keepDialing tries to connect, and to settle a batch, until it has an answer.
func (s *Store) keepDialing(ctx context.Context, d *dialer, unsettled *int64, acked int64) {
	defer d.cancel()
	for wait := minReconnect; ; wait = min(2*wait, maxReconnect) {
		began := time.Now()
		got := s.dialOnce(ctx, unsettled, acked)
		err := got.err
		if err == nil || judge(err) != lost && judge(err) != again {
			d.got <- got
			return
		}
		s.away.Store(true)
		s.met(lost, err)
		if ctx.Err() == nil {
			s.outage.begin(s, err)
		}
		select {
		case <-d.failed:
		default:
		}
		d.failed <- failedTry{began, err}
		select {
		case <-time.After(wait):
		case <-d.now:
			select {
			case <-time.After(askedReconnect - time.Since(began)):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			d.got <- dialed{err: away(err)}
			return
		}
	}
}

// dialOnce connects, and finds out whether a batch is missing that was acknowledged, and whether an unsettled one was carried out.
func (s *Store) dialOnce(ctx context.Context, unsettled *int64, acked int64) (got dialed) {
	conn, err := s.connect(ctx)
	if err != nil {
		return dialed{err: &awayError{err}}
	}
	if err := s.checkAgain(ctx, conn); err != nil { // else it would be back at once, and away again with the next change
		closeConn(conn)
		return dialed{err: away(err)}
	}
	// It is looked first: the row that settles is the newest one, and then the keeper may remove that of the last batch at any moment.
	got.setBack, err = s.isSetBack(ctx, conn, acked)
	if err == nil && unsettled != nil && !got.setBack {
		got.committed, err = s.settle(ctx, conn, *unsettled)
	}
	if err != nil {
		closeConn(conn)
		return dialed{err: err}
	}
	got.conn = conn
	return got
}

// settle finds out whether the commit that was sent and not answered was carried out. It takes its number: the insert waits for a transaction that
// still goes on, and one that comes later finds the number taken and fails. A row without counts says that the number was given up.
func (s *Store) settle(ctx context.Context, conn *pgx.Conn, n int64) (committed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, s.sql("INSERT INTO @.batches (writer, n) VALUES ($1, $2) ON CONFLICT DO NOTHING"), s.writerID, n); err != nil {
		return false, err
	}
	// A commit that waits for a synchronous standby can be seen once nobody waits for it, whether the standby has it or not. This one writes, and so it waits for the
	// standby, which has what was before it then.
	tag, err := conn.Exec(ctx, s.sql("UPDATE @.batches SET n = n WHERE writer = $1 AND n = $2 AND counts IS NOT NULL"), s.writerID, n)
	if err == nil && isUnreplicated(conn) {
		err = errUnreplicated
	}
	return tag.RowsAffected() > 0, err
}

// take takes over what the dialer has got. The unsettled batch is settled with it.
func (s *Store) take(got dialed) error {
	s.dial = nil
	if got.err != nil {
		return got.err
	}
	s.conn = got.conn
	s.stale = s.stale || got.setBack
	if s.away.Swap(false) {
		s.unheard.back(s)
	}
	s.outage.end(s)
	u := s.open
	s.open = nil
	if u != nil && got.committed {
		s.settled.Add(1)
		s.acked = u.b.n
		u.b.publish(!slices.ContainsFunc(u.applied, func(m *mutation) bool { return m.answered }))
		answerAll(u.applied, nil)
		u.b = nil
	}
	return nil
}

// outage is a time without the database. It is logged when it begins and when it ends: the calls that fail meanwhile return engine.ErrAway.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero for none; guarded by mu
	is    atomic.Bool
}

// begin notes that no connection could be had, or that one was lost and the call could not be repeated.
func (o *outage) begin(s *Store, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() && !s.ended.Load() {
		o.since = time.Now()
		o.is.Store(true)
		s.log.Warn("the database is away; calls fail and deliveries wait until it is back", "error", startError(err))
	}
}

// end notes that the database works.
func (o *outage) end(s *Store) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		s.log.Info("the database is back", "after", time.Since(o.since).Round(time.Millisecond), "server", s.servers.host())
		o.since = time.Time{}
		o.is.Store(false)
	}
}

// transient is an engine.ErrTransient with its cause. If the database is away, it is an engine.ErrAway, and the outage is logged.
func (s *Store) transient(cause error) error {
	if judge(cause) != lost || isSlow(cause) {
		return fmt.Errorf("%w: %w", engine.ErrTransient, cause)
	}
	s.outage.begin(s, cause)
	return fmt.Errorf("%w: %w", engine.ErrAway, cause)
}

// isSlow reports whether a transaction was cut off because nobody waits for it any more. Whether the server is away turns out when it is connected to again.
func isSlow(err error) bool { return errors.Is(err, context.DeadlineExceeded) && !isAway(err) }

// errBusy is returned where the database works, and a call has waited for too long.
var errBusy = errors.New("the database is too slow")

// busy is the error of a call that has waited for the writer, or for a connection, for too long.
func (s *Store) busy() error {
	if last := s.trouble.Load(); s.away.Load() && last != nil {
		return s.transient(away(last.err))
	}
	return s.transient(errBusy)
}
