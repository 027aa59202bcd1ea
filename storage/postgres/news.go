package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// The row of a batch also tells other processes what the batch has done to their lanes. A writer's batches become visible in the order of their numbers,
// so each member reads the rows behind the last one that it has read. It acknowledges them, once its engine has the news, in its own row in members: the
// keeper removes no row before all have.

// news are what a batch has done to the lanes of other processes.
type news struct {
	queued map[engine.Lane]int64 // the earliest time of what was queued in a lane
	ended  []endedElsewhere
}

// endedElsewhere is a delivery that must not be sent as it was claimed.
type endedElsewhere struct {
	webhookID uint32
	id        uuid.UUID
}

// heardNews are the news of a batch of another process.
type heardNews struct {
	writer, n int64
	news
}

// news returns what the batch has done to lanes that are not this process's own.
func (b *batch) news() (n news) {
	b.deliveries.each(func(id uuid.UUID, before, after *deliveryRow) {
		old, was := before.place()
		now, is := after.place()
		if was == is && old == now {
			return
		}
		if was && !b.s.owns(old.lane.WebhookID) {
			n.ended = append(n.ended, endedElsewhere{old.lane.WebhookID, id})
		}
		if is && !b.s.owns(now.lane.WebhookID) {
			if at, ok := n.queued[now.lane]; !ok || now.at < at {
				set(&n.queued, now.lane, now.at)
			}
		}
	})
	return n
}

// newsText makes the column news. Who has the database for itself tells nobody.
func (b *batch) newsText() []byte {
	if b.s.fleet == nil {
		return nil
	}
	n := b.news()
	return n.encode()
}

// encode returns nil if there are none.
func (n *news) encode() []byte {
	if len(n.queued)+len(n.ended) == 0 {
		return nil
	}
	e := newRecord(16*len(n.queued) + 20*len(n.ended))
	e.Uint(uint64(len(n.queued)))
	for lane, at := range n.queued {
		e.Uint(uint64(lane.WebhookID))
		e.Bool(lane.Test)
		e.Int(at)
	}
	e.Uint(uint64(len(n.ended)))
	for _, one := range n.ended {
		e.Uint(uint64(one.webhookID))
		e.UUID(one.id)
	}
	return e.Bytes()
}

func decodeNews(b []byte) (n news, ok bool) {
	if b == nil {
		return n, true
	}
	d := openRecord(b)
	for range d.Count() {
		lane := engine.Lane{WebhookID: d.Count(), Test: d.Bool()}
		set(&n.queued, lane, d.Int())
		if !d.More() {
			break
		}
	}
	for range d.Count() {
		n.ended = append(n.ended, endedElsewhere{d.Count(), d.UUID()})
		if !d.More() {
			break
		}
	}
	return n, d.OK()
}

// newsSince selects the batch rows of other processes behind those that were read. $2 and $3 are writers, and the last numbers that were read of each.
const newsSince = "SELECT w.id, b.n, b.news FROM @.writers w CROSS JOIN LATERAL (SELECT n, news FROM @.batches WHERE writer = w.id AND " +
	"n > COALESCE((SELECT t.n FROM (SELECT unnest($2::bigint[]) AS writer, unnest($3::bigint[]) AS n) t WHERE t.writer = w.id), -1) ORDER BY n LIMIT 10000) b WHERE w.member <> $1 OR w.adopted"

func scanNews(rows pgx.Rows, s *Store) (all []heardNews, err error) {
	for rows.Next() {
		var one heardNews
		var body []byte
		if err := rows.Scan(&one.writer, &one.n, &body); err != nil {
			return nil, err
		}
		var ok bool
		if one.news, ok = decodeNews(body); !ok {
			s.passes(damage("news of batch", one.n))
		}
		all = append(all, one)
	}
	return all, nil
}

// hearQueued has looks for what is due begin where others have queued something.
func (s *Store) hearQueued(queued map[engine.Lane]int64) {
	places := make([]place, 0, len(queued))
	for lane, at := range queued {
		places = append(places, place{lane, at, uuid.Nil})
	}
	s.queued(places)
}

// hear adds news of others to those for Watch, which acknowledges them when it has reported them.
func (u *unheard) hear(s *Store, inbox []heardNews, a acks) {
	u.mu.Lock()
	for _, one := range inbox {
		for lane, at := range one.queued {
			if s.owns(lane.WebhookID) {
				u.news.Queued = append(u.news.Queued, engine.Queued{Lane: lane, At: fields.Time(at)})
			}
		}
		for _, e := range one.ended {
			u.news.Ended = append(u.news.Ended, engine.Delivery{ID: e.id, WebhookID: e.webhookID})
		}
	}
	u.acks.add(a)
	u.mu.Unlock()
	u.wake(s)
}

// seen is up to where somebody has read: the number of the last batch of each writer, and at seenEpoch the epoch of the webhooks.
type seen map[int64]int64

const seenEpoch = 0 // no writer has this number

// of returns the number for a writer, -1 if nothing was read of it.
func (s seen) of(writer int64) int64 {
	if n, ok := s[writer]; ok {
		return n
	}
	return -1
}

func (s seen) raise(by seen) {
	for writer, n := range by {
		s[writer] = max(s.of(writer), n)
	}
}

func (s seen) lists() (writers, ns []int64) {
	for _, writer := range slices.Sorted(maps.Keys(s)) {
		if writer != seenEpoch {
			writers, ns = append(writers, writer), append(ns, s[writer])
		}
	}
	return writers, ns
}

func (s seen) encode() []byte {
	e := newRecord(12 * len(s))
	for _, writer := range slices.Sorted(maps.Keys(s)) {
		e.Int(writer)
		e.Int(s[writer])
	}
	return e.Bytes()
}

// decodeSeen returns what can be read: who is taken to have read less waits for longer.
func decodeSeen(b []byte) seen {
	s := make(seen)
	for d := openRecord(b); d.More(); {
		writer, n := d.Int(), d.Int()
		s[writer] = n
	}
	return s
}

// readEnds sets s to the last batch of each writer.
func (s seen) readEnds(ctx context.Context, store *Store, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, store.sql("SELECT w.id, (SELECT max(n) FROM @.batches WHERE writer = w.id) FROM @.writers w"))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var writer int64
		var n *int64
		if err := rows.Scan(&writer, &n); err != nil {
			return err
		}
		if n != nil {
			s[writer] = *n
		}
	}
	return rows.Err()
}

// claimTally is how many deliveries a member has claimed, by lane.
type claimTally map[engine.Lane]int64

func (s *Store) tallyClaims() claimTally { return s.claimCounts() }

func (c claimTally) encode() []byte {
	if len(c) == 0 {
		return nil
	}
	e := newRecord(8 * len(c))
	for lane, n := range c {
		e.Uint(uint64(lane.WebhookID))
		e.Bool(lane.Test)
		e.Int(n)
	}
	return e.Bytes()
}

func decodeTally(b []byte) claimTally {
	c := make(claimTally)
	for d := openRecord(b); d.More(); {
		lane := engine.Lane{WebhookID: d.Count(), Test: d.Bool()}
		c[lane] = d.Int()
	}
	return c
}
