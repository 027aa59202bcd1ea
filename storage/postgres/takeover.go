package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// errStillThere is returned by takeOverMember for a member that has beaten meanwhile, or that another process has taken over.
var errStillThere = errors.New("there is nothing to take over")

// takeOverMember removes a member that is dead. It waits for the transactions of its writers, and what these send afterwards fails: their rows are missing. The
// rows of its batches go to writers of this process, because others may not have read all news in them; the keeper folds their counts. Its lanes are free.
//
// beat is the member's last one that was read. If it was raised meanwhile, it is not dead.
func (s *Store) takeOverMember(ctx context.Context, id, beat int64) error {
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer s.release(conn)
	me := s.memberID.Load()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var there bool
		if err := tx.QueryRow(ctx, s.sql("SELECT EXISTS (SELECT FROM @.members WHERE id = $1)"), me).Scan(&there); err != nil {
			return err
		}
		var now int64
		err := tx.QueryRow(ctx, s.sql("SELECT beat FROM @.members WHERE id = $1 FOR UPDATE"), id).Scan(&now)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && (now != beat || !there):
			return errStillThere
		case err != nil:
			return err
		}
		if err := s.adopt(ctx, tx, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql("UPDATE @.fleet SET layout = layout + 1"))
		return err
	})
}

// adopt removes a member, and gives the rows of its batches to writers of this process.
func (s *Store) adopt(ctx context.Context, tx pgx.Tx, id int64) error {
	rows, err := tx.Query(ctx, s.sql("SELECT id FROM @.writers WHERE member = $1 ORDER BY id FOR UPDATE"), id)
	if err != nil {
		return err
	}
	writers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, old := range writers {
		heir, err := insertNew(ctx, tx, s.sql("INSERT INTO @.writers (id, member, adopted)"), s.memberID.Load(), true)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql("UPDATE @.batches SET writer = $2 WHERE writer = $1"), old, heir); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, s.sql("DELETE FROM @.members WHERE id = $1"), id) // its lanes are free, and its writers are gone
	return err
}

// shutOut removes the members whose version must not write to the schema. They may still run: a migration shuts out who works with the schema as it was. What they
// send afterwards fails, before this process owns any of their lanes.
func (s *Store) shutOut(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, s.sql("SELECT id FROM @.members WHERE version < (SELECT writable_by FROM @.schema) ORDER BY id FOR UPDATE"))
	if err != nil {
		return err
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(members) == 0 {
		return err
	}
	for _, id := range members {
		if err := s.adopt(ctx, tx, id); err != nil {
			return err
		}
	}
	s.log.Info("processes of an older version, which must not write any more, are shut out", "members", len(members))
	_, err = tx.Exec(ctx, s.sql("UPDATE @.fleet SET layout = layout + 1"))
	return err
}
