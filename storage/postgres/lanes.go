package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// The lanes of each webhook belong to one member, by a row in lanes. All members work out who should own which, in the same way: by rendezvous hashing, which
// moves only the lanes of a member that has come or gone. Who owns lanes that are another one's gives them up first. Who should own free lanes takes them, and
// if it does not, the next in the order of the hashes does a beat later.

// balancer is what Watch knows of the lanes of all members.
type balancer struct {
	s        *Store
	layout   int64
	read     bool
	owners   map[uint32]int64     // by webhook; free lanes are missing
	free     map[uint32]time.Time // since when lanes are known to be free
	yielding map[uint32]bool      // lanes that have been given up, and still have claims
	untold   []uint32             // those of them that were not reported yet
	joins    int64                // fleet.joins when the Watch began
	keeper   bool                 // as it was reported
}

func newBalancer(s *Store) *balancer {
	return &balancer{s: s, owners: make(map[uint32]int64), free: make(map[uint32]time.Time), yielding: make(map[uint32]bool), joins: s.fleet.joins.Load()}
}

// rank returns the place of a member among those that may own a webhook's lanes, 0 for the one that should.
func rank(webhookID uint32, me int64, members []int64) (place int) {
	mine := weight(webhookID, me)
	for _, id := range members {
		if w := weight(webhookID, id); w > mine || w == mine && id > me {
			place++
		}
	}
	return place
}

func weight(webhookID uint32, member int64) uint64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, webhookID), uint64(member)))
	// FNV alone leaves the last bytes in the low bits.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// step takes and gives up lanes. It returns news for the engine, and when to look again; zero if there is nothing to wait for.
func (b *balancer) step(ctx context.Context) (n engine.News, next time.Duration, err error) {
	f, s := b.s.fleet, b.s
	if err := b.readOwners(ctx); err != nil {
		return n, 0, err
	}
	me, members, now, draining := s.memberID.Load(), f.sortedMembers(), time.Now(), f.gives()
	var take, give []uint32
	consider := func(id uint32) {
		place := rank(id, me, members)
		owner, owned := b.owners[id]
		switch {
		case owned && owner == me && b.yielding[id]:
		case owned && owner == me && !s.owns(id) && !draining: // it was taken, and the answer was lost
			take = append(take, id)
		case owned && owner == me && (place > 0 || draining):
			give = append(give, id)
		case owned, draining:
			delete(b.free, id)
		default:
			since, known := b.free[id]
			if !known {
				b.free[id], since = now, now
			}
			if wait := time.Duration(place)*f.beat - now.Sub(since); wait <= 0 {
				take = append(take, id)
			} else if next == 0 || wait < next {
				next = wait
			}
		}
	}
	consider(keeperLane)
	for _, w := range s.hooks.Load().All() {
		consider(w.ID)
	}
	if len(give) > 0 {
		f.own(false, give...)
		for _, id := range give {
			b.yielding[id] = true
		}
		b.untold = append(b.untold, give...)
	}
	if len(b.untold) > 0 {
		// What has been begun with these lanes as this process's own has ended then.
		if err := f.touch(ctx); err != nil {
			return n, 0, err
		}
		n.Yield = slices.DeleteFunc(b.untold, func(id uint32) bool { return id == keeperLane })
		b.untold = nil
	}
	if len(take) > 0 {
		n.Own, err = b.take(ctx, take)
	}
	return n, next, err
}

// readOwners reads who owns which lanes, if that may have changed.
func (b *balancer) readOwners(ctx context.Context) error {
	f := b.s.fleet
	f.mu.Lock()
	layout := f.layout
	f.mu.Unlock()
	if b.read && layout == b.layout {
		return nil
	}
	return b.s.view(ctx, func(conn *pgx.Conn) error {
		owners := make(map[uint32]int64)
		rows, err := conn.Query(ctx, b.s.sql("SELECT webhook_id, owner FROM @.lanes WHERE owner IS NOT NULL"))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			var owner int64
			if err := rows.Scan(&id, &owner); err != nil {
				return err
			}
			owners[id] = owner
		}
		if rows.Err() == nil {
			b.owners, b.layout, b.read = owners, layout, true
		}
		return rows.Err()
	})
}

// take makes this process the owner of lanes that are free. It returns those that it got, with the stored health of their endpoints.
func (b *balancer) take(ctx context.Context, ids []uint32) (own map[uint32]engine.Owned, err error) {
	s := b.s
	var got []uint32
	var health map[uint32]engine.Health
	var hooks *engine.WebhookSet // as of the health
	err = s.write(ctx, mutation{walks: true, run: func(tx *batch) error {
		got, health, hooks = nil, make(map[uint32]engine.Health), tx.hooks
		if s.fleet.joins.Load() != b.joins {
			return lostError(errFenced)
		}
		list := webhookList(ids)
		slices.Sort(list)
		err := tx.query(func(found pgx.Rows) error {
			var id uint32
			err := found.Scan(&id)
			got = append(got, id)
			return err
		}, "INSERT INTO @.lanes (webhook_id, owner) SELECT unnest($1::int[]), $2::bigint ON CONFLICT (webhook_id) DO UPDATE SET owner = EXCLUDED.owner "+
			"WHERE lanes.owner IS NULL OR lanes.owner = EXCLUDED.owner RETURNING webhook_id", list, s.memberID.Load())
		if err != nil || len(got) == 0 {
			return err
		}
		if err := tx.readHealthOf(got, health); err != nil {
			return err
		}
		tx.exec("UPDATE @.fleet SET layout = layout + 1")
		tx.after = append(tx.after, func() {
			maps.Copy(s.health, health)
			s.fleet.setImpeding()
			s.forgetFronts(got)
			s.fleet.own(true, got...)
		})
		return nil
	}})
	if err != nil {
		return nil, err
	}
	own = make(map[uint32]engine.Owned)
	me := s.memberID.Load()
	for _, id := range got {
		b.owners[id] = me
		delete(b.free, id)
		if w := hooks.Get(id); w != nil {
			own[id] = engine.Owned{Health: health[id], Webhook: w}
		}
	}
	return own, nil
}

// readHealthOf reads the stored health of some webhooks.
func (b *batch) readHealthOf(ids []uint32, into map[uint32]engine.Health) error {
	for _, id := range ids {
		into[id] = engine.Health{}
	}
	return b.query(func(found pgx.Rows) error {
		var id uint32
		var text []byte
		var h engine.Health
		if err := found.Scan(&id, &text); err != nil {
			return err
		}
		if err := json.Unmarshal(text, &h); err != nil {
			b.s.passes(damage("health", id))
			return nil
		}
		h.Order, h.Notified = 0, false
		into[id] = h
		return nil
	}, "SELECT webhook_id, health::text FROM @.health WHERE webhook_id = ANY($1)", webhookList(ids))
}

// giveBack frees lanes that were given up, once no claim in them is left. It returns whether there are others.
func (b *balancer) giveBack(ctx context.Context) (more bool, err error) {
	s := b.s
	counts := s.claimCounts()
	var free []int32
	for id := range b.yielding {
		if counts[engine.Lane{WebhookID: id}]+counts[engine.Lane{WebhookID: id, Test: true}] == 0 {
			free = append(free, int32(id))
		}
	}
	if len(free) > 0 {
		if err := s.freeLanes(ctx, "AND webhook_id = ANY($2)", free); err != nil {
			return true, err
		}
		for _, id := range free {
			delete(b.yielding, uint32(id))
			delete(b.owners, uint32(id))
		}
	}
	return len(b.yielding) > 0, nil
}

// freeLanes gives up lanes of this process.
func (s *Store) freeLanes(ctx context.Context, which string, args ...any) error {
	return s.write(ctx, mutation{walks: true, run: func(b *batch) error {
		b.exec("UPDATE @.lanes SET owner = NULL WHERE owner = $1 "+which, append([]any{s.memberID.Load()}, args...)...)
		b.exec("UPDATE @.fleet SET layout = layout + 1")
		return nil
	}})
}

// retryBalance is when to look at the lanes again that have claims, or after an error, in parts of a beat.
const retryBalance = pollsPerBeat

// watchShared is Watch for a process that is a member of a fleet.
func (s *Store) watchShared(ctx context.Context, tell func(engine.News)) error {
	f := s.fleet
	report := oneAtATime(tell)
	cutting, stopCutting := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stopCutting()
	select {
	case <-f.lost: // of the Watch before
	default:
	}
	lanes := newBalancer(s)
	f.disown() // what was taken for the Watch before is taken again, and reported
	f.letGo()
	f.watching.Store(lanes.joins)
	defer f.watching.Store(0)
	wake(f.kick)
	report(engine.News{})
	beside.Go(func() { f.cutOff(cutting, report) }) // beside, because what follows may wait for the database
	fold := time.NewTicker(s.opts.FoldInterval)
	defer fold.Stop()
	var again <-chan time.Time
	for balance := true; ; {
		next, err := lanes.work(ctx, balance, report)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if balance || next > 0 {
			again = nil
		}
		if next > 0 {
			again = time.After(next)
		}
		balance = false
		select {
		case <-ctx.Done():
			return s.endWatch(f)
		case <-s.stopped:
			return s.unavailable()
		case <-f.lost:
			return lostError(errFenced)
		case <-s.fanOutWake:
		case <-f.balance:
			balance = true
		case <-again:
			balance = true
		case <-fold.C:
			if f.keeper() {
				s.foldNow(ctx)
			}
		}
	}
}

// oneAtATime lets one call at a time through. It takes no mutex: in a simulation of an engine that hangs, time must go on.
func oneAtATime(tell func(engine.News)) func(engine.News) {
	telling := make(chan struct{}, 1)
	return func(n engine.News) {
		telling <- struct{}{}
		defer func() { <-telling }()
		tell(n)
	}
}

// work shares the lanes out, if that is asked for, reports what others have done, and makes deliveries of fan-outs. It returns when to share them out again;
// zero if there is nothing to wait for. What passes it tries again; any other error ends the Watch.
func (b *balancer) work(ctx context.Context, balance bool, report func(engine.News)) (next time.Duration, err error) {
	f := b.s.fleet
	if f.joins.Load() != b.joins {
		return 0, lostError(errFenced)
	}
	if balance {
		next, err = b.turn(ctx, report)
		if errors.Is(err, engine.ErrLost) || ctx.Err() != nil {
			return 0, err
		}
		if err != nil {
			b.s.log.Debug("the lanes cannot be shared out", "error", err)
			next = f.beat / retryBalance
		}
	}
	b.s.reportUnheard(f, report)
	if !f.keeper() {
		return next, nil
	}
	more, err := b.s.stepFanOut(ctx, report)
	switch {
	case err == nil && more:
		wake(b.s.fanOutWake)
	case errors.Is(err, engine.ErrFull), errors.Is(err, engine.ErrTransient):
		next = f.beat
	case err != nil:
		return 0, fmt.Errorf("make the deliveries of a fan-out: %w", err)
	}
	return next, nil
}

// turn takes and gives up lanes, reports that, and frees those without claims. It returns when to call it again; zero if there is nothing to wait for.
func (b *balancer) turn(ctx context.Context, report func(engine.News)) (next time.Duration, err error) {
	n, next, err := b.step(ctx)
	n.Keeper = b.s.fleet.keeper()
	if len(n.Own)+len(n.Yield) > 0 || n.Keeper != b.keeper {
		b.keeper = n.Keeper
		report(n)
	}
	if err != nil {
		return 0, err
	}
	more, err := b.giveBack(ctx)
	if more {
		next = b.s.fleet.beat / retryBalance
	}
	return next, err
}

// cutOff reports, until ctx ends, that the attempts in flight must end: when this process has not beaten for too long. It does so also if it knows of no others:
// who joins while it cannot read takes it over all the same. It looks once in a beat at least, because a timer stands still while the machine is suspended.
func (f *fleet) cutOff(ctx context.Context, report func(engine.News)) {
	for {
		left := cutAfter*f.beat - f.sinceBeat()
		if left <= 0 {
			report(engine.News{CutOff: true, Keeper: f.keeper()})
			left = f.beat
		}
		if !sleepFor(ctx, min(left, f.beat)) {
			return
		}
	}
}

// reportUnheard reports what others have done, and what this process has done without its callers knowing.
func (s *Store) reportUnheard(f *fleet, report func(engine.News)) {
	n, a, ok := s.unheard.takeAll()
	if ok {
		n.Keeper = f.keeper()
		report(n)
	}
	f.ack(a)
}

// endWatch gives all lanes up: the engine has released its claims.
func (s *Store) endWatch(f *fleet) error {
	f.disown()
	f.watching.Store(0)
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Patience)
	defer cancel()
	_ = s.freeLanes(ctx, "") // else others take them over when this process has ended
	f.letGo()
	wake(f.kick)
	return nil
}

// letGo acknowledges what was not reported: who owns no lanes has nothing to do about it, and who watches from now on is told what he owns.
func (f *fleet) letGo() {
	_, a, _ := f.s.unheard.takeAll()
	f.ack(a)
}
