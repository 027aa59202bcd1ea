package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// found is a row of the queue.
type found struct {
	request int // index of the request
	at      int64
	id      uuid.UUID
}

// ClaimDue implements engine.Store.
func (s *Store) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	l := s.beginLook()
	defer s.endLook(l)
	results := make([]engine.ClaimResult, len(requests))
	err := s.view(ctx, func(conn *pgx.Conn) error {
		clear(results)
		rows, err := s.findDue(ctx, conn, requests)
		if err != nil {
			return err
		}
		claimed := s.claimFound(l, now, requests, rows, results)
		err = s.readClaimed(ctx, conn, claimed, results)
		if err != nil {
			for _, f := range claimed {
				s.unclaim(f.id)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// findDue reads the front of each lane: one row more than there is room for, without those that are claimed.
func (s *Store) findDue(ctx context.Context, conn *pgx.Conn, requests []engine.ClaimRequest) (all []found, err error) {
	var webhooks, rooms []int32
	var classes []int16
	for _, r := range requests {
		webhooks, classes, rooms = append(webhooks, int32(r.Lane.WebhookID)), append(classes, class(r.Lane)), append(rooms, int32(r.Room)+1)
	}
	rows, err := conn.Query(ctx, s.sql("SELECT l.ord, q.at, q.delivery_id FROM unnest($1::int[], $2::smallint[], $3::int[]) WITH ORDINALITY l(w, c, room, ord) "+
		"CROSS JOIN LATERAL (SELECT at, delivery_id FROM @.queue WHERE webhook_id = l.w AND class = l.c AND delivery_id <> ALL($4) "+
		"ORDER BY at, delivery_id LIMIT l.room) q ORDER BY l.ord, q.at, q.delivery_id"), webhooks, classes, rooms, s.claimedIn(requests))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var f found
		if err := rows.Scan(&f.request, &f.at, (*[16]byte)(&f.id)); err != nil {
			return nil, err
		}
		f.request--
		all = append(all, f)
	}
	return all, rows.Err()
}

// claimedIn returns what is claimed in the lanes of some requests.
func (s *Store) claimedIn(requests []engine.ClaimRequest) uuids {
	lanes := make(map[engine.Lane]bool, len(requests))
	for _, r := range requests {
		lanes[r.Lane] = true
	}
	ids := uuids{}
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	for id, lane := range s.claims.of {
		if lanes[lane] {
			ids = append(ids, id)
		}
	}
	return ids
}

// claimFound claims what is due.
func (s *Store) claimFound(l *look, now time.Time, requests []engine.ClaimRequest, rows []found, results []engine.ClaimResult) (claimed []found) {
	taken := make([]int, len(requests))
	for _, f := range rows {
		switch r := &results[f.request]; {
		case taken[f.request] == requests[f.request].Room || !r.Next.IsZero():
		case f.at > fields.Instant(now):
			r.Next = fields.Time(f.at)
		case s.tryClaim(l, claim{f.id, requests[f.request].Lane}):
			taken[f.request]++
			claimed = append(claimed, f)
		default: // it has just ended, or is just being claimed: look again
			r.Next = now
		}
	}
	return claimed
}

// readClaimed reads what the engine needs to send the deliveries that were claimed.
func (s *Store) readClaimed(ctx context.Context, conn *pgx.Conn, claimed []found, results []engine.ClaimResult) error {
	if len(claimed) == 0 {
		return nil
	}
	ids := make(uuids, len(claimed))
	for i := range claimed {
		ids[i] = claimed[i].id
	}
	read := make(map[uuid.UUID]engine.Claimed, len(ids))
	sessions := make(map[int64]*engine.SessionRecord)
	var p pgx.Batch
	p.Queue(s.sql("SELECT "+deliveryColumns+", p.body FROM @.deliveries LEFT JOIN @.payloads p ON p.delivery_id = id WHERE id = ANY($1)"), ids).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var body []byte
				r, err := scanDelivery(rows, &body)
				if err != nil {
					return err
				}
				c := engine.Claimed{Delivery: r.Delivery, Payload: body}
				if !r.hasPayload {
					if sessions[r.sessionNo] == nil {
						sessions[r.sessionNo] = new(engine.SessionRecord)
					}
					c.Session = sessions[r.sessionNo]
				}
				read[r.ID] = c
			}
			return nil
		})
	p.Queue(s.sql("SELECT "+sessionColumns+" FROM @.sessions WHERE no IN (SELECT session_no FROM @.deliveries WHERE id = ANY($1) AND NOT has_payload)"), ids).
		Query(func(rows pgx.Rows) error {
			for rows.Next() {
				r, err := scanSession(rows)
				if err != nil {
					return err
				}
				if record := sessions[r.no]; record != nil {
					record.Head = r.SessionHead
				}
			}
			return nil
		})
	p.Queue(s.sql("SELECT session_no, received_at, body FROM @.events WHERE session_no IN (SELECT session_no FROM @.deliveries WHERE id = ANY($1) AND NOT has_payload) "+
		"ORDER BY session_no, n"), ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var e eventsRow
			if err := rows.Scan(&e.no, &e.receivedAt, &e.body); err != nil {
				return err
			}
			if record := sessions[e.no]; record != nil {
				record.Batches = append(record.Batches, e.batch())
			}
		}
		return nil
	})
	if err := conn.SendBatch(ctx, &p).Close(); err != nil {
		return err
	}
	for _, f := range claimed {
		c, ok := read[f.id]
		switch {
		case !ok || !c.Delivery.Status.Waiting() || fields.Instant(c.Delivery.NextAttemptAt) != f.at, c.Session != nil && c.Session.Head.ID == uuid.Nil:
			s.unclaim(f.id) // it was changed or erased after the look
			results[f.request].Next = time.Unix(0, f.at).UTC()
		default:
			results[f.request].Claimed = append(results[f.request].Claimed, c)
		}
	}
	return nil
}
