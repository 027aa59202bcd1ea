package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// KeepHistory stores what this process has counted; see engine.Engine. It removes what is too old to be shown.
func (s *Store) KeepHistory(ctx context.Context, minutes []engine.Minute, recent map[uint32]engine.Recent) error {
	return s.write(ctx, mutation{run: func(b *batch) error {
		for i := range minutes {
			b.exec("INSERT INTO @.history (minute, process, counts) VALUES ($1, $2, $3) ON CONFLICT (minute, process) DO UPDATE SET counts = EXCLUDED.counts",
				minutes[i].Unix, s.process, encodeMinute(&minutes[i]))
		}
		if s.fleet == nil || s.fleet.keeper() {
			b.exec("DELETE FROM @.history WHERE minute < $1", time.Now().Unix()/60-engine.HistoryMinutes)
		}
		var ids []int32
		var at []int64
		var last []string
		for id, r := range recent {
			if b.hooks.Get(id) != nil {
				ids, at, last = append(ids, int32(id)), append(at, fields.Instant(r.AttemptedAt)), append(last, jsonText(r))
			}
		}
		if len(ids) > 0 {
			b.exec("INSERT INTO @.recent AS r (webhook_id, at, last) SELECT id, at, last::json FROM unnest($1::int[], $2::bigint[], $3::text[]) AS t (id, at, last) ORDER BY id "+
				"ON CONFLICT (webhook_id) DO UPDATE SET at = EXCLUDED.at, last = EXCLUDED.last WHERE r.at < EXCLUDED.at", ids, at, last)
		}
		return nil
	}})
}

// HistoryOfOthers returns what other processes have counted in the minutes from one on, those included that have ended, and the oldest minute of which anything is
// stored. What cannot be read is left out.
func (s *Store) HistoryOfOthers(ctx context.Context, from int64) (minutes []engine.Minute, oldest int64, err error) {
	err = s.view(ctx, func(conn *pgx.Conn) error {
		minutes = nil
		if err := conn.QueryRow(ctx, s.sql("SELECT COALESCE(min(minute), 0) FROM @.history")).Scan(&oldest); err != nil {
			return err
		}
		found, err := conn.Query(ctx, s.sql("SELECT minute, counts FROM @.history WHERE minute >= $1 AND process <> $2"), from, s.process)
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			var unix int64
			var counts []byte
			if err := found.Scan(&unix, &counts); err != nil {
				return err
			}
			if m, ok := decodeMinute(unix, counts); ok {
				minutes = append(minutes, m)
			}
		}
		return found.Err()
	})
	return minutes, oldest, err
}

// StoredRecent returns the last attempts that are stored of webhooks. What cannot be read is left out.
func (s *Store) StoredRecent(ctx context.Context, webhooks []uint32) (recent map[uint32]engine.Recent, err error) {
	err = s.view(ctx, func(conn *pgx.Conn) error {
		recent = make(map[uint32]engine.Recent)
		found, err := conn.Query(ctx, s.sql("SELECT webhook_id, last::text FROM @.recent WHERE webhook_id = ANY($1)"), webhookList(webhooks))
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			var id uint32
			var last []byte
			if err := found.Scan(&id, &last); err != nil {
				return err
			}
			var r engine.Recent
			if json.Unmarshal(last, &r) == nil {
				recent[id] = r
			}
		}
		return found.Err()
	})
	return recent, err
}

// encodeMinute encodes the counts of a minute, without trailing buckets that are empty.
func encodeMinute(m *engine.Minute) []byte {
	e := newRecord(64)
	for _, n := range []int64{m.Accepted, m.Delivered, m.Failed, m.Cancelled, m.Retried} {
		e.Int(n)
	}
	e.Duration(m.Lags.Longest)
	counts := m.Lags.Counts[:]
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	for _, n := range counts {
		e.Uint(uint64(n))
	}
	return e.Bytes()
}

func decodeMinute(unix int64, b []byte) (m engine.Minute, ok bool) {
	d := openRecord(b)
	m = engine.Minute{Unix: unix, Accepted: d.Int(), Delivered: d.Int(), Failed: d.Int(), Cancelled: d.Int(), Retried: d.Int()}
	m.Lags.Longest = d.Duration()
	for i := 0; i < len(m.Lags.Counts) && d.More(); i++ {
		m.Lags.Counts[i] = d.Count()
	}
	return m, d.OK()
}
