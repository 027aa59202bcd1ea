package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// process is one run of the engine on the database, from a start to a stop or a crash. It stands between the engine and the store:
// calls may take their time, before and after, so that what is simultaneous otherwise overlaps in every way; the store may have no room
// for a while; and it may crash before or after any change that is made through it.
//
// A crash leaves the database as it is between two commits. The engine that goes on using its store finds nothing but errors, and nothing that
// it sends arrives. What a crash within a commit leaves behind, and what a power cut takes away, is not simulated here.
type process struct {
	engine.Store
	s     *sim
	lease *leaseStore // takes lanes away
	db    simDatabase
	gone  chan struct{} // closed by a crash

	mu sync.RWMutex // held for reading by each change
}

// simDatabase is the database of a process.
type simDatabase interface {
	engine.Store
	// Check returns what is wrong with the database.
	Check() []error
	// saveStale saves the database as it is before an attempt is recorded; see sim.staleCrashes.
	saveStale() error
	// crash leaves the database for the next process, which opens it with the function of sim.database. Nothing that this one does later counts.
	crash() error
	// end closes the database, after a crash as well.
	end(crashed bool) error
}

// boltDatabase is a file. After a crash the next process has a copy of it: the store's lock lives as long as this process of the test.
type boltDatabase struct {
	*bolt.Store
	s    *sim
	path string
}

// openBolt opens s.path.
func (s *sim) openBolt() (simDatabase, error) {
	store, err := bolt.Open(s.path, bolt.Options{})
	return &boltDatabase{store, s, s.path}, err
}

func (d *boltDatabase) saveStale() error { return copyFile(d.path, d.path+".stale") }

func (d *boltDatabase) crash() error {
	left := filepath.Join(d.s.dir, fmt.Sprintf("%d.db", d.s.totals.crashes))
	var err error
	if d.s.staleCrashes {
		err = os.Rename(d.path+".stale", left)
	} else {
		err = copyFile(d.path, left)
	}
	d.s.path = left
	return errors.Join(err, copyFile(d.path+".lock", left+".lock")) // it says that there was no stop
}

func (d *boltDatabase) end(crashed bool) error {
	err := d.Close()
	if crashed {
		err = errors.Join(err, os.Remove(d.path), os.Remove(d.path+".lock"))
	}
	return err
}

// crashPlan is when a process is to crash.
type crashPlan struct {
	changes int    // with the one that is so many changes on; 0 for no plan
	of      string // only changes of this name count; "" for all
	after   bool   // it is made yet
}

// planned tells whether a crash is due with a change.
func (s *sim) planned(name string) (crashes, after bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.plan
	if p.changes == 0 || p.of != "" && p.of != name {
		return false, false
	}
	p.changes--
	return p.changes == 0, p.after
}

// refuses tells whether there is no room for a change: what makes the file grow.
func (s *sim) refuses(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full && (name == "AppendEvents" || name == "Freeze" || name == "RecordAttempt")
}

func (p *process) wait() {
	if *simSlow == 0 {
		return
	}
	if n := rand.Int64N(int64(*simSlow) * 2); n < int64(*simSlow) {
		time.Sleep(time.Duration(n))
	}
}

// change makes a change, unless the process crashes before it.
func (p *process) change(name string, f func() error) error {
	p.wait()
	defer p.wait()
	crashes, after := p.s.planned(name)
	if crashes && !after {
		p.crash()
	}
	lock := p.mu.RLocker()
	if p.s.staleCrashes {
		lock = &p.mu // for the copy
	}
	lock.Lock()
	err := errCrashed
	switch {
	case p.crashed():
	case p.s.refuses(name):
		err = fmt.Errorf("%w: simulated", engine.ErrFull)
	default:
		if p.s.staleCrashes && name == "RecordAttempt" {
			p.s.check(p.db.saveStale())
		}
		err = f()
	}
	lock.Unlock()
	if crashes && after {
		p.crash()
		return errCrashed
	}
	return err
}

var errCrashed = fmt.Errorf("%w: the process has crashed", engine.ErrUnavailable)

func (p *process) crashed() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// crash ends the process as it is.
func (p *process) crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.crashed() {
		return
	}
	s := p.s
	s.check(p.db.crash())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.crashes++
	s.mark(simLane{}, 'd', 0)
	s.over()
	close(p.gone)
}

// copyFile copies a file, and leaves out what was never written of it: a database file grows in large steps.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	buf, empty := make([]byte, 64<<10), make([]byte, 64<<10)
	size := int64(0)
	for err == nil {
		var n int
		if n, err = in.Read(buf); n > 0 && !bytes.Equal(buf[:n], empty[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return errors.Join(err, out.Close())
			}
		}
		size += int64(n)
	}
	if err == io.EOF {
		err = out.Truncate(size)
	}
	return errors.Join(err, out.Close())
}

func (p *process) AppendEvents(ctx context.Context, a engine.Append) (done engine.Appended, err error) {
	err = p.change("AppendEvents", func() error {
		if done, err = p.Store.AppendEvents(ctx, a); err == nil {
			for i := range done.Claimed {
				if c := &done.Claimed[i]; c.Payload != nil {
					p.s.froze(&engine.Freeze{Delivery: c.Delivery, Payload: c.Payload, Events: c.Delivery.BuiltFrom, At: time.Now().UTC()}, 0)
				}
			}
		}
		return err
	})
	return done, err
}

func (p *process) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) (results []engine.ClaimResult, err error) {
	err = p.change("ClaimDue", func() error {
		results, err = p.Store.ClaimDue(ctx, now, requests)
		return err
	})
	return results, err
}

func (p *process) Freeze(ctx context.Context, f engine.Freeze) (done engine.Frozen, err error) {
	err = p.change("Freeze", func() error {
		stored := p.s.storedRequests(f.Delivery.SessionID)
		if done, err = p.Store.Freeze(ctx, f); err == nil {
			p.s.froze(&f, stored)
		}
		return err
	})
	return done, err
}

func (p *process) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (done engine.Recorded, err error) {
	err = p.change("RecordAttempt", func() error {
		if done, err = p.Store.RecordAttempt(ctx, r); err == nil {
			p.s.recorded(r.Delivery.ID)
		}
		return err
	})
	return done, err
}

func (p *process) Release(ctx context.Context, d []engine.Delivery) error {
	p.wait()
	defer p.wait()
	return p.Store.Release(ctx, d)
}

func (p *process) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (d engine.Delivery, err error) {
	err = p.change("Reschedule", func() error {
		d, err = p.Store.Reschedule(ctx, id, how, now)
		return err
	})
	return d, err
}

func (p *process) PutWebhook(ctx context.Context, c engine.WebhookChange) (done engine.WebhookChanged, err error) {
	err = p.change("PutWebhook", func() error {
		done, err = p.Store.PutWebhook(ctx, c)
		return err
	})
	return done, err
}

// simGrain is how much of what expires is left to one step of the background work.
const simGrain = 10 * time.Minute

// Maintain stands still until stalledUntil, so that there is time for something to happen to a job before it is carried out.
func (p *process) Maintain(ctx context.Context, now time.Time, r engine.Retention) (m engine.Maintained, err error) {
	asked := now
	for wait := time.Until(p.s.stalledUntil()); wait > 0; wait = time.Until(p.s.stalledUntil()) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
	now = time.Now().UTC().Round(0)
	err = p.change("Maintain", func() error {
		m, err = p.Store.Maintain(ctx, now, r)
		return err
	})
	if m.Next.After(now) { // retention would take a commit for each thing that expires, a fifth of all that there are
		m.Next = m.Next.Truncate(simGrain).Add(simGrain)
	}
	m.Next = m.Next.Add(asked.Sub(now)) // the engine counts from when it asked
	return m, err
}

// RoundTrip carries a request to the simulated endpoints.
func (p *process) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	return p.s.answer(p, received{time.Now(), req.URL.Host, req.Header.Get("webhook-id"), req.Header, body, req.URL.RequestURI()}, req)
}

// open opens the database for the next process, and start runs the engine on it.
func (s *sim) open() {
	db, err := s.database()
	s.check(err)
	if s.checkNext {
		s.checkNext = false
		for _, err := range db.Check() {
			s.found(simWrong, "database check: %v", err)
		}
	}
	given := engine.Store(db)
	if s.fault != nil {
		given = s.fault(db)
	}
	if s.staleCrashes {
		s.check(db.saveStale())
	}
	lease := newLeaseStore(given)
	s.process = &process{Store: lease, lease: lease, s: s, db: db, gone: make(chan struct{})}
	s.cfg.Transport = s.process
	s.cfg.RunPrograms = s.process.runPrograms
	for _, h := range s.hooks {
		h.row = simRow{learn: h.row.learn} // the engine does not keep it
	}
	s.metrics = prometheus.NewRegistry()
	s.Engine = engine.New(s.process, s.cfg, s.metrics, slog.New(slog.DiscardHandler))
}

func (s *sim) start() {
	p, e := s.process, s.Engine
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !p.crashed() {
			s.found(simWrong, "Run: %v", err)
		}
		s.check(p.db.end(p.crashed()))
	})
}

// check ends the test at an error that is none of the engine's.
func (s *sim) check(err error) {
	if err != nil {
		s.t.Fatalf("seed %d: %v", s.seed, err)
	}
}
