package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// Session implements engine.Store.
func (s *Store) Session(ctx context.Context, id uuid.UUID) (record engine.SessionRecord, deliveries []engine.Delivery, err error) {
	err = s.snapshot(ctx, func(tx pgx.Tx) error {
		record, deliveries = engine.SessionRecord{}, nil
		r, err := s.readSession(ctx, tx, id)
		if err != nil {
			return err
		}
		if r == nil {
			return fmt.Errorf("session %s: %w", id, engine.ErrNotFound)
		}
		if record, err = s.readEvents(ctx, tx.Conn(), r); err != nil {
			return err
		}
		if err := checkEvents(&record, r); err != nil {
			return err
		}
		if err := s.readMarks(ctx, tx, r); err != nil {
			return err
		}
		record.Head.Deliveries = r.Deliveries
		deliveries, err = s.readMarked(ctx, tx, r)
		return err
	})
	if err != nil {
		return engine.SessionRecord{}, nil, err
	}
	return record, deliveries, nil
}

// checkEvents reports events that are damaged: rows that are missing, and what is not JSON.
func checkEvents(record *engine.SessionRecord, r *sessionRow) error {
	if len(record.Batches) != r.batches {
		return fmt.Errorf("%w: session %s has %d of its %d rows of events", ErrCorrupt, r.ID, len(record.Batches), r.batches)
	}
	for i := range record.Batches {
		if !json.Valid(record.Batches[i].JSON) {
			return damage("events", eventsKey(r.no, i+1))
		}
	}
	return nil
}

// eventsKey names a row of events.
func eventsKey(sessionNo int64, n int) string {
	return fmt.Sprintf("%d of session number %d", n, sessionNo)
}

// readMarks adds the marks of a session that do not stand in its row.
func (s *Store) readMarks(ctx context.Context, tx pgx.Tx, r *sessionRow) error {
	if r.marks == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, s.sql("SELECT webhook_id, kind, delivery_id FROM @.marks WHERE session_no = $1 ORDER BY webhook_id, kind, delivery_id"), r.no)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		ref, err := scanMark(rows)
		if err != nil {
			return err
		}
		r.Deliveries = append(r.Deliveries, ref)
	}
	return rows.Err()
}

// readMarked reads the deliveries of a session that are still stored, in the order of its marks. It passes damaged ones.
func (s *Store) readMarked(ctx context.Context, tx pgx.Tx, r *sessionRow) (all []engine.Delivery, err error) {
	ids := make(uuids, len(r.Deliveries))
	for i, ref := range r.Deliveries {
		ids[i] = ref.ID
	}
	rows, err := tx.Query(ctx, s.sql("SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1)"), ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	read := make(map[uuid.UUID]*deliveryRow)
	for rows.Next() {
		d, err := scanDelivery(rows)
		switch {
		case s.passes(err):
		case err != nil:
			return nil, err
		default:
			read[d.ID] = d
		}
	}
	for _, id := range ids {
		if d := read[id]; d != nil {
			all = append(all, d.Delivery)
		}
	}
	return all, rows.Err()
}

// Delivery implements engine.Store.
func (s *Store) Delivery(ctx context.Context, id uuid.UUID) (d engine.Delivery, payload []byte, attempts []engine.Attempt, err error) {
	err = s.snapshot(ctx, func(tx pgx.Tx) error {
		d, payload, attempts = engine.Delivery{}, nil, nil
		rows, err := tx.Query(ctx, s.sql("SELECT "+deliveryColumns+", p.body FROM @.deliveries "+withPayload+" WHERE id = $1"), pgID(id))
		if err != nil {
			return err
		}
		r, err := one(rows, func(rows pgx.Rows) (*deliveryRow, error) { return scanDelivery(rows, &payload) })
		if err != nil {
			return err
		}
		if r == nil {
			return fmt.Errorf("delivery %s: %w", id, engine.ErrNotFound)
		}
		d = r.Delivery
		if r.hasPayload && payload == nil {
			s.passes(damage("payload", id))
		}
		attempts, err = s.readAttempts(ctx, tx, id)
		return err
	})
	if err != nil {
		return engine.Delivery{}, nil, nil, err
	}
	return d, payload, attempts, nil
}

// readAttempts reads the attempts of a delivery, the oldest first. It passes damaged ones.
func (s *Store) readAttempts(ctx context.Context, tx pgx.Tx, id uuid.UUID) (attempts []engine.Attempt, err error) {
	rows, err := tx.Query(ctx, s.sql("SELECT "+attemptColumns+" FROM @.attempts WHERE delivery_id = $1 ORDER BY n"), pgID(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		a, err := scanAttempt(rows)
		switch {
		case s.passes(err):
		case err != nil:
			return nil, err
		default:
			attempts = append(attempts, a.Attempt)
		}
	}
	return attempts, rows.Err()
}

// one returns the only row of a result, nil if there is none.
func one[V any](rows pgx.Rows, scan func(pgx.Rows) (*V, error)) (r *V, err error) {
	defer rows.Close()
	if rows.Next() {
		if r, err = scan(rows); err != nil {
			return nil, err
		}
	}
	rows.Close()
	return r, rows.Err()
}
