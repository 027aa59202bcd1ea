package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// A reader whom the server has no time for may try again; who has ended its context is told so; any other error is its own.
func TestViewErrors(t *testing.T) {
	s := openTest(t)
	for code, want := range map[string]error{"57014": engine.ErrTransient, "55P03": engine.ErrTransient, "53200": engine.ErrTransient, "57P01": engine.ErrTransient} {
		err := s.view(t.Context(), func(conn *pgx.Conn) error {
			_, err := conn.Exec(t.Context(), "DO $$ BEGIN RAISE SQLSTATE '"+code+"'; END $$")
			return err
		})
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", code, err, want)
		}
	}
	own := errors.New("own")
	if err := s.view(t.Context(), func(*pgx.Conn) error { return own }); !errors.Is(err, own) || errors.Is(err, engine.ErrTransient) {
		t.Errorf("got %v, want %v", err, own)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.view(ctx, func(conn *pgx.Conn) error {
		cancel()
		_, err := conn.Exec(ctx, "SELECT pg_sleep(60)")
		return err
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, engine.ErrTransient) {
		t.Errorf("got %v, want the error of the context", err)
	}
}
