package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"sync"

	"go.etcd.io/bbolt"
)

// maxNamed bounds how many damaged records are remembered, so that each is named once. "hookbolt check" names those beyond.
const maxNamed = 10_000

// damageLog collects the damaged records that calls have passed whose results have no place for them. Maintain reports them.
type damageLog struct {
	mu      sync.Mutex
	named   map[string]bool // the texts of all errors so far; guarded by mu
	pending []error         // those that are not reported yet; guarded by mu
}

// add adds the error of a damaged record. It reports whether the error is new.
func (l *damageLog) add(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := err.Error()
	if l.named[text] || len(l.named) == maxNamed {
		return false
	}
	if l.named == nil {
		l.named = make(map[string]bool)
	}
	l.named[text] = true
	l.pending = append(l.pending, err)
	return true
}

// take returns the errors since the last call.
func (l *damageLog) take() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := l.pending
	l.pending = nil
	return errs
}

// passes reports whether err is about a damaged record, and notes the record. Who walks through records goes on behind it: damage of one
// record hides no other.
func (s *Store) passes(err error) bool {
	if !errors.Is(err, ErrCorrupt) {
		return false
	}
	s.damaged.add(err)
	return true
}

// keySizes are the lengths of the keys of each bucket that entries walks, but for those of updates in marks.
var keySizes = map[string]int{
	string(bucketWebhooks): 4, string(bucketSessions): 8, string(bucketDeliveries): 8, string(bucketQueue): queueKeyLen, string(bucketByWebhook): 12,
	string(bucketUndelivered): 13, string(bucketExpiry): expiryKeyLen, string(bucketJobs): 8, string(bucketCounts): 4, string(bucketHealth): 4,
	string(bucketMarks): 13, string(bucketFanOuts): 8, string(bucketRequestKeys): 32, string(bucketRequestTimes): 40,
}

// entries walks the keys of a bucket that begin with prefix, upwards from prefix and from on. It passes keys that have not the length of the
// bucket's keys: they cannot be read.
func (s *Store) entries(tx *bbolt.Tx, bucket, prefix, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		c := tx.Bucket(bucket).Cursor()
		for k, v := c.Seek(append(bytes.Clone(prefix), from...)); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if !fitsKey(bucket, k) {
				s.passes(badKey(bucket, k))
			} else if !yield(k, v) {
				return
			}
		}
	}
}

// fitsKey reports whether a key has the length of the bucket's keys.
func fitsKey(bucket, k []byte) bool {
	if bytes.Equal(bucket, bucketMarks) {
		return fitsMark(k)
	}
	return len(k) == keySizes[string(bucket)]
}

func badKey(bucket, k []byte) error {
	return fmt.Errorf("%w: %s %x: a key of %d bytes", ErrCorrupt, bucket, k, len(k))
}
