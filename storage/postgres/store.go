package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Options configure a Store.
type Options struct {
	// URL says where the database is, as in postgres://user:password@host/database. A list of keys and values does as well.
	URL string
	// Schema is where the tables are. Defaults to "hookbolt". Open makes it if it is missing.
	Schema string
	// Patience is for how long a change waits for a database that is away, before its caller gets an engine.ErrTransient. Defaults to 5 s.
	Patience time.Duration
	// StartPatience is for how long Open waits for a database that is away. Defaults to not at all.
	StartPatience time.Duration
	// Insecure allows connections to other machines without sslmode=verify-full.
	Insecure bool
	// MaxSkew is the difference between the clocks of this machine and of the server from which on the store is not ready. Defaults to 1 min. If it is
	// negative, the clocks are not compared.
	MaxSkew time.Duration
	// FoldInterval is how often the counts are folded. Defaults to 5 s.
	FoldInterval time.Duration
	// Shared lets other processes work with the database at the same time; all of them must have it. Without it, who opens the database has it for itself.
	Shared bool
	// Beat is how often a process of several gives a sign of life. Defaults to 1 s. Others take its lanes over after eight beats without one.
	Beat time.Duration
	// Release is the version of hookbolt, which others see.
	Release string
	// Log gets what somebody should know of the server. Defaults to nowhere.
	Log *slog.Logger
	// Connections opens the connections. Defaults to new ones for each store.
	Connections Connections
	// ObserveCommit is called after each commit with its number of mutations and its duration. Defaults to nothing.
	ObserveCommit func(mutations int, took time.Duration)
}

const (
	// applicationName is what the server calls the connections of a hookbolt.
	applicationName = "hookbolt"
	defaultSchema   = "hookbolt"
	defaultPatience = 5 * time.Second
)

func (o Options) withDefaults() Options {
	o.Schema, o.Patience, o.FoldInterval = cmp.Or(o.Schema, defaultSchema), cmp.Or(o.Patience, defaultPatience), cmp.Or(o.FoldInterval, foldInterval)
	o.Beat = cmp.Or(o.Beat, defaultBeat)
	if o.ObserveCommit == nil {
		o.ObserveCommit = func(int, time.Duration) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store is an open database. Its methods may be called from several goroutines.
type Store struct {
	opts    Options
	log     *slog.Logger
	servers *servers
	plan    schemaPlan
	texts   sync.Map // statements by their text with @; see sql

	fleet    *fleet                            // nil if this process has the database for itself
	memberID atomic.Int64                      // written by the writer
	process  int64                             // a number of this process's own, for what it counts
	writerID int64                             // owned by the writer
	hooks    atomic.Pointer[engine.WebhookSet] // written by the writer

	mutations chan *mutation // capacity maxBatchMutations; callers send, the writer receives
	bulk      chan *mutation // the same, for large mutations
	walks     chan *mutation // the same, for those that read by SQL of their own
	quit      chan struct{}  // closed by Close
	stopped   chan struct{}  // closed by the writer at its end
	failed    chan struct{}  // closed by the writer when it must not write any more; failure is set before
	failure   error
	ended     atomic.Bool  // set by fail and by Close: no attempt may begin; see Mine
	away      atomic.Bool  // set while the writer has no connection
	awaySince atomic.Int64 // when the writer began to look for a connection, in Unix nanoseconds; set before away

	// Owned by the writer.
	conn       *pgx.Conn // nil while it has none
	dial       *dialer   // nil while it has a connection
	nextBatch  int64
	open       *unsettled // a commit that was sent and not answered
	acked      int64      // the number of the last batch that was acknowledged; 0 for none
	stale      bool       // the database has lost it; see setback.go
	ids        idMaker
	sessionNos noBlock
	health     map[uint32]engine.Health // has healthy endpoints, too, for their Order
	untrimmed  int64                    // how many requests with keys this process has remembered since it last looked for those that are too many
	maxOnce    int                      // engine.MaxOnce; tests have a smaller one
	due        dueMarks

	claims  claims
	damaged damageLog
	keeping keeping

	reading chan struct{} // capacity readers; whoever reads has an entry
	idle    chan idleConn // capacity readers; connections for reading that nobody uses

	// fanningOut is how many sessions have deliveries that are still to be made; written by the writer. fanOutWake (capacity 1) tells Watch that
	// there are more.
	fanningOut atomic.Int64
	fanOutWake chan struct{}
	unheard    unheard

	owning sync.RWMutex // held by Watch while it reports all webhooks, and for reading by changes of webhooks

	folded         foldMarks
	trips, settled atomic.Int64 // round trips of the writer; commits that were settled by their batch row
	retries        atomic.Int64 // transactions of the writer that failed and began anew
	setBacks       atomic.Int64 // how often the database had lost what was acknowledged
	foldedAt       atomic.Int64 // when Watch last folded, in Unix nanoseconds
	skew           atomic.Int64 // by how much this machine's clock is ahead of the server's, in nanoseconds
	trouble        trouble      // why changes fail
	outage         outage

	closing sync.Once
}

// Open opens the database, and makes its schema or brings it up to date. Another process that has it open is shut out: its next change fails.
func Open(ctx context.Context, o Options) (*Store, error) { return open(ctx, o, thisSchema) }

func open(ctx context.Context, o Options, plan schemaPlan) (*Store, error) {
	o = o.withDefaults()
	config, err := parseURL(o.URL, o.Insecure)
	if err != nil {
		return nil, fmt.Errorf("storage.postgres_url: %w", err)
	}
	config.RuntimeParams["application_name"] = applicationName
	s := newStore(o, config)
	s.plan = plan
	if o.Shared {
		s.fleet = newFleet(s)
	}
	if err := s.startWhenThere(ctx); err != nil {
		return nil, fmt.Errorf("open the database: %w", startError(asUnprepared(err)))
	}
	s.foldedAt.Store(time.Now().UnixNano())
	go s.writer()
	if s.fleet != nil {
		go s.fleet.run()
	}
	if o.MaxSkew >= 0 {
		go s.watchClock()
	}
	return s, nil
}

// newStore returns a store that has no connection, and no row among the writers.
func newStore(o Options, config *pgx.ConnConfig) *Store {
	return &Store{opts: o, log: o.Log, servers: newServers(config), plan: thisSchema, process: rand.Int64(), health: make(map[uint32]engine.Health),
		untrimmed: onceSlack, maxOnce: engine.MaxOnce, nextBatch: 1, mutations: make(chan *mutation, maxBatchMutations), bulk: make(chan *mutation, maxBatchMutations), walks: make(chan *mutation, maxBatchMutations),
		quit: make(chan struct{}), stopped: make(chan struct{}), failed: make(chan struct{}),
		reading: make(chan struct{}, readers), idle: make(chan idleConn, readers), fanOutWake: make(chan struct{}, 1)}
}

// startWhenThere starts, and waits for a database that is away: machines and containers of a house start at once, and a database takes its time. What does
// not pass by waiting, such as a wrong password, is returned at once.
func (s *Store) startWhenThere(ctx context.Context) error {
	began, waits := time.Now(), false
	for wait := minReconnect; ; wait = min(2*wait, maxReconnect) {
		err := s.start(ctx)
		if err == nil {
			if waits {
				s.log.Info("the database is there", "after", time.Since(began).Round(time.Millisecond))
			}
			return nil
		}
		s.drop()
		if !passes(err) || s.opts.StartPatience == 0 {
			return err
		}
		if time.Since(began)+wait >= s.opts.StartPatience {
			return fmt.Errorf("waited for %s: %w", s.opts.StartPatience, err)
		}
		if !waits {
			s.log.Warn("the database is not there yet; the start waits for it", "for_up_to", s.opts.StartPatience, "error", startError(err))
		}
		waits = true
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// start connects, makes the schema, takes the database over, and reads what is kept in memory.
func (s *Store) start(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	s.conn = conn
	if err := s.check(ctx, conn); err != nil {
		return err
	}
	if err := s.migrate(ctx, conn); err != nil {
		return explainRights(err)
	}
	if s.fleet != nil {
		return s.fleet.join(ctx, conn)
	}
	if err := s.takeOver(ctx, conn); err != nil {
		return err
	}
	return s.loadAll(ctx, conn)
}

// takeOver makes this process the only writer. It waits for the transactions of others, keeps what their batch rows carry, and removes them: what they
// send afterwards fails, because their writer's row is missing.
func (s *Store) takeOver(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, text := range []string{"LOCK TABLE @.members IN SHARE ROW EXCLUSIVE MODE", "SELECT id FROM @.writers ORDER BY id FOR UPDATE"} {
			if _, err := tx.Exec(ctx, s.sql(text)); err != nil {
				return err
			}
		}
		all, err := s.readCounts(ctx, conn)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql("DELETE FROM @.members")); err != nil { // and with them their writers and their batch rows
			return err
		}
		if _, err := tx.Exec(ctx, s.sql("DELETE FROM @.counts")); err != nil {
			return err
		}
		for id, c := range all {
			if _, err := tx.Exec(ctx, s.sql("INSERT INTO @.counts (webhook_id, counts) VALUES ($1, $2)"), int32(id), deltas{id: c}.encode()); err != nil {
				return err
			}
		}
		id, err := insertNew(ctx, tx, s.sql("INSERT INTO @.members (id, version, began_at)"), s.plan.version(), fields.Instant(time.Now()))
		if err != nil {
			return err
		}
		return s.addWriter(ctx, conn, id)
	})
}

// addWriter makes this store a writer of a member.
func (s *Store) addWriter(ctx context.Context, conn *pgx.Conn, memberID int64) (err error) {
	s.memberID.Store(memberID)
	s.acked, s.sessionNos = 0, noBlock{} // the sequence may have been set back with the database
	s.writerID, err = insertNew(ctx, conn, s.sql("INSERT INTO @.writers (id, member)"), memberID)
	return err
}

// insertNew inserts a member or a writer, with an id that no other one has ever had. It is the time, in microseconds: a sequence is set back with the database, by
// a failover or from a backup, and would then give ids again that processes still go by. into ends with the columns; args are the values behind the id.
func insertNew(ctx context.Context, conn interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, into string, args ...any) (id int64, err error) {
	places := []string{"$1"}
	for i := range args {
		places = append(places, fmt.Sprintf("$%d", i+2))
	}
	text := into + " OVERRIDING SYSTEM VALUE VALUES (" + strings.Join(places, ", ") + ") ON CONFLICT DO NOTHING RETURNING id"
	for id = time.Now().UnixMicro(); ; id++ {
		err = conn.QueryRow(ctx, text, append([]any{id}, args...)...).Scan(new(int64))
		if !errors.Is(err, pgx.ErrNoRows) {
			return id, err
		}
	}
}

// loadAll reads what the process keeps in memory.
func (s *Store) loadAll(ctx context.Context, conn *pgx.Conn) error {
	hooks, err := s.readWebhooks(ctx, conn)
	if err != nil {
		return err
	}
	s.hooks.Store(hooks)
	if s.health, err = s.readHealth(ctx, conn); err != nil {
		return err
	}
	var fanningOut int64
	var newest *uuid.UUID
	err = conn.QueryRow(ctx, s.sql("SELECT (SELECT COALESCE(sum(sessions), 0)::bigint FROM @.fan_outs), "+
		"(SELECT id FROM @.deliveries ORDER BY id DESC LIMIT 1)")).Scan(&fanningOut, &newest)
	if err != nil {
		return err
	}
	s.fanningOut.Store(fanningOut)
	if newest != nil && bytes.Compare(newest[:], s.ids.last[:]) > 0 {
		s.ids.last = *newest
	}
	return nil
}

// Close ends the writer after the mutations that it has accepted, gives the database up, and closes all connections. Calls that still wait for the
// writer get engine.ErrUnavailable. If the store has failed, the error says why.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.ended.Store(true)
		close(s.quit)
		<-s.stopped
		err = s.failure
		if s.fleet != nil {
			<-s.fleet.done
		}
		for range readers { // wait for those who read
			s.reading <- struct{}{}
		}
		close(s.idle)
		for idle := range s.idle {
			s.release(idle.Conn)
		}
	})
	if err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Failed returns a channel that is closed when this process must not write any more, and should end. A database that is away is no such case.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store has failed, nil if it has not.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

func (s *Store) fail(err error) {
	s.failure = fmt.Errorf("nothing is stored any more: %w", err)
	s.ended.Store(true)
	close(s.failed)
}

// unusable returns an error if the store has failed or was closed.
func (s *Store) unusable() error {
	if s.ended.Load() {
		return s.unavailable()
	}
	return nil
}

func (s *Store) unavailable() error {
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: the database is closed", engine.ErrUnavailable)
}

// Webhooks implements engine.Store.
func (s *Store) Webhooks() *engine.WebhookSet { return s.hooks.Load() }

// Current implements engine.Store. A change returns when all processes know of it, or are dead. So one that others do not take for dead knows it; any
// other one asks the database.
func (s *Store) Current(ctx context.Context) error {
	if err := s.unusable(); err != nil {
		return err
	}
	if s.fleet == nil || s.fleet.alive() {
		return nil
	}
	return s.fleet.touch(ctx)
}
