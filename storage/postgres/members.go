package postgres

import (
	"context"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Fleet tells of the members and of what they own, as of one snapshot; nil if this process has the database for itself. A member that has ended is not among
// them. How old a beat is, this process tells by its own clock, from the polls in which it has heard of a member.
func (s *Store) Fleet(ctx context.Context) (fleet *engine.Fleet, err error) {
	if s.fleet == nil {
		return nil, nil
	}
	err = s.snapshot(ctx, func(tx pgx.Tx) error {
		fleet = &engine.Fleet{Owners: make(map[uint32]int64)}
		if fleet.Members, err = s.readMembers(ctx, tx); err != nil {
			return err
		}
		return s.readOwnersInto(ctx, tx, fleet)
	})
	if err != nil {
		return nil, err
	}
	return fleet, nil
}

// readMembers reads the members without what they own.
func (s *Store) readMembers(ctx context.Context, tx pgx.Tx) (all []engine.Member, err error) {
	rows, err := tx.Query(ctx, s.sql("SELECT id, beat, state, began_at, about, claimed FROM @.members WHERE state <> $1 ORDER BY id"), int16(stateLeft))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	me := s.memberID.Load()
	for rows.Next() {
		var id, beat, began int64
		var state int16
		var text, claimed []byte
		if err := rows.Scan(&id, &beat, &state, &began, &text, &claimed); err != nil {
			return nil, err
		}
		about, tally, age := decodeAbout(text), decodeTally(claimed), s.fleet.heardAgo(id, beat)
		if id == me {
			tally, age = claimTally(s.claimCounts()), s.fleet.sinceBeat()
		}
		m := engine.Member{ID: id, Host: about.Host, Release: about.Release, State: stateInWords(memberState(state)), JoinedAt: fields.Time(began), BeatAge: age, This: id == me}
		for n := range maps.Values(tally) {
			m.InFlight += n
		}
		if age >= idleAfter*s.fleet.beat {
			m.State = engine.MemberAway
		}
		all = append(all, m)
	}
	return all, rows.Err()
}

// stateInWords is the state of a member that gives signs of life.
func stateInWords(state memberState) engine.MemberState {
	switch state {
	case stateWatching:
		return engine.MemberWorking
	case stateDraining:
		return engine.MemberDraining
	}
	return engine.MemberStarting
}

// readOwnersInto reads which members own the lanes of the webhooks that there are.
func (s *Store) readOwnersInto(ctx context.Context, tx pgx.Tx, fleet *engine.Fleet) error {
	rows, err := tx.Query(ctx, s.sql("SELECT w.id, l.owner FROM (SELECT id FROM @.webhooks UNION ALL SELECT $1) w LEFT JOIN @.lanes l ON l.webhook_id = w.id"), keeperLane)
	if err != nil {
		return err
	}
	defer rows.Close()
	owned := make(map[int64]int)
	var keeper int64
	for rows.Next() {
		var id uint32
		var owner *int64
		switch err := rows.Scan(&id, &owner); {
		case err != nil:
			return err
		case id == keeperLane && owner != nil:
			keeper = *owner
		case id == keeperLane:
		case owner == nil:
			fleet.Unowned++
		default:
			fleet.Owners[id] = *owner
			owned[*owner]++
		}
	}
	for i := range fleet.Members {
		m := &fleet.Members[i]
		m.Webhooks, m.Keeper = owned[m.ID], m.ID == keeper
	}
	return rows.Err()
}

// heardAgo is for how long another member has given no sign of life in the polls of this process: the same that decides whether it is dead. beat is its number
// as it is read now.
func (f *fleet) heardAgo(id, beat int64) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[id]
	if m == nil || m.beat != beat { // it was heard since the last poll
		return 0
	}
	return max(0, f.lastRead.Sub(m.heardAt))
}

// addFigures completes the figures of a process with those of a member.
func (f *fleet) addFigures(figures *Figures) {
	owned := *f.owned.Load()
	figures.BeatAge, figures.Owned, figures.Keeper, figures.TookOver = f.sinceBeat(), len(owned), owned[keeperLane], f.tookOver.Load()
	if figures.Keeper {
		figures.Owned--
	}
}

// MemberID is the number of this process among the members. It gets another one when others have taken it for dead.
func (s *Store) MemberID() int64 { return s.memberID.Load() }
