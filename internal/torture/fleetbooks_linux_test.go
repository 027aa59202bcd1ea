package torture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// attempt is one that the log has.
type attempt struct {
	begin, end time.Time // by the clock of who made it
	ok         bool
	answered   bool
}

// attempts reads those of all deliveries, in their order.
func (s *schema) attempts(ctx context.Context) (map[uuid.UUID][]attempt, error) {
	conn, err := pgx.Connect(ctx, s.direct)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, strings.ReplaceAll("SELECT delivery_id::text, started_at, duration_ms::float8, COALESCE(status, 0)::bigint FROM @.view_attempts ORDER BY delivery_id, n", "@",
		pgx.Identifier{s.name}.Sanitize()))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[uuid.UUID][]attempt)
	for rows.Next() {
		var id string
		var begin time.Time
		var took float64
		var status int64
		if err := rows.Scan(&id, &begin, &took, &status); err != nil {
			return nil, err
		}
		key, err := uuid.Parse(id)
		if err != nil {
			return nil, err
		}
		all[key] = append(all[key], attempt{begin, begin.Add(time.Duration(took * float64(time.Millisecond))), status/100 == 2, status != 0})
	}
	return all, rows.Err()
}

const (
	// readLate is how long after it was sent a request may be read by the receiver, where its sender got no answer.
	readLate = time.Second
	// queuedLate is for how much longer it may wait to be read where its sender has been killed before its connection was accepted.
	queuedLate = 10 * time.Second
	// recordLate is how long an answer may wait for its record: what was answered so shortly before a strike may be unrecorded. A commit waits while the server
	// makes a checkpoint. How many are unrecorded is bounded by what may be claimed.
	recordLate = 5 * time.Second
	// clocks is by how much times of one clock may differ that were taken in two processes: they are rounded, and the clocks of virtual machines are set by some
	// milliseconds now and then.
	clocks = 20 * time.Millisecond
)

// closeBooks looks at what the database holds, when no process runs any more.
func (f *fleet) closeBooks(abandon bool) {
	if err := f.receiver.quiesce(10 * time.Second); err != nil {
		f.books.complain("%v", err)
	}
	ctx := context.WithoutCancel(f.t.Context())
	logged, err := f.opts.schema.attempts(ctx)
	if err != nil {
		f.books.complain("%v", err)
		return
	}
	found, err := f.store.inspect(ctx, f.dir, nil)
	if err != nil {
		f.books.complain("%v", err)
		return
	}
	for _, v := range found.Violations {
		f.books.complain("the database is damaged: %s", v)
	}
	f.account(found, logged)
	f.ledger.audit(f.stored(found), false)
	f.ledger.count(found.Sessions)
}

// account holds the requests under each id against the attempts in the log. What the log does not have may be repeated, and nothing else is: requests of a process
// that was struck then. Nothing is sent after the request whose 2xx was recorded, and no two attempts of a delivery are made at once, at the endpoint and in the log.
//
// A process that is stopped between an attempt's last look at the lease and its packet sends that one request when it is woken. How many there are is counted, and
// bounded by fleetOptions.woken.
func (f *fleet) account(found inspection, logged map[uuid.UUID][]attempt) {
	seen := make(map[uuid.UUID][]*sighting)
	f.receiver.mu.Lock()
	for _, s := range f.receiver.sightings {
		seen[s.id] = append(seen[s.id], s)
	}
	f.receiver.mu.Unlock()
	unrecorded, woken := make([]int, len(f.strikes)), make([]int, len(f.strikes))
	for i := range found.Deliveries {
		d := &found.Deliveries[i]
		all := seen[d.ID]
		delete(seen, d.ID)
		slices.SortFunc(all, func(a, b *sighting) int { return a.begin.Compare(b.begin) })
		f.books.deliveries[d.ID] = &account{requests: len(all), attempts: d.Attempts, status: d.Status}
		if n := len(logged[d.ID]); n != d.Attempts {
			f.books.complain("%s: %d attempts by its row, %d in the log", d.ID, d.Attempts, n)
		}
		f.accountOne(d.ID, all, logged[d.ID], unrecorded, woken)
	}
	for id := range seen {
		f.books.complain("%s: it was sent and is not stored", id)
	}
	for i, n := range unrecorded {
		f.books.Unrecorded += n
		if f.books.Most = max(f.books.Most, n); n > f.books.bound {
			f.books.complain("strike %d: %d requests are unrecorded, at most %d may be", i+1, n, f.books.bound)
		}
		if woken[i] > f.opts.woken {
			f.books.complain("strike %d: %d requests were sent by a process that was stopped and taken over, at most %d may be", i+1, woken[i], f.opts.woken)
		}
	}
}

// accountOne is account for a delivery. It adds to what each strike has left unrecorded, and woken.
func (f *fleet) accountOne(id uuid.UUID, all []*sighting, logged []attempt, unrecorded, woken []int) {
	for i := 1; i < len(all); i++ {
		if all[i].begin.Before(all[i-1].end) && !f.outlived(all[i-1], all[i].begin) {
			f.books.complain("%s: two requests at once: processes %d and %d, the second %v after the first, which lasted %v", id, all[i-1].sender, all[i].sender,
				all[i].begin.Sub(all[i-1].begin), all[i-1].end.Sub(all[i-1].begin))
		}
	}
	owner := make(map[*sighting]bool)
	var delivered *sighting
	for i, a := range logged {
		if i > 0 && a.begin.Before(logged[i-1].end.Add(-clocks)) && f.opts.skews == nil {
			f.books.complain("%s: attempts %d and %d overlap in the log", id, i, i+1)
		}
		matched := false
		for _, s := range all {
			latest := a.end.Add(clocks)
			if !a.answered {
				latest = latest.Add(readLate)
				if i+1 < len(logged) && latest.After(logged[i+1].begin) {
					latest = logged[i+1].begin
				}
			}
			within := func(skew time.Duration) bool {
				return !s.begin.Add(skew).Before(a.begin.Add(-clocks)) && !s.begin.Add(skew).After(latest)
			}
			if !owner[s] && slices.ContainsFunc(f.skewsOf(s.sender), within) {
				owner[s], matched = true, true
				if a.ok {
					delivered = s
				}
			}
		}
		if a.ok && i+1 < len(logged) {
			f.books.Resent++
			f.books.complain("%s: the log has attempts after the one that was delivered: %s", id, f.timeline(all, logged))
		}
		if a.ok && !matched {
			f.books.complain("%s: attempt %d was recorded as delivered, and no request came for it: %s", id, i+1, f.timeline(all, logged))
		}
	}
	for i, s := range all {
		after := delivered != nil && s.begin.After(delivered.begin) && !owner[s] && !f.sentByTheDead(s)
		attempt, goesOn := *s, s.status == 0 && i+1 < len(all) && all[i+1].sender == s.sender && all[i+1].begin.Sub(s.end) < readLate
		if goesOn { // the connection broke, and the attempt went on with another request
			attempt.end = all[i+1].end
		}
		switch n, late := f.struckAt(&attempt); {
		case owner[s]:
		case n < 0:
			f.books.complain("%s: a request of process %d at %s for %v is not in the log, and the process was not struck then: %s", id, s.sender, s.begin.Format(time.StampMilli),
				s.end.Sub(s.begin), f.timeline(all, logged))
		case late:
			woken[n]++
			f.books.Again++
		case after:
			f.books.Resent++
			f.books.complain("%s: it was sent again after it was recorded as delivered: %s", id, f.timeline(all, logged))
		case !goesOn:
			unrecorded[n]++
		}
	}
}

// skewsOf is how far the clock of a process may be off.
func (f *fleet) skewsOf(pid int) (skews []time.Duration) {
	for _, m := range f.members {
		if pid == 0 || m.pid() == pid {
			skews = append(skews, m.skew)
		}
	}
	return append(skews, 0)[:max(len(skews), 1)]
}

// outlived tells whether the receiver works on a request whose sender was killed, or is stopped, by then.
func (f *fleet) outlived(s *sighting, at time.Time) bool {
	return slices.ContainsFunc(f.strikes, func(k strike) bool {
		return (k.pid == s.sender || s.sender == 0) && (k.ended && k.from.Before(at) || !k.woken.IsZero() && k.from.Before(s.end) && k.woken.After(s.begin))
	})
}

// timeline tells what came of a delivery, and what the log has of it.
func (f *fleet) timeline(all []*sighting, logged []attempt) string {
	var text strings.Builder
	for _, s := range all {
		fmt.Fprintf(&text, "\n  request of process %d at %s for %v, answered %d (struck %s)", s.sender, s.begin.Format(time.StampMicro), s.end.Sub(s.begin), s.status, f.strikesOf(s.sender))
	}
	for i, a := range logged {
		fmt.Fprintf(&text, "\n  attempt %d from %s to %s, ok %t", i+1, a.begin.Format(time.StampMicro), a.end.Format(time.StampMicro), a.ok)
	}
	return text.String()
}

// strikesOf tells when a process was struck.
func (f *fleet) strikesOf(pid int) string {
	var times []string
	for _, k := range f.strikes {
		if k.pid == pid {
			times = append(times, k.from.Format(time.StampMilli)+" to "+k.until.Format(time.StampMilli))
		}
	}
	return cmp.Or(strings.Join(times, ", "), "never")
}

// readBy is until when a request may be read that a strike explains. One whose sender nobody knows has been in the queue of the receiver's connections when its
// process was killed: no process has its socket. On a busy machine it is there for seconds.
func (k *strike) readBy(s *sighting) time.Time {
	if k.ended && s.sender == 0 {
		return k.until.Add(queuedLate)
	}
	return k.until
}

// sentByTheDead tells whether a request was read after its sender was killed: it was sent before that, and so before anything that others have sent since.
func (f *fleet) sentByTheDead(s *sighting) bool {
	return slices.ContainsFunc(f.strikes, func(k strike) bool {
		return k.ended && (k.pid == s.sender || s.sender == 0) && s.begin.After(k.from) && !s.begin.After(k.readBy(s))
	})
}

// struckAt returns the strike that explains why a request is unrecorded, -1 for none, and whether the process that was struck sent it when it was woken.
func (f *fleet) struckAt(s *sighting) (n int, late bool) {
	for i, k := range f.strikes {
		switch {
		case k.pid != s.sender && s.sender != 0:
		case !s.begin.After(k.readBy(s)) && s.end.After(k.from.Add(-recordLate)):
			return i, false
		case !k.woken.IsZero() && s.begin.After(k.until) && s.begin.Before(k.woken.Add(time.Second)):
			return i, true
		}
	}
	return -1, false
}
