package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// forgetStep bounds how many requests with keys one step of the background work forgets.
const forgetStep = 200

// Done implements engine.Store.
func (s *Store) Done(ctx context.Context, key engine.OnceKey) (engine.Done, error) {
	var done *engine.Done
	err := s.view(ctx, func(conn *pgx.Conn) error {
		found, err := conn.Query(ctx, s.sql("SELECT key, done::text FROM @.request_keys WHERE key = $1"), key[:])
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			if _, done, err = scanDone(found); err != nil {
				return err
			}
		}
		return found.Err()
	})
	if err == nil && done == nil {
		err = fmt.Errorf("a request with this key: %w", engine.ErrNotFound)
	}
	if err != nil {
		return engine.Done{}, err
	}
	return *done, nil
}

func scanDone(found pgx.Rows) (key engine.OnceKey, done *engine.Done, err error) {
	var text, k []byte
	if err := found.Scan(&k, &text); err != nil {
		return key, nil, err
	}
	copy(key[:], k)
	done = new(engine.Done)
	if err := json.Unmarshal(text, done); err != nil {
		return key, nil, damage("request", fmt.Sprintf("%x", k))
	}
	return key, done, nil
}

// queueOnces reads what requests with keys have done.
func (b *batch) queueOnces(p *pgx.Batch, keys []engine.OnceKey) {
	list := make([][]byte, len(keys))
	for i := range keys {
		list[i] = keys[i][:]
		b.onces.read(keys[i], nil)
	}
	p.Queue(b.s.sql("SELECT key, done::text FROM @.request_keys WHERE key = ANY($1) ORDER BY key FOR UPDATE"), list).Query(func(found pgx.Rows) error {
		for found.Next() {
			key, done, err := scanDone(found)
			if err != nil {
				return err
			}
			b.onces.read(key, done)
		}
		return nil
	})
}

// refuseRepeated returns engine.ErrRepeated if a request with the same key is remembered. It is called before the first change. The mutation has
// named the key.
func (b *batch) refuseRepeated(o *engine.Once) error {
	if o == nil {
		return nil
	}
	if done, _ := b.onces.get(o.Key); done != nil && !done.Forgotten(o.At) {
		return engine.ErrRepeated
	}
	return nil
}

// remember keeps what a request has done. One with the same key that is forgotten gives way, and so do the oldest if there are too many.
func (b *batch) remember(o *engine.Once, done engine.Done) error {
	if o == nil {
		return nil
	}
	done.Request, done.At = o.Request, o.At
	b.changes++
	if before, _ := b.onces.get(o.Key); before == nil {
		b.remembered++
	}
	b.onces.put(o.Key, &done)
	if b.s.remembered+b.remembered > engine.MaxOnce {
		b.remembered--
		b.exec("DELETE FROM @.request_keys WHERE key = (SELECT key FROM @.request_keys WHERE key <> $1 ORDER BY at LIMIT 1)", o.Key[:])
	}
	return nil
}

// rememberErased adds to what an erasure with a key has done, that it is complete. nil stands for no key.
func (b *batch) rememberErased(key []byte, erased engine.Erased) error {
	if len(key) != len(engine.OnceKey{}) {
		return nil
	}
	k := engine.OnceKey(key)
	if _, known := b.onces.get(k); !known {
		b.onces.read(k, nil)
		err := b.query(func(found pgx.Rows) error {
			_, done, err := scanDone(found)
			if !b.s.passes(err) {
				b.onces.read(k, done)
				return err
			}
			return nil
		}, "SELECT key, done::text FROM @.request_keys WHERE key = $1 FOR UPDATE", key)
		if err != nil {
			return err
		}
	}
	done, _ := b.onces.get(k)
	if done == nil {
		return nil // it was forgotten, or is damaged
	}
	after := *done
	after.Erased = &erased
	b.changes++
	b.onces.put(k, &after)
	return nil
}

// stepForget forgets requests whose time is over. It moves m.Next to when to call it again.
func (b *batch) stepForget(now time.Time, m *engine.Maintained) error {
	var over []engine.OnceKey
	n := 0
	err := b.query(func(found pgx.Rows) error {
		var key []byte
		var at int64
		if err := found.Scan(&key, &at); err != nil {
			return err
		}
		done := engine.Done{At: fields.Time(at)}
		switch n++; {
		case len(key) != len(engine.OnceKey{}):
			b.s.passes(damage("request", fmt.Sprintf("%x", key)))
		case !done.Forgotten(now):
			m.Next = earlier(m.Next, done.At.Add(engine.OnceRetention))
		case n > forgetStep:
			m.Next = now
		default:
			k := engine.OnceKey(key)
			if _, known := b.onces.get(k); !known {
				b.onces.read(k, &done)
			}
			over = append(over, k)
		}
		return nil
	}, "SELECT key, at FROM @.request_keys ORDER BY at LIMIT $1 FOR UPDATE", forgetStep+1)
	if err != nil {
		return err
	}
	for _, k := range over {
		b.changes++
		b.remembered--
		b.onces.put(k, nil)
	}
	return nil
}
