package bolt

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// migrate brings a database of an older version up to date.
func (s *Store) migrate() error {
	schema, err := s.schema()
	if err != nil || schema == schemaVersion {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(bucketHealth); err != nil {
			return err
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
	if err == nil && schema > schemaVersion {
		err = fmt.Errorf("%w: it has schema %d, this version knows %d", ErrSchema, schema, schemaVersion)
	}
	return schema, err
}

// load reads the state that is held in memory. It does not grow with the queue.
func (s *Store) load() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: bucket %s is missing", ErrCorrupt, name)
			}
		}
		var err error
		if s.nonce, err = metaU32(tx.Bucket(bucketMeta), keyNonce); err != nil {
			return err
		}
		hooks, err := readWebhooks(tx.Bucket(bucketWebhooks), tx.Bucket(bucketJobs))
		if err != nil {
			return err
		}
		s.hooks.Store(hooks)
		if err := s.numbers.load(tx); err != nil {
			return err
		}
		err = tx.Bucket(bucketHealth).ForEach(func(k, v []byte) error {
			h, err := decodeHealth(k, v)
			s.health[binary.BigEndian.Uint32(k)] = h
			return err
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketCounts).ForEach(func(k, v []byte) error {
			c, err := decodeCounts(k, v)
			s.counts[binary.BigEndian.Uint32(k)] = c
			return err
		})
	})
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

func readWebhooks(webhooks, jobs *bbolt.Bucket) (*engine.WebhookSet, error) {
	var hooks []*engine.Webhook
	err := webhooks.ForEach(func(k, v []byte) error {
		body, err := unseal(bucketWebhooks, k, v)
		if err != nil {
			return err
		}
		w := new(engine.Webhook)
		if err := json.Unmarshal(body, w); err != nil {
			return fmt.Errorf("%w: webhooks %x: %v", ErrCorrupt, k, err)
		}
		hooks = append(hooks, w)
		return nil
	})
	if err != nil {
		return nil, err
	}
	cancels, err := readCancellations(jobs)
	if err != nil {
		return nil, err
	}
	return engine.NewWebhookSet(hooks, cancels), nil
}
