package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// mergeAt is how many sessions are in memory alone when a merge begins; a variable for tests. There may be twice as many at most: some
// 5 MB, and a tenth of a second at a start.
var mergeAt = 1 << 16

// mergePace is how many sessions are merged for each new one: a merge ends long before the next one is due.
const mergePace = 2

// mergeStep is how many sessions a commit merges. Neighbours share pages, so a few commits with many write less than many with a few: the path to the
// first page alone is three.
const mergeStep = 64

// numbers finds the numbers of new sessions. session_numbers is the only bucket with random keys, and each random key makes a commit
// write a page of its own. So a new session does not get its entry at once. Sessions up to a number, which meta holds as "numbered", have
// their entry. Later ones are in memory; a start loads them from their heads. When there are many, they are merged into the bucket: in
// the order of their ids, a few with some commits, so that neighbours share a page.
type numbers struct {
	mu      sync.RWMutex         // held by the writer to change the maps below, by others to read them
	recent  map[uuid.UUID]uint64 // sessions since the merge in progress began
	merging map[uuid.UUID]uint64 // sessions of the merge in progress; nil if there is none
	// incomplete is set by a start that could not read the heads of all new sessions. Read-only afterwards.
	incomplete bool

	// Owned by the writer.
	pending []numbered // sessions that are left to merge, by id
	upTo    uint64     // the highest number in merging
	owed    int        // how many sessions are to be merged for those that have come
}

type numbered struct {
	id     uuid.UUID
	number uint64
}

// find returns a session's number, 0 if it is not among the new ones. A caller that then looks into the bucket must begin its transaction
// after find, so that the transaction has the sessions that were merged in between.
func (n *numbers) find(id uuid.UUID) uint64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if number := n.recent[id]; number != 0 {
		return number
	}
	return n.merging[id]
}

// apply applies the changes of a batch: numbers by id, 0 for a session that was removed.
func (n *numbers) apply(changed map[uuid.UUID]uint64) {
	if len(changed) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, number := range changed {
		if number != 0 {
			n.recent[id] = number
			delete(n.merging, id) // of a session that has begun again, the merge has the old number
			continue
		}
		delete(n.recent, id)
		delete(n.merging, id)
	}
}

// begin begins a merge of all recent sessions.
func (n *numbers) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.merging, n.recent = n.recent, make(map[uuid.UUID]uint64)
	n.pending, n.upTo, n.owed = make([]numbered, 0, len(n.merging)), 0, 0
	for id, number := range n.merging {
		n.pending = append(n.pending, numbered{id, number})
		n.upTo = max(n.upTo, number)
	}
	slices.SortFunc(n.pending, func(a, b numbered) int { return bytes.Compare(a.id[:], b.id[:]) })
}

// end ends the merge.
func (n *numbers) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.merging, n.pending = nil, nil
}

// mergeNumbers continues the merge, or begins one if it is time. It merges mergePace sessions for each new one, in steps of mergeStep.
func (b *batch) mergeNumbers() error {
	n := &b.s.numbers
	if len(b.numbers) == 0 {
		return nil
	}
	if n.merging == nil {
		if len(n.recent) < mergeAt {
			return nil
		}
		n.begin()
	}
	owed := n.owed + mergePace*len(b.numbers)
	if owed < min(mergeStep, len(n.pending)) {
		b.after = append(b.after, func() { n.owed = owed })
		return nil
	}
	next, rest := n.pending, n.pending[min(len(n.pending), owed):]
	for _, e := range next[:len(next)-len(rest)] {
		if number, changed := b.numbers[e.id]; n.merging[e.id] != e.number || changed && number != e.number {
			continue // removed since
		}
		if err := b.put(b.sessionNumbers, e.id[:], u64key(e.number)); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		b.after = append(b.after, func() { n.pending, n.owed = rest, 0 })
		return nil
	}
	b.after = append(b.after, n.end)
	return b.put(b.meta, keyNumbered, sealBytes(keyNumbered, u64key(n.upTo)))
}

// loadNumbers loads the sessions that have no entry yet. A session whose head is damaged is left out, so it is not found by its id any
// more, and its next event starts it again. If it is not known which have an entry, all are loaded.
func (s *Store) loadNumbers(tx *bbolt.Tx) error {
	upTo, err := metaU64(tx.Bucket(bucketMeta), keyNumbered)
	if err != nil && !s.passes(err) {
		return err
	}
	recent := make(map[uuid.UUID]uint64)
	c := tx.Bucket(bucketSessions).Cursor()
	for k, v := c.Seek(u64key(upTo + 1)); k != nil; k, v = c.Next() {
		var r sessionRecord
		err := badKey(bucketSessions, k)
		if len(k) == 8 {
			r, err = decodeSession(binary.BigEndian.Uint64(k), v)
		}
		switch {
		case s.passes(err):
			s.numbers.incomplete = true
		case err != nil:
			return err
		default:
			recent[r.ID] = r.number
		}
	}
	s.numbers.recent = recent
	return nil
}

// sessionNumber returns a session's number as of this batch, 0 if it is not stored.
func (b *batch) sessionNumber(id uuid.UUID) (uint64, error) {
	if number, changed := b.numbers[id]; changed {
		return number, nil
	}
	if number := b.s.numbers.find(id); number != 0 {
		return number, nil
	}
	return mergedNumber(b.tx, id)
}

// mergedNumber looks up a session in session_numbers.
func mergedNumber(tx *bbolt.Tx, id uuid.UUID) (uint64, error) {
	v := tx.Bucket(bucketSessionNumbers).Get(id[:])
	switch {
	case v == nil:
		return 0, nil
	case len(v) != 8:
		return 0, fmt.Errorf("%w: session_numbers: a value is not a number", ErrCorrupt)
	}
	return binary.BigEndian.Uint64(v), nil
}

// errSessionMoved is returned by a finder whose session was removed after the finder was made. The session may have been posted again since.
var errSessionMoved = errors.New("the session was removed meanwhile")

// viewSession runs a read transaction with a finder of a session; again, if the session was removed in between.
func (s *Store) viewSession(ctx context.Context, id uuid.UUID, read func(tx *bbolt.Tx, session finder) error) error {
	for {
		session := s.finder(id)
		err := s.view(ctx, func(tx *bbolt.Tx) error { return read(tx, session) })
		if !errors.Is(err, errSessionMoved) {
			return err
		}
	}
}

// finder looks up a session by its id. Create it before the transaction in which it is used, as viewSession does; see numbers.find.
type finder struct {
	id     uuid.UUID
	recent uint64 // its number, if it was among the new ones
	in     *numbers
}

func (s *Store) finder(id uuid.UUID) finder { return finder{id, s.numbers.find(id), &s.numbers} }

// read reads the session's head; its number is 0 if it is not stored.
func (f finder) read(tx *bbolt.Tx) (sessionRecord, error) {
	if f.recent != 0 {
		if tx.Bucket(bucketSessions).Get(u64key(f.recent)) == nil {
			if f.in.find(f.id) != f.recent {
				return sessionRecord{}, errSessionMoved
			}
			return sessionRecord{}, nil // it is just being removed, or its record is lost
		}
		return readSession(tx.Bucket(bucketSessions), f.recent, f.id)
	}
	number, err := mergedNumber(tx, f.id)
	if err != nil {
		return sessionRecord{}, err
	}
	return readSession(tx.Bucket(bucketSessions), number, f.id)
}

// readSession reads the head of session number, and checks that the session has the id. Number 0 gives an empty record.
func readSession(sessions *bbolt.Bucket, number uint64, id uuid.UUID) (sessionRecord, error) {
	if number == 0 {
		return sessionRecord{}, nil
	}
	r, err := decodeSession(number, sessions.Get(u64key(number)))
	if err == nil && r.ID != id {
		err = fmt.Errorf("%w: session_numbers leads to session %d for the id of another", ErrCorrupt, number)
	}
	return r, err
}
