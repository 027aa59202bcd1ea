package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// forgetStep bounds how many requests with keys one step of the background work forgets.
const forgetStep = 200

// Done implements engine.Store.
func (s *Store) Done(ctx context.Context, key engine.OnceKey) (engine.Done, error) {
	var done engine.Done
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		found, err := readDone(tx.Bucket(bucketRequestKeys), key[:])
		if err == nil && found == nil {
			err = fmt.Errorf("a request with this key: %w", engine.ErrNotFound)
		}
		if err == nil {
			done = *found
		}
		return err
	})
	return done, err
}

// readDone reads what a request with a key has done; nil if there was none.
func readDone(requestKeys *bbolt.Bucket, key []byte) (*engine.Done, error) {
	v := requestKeys.Get(key)
	if v == nil {
		return nil, nil
	}
	return decodeDone(key, v)
}

func decodeDone(key, value []byte) (*engine.Done, error) {
	body, err := unseal(bucketRequestKeys, key, value)
	if err != nil {
		return nil, err
	}
	done := new(engine.Done)
	if err := json.Unmarshal(body, done); err != nil {
		return nil, fmt.Errorf("%w: request_keys %x: %v", ErrCorrupt, key, err)
	}
	return done, nil
}

// requestTime is the key of a request in request_times.
func requestTime(at time.Time, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), instant(at)), key...)
}

// refuseRepeated returns engine.ErrRepeated if a request with the same key is remembered. It is called before the first change.
func (b *batch) refuseRepeated(o *engine.Once) error {
	if o == nil {
		return nil
	}
	done, err := readDone(b.requestKeys, o.Key[:])
	if err == nil && done != nil && !done.Forgotten(o.At) {
		err = engine.ErrRepeated
	}
	return err
}

// remember keeps what a request has done. One with the same key that is forgotten gives way, and so does the oldest if there are too many.
func (b *batch) remember(o *engine.Once, done engine.Done) error {
	if o == nil {
		return nil
	}
	key := o.Key[:]
	before, err := readDone(b.requestKeys, key)
	if err != nil {
		return err
	}
	if before != nil {
		if err := b.forget(requestTime(before.At, key)); err != nil {
			return err
		}
	}
	if b.s.remembered+b.remembered >= engine.MaxOnce {
		for k := range b.s.entries(b.tx, bucketRequestTimes, nil, nil) {
			if err := b.forget(bytes.Clone(k)); err != nil {
				return err
			}
			break
		}
	}
	done.Request, done.At = o.Request, o.At
	body, err := json.Marshal(&done)
	if err != nil {
		return err
	}
	b.remembered++
	if err := b.put(b.requestTimes, requestTime(o.At, key), nil); err != nil {
		return err
	}
	return b.put(b.requestKeys, key, sealBytes(key, body))
}

// rememberErased adds to what an erasure with a key has done, that it is complete. nil stands for no key.
func (b *batch) rememberErased(key []byte, erased engine.Erased) error {
	if key == nil {
		return nil
	}
	done, err := readDone(b.requestKeys, key)
	if b.s.passes(err) || err == nil && done == nil {
		return nil // it was forgotten
	}
	if err != nil {
		return err
	}
	done.Erased = &erased
	body, err := json.Marshal(done)
	if err != nil {
		return err
	}
	return b.put(b.requestKeys, key, sealBytes(key, body))
}

// forget removes a request by its key in request_times.
func (b *batch) forget(at []byte) error {
	b.remembered--
	if err := b.delete(b.requestTimes, at); err != nil {
		return err
	}
	return b.delete(b.requestKeys, at[8:])
}

// stepForget forgets requests whose time is over. It returns when to call it again.
func (b *batch) stepForget(now time.Time) (time.Time, error) {
	var keys [][]byte
	next := now.Add(maintainAtLeast)
	for k := range b.s.entries(b.tx, bucketRequestTimes, nil, nil) {
		done := engine.Done{At: fromInstant(binary.BigEndian.Uint64(k))}
		if !done.Forgotten(now) {
			next = done.At.Add(engine.OnceRetention)
			break
		}
		if len(keys) == forgetStep {
			next = now
			break
		}
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.forget(k); err != nil {
			return next, err
		}
	}
	return next, nil
}

// loadRemembered counts the requests that are remembered. A file that no version with keys has opened yet has no buckets for them.
func (s *Store) loadRemembered(tx *bbolt.Tx) {
	if tx.Bucket(bucketRequestTimes) == nil {
		return
	}
	for range s.entries(tx, bucketRequestTimes, nil, nil) {
		s.remembered++
	}
}

// requests checks that each request that is remembered has its time, and the other way round.
func (c *checker) requests() error {
	if c.tx.Bucket(bucketRequestKeys) == nil || c.tx.Bucket(bucketRequestTimes) == nil {
		return nil
	}
	err := c.each(bucketRequestKeys, func(k, v []byte) error {
		done, err := decodeDone(k, v)
		c.expect(err == nil && len(k) == len(engine.OnceKey{}), "request_keys %x: %v", k, err)
		c.expect(err != nil || c.stored(bucketRequestTimes, requestTime(done.At, k)), "request_keys %x: not at its place in request_times", k)
		return nil
	})
	if err != nil {
		return err
	}
	return c.each(bucketRequestTimes, func(k, _ []byte) error {
		c.expect(len(k) == 8+len(engine.OnceKey{}) && c.stored(bucketRequestKeys, k[8:]), "request_times %x: belongs to nothing", k)
		return nil
	})
}
