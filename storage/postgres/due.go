package postgres

import (
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// maxDueStep bounds how many places in the queue one call counts as newly due. A large backlog that became due since the last call is counted over
// several calls.
const maxDueStep = 50_000

// spot is a place in a lane: a time, and an id among those with the same time.
type spot struct {
	at int64
	id uuid.UUID
}

func (a spot) compare(b spot) int {
	switch {
	case a.at < b.at:
		return -1
	case a.at > b.at:
		return 1
	}
	return slices.Compare(a.id[:], b.id[:])
}

// dueMark counts the places of a webhook in the queue, without tests, up to a mark, inclusive. The mark follows the time: what is due is counted once, and
// not with each call.
type dueMark struct {
	upTo spot
	n    int64
}

// dueMarks are those of the webhooks for which something waits. They are in memory alone: after a restart they begin anew.
type dueMarks map[uint32]dueMark

// follow counts what a batch that has become durable has changed up to the marks.
func (m dueMarks) follow(b *batch) {
	if len(m) == 0 {
		return
	}
	b.deliveries.each(func(_ uuid.UUID, before, after *deliveryRow) {
		m.add(before, -1)
		m.add(after, +1)
	})
}

// add counts a delivery n times. r may be nil.
func (m dueMarks) add(r *deliveryRow, n int64) {
	p, waits := r.place()
	if !waits || p.lane.Test {
		return
	}
	if mark, ok := m[p.lane.WebhookID]; ok && (spot{p.at, p.id}).compare(mark.upTo) <= 0 {
		mark.n += n
		m[p.lane.WebhookID] = mark
	}
}

// countDue moves the marks of some webhooks to now and returns how many places are due, as far as it may count
// most of them. The marks of others are forgotten. It walks, so that it sees the queue as the marks do: with all batches before this one, and without this one.
func (b *batch) countDue(webhooks []uint32, now int64, most int) (map[uint32]int64, error) {
	marks := make(dueMarks, len(webhooks))
	if len(webhooks) > 0 {
		for _, id := range webhooks {
			marks[id] = b.s.due[id]
		}
		budget := max(most/len(webhooks), 1)
		if err := b.countNewlyDue(marks, now, budget); err != nil {
			return nil, err
		}
		if err := b.uncountNotDue(marks, now, budget); err != nil {
			return nil, err
		}
	}
	due := make(map[uint32]int64, len(marks))
	for id, mark := range marks {
		due[id] = max(0, mark.n)
	}
	b.after = append(b.after, func() { b.s.due = marks })
	return due, nil
}

// markLists are the marks for which ok returns true, a list for each column.
func (m dueMarks) lists(ok func(dueMark) bool) (webhooks []int32, at []int64, ids uuids) {
	for id, mark := range m {
		if ok(mark) {
			webhooks, at, ids = append(webhooks, int32(id)), append(at, mark.upTo.at), append(ids, mark.upTo.id)
		}
	}
	return webhooks, at, ids
}

// countNewlyDue moves marks forward to now.
func (b *batch) countNewlyDue(marks dueMarks, now int64, budget int) error {
	webhooks, at, ids := marks.lists(func(m dueMark) bool { return m.upTo.at <= now })
	for _, id := range webhooks { // those of which nothing is found are counted
		mark := marks[uint32(id)]
		mark.upTo = spot{now, uuid.Max}
		marks[uint32(id)] = mark
	}
	return b.query(func(found pgx.Rows) error {
		id, n, last, err := scanCounted(found)
		mark := marks[id]
		mark.n += n
		if n == int64(budget) {
			mark.upTo = last
		}
		marks[id] = mark
		return err
	}, "SELECT l.w, q.n, q.at, q.delivery_id FROM unnest($1::int[], $2::bigint[], $3::uuid[]) l(w, at, id) CROSS JOIN LATERAL (SELECT count(*) OVER () AS n, at, delivery_id FROM "+
		"(SELECT at, delivery_id FROM @.queue WHERE webhook_id = l.w AND class = 0 AND (at, delivery_id) > (l.at, l.id) AND at <= $4 ORDER BY at, delivery_id LIMIT $5) c "+
		"ORDER BY at DESC, delivery_id DESC LIMIT 1) q", webhooks, at, ids, now, budget)
}

// uncountNotDue moves marks back to now: the clock was set back, and what is due later again must not count as due until the clock comes there.
func (b *batch) uncountNotDue(marks dueMarks, now int64, budget int) error {
	webhooks, at, ids := marks.lists(func(m dueMark) bool { return m.upTo.at > now })
	if len(webhooks) == 0 {
		return nil
	}
	for _, id := range webhooks {
		mark := marks[uint32(id)]
		mark.upTo = spot{now, uuid.Max}
		marks[uint32(id)] = mark
	}
	// One more is read than may be uncounted: if there are so many, the mark goes there.
	return b.query(func(found pgx.Rows) error {
		id, n, last, err := scanCounted(found)
		mark := marks[id]
		mark.n -= min(n, int64(budget))
		if n > int64(budget) {
			mark.upTo = last
		}
		marks[id] = mark
		return err
	}, "SELECT l.w, q.n, q.at, q.delivery_id FROM unnest($1::int[], $2::bigint[], $3::uuid[]) l(w, at, id) CROSS JOIN LATERAL (SELECT count(*) OVER () AS n, at, delivery_id FROM "+
		"(SELECT at, delivery_id FROM @.queue WHERE webhook_id = l.w AND class = 0 AND at > $4 AND (at, delivery_id) <= (l.at, l.id) ORDER BY at DESC, delivery_id DESC LIMIT $5) c "+
		"ORDER BY at, delivery_id LIMIT 1) q", webhooks, at, ids, now, budget+1)
}

// scanCounted reads how many places of a webhook were counted, and the last of them.
func scanCounted(found pgx.Rows) (webhookID uint32, n int64, last spot, err error) {
	err = found.Scan(&webhookID, &n, &last.at, (*[16]byte)(&last.id))
	return webhookID, n, last, err
}
