package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
)

// failure is an error of a transaction of the writer.
type failure struct {
	err error
	at  time.Time
}

// trouble is the last failure, nil after a commit.
type trouble struct{ atomic.Pointer[failure] }

// fullFor is how long a full disk is told of after a change has met it. Then changes must be let in: only they can tell that there is room again.
const fullFor = 10 * time.Second

// met remembers that a transaction of the writer has failed.
func (s *Store) met(v verdict, err error) {
	if v == lost || v == again {
		s.retries.Add(1)
	}
	if v == lost || v == full {
		s.trouble.Store(&failure{err, time.Now()})
	}
}

// works notes that a transaction was committed.
func (s *Store) works() {
	s.trouble.Store(nil)
	if s.outage.is.Load() {
		s.outage.end(s)
	}
}

// Ready returns nil if the store takes changes. Otherwise it returns an *engine.NotReadyError, or an engine.ErrFull.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.unusable(); err != nil {
		why := "the database is closed"
		if errors.Is(err, errFenced) {
			why = "another hookbolt has taken the database over"
		}
		return &engine.NotReadyError{Why: why, Err: err}
	}
	if by := time.Duration(s.skew.Load()).Abs(); s.opts.MaxSkew >= 0 && by >= cmp.Or(s.opts.MaxSkew, defaultMaxSkew) {
		return notReady(fmt.Sprintf("the clocks of hookbolt's machine and of the database differ by %s", by.Round(time.Second)), nil)
	}
	if s.away.Load() { // Watch tries again and again; do not wait here
		return s.explain(nil)
	}
	if s.fleet != nil && s.fleet.gives() {
		why := "because it is about to end"
		if s.fleet.drainReason() == drainsByHand {
			why = "because an admin has said so (hookbolt drain)"
		}
		return notReady("hookbolt gives its work to others, "+why, nil)
	}
	if s.fleet != nil && !s.fleet.alive() {
		return notReady("the other processes have not heard of this one for too long", nil)
	}
	// This takes the fence, as each change does. It writes nothing.
	if err := s.write(ctx, mutation{run: func(*batch) error { return nil }}); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return &engine.NotReadyError{Why: "the database takes no change within the time", Err: err}
		}
		if errors.Is(err, engine.ErrFull) { // of others in the same transaction
			return err
		}
		return s.explain(err)
	}
	if last := s.trouble.Load(); last != nil && judge(last.err) == full && time.Since(last.at) < fullFor {
		return fmt.Errorf("%w: the database server has none", engine.ErrFull)
	}
	return nil
}

// explain returns the error of a store that cannot reach its database, or has failed with err.
func (s *Store) explain(err error) error {
	if last := s.trouble.Load(); last != nil && (err == nil || errors.Is(err, engine.ErrTransient)) {
		err = last.err
	}
	if errors.Is(err, errFenced) {
		return &engine.NotReadyError{Why: "another hookbolt has taken the database over", Err: err}
	}
	return notReady(inWords(err), err)
}

// notReady is an error whose cause may pass. A restart of the process would not help.
func notReady(why string, err error) error {
	if err == nil {
		err = errors.New(why)
	}
	return &engine.NotReadyError{Why: why, Err: fmt.Errorf("%w: %w", engine.ErrTransient, err)}
}

// inWords tells what an error of the database means, in words that anybody may see: without names of hosts, roles and tables.
func inWords(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return codeInWords(pg.Code)
	}
	_, isAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	_, isHost := errors.AsType[x509.HostnameError](err)
	_, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isTLS := errors.AsType[*tls.CertificateVerificationError](err)
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil:
		return "the database cannot be reached"
	case errors.Is(err, errAsynchronous):
		return "synchronous_commit is off for hookbolt's role: a crash of the database would lose events"
	case isAuthority, isHost, isInvalid, isTLS:
		return "the certificate of the database server is not accepted"
	case isDNS:
		return "the name of the database server cannot be resolved"
	case errors.Is(err, pgconn.ErrReadOnlyConnection): // of several servers
		return "no database server that can be reached takes writes: they are standbys, or read only"
	case isLost(err):
		return "the database server cannot be reached"
	}
	return "the database takes no changes"
}

// codeInWords tells what an SQLSTATE means.
func codeInWords(code string) string {
	switch code {
	case "28000", "28P01":
		return "the database server refuses hookbolt's role or its password"
	case "3D000":
		return "the database does not exist"
	case "53300":
		return "the database server has no connection left"
	case "53100":
		return "the disk of the database server is full"
	case "57P01", "57P02":
		return "the database server is stopping"
	case "55000":
		return "the database does not accept connections"
	case "57P03":
		return "the database server is starting or recovering"
	case "25006":
		return "the database server takes no writes: it is a standby, or read only"
	case "42501":
		return "hookbolt's role lacks a right in the database"
	case "42P01", "3F000", "42703":
		return "a table of hookbolt's is missing in the database"
	case "57014":
		return "the database is too slow"
	}
	switch {
	case strings.HasPrefix(code, "53"):
		return "the database server has too little memory or another resource"
	case strings.HasPrefix(code, "40"), code == "55P03":
		return "changes of others in the database are in the way"
	}
	return "the database takes no changes"
}

// startError adds what it means to an error of a start, on a line.
func startError(err error) error {
	words := ""
	_, isPg := errors.AsType[*pgconn.PgError](err)
	if isPg || isLost(err) {
		words = inWords(err) + ": "
	}
	return &lineError{words, err}
}

// lineError is an error on one line: those of several hosts come on a line each.
type lineError struct {
	words string
	err   error
}

func (e *lineError) Error() string {
	return e.words + strings.Join(strings.Fields(strings.ReplaceAll(e.err.Error(), "\n", " ")), " ")
}
func (e *lineError) Unwrap() error { return e.err }

// Figures are counts of a Store since its start, and its state.
type Figures struct {
	Trips, Retries, Settled int64 // round trips of the writer; its transactions that began anew; commits that were settled by their batch row
	SetBacks                int64 // how often the database had lost what was acknowledged
	Reading, Idle           int   // connections for reading that are used, and that are not
	Away                    bool  // the writer has no connection
	FoldAge                 time.Duration
	Skew                    time.Duration // by how much this machine's clock is ahead of the server's

	// Of this process as a member of a fleet.
	BeatAge  time.Duration // since its last successful beat was begun
	Owned    int           // webhooks whose lanes it owns
	Keeper   bool          // it does the background work
	TookOver int64         // members that it took over because they gave no sign of life
}

// Figures returns the figures at this moment.
func (s *Store) Figures() Figures {
	figures := Figures{
		Trips: s.trips.Load(), Retries: s.retries.Load(), Settled: s.settled.Load(), SetBacks: s.setBacks.Load(),
		Reading: len(s.reading), Idle: len(s.idle), Away: s.away.Load(),
		FoldAge: time.Since(time.Unix(0, s.foldedAt.Load())), Skew: time.Duration(s.skew.Load()),
	}
	if s.fleet != nil {
		s.fleet.addFigures(&figures)
	}
	return figures
}
