package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// A failover to a standby that is not synchronous, or a restored backup, loses the last commits. Nobody can bring them back, but it is said: the newest row of a
// writer's batches is never removed, so when the writer connects again, that of the last batch that was acknowledged must be there, or one that came behind it: the
// batch whose answer was lost, or the row that an earlier connection has settled it with.

// isSetBack reports whether the last batch that was acknowledged, 0 for none, and all behind it are missing. Where the writer's own row is missing as well, this process is fenced
// off, and finds that out with its next transaction.
func (s *Store) isSetBack(ctx context.Context, conn *pgx.Conn, acked int64) (bool, error) {
	if acked == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	var writer, batch bool
	err := conn.QueryRow(ctx, s.sql("SELECT EXISTS (SELECT FROM @.writers WHERE id = $1), EXISTS (SELECT FROM @.batches WHERE writer = $1 AND n >= $2)"), s.writerID, acked).Scan(&writer, &batch)
	return writer && !batch, err
}

// beginAnew starts again with a database that was set back: what is in memory may be of rows that are not there. Claims last, unless others may have taken over:
// an attempt that cannot be recorded is one of a delivery that is not there.
func (s *Store) beginAnew() error {
	s.setBacks.Add(1)
	s.log.Error("the database has lost changes that were acknowledged, as after a failover to a standby that is not synchronous, or from a backup: "+
		"events of these moments are gone, and deliveries may be made again", "last_batch", s.acked)
	ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
	defer cancel()
	s.stale, s.acked, s.due = false, 0, nil
	s.forgetLanesAll()
	if s.fleet != nil {
		s.fleet.lose()
		return s.joinAgain()
	}
	err := s.takeOver(ctx, s.conn)
	if err == nil {
		err = s.loadAll(ctx, s.conn)
	}
	if err != nil {
		s.drop()
		return away(err)
	}
	s.unheard.back(s)
	return nil
}
