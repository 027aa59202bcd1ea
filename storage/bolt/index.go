package bolt

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"
)

// index is a bucket whose keys begin with a webhook, with the changes of a batch that are not made yet. The keys of a session's deliveries lie
// far from each other: each would go into the middle of a page that the batch has changed already, and bbolt moves all behind it. So the
// batch collects them, and makes them in the order of the keys.
type index struct {
	*bbolt.Bucket
	waiting []indexChange
}

// indexChange adds a key, or deletes it.
type indexChange struct {
	key    []byte
	delete bool
}

// move replaces one key of an index by another; nil stands for none.
func (b *batch) move(x *index, from, to []byte) {
	if bytes.Equal(from, to) {
		return
	}
	if from != nil {
		b.changes++
		x.waiting = append(x.waiting, indexChange{key: from, delete: true})
	}
	if to != nil {
		b.changes++
		x.waiting = append(x.waiting, indexChange{key: to})
	}
}

// settle makes the changes to the indexes that wait. Who reads an index in a batch calls it before.
func (b *batch) settle() error {
	for _, x := range []*index{&b.queue, &b.byWebhook, &b.undelivered} {
		if err := x.settle(); err != nil {
			return err
		}
	}
	return nil
}

func (x *index) settle() error {
	slices.SortStableFunc(x.waiting, func(a, b indexChange) int { return bytes.Compare(a.key, b.key) })
	for i, c := range x.waiting {
		if i+1 < len(x.waiting) && bytes.Equal(c.key, x.waiting[i+1].key) {
			continue // the last change of a key is the one that counts
		}
		var err error
		if c.delete {
			err = x.Delete(c.key)
		} else {
			err = x.Put(c.key, nil)
		}
		if err != nil {
			return err
		}
	}
	x.waiting = x.waiting[:0]
	return nil
}
