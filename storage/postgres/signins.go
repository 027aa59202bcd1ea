package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Browsers sign in at one process, and a balancer sends them to any. So the sign-ins are rows: what one process ends has ended for all.

// BeginSignIn stores a sign-in. If its token has more than engine.MaxSignIns then, the oldest ones end; so do those whose time is over.
func (s *Store) BeginSignIn(ctx context.Context, in engine.SignIn) error {
	return s.write(ctx, mutation{run: func(b *batch) error {
		b.exec("DELETE FROM @.sign_ins WHERE end_at <= $1", fields.Instant(time.Now()))
		b.exec("INSERT INTO @.sign_ins (id, token, end_at) VALUES ($1, $2, $3)", in.ID[:], in.Token[:], fields.Instant(in.EndAt))
		b.exec("DELETE FROM @.sign_ins WHERE id IN (SELECT id FROM @.sign_ins WHERE token = $1 ORDER BY end_at DESC, id OFFSET $2)", in.Token[:], engine.MaxSignIns)
		return nil
	}})
}

// SignIns returns those of the sign-ins with these ids that there are and that have not ended.
func (s *Store) SignIns(ctx context.Context, ids [][32]byte) (all []engine.SignIn, err error) {
	err = s.view(ctx, func(conn *pgx.Conn) error {
		all = nil
		found, err := conn.Query(ctx, s.sql("SELECT id, token, end_at FROM @.sign_ins WHERE id = ANY($1) AND end_at > $2"), hashes(ids), fields.Instant(time.Now()))
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			var id, token []byte
			var endAt int64
			if err := found.Scan(&id, &token, &endAt); err != nil {
				return err
			}
			one := engine.SignIn{EndAt: fields.Time(endAt)}
			copy(one.ID[:], id)
			copy(one.Token[:], token)
			all = append(all, one)
		}
		return found.Err()
	})
	return all, err
}

// EndSignIns ends the sign-ins with these ids.
func (s *Store) EndSignIns(ctx context.Context, ids [][32]byte) error {
	return s.write(ctx, mutation{run: func(b *batch) error {
		b.exec("DELETE FROM @.sign_ins WHERE id = ANY($1)", hashes(ids))
		return nil
	}})
}

// KeepSignIns ends all sign-ins but those with these tokens.
func (s *Store) KeepSignIns(ctx context.Context, tokens [][32]byte) error {
	return s.write(ctx, mutation{run: func(b *batch) error {
		b.exec("DELETE FROM @.sign_ins WHERE token <> ALL($1)", hashes(tokens))
		return nil
	}})
}

// hashes is a list of hashes as a parameter. An empty one is no NULL, which would be equal to nothing.
func hashes(list [][32]byte) [][]byte {
	all := make([][]byte, len(list))
	for i := range list {
		all[i] = list[i][:]
	}
	return all
}
