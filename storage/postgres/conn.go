package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bounds of what the server does for a connection. They are set after connecting: a pooler refuses them in the startup packet.
const (
	statementTimeout = 10 * time.Second
	// lockTimeout is less than callers wait, so that they are told of a lock, and not of a server that does not answer.
	lockTimeout = 3 * time.Second
	// idleTimeout ends a transaction whose process was stopped in the middle of it: it holds locks that others wait for.
	idleTimeout = 2 * time.Second
	// tripTimeout bounds a round trip on this side, for a network that loses all packets.
	tripTimeout = statementTimeout + 5*time.Second
	// connectTimeout bounds one attempt to connect to a server.
	connectTimeout = 5 * time.Second
)

// settings are those of each session. Every statement has a key to look up by, also while the tables are so small that the planner would
// read them whole, and keeps its plan when they have grown.
var settings = map[string]string{
	"statement_timeout":                   milliseconds(statementTimeout),
	"lock_timeout":                        milliseconds(lockTimeout),
	"idle_in_transaction_session_timeout": milliseconds(idleTimeout),
	"client_min_messages":                 "warning",
	"default_transaction_isolation":       "read committed",
	"jit":                                 "off",
	"plan_cache_mode":                     "force_generic_plan",
	"enable_seqscan":                      "off",
	"enable_hashjoin":                     "off",
	"enable_mergejoin":                    "off",
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// readers is how many connections read at once, beside the writer's.
const readers = 8

// connect opens a connection and sets its session up.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.servers.timeout())
	defer cancel()
	open := pgx.ConnectConfig
	if s.opts.Connections != nil {
		open = s.opts.Connections.Open
	}
	conn, err := s.servers.connect(ctx, open)
	if err != nil {
		return nil, err
	}
	names, values := make([]string, 0, len(settings)), make([]string, 0, len(settings))
	for name, value := range settings {
		names, values = append(names, name), append(values, value)
	}
	var set int
	err = conn.QueryRow(ctx, "SELECT count(set_config(name, value, false)) FROM unnest($1::text[], $2::text[]) AS t(name, value)", names, values).Scan(&set)
	if err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("set up a session: %w", err)
	}
	return conn, nil
}

// Connections opens the connections of stores, and gets them back. A test that opens many stores saves most of its time if it keeps them: a new
// connection costs the server a process, which reads the catalog and plans each statement anew.
type Connections interface {
	// Open returns a connection on which no transaction goes on.
	Open(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error)
	// Release gets a connection back that has worked to the end.
	Release(conn *pgx.Conn)
}

// release gives a connection up that nobody needs any more.
func (s *Store) release(conn *pgx.Conn) {
	if s.opts.Connections == nil || conn.IsClosed() || conn.PgConn().IsBusy() || conn.PgConn().TxStatus() != 'I' {
		closeConn(conn)
		return
	}
	s.opts.Connections.Release(conn)
}

// closeConn closes a connection. Its error tells nothing.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// cutConn closes a connection to a server that may not answer any more.
func cutConn(conn *pgx.Conn) {
	_ = conn.PgConn().Conn().Close()
	closeConn(conn)
}

// sql puts the schema in the place of @.
func (s *Store) sql(text string) string {
	if known, ok := s.texts.Load(text); ok {
		return known.(string)
	}
	made := strings.ReplaceAll(text, "@", pgx.Identifier{s.opts.Schema}.Sanitize())
	s.texts.Store(text, made)
	return made
}

// view runs f on a connection for reading. f may be called twice, so it begins by forgetting what it has found: a connection that nobody has used for a while
// may be gone. A lost connection is an engine.ErrTransient, and so is a server that has no time or no room for the moment.
func (s *Store) view(ctx context.Context, f func(*pgx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.unusable(); err != nil {
		return err
	}
	latest := time.Now().Add(max(s.opts.Patience, connectTimeout))
	if err := s.beginReading(ctx, latest); err != nil {
		return err
	}
	defer func() { <-s.reading }()
	for {
		conn, fresh, err := s.reader(ctx, latest)
		if err == nil {
			err = within(conn, f)
		}
		switch {
		case conn == nil:
		case isLost(err): // it may still seem to work, as one to a server that is a standby now does
			closeConn(conn)
		default:
			s.putBack(conn)
		}
		switch {
		case err == nil:
			if s.outage.is.Load() && !s.away.Load() {
				s.outage.end(s)
			}
			return nil
		case ctx.Err() != nil && judge(err) != culprit:
			return ctx.Err()
		case isLost(err) && !fresh:
			s.dropIdle() // they were lost with it
			continue
		case judge(err) != culprit:
			return s.transient(err)
		}
		return err
	}
}

// beginReading waits until fewer than readers read.
func (s *Store) beginReading(ctx context.Context, latest time.Time) error {
	select {
	case s.reading <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(latest))
	defer timer.Stop()
	select {
	case s.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return s.unavailable()
	case <-timer.C:
		return s.busy()
	}
}

// within runs f, and cuts the connection if that takes longer than any statement may: the server would never answer.
func within(conn *pgx.Conn, f func(*pgx.Conn) error) error {
	timer := time.AfterFunc(tripTimeout, func() { _ = conn.PgConn().Conn().Close() })
	defer timer.Stop()
	return f(conn)
}

// idleConn is a connection that nobody reads on.
type idleConn struct {
	*pgx.Conn
	since time.Time
}

const (
	// trustIdle is for how long a connection that nobody uses is taken to work. Beyond that it is tried first: a firewall may have forgotten it, and then
	// nothing answers, not even with an error.
	trustIdle = time.Second
	// pingTimeout bounds that.
	pingTimeout = time.Second
)

// reader returns a connection that is idle, or a fresh one. While the database has been away for longer than callers wait, none is tried: the writer does.
func (s *Store) reader(ctx context.Context, latest time.Time) (conn *pgx.Conn, fresh bool, err error) {
	select {
	case idle := <-s.idle:
		if time.Since(idle.since) < trustIdle || pings(ctx, idle.Conn) {
			return idle.Conn, false, nil
		}
		cutConn(idle.Conn)
		s.dropIdle()
	default:
	}
	if lost := s.awaySince.Load(); lost != 0 && s.away.Load() && time.Since(time.Unix(0, lost)) > s.opts.Patience {
		err := errNoAnswer
		if last := s.trouble.Load(); last != nil {
			err = last.err
		}
		return nil, true, away(err)
	}
	ctx, cancel := context.WithDeadline(ctx, latest)
	defer cancel()
	conn, err = s.connect(ctx)
	return conn, true, err
}

func pings(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// dropIdle closes the connections that nobody uses.
func (s *Store) dropIdle() {
	for {
		select {
		case idle := <-s.idle:
			cutConn(idle.Conn)
		default:
			return
		}
	}
}

// putBack keeps a connection for the next reader, unless it is broken.
func (s *Store) putBack(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		closeConn(conn)
		return
	}
	select {
	case s.idle <- idleConn{conn, time.Now()}:
	default:
		closeConn(conn)
	}
}

// snapshot runs f in a transaction whose statements all see the same state. f must not change anything.
func (s *Store) snapshot(ctx context.Context, f func(pgx.Tx) error) error {
	return s.view(ctx, func(conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
	})
}
