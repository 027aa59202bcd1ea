package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// mergeEach makes merges begin at n sessions until the test ends.
func mergeEach(t testing.TB, n int) {
	before := mergeAt
	mergeAt = n
	t.Cleanup(func() { mergeAt = before })
}

// numberAll gives each session its entry, as versions before 5 did.
func numberAll(tx *bbolt.Tx) error {
	err := tx.Bucket(bucketSessions).ForEach(func(k, v []byte) error {
		r, err := decodeSession(binary.BigEndian.Uint64(k), v)
		return errors.Join(err, tx.Bucket(bucketSessionNumbers).Put(r.ID[:], u64key(r.number)))
	})
	return errors.Join(err, tx.Bucket(bucketMeta).Delete(keyNumbered))
}

// Sessions come, go on, are erased and begin anew, in any order, through merges and starts: each is found as what it is.
func TestNumbersThroughMerges(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4, 5, 6, 7, 8} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			mergeEach(t, 7)
			path := newPath(t)
			s := openTest(t, path)
			r := rand.New(rand.NewPCG(seed, 0))
			events := make(map[uuid.UUID]int) // how many each session has
			var ids []uuid.UUID               // those that were ever there
			for range 300 {
				switch n := r.IntN(20); {
				case n < 12 || len(ids) == 0:
					id := uuid.New()
					if n < 2 && len(ids) > 0 {
						id = ids[r.IntN(len(ids))]
					}
					if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, now()), now())); err != nil {
						t.Fatal(err)
					}
					ids = append(ids, id)
					events[id] += 3
				case n < 18:
					id := ids[r.IntN(len(ids))]
					erase(t, s, engine.Erasure{SessionID: id})
					delete(events, id)
				default:
					checkAndClose(t, s)
					s = openTest(t, path)
				}
			}
			for _, id := range ids {
				record, _, err := s.Session(t.Context(), id)
				if events[id] == 0 && errors.Is(err, engine.ErrNotFound) {
					continue
				}
				if err != nil || record.Head.Events != events[id] {
					t.Errorf("session %s has %d events, want %d: %v", id, record.Head.Events, events[id], err)
				}
			}
			err := s.db.View(func(tx *bbolt.Tx) error {
				upTo, err := metaU64(tx.Bucket(bucketMeta), keyNumbered)
				if upTo == 0 {
					t.Error("no merge has ended")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// What was acknowledged is found by whoever looks, while merges begin and end.
func TestFindWhileMerging(t *testing.T) {
	mergeEach(t, 16)
	s := openTest(t, newPath(t))
	var writers, readers sync.WaitGroup
	known := make(chan uuid.UUID, 1000)
	for range 4 {
		writers.Go(func() {
			for range 100 {
				id := uuid.New()
				if _, err := s.AppendEvents(context.Background(), engine.NewAppend(session(t, id, now()), now())); err != nil {
					t.Error(err)
					return
				}
				known <- id
			}
		})
		readers.Go(func() {
			for id := range known {
				for range 3 {
					if _, _, err := s.Session(context.Background(), id); err != nil {
						t.Errorf("session %s: %v", id, err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(known)
	readers.Wait()
}
