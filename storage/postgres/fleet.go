package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// A fleet is all processes that work with a database. Each one is a member: it has a row in members, and beats by raising its number once in each
// Options.Beat. A member is dead when a watcher has read for deadAfter beats, by the watcher's own clock, that nothing was raised: no clock of another
// machine is compared. It knows itself when it must not send any more, by the time at which its last successful beat was begun.
const (
	defaultBeat = time.Second
	// idleAfter is after how many beats a member that could not beat begins no attempts any more.
	idleAfter = 5
	// cutAfter is after how many beats it cuts off the attempts in flight: by deadAfter, somebody else may make the next ones.
	cutAfter = 7
	// deadAfter is after how many beats without a sign of life others take its lanes over.
	deadAfter = 8
	// pollsPerBeat is how often a member looks for what others have done, while there are others.
	pollsPerBeat = 20
	// kickedPoll is the least time between two looks when somebody waits for what the next one brings.
	kickedPoll = 5 * time.Millisecond
)

// memberState is what a member does.
type memberState int16

const (
	stateJoined   memberState = 0 // takes requests, and owns no lanes
	stateWatching memberState = 1 // owns lanes
	stateDraining memberState = 2 // gives its lanes to others
	stateLeft     memberState = 3 // has ended; what it leaves is taken over at once
)

// member is another process, as the last poll has found it.
type member struct {
	id      int64
	beat    int64
	version int
	about   about
	state   memberState
	seen    seen
	claimed claimTally
	impeded []uint32 // webhooks that it owns and whose endpoints keep deliveries waiting

	heardAt time.Time // when the poll was answered that has read a new beat, moved on by the time in which nothing could be read
}

// watches reports whether the member may own lanes.
func (m *member) watches() bool { return m.state == stateWatching }

// fleet is this process as a member, and what it knows of the others. A Store that has the database for itself has none.
type fleet struct {
	s     *Store
	beat  time.Duration
	about about

	lastBeat atomic.Pointer[time.Time]       // when the last successful beat was begun
	owes     atomic.Pointer[time.Time]       // since when others wait for this process to acknowledge something; nil if they do not
	owned    atomic.Pointer[map[uint32]bool] // the webhooks whose lanes are this process's own; 0 stands for the background work
	epoch    atomic.Int64                    // of the set of webhooks; written by the writer
	impeding atomic.Pointer[[]uint32]        // the webhooks whose endpoints keep deliveries waiting, by this process; written by the writer
	// impededElsewhere are those by the other members.
	impededElsewhere atomic.Pointer[map[uint32]bool]
	joined           bool          // has a row among the members; owned by the writer
	joins            atomic.Int64  // how often it has joined
	watching         atomic.Int64  // joins when the Watch that is running began; 0 for none
	tookOver         atomic.Int64  // how many members it took over that gave no sign of life
	draining         atomic.Int32  // a drainReason
	kick             chan struct{} // capacity 1; asks for a poll now
	heard            chan struct{} // capacity 1; the poll has brought something
	balance          chan struct{} // capacity 1; the lanes may have to go to others
	lost             chan struct{} // capacity 1; the Watch has lost its lanes
	done             chan struct{} // closed when the goroutines have ended
	work             sync.WaitGroup

	mu        sync.Mutex
	polledNow chan struct{}     // closed and made anew with each poll; guarded by mu, as all below
	pollAt    time.Time         // when the last poll was begun
	members   map[int64]*member // the others
	layout    int64             // raised when lanes change hands
	job       int64             // the newest job that was seen
	lastRead  time.Time         // when the last poll, or the join, was begun that was answered
	tail      seen              // up to where the news of others were read
	inbox     []heardNews       // read, and not handed on yet
	stored    int64             // the epoch that is stored
	acked     seen              // up to where the news of others were acknowledged
	ackDue    bool              // others wait for that
	debts     []debt            // what others wait for, the oldest first
	writers   []fleetWriter     // all writers
	taking    map[int64]bool    // members that are being taken over
}

func newFleet(s *Store) *fleet {
	f := &fleet{s: s, beat: s.opts.Beat, about: aboutThis(s.opts.Release), kick: make(chan struct{}, 1), heard: make(chan struct{}, 1), balance: make(chan struct{}, 1),
		lost: make(chan struct{}, 1), done: make(chan struct{}), polledNow: make(chan struct{}), members: make(map[int64]*member), tail: make(seen), acked: make(seen), taking: make(map[int64]bool)}
	f.owned.Store(new(map[uint32]bool))
	f.impeding.Store(new([]uint32))
	f.impededElsewhere.Store(new(map[uint32]bool))
	return f
}

// wake sends to a channel of capacity 1.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// alive reports whether this process may begin attempts: it has beaten lately, and owes others nothing for long. They wait for no longer than deadAfter beats.
func (f *fleet) alive() bool { return max(f.sinceBeat(), f.owing()) < idleAfter*f.beat }

func (f *fleet) sinceBeat() time.Duration {
	at := f.lastBeat.Load()
	if at == nil {
		return deadAfter * f.beat
	}
	return since(*at)
}

// owing is for how long this process has acknowledged nothing that others wait for.
func (f *fleet) owing() time.Duration {
	at := f.owes.Load()
	if at == nil {
		return 0
	}
	return since(*at)
}

// since is how long ago something was, by the further of both clocks: a machine that was suspended has a monotonic clock that has stood still.
func since(at time.Time) time.Duration {
	return max(time.Since(at), time.Now().Round(0).Sub(at.Round(0)))
}

// owns reports whether the lanes of a webhook are this process's own. A process that has the database for itself owns all.
func (s *Store) owns(webhookID uint32) bool {
	return s.fleet == nil || (*s.fleet.owned.Load())[webhookID]
}

// own adds lanes to those that this process owns, or takes them away.
func (f *fleet) own(mine bool, ids ...uint32) {
	for {
		old := f.owned.Load()
		now := maps.Clone(*old)
		if now == nil {
			now = make(map[uint32]bool)
		}
		for _, id := range ids {
			if mine {
				now[id] = true
			} else {
				delete(now, id)
			}
		}
		if f.owned.CompareAndSwap(old, &now) {
			return
		}
	}
}

func (f *fleet) disown() { f.owned.Store(new(map[uint32]bool)) }

// watches reports whether a Watch is running that has not lost its lanes.
func (f *fleet) watches() bool { return f.watching.Load() == f.joins.Load() }

// keeper reports whether this process does the background work.
func (f *fleet) keeper() bool { return (*f.owned.Load())[keeperLane] }

// keeperLane stands for the background work among the lanes.
const keeperLane = 0

// join makes this process a member, and reads what it keeps in memory. Its lanes, if it had any, are others'.
func (f *fleet) join(ctx context.Context, conn *pgx.Conn) error {
	s, began := f.s, time.Now()
	var epoch int64
	tail := make(seen)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// A newer version may have shut this one out since it was started.
		if err := s.refuseNewer(ctx, tx); err != nil {
			return err
		}
		// What comes later is news. What came before is read below.
		if err := tail.readEnds(ctx, s, tx); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, s.sql("SELECT epoch FROM @.fleet")).Scan(&epoch); err != nil {
			return err
		}
		tail[seenEpoch] = epoch
		id, err := insertNew(ctx, tx, s.sql("INSERT INTO @.members (id, version, began_at, seen, about)"), s.plan.version(), fields.Instant(time.Now()), tail.encode(), f.about.encode())
		if err != nil {
			return err
		}
		if err := s.addWriter(ctx, conn, id); err != nil {
			return err
		}
		return s.shutOut(ctx, tx)
	})
	if err != nil {
		return err
	}
	if err := s.loadAll(ctx, conn); err != nil {
		return err
	}
	f.epoch.Store(epoch)
	f.mu.Lock()
	f.tail, f.acked, f.inbox, f.stored, f.debts = tail, maps.Clone(tail), nil, epoch, nil
	f.owes.Store(nil)
	f.members, f.lastRead = make(map[int64]*member), began
	f.mu.Unlock()
	f.lastBeat.Store(&began)
	f.joined = true
	if f.joins.Add(1) > 1 {
		s.log.Warn("others have taken this process's lanes over: it is a new member")
	}
	return nil
}

// lose notes that others have taken this process's lanes over: it is no member any more. The writer calls it. Whether a commit without an answer was carried out
// nobody can find out any more.
func (f *fleet) lose() {
	if u := f.s.open; u != nil {
		f.s.open = nil
		answerAll(u.applied, fmt.Errorf("%w: the outcome is unknown: %w", engine.ErrTransient, errFenced))
	}
	f.joined = false
	f.lastBeat.Store(nil)
	f.disown()
	f.s.dropAllClaims()
	wake(f.lost)
}

// lostError is the error of a process whose claims have ended.
func lostError(why error) error { return fmt.Errorf("%w: %w", engine.ErrLost, why) }

// run beats and polls until the store is closed.
func (f *fleet) run() {
	defer close(f.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-f.s.quit
		cancel()
	}()
	f.work.Go(func() { f.hear(ctx) })
	defer f.work.Wait()
	p := poller{f: f}
	defer p.end()
	for ctx.Err() == nil {
		wait, err := p.poll(ctx)
		if err != nil && ctx.Err() == nil {
			p.drop()
			f.s.log.Debug("the other processes cannot be seen", "error", err)
			wait = min(f.beat, maxReconnect)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		case <-f.kick:
			if !sleepFor(ctx, kickedPoll) {
				return
			}
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// hasOthers reports whether there are other members.
func (f *fleet) hasOthers() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.members) > 0
}

// HasOthers reports whether other processes that work with the database take requests. It looks for them now, because one may have joined since the last poll, and
// waits for that as long as a beat takes.
func (s *Store) HasOthers() bool { return s.fleet != nil && s.fleet.looksForOthers() }

func (f *fleet) looksForOthers() bool {
	began, late := time.Now(), time.NewTimer(f.beat)
	defer late.Stop()
	for {
		f.mu.Lock()
		polled, fresh := f.polledNow, f.pollAt.After(began)
		f.mu.Unlock()
		if fresh {
			return f.othersTakeRequests()
		}
		wake(f.kick)
		select {
		case <-polled:
		case <-f.done:
			return f.othersTakeRequests()
		case <-late.C:
			return f.othersTakeRequests()
		}
	}
}

func (f *fleet) othersTakeRequests() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		if (m.state == stateJoined || m.state == stateWatching) && f.hears(m) {
			return true
		}
	}
	return false
}

// hears reports whether a member has given a sign of life lately. The caller holds mu.
func (f *fleet) hears(m *member) bool { return f.lastRead.Sub(m.heardAt) < deadAfter*f.beat }

// sortedMembers returns the ids of the members that may own lanes, this process's own included.
func (f *fleet) sortedMembers() (ids []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids = append(ids, f.s.memberID.Load())
	for id, m := range f.members {
		if m.watches() && f.hears(m) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// isMember reports whether a process is there.
func (f *fleet) isMember(id int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[id]
	return m != nil && m.state != stateLeft
}
