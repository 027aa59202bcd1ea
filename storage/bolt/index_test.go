package bolt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"go.etcd.io/bbolt"
)

// An index has what the changes in their order come to, however often a batch settles it.
func TestIndexSettles(t *testing.T) {
	s := openTest(t, newPath(t))
	rng := rand.New(rand.NewPCG(1, 2))
	want := make(map[string]bool)
	err := s.write(t.Context(), 0, func(b *batch) error {
		for i := range 5000 {
			key := fmt.Appendf(nil, "%04d", rng.IntN(500))
			if rng.IntN(3) == 0 {
				b.move(&b.byWebhook, key, nil)
				delete(want, string(key))
			} else {
				b.move(&b.byWebhook, nil, key)
				want[string(key)] = true
			}
			if i%700 == 0 {
				if err := b.settle(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	err = s.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketByWebhook).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.First() {
			got[string(k)] = true
			if err := c.Delete(); err != nil { // the check at the end of the test knows no such keys
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
}
