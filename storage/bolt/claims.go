package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// laneClaim is what was found in a lane.
type laneClaim struct {
	keys [][]byte  // the queue keys of the deliveries that were claimed
	next time.Time // see engine.ClaimResult
}

// ClaimDue implements engine.Store.
func (s *Store) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	results := make([]engine.ClaimResult, len(requests))
	found := make([]laneClaim, len(requests))
	// Hold claimMu before the transaction begins. If the transaction were opened first, a delivery that finishes in between would
	// still stand in the queue that it sees, but no longer among the claims. It would be sent again.
	s.claimMu.Lock()
	locked := true
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		for i, request := range requests {
			s.claimLane(tx, now, request, &found[i])
		}
		s.claimMu.Unlock()
		locked = false
		for i := range found {
			results[i].Next = found[i].next
			if err := s.readAllClaimed(tx, found[i].keys, &results[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if locked {
		s.claimMu.Unlock()
	}
	if err != nil {
		for i := range found {
			for _, key := range found[i].keys {
				s.unclaim(queueKeyNumber(key))
			}
		}
		return nil, err
	}
	return results, nil
}

// readAllClaimed reads the deliveries that were claimed in a lane.
func (s *Store) readAllClaimed(tx *bbolt.Tx, keys [][]byte, result *engine.ClaimResult) error {
	for _, key := range keys {
		c, err := s.readClaimed(tx, key)
		if errors.Is(err, ErrCorrupt) {
			result.Damaged = append(result.Damaged, err)
			continue
		}
		if err != nil {
			return err
		}
		result.Claimed = append(result.Claimed, c)
	}
	return nil
}

const (
	// maxSkipped bounds how many entries of a lane one call skips because they are claimed or cancelled.
	maxSkipped = 2000
	// skippedRetry is when to go on after that.
	skippedRetry = 50 * time.Millisecond
	// frontRecheck is when to look again at a lane's front after its end was reached from a resumePoint.
	frontRecheck = time.Second
	// resumeFor is how long a resumePoint is used while there is always more behind it.
	resumeFor = time.Minute
)

// resumePoint is where the next call begins in a lane, because one call may not skip all that is before it. Damaged deliveries stay claimed,
// so there may be any number of them at a lane's front. What comes due before the point is found when the lane's end is reached or the point
// has served its time.
type resumePoint struct {
	place []byte // due(8) D(8) of the next entry to look at
	until time.Time
}

// resumePlace returns where to begin in a lane; nil for its front. The caller holds claimMu.
func (s *Store) resumePlace(lane engine.Lane, now time.Time) []byte {
	p, ok := s.resumed[lane]
	if left := p.until.Sub(now); ok && (left <= 0 || left > resumeFor) { // or the clock was set back
		delete(s.resumed, lane)
		return nil
	}
	return p.place
}

// forgetResumePoints drops those of a deleted webhook, whose lanes nobody asks for any more.
func (s *Store) forgetResumePoints(webhookID uint32) {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	delete(s.resumed, engine.Lane{WebhookID: webhookID})
	delete(s.resumed, engine.Lane{WebhookID: webhookID, Test: true})
}

// claimLane claims the due deliveries of a lane, as far as one call may go. The caller holds claimMu.
func (s *Store) claimLane(tx *bbolt.Tx, now time.Time, request engine.ClaimRequest, found *laneClaim) {
	hooks := s.hooks.Load()
	mayBeCovered := len(hooks.Cancellations(request.Lane.WebhookID)) > 0
	nowKey := instant(now)
	from := s.resumePlace(request.Lane, now)
	skipped := 0
	for k := range s.entries(tx, bucketQueue, lanePrefix(request.Lane), from) {
		due, number := queueKeyDue(k), queueKeyNumber(k)
		if due > nowKey {
			found.next = fromInstant(due)
			break
		}
		if len(found.keys) == request.Room {
			return
		}
		_, claimed := s.claims[number]
		if claimed || mayBeCovered && s.isCovered(tx, hooks, number) {
			if skipped++; skipped > maxSkipped {
				p := resumePoint{place: bytes.Clone(k[lanePrefixLen:]), until: now.Add(resumeFor)}
				if from != nil {
					p.until = s.resumed[request.Lane].until
				}
				s.resumed[request.Lane] = p
				found.next = now.Add(skippedRetry)
				return
			}
			continue
		}
		s.claims[number] = request.Lane
		found.keys = append(found.keys, bytes.Clone(k))
	}
	if from == nil {
		return
	}
	delete(s.resumed, request.Lane)
	if again := now.Add(frontRecheck); found.next.IsZero() || found.next.After(again) {
		found.next = again
	}
}

// isCovered reports whether a cancellation covers a delivery. A damaged one counts as not covered: readClaimed reports the damage.
func (s *Store) isCovered(tx *bbolt.Tx, hooks *engine.WebhookSet, number uint64) bool {
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
	return err == nil && hooks.Covered(&r.Delivery)
}

// readClaimed reads what the engine needs to send the delivery of a queue key.
func (s *Store) readClaimed(tx *bbolt.Tx, key []byte) (engine.Claimed, error) {
	number := queueKeyNumber(key)
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
	if err != nil {
		return engine.Claimed{}, err
	}
	if r.adopted {
		s.adopted.Store(r.ID, number)
	}
	// Keys have no checksum: the record has to say the same.
	if queue, _ := indexKeys(&r); r.number == 0 || !bytes.Equal(queue, key) {
		return engine.Claimed{}, fmt.Errorf("%w: the queue holds delivery %d at a place that is not its own", ErrCorrupt, number)
	}
	c := engine.Claimed{Delivery: r.Delivery}
	if r.payload != 0 {
		c.Payload, err = readPayload(tx, &r)
		return c, err
	}
	v := tx.Bucket(bucketSessions).Get(u64key(r.session))
	head, err := decodeSession(r.session, v)
	if err != nil {
		return c, err
	}
	session, err := readSessionRecord(tx.Bucket(bucketEvents), &head)
	c.Session = &session
	return c, err
}

// claimedNumber is a delivery's number with the lane that it is claimed in.
type claimedNumber struct {
	number uint64
	lane   engine.Lane
}

// claim adds claims.
func (s *Store) claim(claimed ...claimedNumber) {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	for _, c := range claimed {
		s.claims[c.number] = c.lane
	}
}

// unclaim ends claims.
func (s *Store) unclaim(numbers ...uint64) {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	for _, n := range numbers {
		delete(s.claims, n)
	}
}

// claimCounts counts the claims by lane.
func (s *Store) claimCounts() map[engine.Lane]int64 {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	counts := make(map[engine.Lane]int64)
	for _, lane := range s.claims {
		counts[lane]++
	}
	return counts
}

// Release implements engine.Store.
func (s *Store) Release(_ context.Context, claimed []engine.Delivery) error {
	for i := range claimed {
		s.unclaimID(claimed[i].ID)
	}
	return nil
}

// unclaimID ends the claim of a delivery, which may not be stored any more.
func (s *Store) unclaimID(id uuid.UUID) {
	if number, ok := s.adopted.LoadAndDelete(id); ok {
		s.unclaim(number.(uint64))
		return
	}
	s.unclaim(s.nativeNumber(id))
}
