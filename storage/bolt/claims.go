package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// ClaimDue implements engine.Store.
func (s *Store) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	results := make([]engine.ClaimResult, len(requests))
	var claimed []uint64
	// Hold claimMu before the transaction begins. If the transaction were opened first, a delivery that finishes in between would
	// still stand in the queue that it sees, but no longer among the claims. It would be sent again.
	s.claimMu.Lock()
	locked := true
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		found := make([][][]byte, len(requests))
		for i, request := range requests {
			var err error
			found[i], results[i].Next, err = s.claimLane(tx, now, request)
			for _, key := range found[i] {
				claimed = append(claimed, queueKeyNumber(key))
			}
			if err != nil {
				return err
			}
		}
		s.claimMu.Unlock()
		locked = false
		for i := range found {
			if err := s.readAllClaimed(tx, found[i], &results[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if locked {
		s.claimMu.Unlock()
	}
	if err != nil {
		s.unclaim(claimed...)
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
	// skippedRetry is when to look again after that. By then the cancellation job has removed some of them.
	skippedRetry = 50 * time.Millisecond
)

// claimLane claims the due deliveries of a lane and returns their queue keys. The caller holds claimMu.
func (s *Store) claimLane(tx *bbolt.Tx, now time.Time, request engine.ClaimRequest) (found [][]byte, next time.Time, err error) {
	hooks := s.hooks.Load()
	mayBeCovered := len(hooks.Cancellations(request.Lane.WebhookID)) > 0
	prefix, nowKey := lanePrefix(request.Lane), instant(now)
	skipped := 0
	c := tx.Bucket(bucketQueue).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		due, number := queueKeyDue(k), queueKeyNumber(k)
		switch {
		case due > nowKey:
			return found, fromInstant(due), nil
		case len(found) == request.Room:
			return found, time.Time{}, nil
		case skipped == maxSkipped:
			return found, now.Add(skippedRetry), nil
		}
		if _, claimed := s.claims[number]; claimed {
			skipped++
			continue
		}
		if mayBeCovered {
			covered, err := s.isCovered(tx, hooks, number)
			if err != nil && !errors.Is(err, ErrCorrupt) { // readClaimed reports the damage
				return found, time.Time{}, err
			}
			if covered {
				skipped++
				continue
			}
		}
		s.claims[number] = request.Lane
		found = append(found, bytes.Clone(k))
	}
	return found, time.Time{}, nil
}

func (s *Store) isCovered(tx *bbolt.Tx, hooks *engine.WebhookSet, number uint64) (bool, error) {
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
	return err == nil && hooks.Covered(&r.Delivery), err
}

// readClaimed reads what the engine needs to send the delivery of a queue key.
func (s *Store) readClaimed(tx *bbolt.Tx, key []byte) (engine.Claimed, error) {
	number := queueKeyNumber(key)
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
	if err != nil {
		return engine.Claimed{}, err
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
		s.unclaim(deliveryNumber(claimed[i].ID))
	}
	return nil
}
