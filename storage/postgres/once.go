package postgres

import (
	"context"
	"encoding/json"
	"errors"
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
	if err == nil {
		// Its commit may have been given up while it waited for a synchronous standby. Who is told of it now is told by a commit that has not.
		err = s.write(ctx, mutation{run: func(b *batch) error { b.changes++; return nil }})
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

// remember keeps what a request has done. One with the same key that is forgotten gives way.
func (b *batch) remember(o *engine.Once, done engine.Done) error {
	if o == nil {
		return nil
	}
	done.Request, done.At = o.Request, o.At
	b.changes++
	b.remembered++
	b.onces.put(o.Key, &done)
	if b.s.untrimmed+b.remembered >= onceSlack && !b.trimmed {
		b.trimmed = true
		b.trimOnces(o.At)
	}
	return nil
}

// onceSlack is how many requests a process remembers before it looks whether there are too many. The others add to the same table, so no process knows
// their number, and to count them takes some ten milliseconds. There are up to onceSlack more than engine.MaxOnce for each process.
const onceSlack = engine.MaxOnce / 100

// trimOnces forgets the oldest requests with keys if there are more than are to be remembered, whichever process has stored them. The reader that finds
// how far is not the batch's connection: its error, as of a damaged page, spoils nothing.
func (b *batch) trimOnces(now time.Time) {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	from := b.s.passingOf(passRequests, forgetStep, now).from
	var oldest int64 // of those that are kept
	err := b.s.view(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, b.s.sql("SELECT at FROM @.request_keys WHERE at >= $1 ORDER BY at DESC OFFSET $2 LIMIT 1"), from, b.s.maxOnce-1).Scan(&oldest)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows): // there are fewer
	case err != nil:
		b.s.log.Warn("the requests with idempotency keys could not be counted; too many may be remembered for a while", "error", err)
	default:
		// Another process may do the same. What it has locked, it removes.
		b.exec("DELETE FROM @.request_keys WHERE key IN (SELECT key FROM @.request_keys WHERE at >= $1 AND at < $2 ORDER BY at LIMIT $3 FOR UPDATE SKIP LOCKED)",
			from, oldest, 10*onceSlack)
	}
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

// forget forgets requests whose time is over. It moves m.Next to when to call it again.
func (s *Store) forget(ctx context.Context, now time.Time, m *engine.Maintained) error {
	rows := timed{name: "requests", front: "SELECT at, key FROM @.request_keys WHERE at >= $1 AND at <= $2 ORDER BY at LIMIT 1", to: now}
	return s.workAround(ctx, &work{
		kind: passRequests, most: forgetStep,
		step:   func(b *batch, p passing, m *engine.Maintained) error { return b.stepForget(p, now, m) },
		behind: func(p *passing, cause error) error { return s.passRows(ctx, rows, p, cause, now) },
	}, now, m)
}

// stepForget is a step of forget.
func (b *batch) stepForget(p passing, now time.Time, m *engine.Maintained) error {
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
		default:
			k := engine.OnceKey(key)
			if _, known := b.onces.get(k); !known {
				b.onces.read(k, &done)
			}
			if over = append(over, k); n == p.step {
				m.Next = now // there may be more
			}
		}
		return nil
	}, "SELECT key, at FROM @.request_keys WHERE at >= $2 ORDER BY at LIMIT $1 FOR UPDATE", p.step, p.from)
	if err != nil {
		return err
	}
	for _, k := range over {
		b.changes++
		b.onces.put(k, nil)
	}
	return nil
}
