// Package copying copies all that one store holds to another one. Each store gives a [Reader] and a [Writer] of the records below, which are those of
// neither store: what follows from them, such as queues, indexes and counts, the writer makes anew.
//
// A copy goes on where it was interrupted. A writer keeps, with each batch and in the same transaction, how far the copy has come. Until the copy is
// complete its target refuses to be opened by a server. In the end both sides are read again and compared by the sums of their records.
package copying

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var (
	// ErrNotEmpty is returned for a target that holds something, and is not an unfinished copy of the same source.
	ErrNotEmpty = errors.New("the target holds data already")
	// ErrUnfinished is returned when a target is opened whose copy is not complete.
	ErrUnfinished = errors.New("a copy into this database is not complete: run hookbolt copy again, or remove what it has copied")
	// ErrRunning is returned when a server has the database open.
	ErrRunning = errors.New("a hookbolt has the database open: stop it first")
	// ErrChanged is returned when the source is not what it was when the copy began.
	ErrChanged = errors.New("the source has changed since this copy began: remove what was copied, and begin again")
	// ErrDiffers is returned when the copy is not the same as its source.
	ErrDiffers = errors.New("the copy differs from its source")
	// ErrDamaged is returned for a source with damaged records, unless they are to be left out.
	ErrDamaged = errors.New("the source has damaged records, which a copy cannot have")
)

// Session is a session with its events. Its Deliveries are all its marks, in the order in which they were made.
type Session struct {
	engine.SessionHead
	No       int64
	Requests []Events
}

// Events are those of one request for a session.
type Events struct {
	ReceivedAt time.Time
	IDs        []string
	JSON       []byte // a list of the events as they came
}

// size is about how many bytes a session has.
func (s *Session) size() int {
	n := 200 + 30*len(s.Deliveries)
	for i := range s.Requests {
		n += 50 + len(s.Requests[i].JSON)
	}
	return n
}

// Delivery is a delivery with its payload and its attempts.
type Delivery struct {
	engine.Delivery
	// Place is where the reader goes on behind this delivery.
	Place     []byte
	SessionNo int64  // 0 for a delivery of no session
	Visitor   *int64 // of the session
	// Payload is the body, or the system event that the body is built from; nil if it has none.
	Payload  []byte
	Attempts []engine.Attempt
}

// size is about how many bytes a delivery has.
func (d *Delivery) size() int {
	n := 300 + len(d.Payload)
	for i := range d.Attempts {
		n += 300 + len(d.Attempts[i].Response)
	}
	return n
}

// Request is what a request with an idempotency key has done.
type Request struct {
	Key  engine.OnceKey
	Done engine.Done
}

// Job is work in progress: one of the three. Cancellations and erasures begin anew, which does no harm: they pass what is done already.
type Job struct {
	No           int64
	Cancellation *engine.Cancellation `json:",omitempty"`
	Replay       *Replay              `json:",omitempty"`
	Erasure      *Erasure             `json:",omitempty"`
}

// Replay goes on behind After, or AfterSession, and ends with To. The ids are those of stored deliveries, or uuid.Nil.
type Replay struct {
	engine.Replay
	After, To               uuid.UUID
	AfterSession, ToSession int64
}

// Erasure is an erasure in progress.
type Erasure struct {
	Target  engine.Erasure
	Erased  engine.Erased
	Damaged []string `json:",omitempty"`
	Once    []byte   `json:",omitempty"`
}

// FanOut are sessions whose deliveries for some webhooks are still to be made.
type FanOut struct {
	No          int64
	After, Last uint32 // ids of webhooks: above After, up to Last
	Sessions    []FannedOut
}

// FannedOut is a session of a FanOut. It is stored.
type FannedOut struct {
	ID uuid.UUID
	No int64
	engine.FanOut
}

// Rest is what is small.
type Rest struct {
	Webhooks []*engine.Webhook
	Health   map[uint32]engine.Health
	Jobs     []Job
	FanOuts  []FanOut
	// LastWebhook and LastSession are the last numbers that were given, so that none is given twice. LastJob is that of jobs and fan-outs.
	LastWebhook, LastSession, LastJob int64
}

// Totals are how many records there are.
type Totals struct{ Sessions, Deliveries, Requests int64 }

// Reader reads a store that nobody changes meanwhile. A damaged record is reported by damaged and passed, unless damaged returns an error.
type Reader interface {
	// Mark changes whenever the store is changed by a server.
	Mark() string
	Totals(ctx context.Context) (Totals, error)
	// Sessions calls f for each session behind after, in the order of their numbers.
	Sessions(ctx context.Context, after int64, damaged func(error) error, f func(*Session) error) error
	// Deliveries calls f for each delivery behind a Place; nil stands for the beginning.
	Deliveries(ctx context.Context, after []byte, damaged func(error) error, f func(*Delivery) error) error
	// Requests calls f for each request behind after, in the order of their keys.
	Requests(ctx context.Context, after []byte, damaged func(error) error, f func(*Request) error) error
	Rest(ctx context.Context, damaged func(error) error) (*Rest, error)
}

// Batch is what is written at once.
type Batch struct {
	Sessions   []*Session
	Deliveries []*Delivery
	Requests   []*Request
	Rest       *Rest // once, with the last batch
}

// State is how far a copy has come.
type State struct {
	From  string `json:"from"` // the Mark of the source
	Stage Stage  `json:"stage"`
	// After is where the stage goes on.
	After []byte `json:"after,omitempty"`
	// Copied is how many records were written.
	Copied Totals `json:"copied"`
	// LeftOut is how many damaged records were left out.
	LeftOut int `json:"left_out,omitempty"`
}

// Stage is a part of a copy.
type Stage int

// The stages, in their order.
const (
	StageSessions Stage = iota
	StageDeliveries
	StageRequests
	StageRest
	StageDone // all is written
)

// Writer writes to a store that refuses to be opened until Finish.
type Writer interface {
	// State is that of the last Put; the zero State in an empty store.
	State() State
	// Put makes a batch and its state durable.
	Put(ctx context.Context, b *Batch, s *State) error
	// Read returns what was written.
	Read(ctx context.Context) (Reader, error)
	// Check looks for what is wrong with what was written.
	Check(ctx context.Context) ([]error, error)
	// Finish lets servers open the store.
	Finish(ctx context.Context) error
}

// Options say how to copy.
type Options struct {
	// LeaveOut copies a source with damaged records without them.
	LeaveOut bool
	// Damaged is told of each record that is left out.
	Damaged func(error)
	// Progress is told how far a stage is.
	Progress func(stage string, done, total int64)
}

// batchRecords and batchBytes bound a batch; batchRecords is a variable for tests.
var batchRecords = 4000

const batchBytes = 8 << 20

// Run copies what is not copied yet, compares both sides, and finishes the target. It returns the sums of both sides.
func Run(ctx context.Context, from Reader, to Writer, o Options) (source, target Sums, err error) {
	c := &copier{from: from, to: to, o: o, state: to.State()}
	if c.state.From != "" && c.state.From != from.Mark() {
		return source, target, ErrChanged
	}
	c.state.From = from.Mark()
	if c.totals, err = from.Totals(ctx); err != nil {
		return source, target, err
	}
	for _, stage := range []func(context.Context) error{c.sessions, c.deliveries, c.requests, c.rest} {
		if err := stage(ctx); err != nil {
			return source, target, err
		}
	}
	if source, target, err = c.compare(ctx); err != nil {
		return source, target, err
	}
	wrong, err := to.Check(ctx)
	for _, v := range wrong {
		o.Damaged(fmt.Errorf("the copy: %w", v))
	}
	if err == nil && len(wrong) > 0 && c.state.LeftOut == 0 {
		err = fmt.Errorf("%w: it does not pass its check: %w", ErrDiffers, wrong[0])
	}
	if err != nil {
		return source, target, err
	}
	return source, target, to.Finish(ctx)
}

// copier is a copy in progress.
type copier struct {
	from   Reader
	to     Writer
	o      Options
	totals Totals
	state  State
	batch  Batch
	n      int // records of the batch
	size   int // its bytes
}

// damaged leaves a record out, or refuses to.
func (c *copier) damaged(err error) error {
	if !c.o.LeaveOut {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c.o.Damaged(err)
	c.state.LeftOut++
	return nil
}

// added is called when a record was added to the batch, with where to go on behind it.
func (c *copier) added(ctx context.Context, size int, after []byte, stage string, done *int64, total int64) error {
	*done++
	c.state.After = after
	c.n, c.size = c.n+1, c.size+size
	if c.n < batchRecords && c.size < batchBytes {
		return nil
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	c.o.Progress(stage, *done, total)
	return nil
}

func (c *copier) flush(ctx context.Context) error {
	err := c.to.Put(ctx, &c.batch, &c.state)
	c.batch, c.n, c.size = Batch{}, 0, 0
	return err
}

// next ends a stage.
func (c *copier) next(ctx context.Context, err error, stage string, done, total int64) error {
	if err != nil {
		return err
	}
	c.state.Stage++
	c.state.After = nil
	c.o.Progress(stage, done, total)
	return c.flush(ctx)
}

func (c *copier) sessions(ctx context.Context) error {
	if c.state.Stage > StageSessions {
		return nil
	}
	err := c.from.Sessions(ctx, int64(number(c.state.After)), c.damaged, func(s *Session) error {
		c.batch.Sessions = append(c.batch.Sessions, s)
		return c.added(ctx, s.size(), numberKey(uint64(s.No)), "sessions", &c.state.Copied.Sessions, c.totals.Sessions)
	})
	return c.next(ctx, err, "sessions", c.state.Copied.Sessions, c.totals.Sessions)
}

func (c *copier) deliveries(ctx context.Context) error {
	if c.state.Stage > StageDeliveries {
		return nil
	}
	err := c.from.Deliveries(ctx, c.state.After, c.damaged, func(d *Delivery) error {
		c.batch.Deliveries = append(c.batch.Deliveries, d)
		return c.added(ctx, d.size(), d.Place, "deliveries", &c.state.Copied.Deliveries, c.totals.Deliveries)
	})
	return c.next(ctx, err, "deliveries", c.state.Copied.Deliveries, c.totals.Deliveries)
}

func (c *copier) requests(ctx context.Context) error {
	if c.state.Stage > StageRequests {
		return nil
	}
	err := c.from.Requests(ctx, c.state.After, c.damaged, func(r *Request) error {
		c.batch.Requests = append(c.batch.Requests, r)
		return c.added(ctx, 300, r.Key[:], "requests", &c.state.Copied.Requests, c.totals.Requests)
	})
	return c.next(ctx, err, "requests", c.state.Copied.Requests, c.totals.Requests)
}

func (c *copier) rest(ctx context.Context) error {
	if c.state.Stage > StageRest {
		return nil
	}
	var err error
	c.batch.Rest, err = c.from.Rest(ctx, c.damaged)
	return c.next(ctx, err, "webhooks", 1, 1)
}

// compare reads both sides and compares the sums of their records.
func (c *copier) compare(ctx context.Context) (source, target Sums, err error) {
	written, err := c.to.Read(ctx)
	if err != nil {
		return source, target, err
	}
	other := make(chan error, 1)
	go func() {
		var err error
		target, err = Sum(ctx, written, func(err error) error { return err }, func(int64) {})
		other <- err
	}()
	source, err = Sum(ctx, c.from, func(err error) error {
		if c.state.LeftOut == 0 {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil
	}, func(n int64) {
		c.o.Progress("compared", n, c.totals.Sessions+c.totals.Deliveries+c.totals.Requests)
	})
	if err := errors.Join(err, <-other); err != nil {
		return source, target, err
	}
	return source, target, source.Differs(&target)
}
