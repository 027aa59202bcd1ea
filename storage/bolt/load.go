package bolt

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
	"hookbolt/storage/internal/copying"
)

// migrate brings a database of an older version up to date.
func (s *Store) migrate() error {
	schema, err := s.schema()
	if err != nil {
		return err
	}
	if schema == schemaVersion {
		return s.addBuckets()
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range slices.Concat([][]byte{bucketHealth, bucketMarks, bucketFanOuts, bucketDeliveryIDs}, addedBuckets) { // since versions 2, 8 and 12
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if schema < 5 {
			numbered := u64key(tx.Bucket(bucketSessions).Sequence()) // all of them
			if err := meta.Put(keyNumbered, sealBytes(keyNumbered, numbered)); err != nil {
				return err
			}
		}
		return meta.Put(keySchema, sealBytes(keySchema, u32key(schemaVersion)))
	})
}

// addBuckets makes the buckets that a file of the present layout may lack.
func (s *Store) addBuckets() error {
	var missing [][]byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		missing = slices.DeleteFunc(slices.Clone(addedBuckets), func(name []byte) bool { return tx.Bucket(name) != nil })
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range missing {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// schema reads the version of the layout. It returns ErrSchema if this program does not know it yet.
func (s *Store) schema() (schema uint32, err error) {
	err = s.db.View(func(tx *bbolt.Tx) (err error) {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("%w: it has no meta bucket", ErrNotDatabase)
		}
		schema, err = metaU32(meta, keySchema)
		return err
	})
	if err == nil && schema == copyingSchema {
		return schema, copying.ErrUnfinished
	}
	if err == nil && schema > schemaVersion {
		err = fmt.Errorf("%w: it has schema %d, this version knows %d", ErrSchema, schema, schemaVersion)
	}
	return schema, err
}

// load reads the state that is held in memory. It does not grow with the queue. It passes damaged records, except those without which
// nothing can be delivered rightly: the webhooks, and the nonce.
func (s *Store) load() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if lacksBucket(tx, name) {
				return fmt.Errorf("%w: bucket %s is missing", ErrCorrupt, name)
			}
		}
		var err error
		if s.nonce, err = metaU32(tx.Bucket(bucketMeta), keyNonce); err != nil {
			return err
		}
		hooks, damaged := readWebhooks(tx.Bucket(bucketWebhooks))
		if len(damaged) > 0 {
			return damaged[0]
		}
		cancels, damaged := readCancellations(tx.Bucket(bucketJobs), hooks)
		for _, err := range damaged {
			s.passes(err)
		}
		s.hooks.Store(engine.NewWebhookSet(hooks, cancels))
		if err := s.loadNumbers(tx); err != nil {
			return err
		}
		s.loadFanOuts(tx)
		s.loadRemembered(tx)
		if left := s.unfinishedErasures(tx); len(left) > 0 {
			s.unfinished.Store(&left)
		}
		for k, v := range s.entries(tx, bucketHealth, nil, nil) {
			h, err := decodeHealth(k, v)
			if s.passes(err) { // its endpoint counts as healthy until it fails again
				continue
			}
			if err != nil {
				return err
			}
			s.health[binary.BigEndian.Uint32(k)] = h
		}
		return s.loadCounts(tx)
	})
}

// loadCounts loads the counts. What the damaged ones said is counted again, which takes some seconds for each million deliveries.
func (s *Store) loadCounts(tx *bbolt.Tx) error {
	damaged := 0
	for k, v := range s.entries(tx, bucketCounts, nil, nil) {
		c, err := decodeCounts(k, v)
		if s.passes(err) {
			damaged++
			continue
		}
		if err != nil {
			return err
		}
		s.counts[binary.BigEndian.Uint32(k)] = c
	}
	for _, w := range s.hooks.Load().All() {
		if _, ok := s.counts[w.ID]; ok {
			continue
		}
		for range s.entries(tx, bucketByWebhook, u32key(w.ID), nil) { // the counts of its deliveries are lost
			damaged++
			break
		}
	}
	if damaged == 0 {
		return nil
	}
	counted := make(map[uint32]counts)
	for k, v := range s.entries(tx, bucketDeliveries, nil, nil) {
		r, err := decodeDelivery(s.nonce, binary.BigEndian.Uint64(k), v)
		if s.passes(err) {
			continue
		}
		if err != nil {
			return err
		}
		c := counted[r.WebhookID]
		c.byStatus[r.Status]++
		c.late += isLate(&r)
		c.parked += isParked(&r)
		counted[r.WebhookID] = c
	}
	for id, c := range counted {
		if _, ok := s.counts[id]; !ok {
			s.counts[id] = c
		}
	}
	return nil
}

// metaValue reads a value of meta, which must have size bytes.
func metaValue(meta *bbolt.Bucket, key []byte, size int) ([]byte, error) {
	body, err := unseal(bucketMeta, key, meta.Get(key))
	if err == nil && len(body) != size {
		err = fmt.Errorf("%w: meta %s", ErrCorrupt, key)
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

func metaU32(meta *bbolt.Bucket, key []byte) (uint32, error) {
	body, err := metaValue(meta, key, 4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(body), nil
}

func metaU64(meta *bbolt.Bucket, key []byte) (uint64, error) {
	body, err := metaValue(meta, key, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(body), nil
}

// readWebhooks reads all webhooks. It passes damaged ones and returns an error for each.
func readWebhooks(webhooks *bbolt.Bucket) (hooks []*engine.Webhook, damaged []error) {
	c := webhooks.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		w := new(engine.Webhook)
		body, err := unseal(bucketWebhooks, k, v)
		if err == nil {
			if err = json.Unmarshal(body, w); err != nil {
				err = fmt.Errorf("%w: webhooks %x: %v", ErrCorrupt, k, err)
			}
		}
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		hooks = append(hooks, w)
	}
	return hooks, damaged
}
