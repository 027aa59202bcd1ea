package torture

import (
	"fmt"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// books account for repeats, exactly. At each cut, when no process of hookbolt runs, the requests that came under each id are held
// against the attempts that the database has recorded for it. What is not recorded was in flight, or answered and not yet recorded:
// it is what may be repeated, and nothing else is.
type books struct {
	// bound is how many attempts may be unrecorded at a cut: what may be claimed at once.
	bound int
	// forgets tells that what is delivered may be gone, with its attempts.
	forgets bool

	// broken are the deliveries whose first request ended with its connection: its attempt may have sent it once more.
	broken map[uuid.UUID]bool

	deliveries map[uuid.UUID]*account
	Cuts       int
	Unrecorded int // over all cuts: B
	Most       int // of one cut
	Resent     int // requests for what was recorded as delivered at a cut before: "re"
	Again      int // requests that the log says were sent once more, as far as both have arrived; see delivery.Repeats
	trouble    []string
}

// account is one delivery's.
type account struct {
	requests   int // at the last cut
	attempts   int // recorded at the last cut
	unrecorded int // over all cuts so far
	again      int // requests that were sent once more, as far as both have arrived, over all cuts so far
	repeats    int // as the log has them, at the last cut
	delivered  bool
	status     engine.Status
}

func newBooks(bound int) *books {
	return &books{bound: bound, deliveries: make(map[uuid.UUID]*account)}
}

func (b *books) complain(format string, args ...any) {
	b.trouble = append(b.trouble, fmt.Sprintf(format, args...))
}

// cut closes the books at a cut. requests are all that have come so far. allowed is how many attempts may be unrecorded now: 0 after a
// clean stop.
func (b *books) cut(found inspection, requests map[uuid.UUID]int, allowed int) {
	b.Cuts++
	for _, v := range found.Violations {
		b.complain("cut %d: the database is damaged: %s", b.Cuts, v)
	}
	stored := make(map[uuid.UUID]*delivery, len(found.Deliveries))
	unrecorded := 0
	for i := range found.Deliveries {
		d := &found.Deliveries[i]
		stored[d.ID] = d
		a := b.deliveries[d.ID]
		if a == nil {
			a = &account{}
			b.deliveries[d.ID] = a
		}
		if d.Attempts < a.attempts {
			b.complain("cut %d: %s: %d attempts recorded, %d were at the cut before", b.Cuts, d.ID, d.Attempts, a.attempts)
		}
		if a.delivered {
			if again := requests[d.ID] - a.requests; again > 0 {
				b.Resent += again
				b.complain("cut %d: %s: %d requests after it was recorded as delivered", b.Cuts, d.ID, again)
			}
			if d.Status != engine.StatusDelivered {
				b.complain("cut %d: %s: %s, was delivered at the cut before", b.Cuts, d.ID, d.Status)
			}
		}
		fresh := requests[d.ID] - d.Attempts - a.unrecorded - a.again
		if again := min(fresh, d.Repeats-a.again); again > 0 {
			b.Again += again
			a.again, fresh = a.again+again, fresh-again
		}
		switch {
		case fresh < 0:
			b.complain("cut %d: %s: %d attempts in the log, %d requests, %d of which earlier cuts had left unrecorded",
				b.Cuts, d.ID, d.Attempts, requests[d.ID], a.unrecorded)
		case fresh == 2 && b.broken[d.ID] && requests[d.ID] == 2: // one attempt, which was in flight again after its first connection broke
			unrecorded++
			b.Unrecorded++ // for the repeat, which the log does not have
			a.unrecorded += fresh
		case fresh > 1:
			b.complain("cut %d: %s: %d requests are unrecorded, of a delivery that may have one in flight", b.Cuts, d.ID, fresh)
			fallthrough
		default:
			unrecorded += fresh
			a.unrecorded += fresh
		}
		a.requests, a.attempts, a.repeats, a.status = requests[d.ID], d.Attempts, d.Repeats, d.Status
		a.delivered = d.Status == engine.StatusDelivered
	}
	for id, n := range requests {
		switch a := b.deliveries[id]; {
		case stored[id] != nil:
		case b.forgets && a != nil && a.delivered:
			if again := n - a.requests; again > 0 {
				b.complain("cut %d: %s: %d requests after it was recorded as delivered", b.Cuts, id, again)
			}
		case b.forgets: // it was delivered and forgotten since the last cut: nobody knows how
			b.deliveries[id] = &account{requests: n, attempts: n, delivered: true, status: engine.StatusDelivered}
		default:
			b.complain("cut %d: %s: it was sent and is not stored", b.Cuts, id)
		}
	}
	if unrecorded > allowed {
		b.complain("cut %d: %d requests are unrecorded, at most %d may be", b.Cuts, unrecorded, allowed)
	}
	b.Unrecorded += unrecorded
	b.Most = max(b.Most, unrecorded)
}

// repeats is how many requests were sent once more, by the log, as of the last cut.
func (b *books) repeats() int {
	n := 0
	for _, a := range b.deliveries {
		n += a.repeats
	}
	return n
}

// attempts is how many attempts the log has, as of the last cut.
func (b *books) attempts() int {
	n := 0
	for _, a := range b.deliveries {
		n += a.attempts
	}
	return n
}
