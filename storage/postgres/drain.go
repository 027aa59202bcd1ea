package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// A process that drains gives its lanes to others, each as soon as nothing of it is claimed, and takes none while there are others. It is not ready, so that a balancer sends it
// no requests; it goes on answering those that come.

// drainReason is why a process drains.
type drainReason int32

const (
	drainsNot    drainReason = iota
	drainsByHand             // until BackFromDrain
	drainsToEnd              // the process is about to end
)

// drains reports whether this process is to give its lanes to others.
func (f *fleet) drains() bool { return f.drainReason() != drainsNot }

// gives reports whether it does so now. One that drains by hand owns lanes all the same while nobody else could: its last neighbour may have died.
func (f *fleet) gives() bool {
	switch f.drainReason() {
	case drainsToEnd:
		return true
	case drainsByHand:
		return len(f.sortedMembers()) > 1
	}
	return false
}

func (f *fleet) drainReason() drainReason { return drainReason(f.draining.Load()) }

// drain changes whether this process drains, from one reason to another.
func (f *fleet) drain(from, to drainReason) {
	if f.draining.CompareAndSwap(int32(from), int32(to)) {
		wake(f.kick)
		wake(f.balance)
	}
}

// Drain has this process give its lanes to others, because it is about to end.
func (s *Store) Drain() {
	if s.fleet != nil {
		s.fleet.drain(drainsNot, drainsToEnd)
		s.fleet.drain(drainsByHand, drainsToEnd)
	}
}

// errAlone is returned to a process that is to give its lanes away, and that has nobody to give them to.
var errAlone = fmt.Errorf("%w: there is no other process that could take the lanes, so nothing would be delivered. Start another one first, or stop this one: what is due is sent when it is back",
	engine.ErrConflict)

// errNotShared is returned by a store that one process has for itself.
var errNotShared = fmt.Errorf("%w: this process has the database for itself", engine.ErrConflict)

// DrainByHand has this process give its lanes to others, until BackFromDrain is called or the process ends. It returns at once; see DrainState.
func (s *Store) DrainByHand(ctx context.Context) (engine.Drain, error) {
	d, err := s.DrainState(ctx)
	if err != nil {
		return d, err
	}
	if d.Others == 0 {
		return d, errAlone
	}
	s.fleet.drain(drainsNot, drainsByHand)
	d.On = true
	return d, nil
}

// BackFromDrain has this process own lanes again.
func (s *Store) BackFromDrain(ctx context.Context) (engine.Drain, error) {
	if s.fleet != nil {
		s.fleet.drain(drainsByHand, drainsNot)
	}
	return s.DrainState(ctx)
}

// DrainState returns how far this process is with giving its lanes away. It is an engine.ErrConflict if no others can share the database.
func (s *Store) DrainState(ctx context.Context) (engine.Drain, error) {
	if s.fleet == nil {
		return engine.Drain{}, errNotShared
	}
	d := engine.Drain{On: s.fleet.drains(), Others: len(s.fleet.sortedMembers()) - 1}
	err := s.view(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, s.sql("SELECT count(*) FILTER (WHERE l.owner = $1), count(*) FILTER (WHERE l.owner IS NULL), "+
			"EXISTS (SELECT FROM @.lanes WHERE webhook_id = $2 AND owner = $1) FROM @.webhooks w LEFT JOIN @.lanes l ON l.webhook_id = w.id"),
			s.memberID.Load(), keeperLane).Scan(&d.Lanes, &d.Free, &d.Keeper)
	})
	return d, err
}

// Members is how many processes share the database, this one included, as far as it knows.
func (s *Store) Members() int {
	f := s.fleet
	if f == nil {
		return 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 1
	for _, m := range f.members {
		if m.state != stateLeft && f.hears(m) {
			n++
		}
	}
	return n
}
