package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"hookbolt/storage/internal/copying"
	"hookbolt/storage/internal/fields"
)

// WriteDatabase calls f with a writer to a database without any data, or with an unfinished copy. It makes the schema if it is missing. No hookbolt can work
// with the database meanwhile.
func WriteDatabase(ctx context.Context, o Options, f func(copying.Writer) error) error {
	w, err := openCopy(ctx, o)
	if err != nil {
		return fmt.Errorf("copy to the database: %w", startError(err))
	}
	defer closeConn(w.conn)
	defer w.off.close()
	return f(w)
}

// copyWriter implements copying.Writer. It writes over a connection of its own, beside the one that has the fence.
type copyWriter struct {
	off   *offline
	s     *Store
	conn  *pgx.Conn
	state copying.State
}

func openCopy(ctx context.Context, o Options) (w *copyWriter, err error) {
	s, err := offlineStore(o)
	if err != nil {
		return nil, err
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeConn(conn)
		}
	}()
	if err := s.check(ctx, conn); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx, conn); err != nil && !errors.Is(err, copying.ErrUnfinished) {
		return nil, explainRights(err)
	}
	w = &copyWriter{s: s, conn: conn}
	if w.off, err = goOffline(ctx, o); err != nil {
		return nil, err
	}
	if err := w.begin(ctx); err != nil {
		w.off.close()
		return nil, err
	}
	return w, nil
}

// filled are the tables that an empty database has no rows in.
var filled = []string{"webhooks", "sessions", "events", "deliveries", "payloads", "jobs", "fan_outs", "request_keys"}

// begin reads the state of an unfinished copy, or begins one.
func (w *copyWriter) begin(ctx context.Context) error {
	if _, err := w.conn.Exec(ctx, "SET statement_timeout = 0"); err != nil {
		return err
	}
	var text []byte
	err := w.conn.QueryRow(ctx, w.s.sql("SELECT state::text FROM @.copies")).Scan(&text)
	if err == nil {
		return json.Unmarshal(text, &w.state)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	for _, table := range filled {
		var has bool
		err := w.conn.QueryRow(ctx, w.s.sql("SELECT EXISTS (SELECT FROM @."+table+")")).Scan(&has)
		if err == nil && has {
			err = fmt.Errorf("%w: the table %s of the schema %s has rows", copying.ErrNotEmpty, table, w.s.opts.Schema)
		}
		if err != nil {
			return err
		}
	}
	_, err = w.conn.Exec(ctx, w.s.sql("INSERT INTO @.copies (state) VALUES ($1::text::json)"), jsonText(w.state))
	return err
}

// State implements copying.Writer.
func (w *copyWriter) State() copying.State { return w.state }

// Put implements copying.Writer.
func (w *copyWriter) Put(ctx context.Context, b *copying.Batch, s *copying.State) error {
	return pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		p := &copyBatch{w.s, ctx, tx}
		for _, step := range []func() error{
			func() error { return p.sessions(b.Sessions) },
			func() error { return p.deliveries(b.Deliveries) },
			func() error { return p.requests(b.Requests) },
			func() error { return p.rest(b.Rest) },
			func() error { return p.exec("UPDATE @.copies SET state = $1::text::json", jsonText(s)) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyBatch writes records in a transaction.
type copyBatch struct {
	s   *Store
	ctx context.Context
	tx  pgx.Tx
}

func (p *copyBatch) exec(sql string, args ...any) error {
	_, err := p.tx.Exec(p.ctx, p.s.sql(sql), args...)
	return err
}

// rows sends the rows of a table.
func (p *copyBatch) rows(table, columns string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := p.tx.CopyFrom(p.ctx, pgx.Identifier{p.s.opts.Schema, table}, strings.Split(columns, ", "), pgx.CopyFromRows(rows))
	return err
}

func (p *copyBatch) sessions(list []*copying.Session) error {
	var sessions, events, marks [][]any
	var expiring []expires
	for _, one := range list {
		r := sessionRow{SessionHead: one.SessionHead, no: one.No, batches: len(one.Requests)}
		in := one.Deliveries[:min(len(one.Deliveries), maxMarksInHead)]
		r.Deliveries = in
		for _, ref := range one.Deliveries[len(in):] {
			marks = append(marks, []any{r.no, int32(ref.WebhookID), int16(ref.Kind), pgID(ref.ID)})
			r.marks++
		}
		for i := range one.Requests {
			e := &one.Requests[i]
			events = append(events, []any{r.no, int32(i + 1), fields.Instant(e.ReceivedAt), encodeIDs(e.IDs), e.JSON})
		}
		sessions = append(sessions, []any{r.no, pgID(r.ID), pgID(r.Identity.ContentID), r.Identity.PoltioUserID, int32(r.Events), r.Bytes, int32(r.batches),
			fields.Instant(r.FirstReceivedAt), fields.Instant(r.LastReceivedAt), fields.Instant(r.StartedAt), fields.Instant(r.FinishedAt), r.head()})
		expiring = append(expiring, expires{sessionExpiryID(r.no), fields.Instant(r.LastReceivedAt)})
	}
	return errors.Join(p.rows("sessions", sessionColumns, sessions), p.rows("events", "session_no, n, received_at, ids, body", events),
		p.rows("marks", "session_no, webhook_id, kind, delivery_id", marks), p.expire(expirySession, expiring))
}

// expires is a record that expires.
type expires struct {
	id []byte
	at int64
}

// expirySpan is by how much the times of records with a common row in expiry may differ, in nanoseconds.
const expirySpan = 60e9

// expire writes the places of some records in expiry.
func (p *copyBatch) expire(kind int16, list []expires) error {
	slices.SortStableFunc(list, func(a, b expires) int { return cmp.Compare(a.at, b.at) })
	var rows [][]any
	for len(list) > 0 {
		n := 0
		var ids []byte
		for n < len(list) && (n == 0 || list[n].at-list[0].at < expirySpan) {
			ids = append(ids, list[n].id...)
			n++
		}
		rows = append(rows, []any{kind, list[n-1].at, ids})
		list = list[n:]
	}
	return p.rows("expiry", "kind, at, ids", rows)
}

func (p *copyBatch) deliveries(list []*copying.Delivery) error {
	var deliveries, payloads, attempts, queue, exceptions [][]any
	var expiring []expires
	counts := make(deltas)
	for _, one := range list {
		r := &deliveryRow{Delivery: one.Delivery, sessionNo: one.SessionNo, visitor: one.Visitor, hasPayload: one.Payload != nil}
		id := pgID(r.ID)
		deliveries = append(deliveries, []any{id, int32(r.WebhookID), int64(r.WebhookRevision), r.sessionNo, pgID(r.SessionID), pgID(r.ContentID), r.visitor, int16(r.Kind), int16(r.Status),
			fields.Instant(r.CreatedAt), fields.Instant(r.DueAt), fields.Instant(r.NextAttemptAt), fields.Instant(r.FrozenAt), fields.Instant(r.FinishedAt),
			int32(r.Attempts), int32(r.Tries), int32(r.LastStatus), string(r.LastError), int32(r.LateEvents), r.hasPayload, r.rest()})
		if r.hasPayload {
			payloads = append(payloads, []any{id, one.Payload})
		}
		for i := range one.Attempts {
			a := attemptRow{delivery: r.ID, n: i + 1, Attempt: one.Attempts[i]}
			attempts = append(attempts, []any{id, int32(a.n), fields.Instant(a.StartedAt), int64(a.Duration), int32(a.Status), string(a.Error), a.rest()})
		}
		if at, waits := r.place(); waits {
			queue = append(queue, []any{int32(at.lane.WebhookID), class(at.lane), at.at, id})
		}
		if r.isException() {
			exceptions = append(exceptions, []any{int32(r.WebhookID), int16(r.Status), id})
		}
		if !r.FinishedAt.IsZero() {
			expiring = append(expiring, expires{slices.Clone(r.ID[:]), fields.Instant(r.FinishedAt)})
		}
		counts.add(r, 1)
	}
	return errors.Join(p.rows("deliveries", deliveryColumns, deliveries), p.rows("payloads", "delivery_id, body", payloads), p.rows("attempts", attemptColumns, attempts),
		p.rows("queue", "webhook_id, class, at, delivery_id", queue), p.rows("exceptions", "webhook_id, status, delivery_id", exceptions),
		p.expire(expiryDelivery, expiring), p.count(counts))
}

// count adds to the counts.
func (p *copyBatch) count(more deltas) error {
	for _, id := range slices.Sorted(maps.Keys(more)) {
		var stored []byte
		err := p.tx.QueryRow(p.ctx, p.s.sql("SELECT counts FROM @.counts WHERE webhook_id = $1"), int32(id)).Scan(&stored)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		all := deltas{id: more[id]}
		if err == nil {
			before, ok := decodeDeltas(stored)
			if !ok {
				return damage("counts", id)
			}
			all.merge(before)
		}
		if err := p.exec("INSERT INTO @.counts (webhook_id, counts) VALUES ($1, $2) ON CONFLICT (webhook_id) DO UPDATE SET counts = EXCLUDED.counts", int32(id), all.encode()); err != nil {
			return err
		}
	}
	return nil
}

func (p *copyBatch) requests(list []*copying.Request) error {
	for _, one := range list {
		if err := p.exec("INSERT INTO @.request_keys (key, at, done) VALUES ($1, $2, $3::text::json)", one.Key[:], fields.Instant(one.Done.At), jsonText(one.Done)); err != nil {
			return err
		}
	}
	return nil
}

// rest writes what is small. r may be nil.
func (p *copyBatch) rest(r *copying.Rest) error {
	if r == nil {
		return nil
	}
	for _, w := range r.Webhooks {
		if err := p.exec("INSERT INTO @.webhooks (id, revision, operations, settings) VALUES ($1, $2, $3, $4::text::json)", int32(w.ID), int64(w.Revision), w.Operations, jsonText(w)); err != nil {
			return err
		}
	}
	for id, h := range r.Health {
		if err := p.exec("INSERT INTO @.health (webhook_id, health) VALUES ($1, $2::text::json)", int32(id), jsonText(h)); err != nil {
			return err
		}
	}
	for i := range r.Jobs {
		if err := p.exec("INSERT INTO @.jobs (no, job) VALUES ($1, $2::text::json)", r.Jobs[i].No, jsonText(jobOf(&r.Jobs[i]))); err != nil {
			return err
		}
	}
	for i := range r.FanOuts {
		f := fanOut{after: r.FanOuts[i].After, last: r.FanOuts[i].Last}
		for _, s := range r.FanOuts[i].Sessions {
			f.sessions = append(f.sessions, fannedOut{s.ID, s.No, s.FanOut})
		}
		if err := p.exec("INSERT INTO @.fan_outs (no, sessions, body) VALUES ($1, $2, $3)", r.FanOuts[i].No, int32(len(f.sessions)), f.encode()); err != nil {
			return err
		}
	}
	return errors.Join(p.raise("webhook_ids", r.LastWebhook, 1), p.raise("session_nos", r.LastSession, sessionBlock), p.raise("numbers", r.LastJob, 1))
}

// raise makes sure that a sequence gives no number up to last any more. A role that may use the sequence need not be one that may set it, so this takes the
// numbers, or blocks of them.
func (p *copyBatch) raise(sequence string, last, block int64) error {
	var at int64
	err := p.tx.QueryRow(p.ctx, p.s.sql("SELECT CASE WHEN is_called THEN last_value ELSE last_value - $1 END FROM @."+sequence), block).Scan(&at)
	if err != nil || at+block > last {
		return err
	}
	return p.exec("SELECT count(nextval($1::text::regclass)) FROM generate_series(1, $2::bigint)", p.s.sql("@."+sequence), (last-at)/block)
}

// jobOf returns a job as this store has it.
func jobOf(one *copying.Job) job {
	j := job{Cancellation: one.Cancellation}
	switch {
	case one.Replay != nil:
		j.Replay = &replayJob{Replay: one.Replay.Replay, After: one.Replay.After, To: one.Replay.To, AfterSession: one.Replay.AfterSession, ToSession: one.Replay.ToSession}
	case one.Erasure != nil:
		place := erasePlace{phase: eraseSessions, job: one.No}
		j.Erasure = &eraseJob{Target: one.Erasure.Target, Place: place.String(), Erased: one.Erasure.Erased, Damaged: one.Erasure.Damaged, Once: one.Erasure.Once}
	}
	return j
}

// Read implements copying.Writer.
func (w *copyWriter) Read(ctx context.Context) (copying.Reader, error) {
	return &copyReader{reading{w.s, ctx, w.conn}, ""}, nil
}

// Check implements copying.Writer.
func (w *copyWriter) Check(ctx context.Context) ([]error, error) {
	for _, table := range []string{"sessions", "events", "marks", "deliveries", "payloads", "attempts", "queue", "exceptions", "expiry"} {
		if _, err := w.conn.Exec(ctx, w.s.sql("ANALYZE @."+table)); err != nil { // a warning if the role may not
			return nil, err
		}
	}
	report, err := checkOn(ctx, w.s, w.conn)
	return report.Violations, err
}

// Finish implements copying.Writer.
func (w *copyWriter) Finish(ctx context.Context) error {
	_, err := w.conn.Exec(ctx, w.s.sql("DELETE FROM @.copies"))
	return err
}
