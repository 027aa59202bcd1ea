package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
	"hookbolt/storage/internal/copying"
	"hookbolt/storage/internal/fields"
)

// offline is a connection to a database that no hookbolt works with.
type offline struct {
	s     *Store
	conn  *pgx.Conn // of the transaction that has the fence; it reads one snapshot
	fence pgx.Tx
}

// goOffline connects, and takes the fence from whoever may have it, until close: the transactions of a hookbolt wait for it and fail, and none can start.
func goOffline(ctx context.Context, o Options) (*offline, error) {
	s, err := offlineStore(o)
	if err != nil {
		return nil, err
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, startError(err)
	}
	off := &offline{s: s, conn: conn}
	if err := off.takeFence(ctx); err != nil {
		off.close()
		return nil, err
	}
	return off, nil
}

// offlineStore is a Store that is not started.
func offlineStore(o Options) (*Store, error) {
	o = o.withDefaults()
	o.MaxSkew = -1
	config, err := parseURL(o.URL, o.Insecure)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = applicationName + " copy"
	return newStore(o, config), nil
}

func (off *offline) takeFence(ctx context.Context) error {
	if err := off.refuseBeating(ctx); err != nil {
		return err
	}
	if _, err := off.conn.Exec(ctx, "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0"); err != nil {
		return err
	}
	var err error
	if off.fence, err = off.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}); err != nil {
		return err
	}
	for _, table := range []string{"members", "writers"} {
		if _, err := off.fence.Exec(ctx, off.s.sql("LOCK TABLE @."+table+" IN EXCLUSIVE MODE")); err != nil {
			return err
		}
	}
	return off.refuseRunning(ctx)
}

const (
	// listenEvery is how often refuseRunning looks: so long a hookbolt that works may have to wait for it.
	listenEvery = 50 * time.Millisecond
	// leastListening is for how long it looks, if counts are folded more often: a fold may come late.
	leastListening = time.Second
)

// refuseBeating returns a copying.ErrRunning if one of several processes beats. It locks nothing: they would miss beats.
func (off *offline) refuseBeating(ctx context.Context) error {
	beats := func() (n int64, err error) {
		err = off.conn.QueryRow(ctx, off.s.sql("SELECT COALESCE(sum(beat + 1), 0)::bigint FROM @.members WHERE seen IS NOT NULL AND state <> $1"), int16(stateLeft)).Scan(&n)
		return n, err
	}
	before, err := beats() // 0 if there is none of several
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == codeNoColumn {
		return nil // an older schema, whose processes do not beat
	}
	for until := time.Now().Add(2 * off.s.opts.Beat); err == nil && before > 0 && time.Now().Before(until); time.Sleep(listenEvery) {
		var now int64
		if now, err = beats(); err == nil && now > before {
			return copying.ErrRunning
		}
	}
	return err
}

// refuseRunning returns a copying.ErrRunning if a hookbolt works with the schema. Each one asks for the fence when it folds its counts, and then waits for it. If no
// hookbolt is connected to the database, it does not listen for that.
func (off *offline) refuseRunning(ctx context.Context) error {
	connected := false
	err := off.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND application_name = $1)", applicationName).Scan(&connected)
	if err != nil || !connected {
		return err
	}
	for until := time.Now().Add(max(off.s.opts.FoldInterval*5/4, leastListening)); time.Now().Before(until); {
		waits := false
		err := off.conn.QueryRow(ctx, off.s.sql("SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE relation = '@.writers'::regclass AND NOT granted)")).Scan(&waits)
		if err == nil && waits {
			err = copying.ErrRunning
		}
		if err != nil {
			return err
		}
		time.Sleep(listenEvery)
	}
	return nil
}

func (off *offline) close() { closeConn(off.conn) }

// ReadDatabase calls f with a reader of a database that no hookbolt works with. Nothing can change it meanwhile.
func ReadDatabase(ctx context.Context, o Options, f func(copying.Reader) error) error {
	off, err := goOffline(ctx, o)
	if err != nil {
		return fmt.Errorf("open the database: %w", explainMissing(err))
	}
	defer off.close()
	r := &copyReader{reading{off.s, ctx, off.conn}, ""}
	if err := r.start(); err != nil {
		return err
	}
	return f(r)
}

// copyReader implements copying.Reader.
type copyReader struct {
	reading
	mark string
}

// start reads the version and the mark.
func (r *copyReader) start() error {
	var version, unfinished int
	err := r.conn.QueryRow(r.ctx, r.s.sql("SELECT version, (SELECT count(*) FROM @.copies) FROM @.schema")).Scan(&version, &unfinished)
	switch {
	case err != nil:
		return err
	case unfinished > 0:
		return copying.ErrUnfinished
	case version != thisSchema.version():
		return fmt.Errorf("%w, or by an older one that has not been migrated (its schema has version %d, and this one knows %d)", ErrSchema, version, thisSchema.version())
	}
	var namespace, member, batch int64
	err = r.conn.QueryRow(r.ctx, r.s.sql("SELECT (SELECT oid::bigint FROM pg_catalog.pg_namespace WHERE nspname = $1), "+
		"(SELECT COALESCE(max(id), 0) FROM @.members), (SELECT COALESCE(max(n), 0) FROM @.batches)"), r.s.opts.Schema).Scan(&namespace, &member, &batch)
	r.mark = fmt.Sprintf("postgres %d.%d.%d", namespace, member, batch)
	return err
}

// Mark implements copying.Reader.
func (r *copyReader) Mark() string { return r.mark }

// Totals implements copying.Reader.
func (r *copyReader) Totals(ctx context.Context) (t copying.Totals, err error) {
	if _, err := r.conn.Exec(ctx, "SET enable_seqscan = on"); err != nil {
		return t, err
	}
	err = r.conn.QueryRow(ctx, r.s.sql("SELECT (SELECT count(*) FROM @.sessions), (SELECT count(*) FROM @.deliveries), (SELECT count(*) FROM @.request_keys)")).
		Scan(&t.Sessions, &t.Deliveries, &t.Requests)
	if err == nil {
		_, err = r.conn.Exec(ctx, "SET enable_seqscan = off")
	}
	return t, err
}

// Bounds of what is read at once.
const (
	copyPage  = 1000
	copyBytes = 16 << 20
)

// Sessions implements copying.Reader.
func (r *copyReader) Sessions(ctx context.Context, after int64, damaged func(error) error, f func(*copying.Session) error) error {
	for {
		list, last, more, err := r.sessionPage(after, damaged)
		if err != nil {
			return err
		}
		for _, one := range list {
			if err := f(one); err != nil {
				return err
			}
		}
		if after = last; !more {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// sessionPage reads some sessions behind a number. last is the number of the last one.
func (r *copyReader) sessionPage(after int64, damaged func(error) error) (list []*copying.Session, last int64, more bool, err error) {
	stored := make(map[int64]*sessionRow)
	all := make(map[int64]*copying.Session)
	last = after
	size, n := int64(0), 0
	var wrong []error
	err = r.query(func(found pgx.Rows) error {
		row, err := scanSession(found)
		if row == nil {
			return err
		}
		if n++; size > copyBytes || more {
			more = true
			return nil
		}
		last, size = row.no, size+row.Bytes
		if err != nil {
			wrong = append(wrong, err)
			return nil
		}
		one := &copying.Session{SessionHead: row.SessionHead, No: row.no}
		list, stored[row.no], all[row.no] = append(list, one), row, one
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE no > $1 ORDER BY no LIMIT $2", after, copyPage)
	more = more || n == copyPage
	if err == nil {
		err = r.addParts(after, last, all, &wrong)
	}
	if err != nil {
		return nil, 0, false, err
	}
	kept := list[:0]
	for _, one := range list {
		switch row := stored[one.No]; {
		case all[one.No] == nil:
		case len(one.Requests) != row.batches || len(one.Deliveries) != len(row.Deliveries)+row.marks:
			wrong = append(wrong, fmt.Errorf("%w: session %s: %d rows of events and %d marks stored, %d and %d counted", ErrCorrupt, one.ID, len(one.Requests),
				len(one.Deliveries), row.batches, len(row.Deliveries)+row.marks))
		default:
			kept = append(kept, one)
		}
	}
	for _, err := range wrong {
		if err := damaged(err); err != nil {
			return nil, 0, false, err
		}
	}
	return kept, last, more, nil
}

// addParts adds the events and marks of the sessions behind after, up to last. Those of which something cannot be read are removed from all.
func (r *copyReader) addParts(after, last int64, all map[int64]*copying.Session, wrong *[]error) error {
	err := r.query(func(found pgx.Rows) error {
		var row eventsRow
		var ids []byte
		if err := found.Scan(&row.no, &row.n, &row.receivedAt, &ids, &row.body); err != nil {
			return err
		}
		one, known := all[row.no], false
		if one == nil {
			return nil
		}
		if row.ids, known = decodeIDs(ids); !known || row.n != len(one.Requests)+1 {
			*wrong = append(*wrong, damage("events", fmt.Sprintf("%d of session %s", row.n, one.ID)))
			delete(all, row.no)
			return nil
		}
		one.Requests = append(one.Requests, copying.Events{ReceivedAt: fields.Time(row.receivedAt), IDs: row.ids, JSON: row.body})
		return nil
	}, "SELECT session_no, n, received_at, ids, body FROM @.events WHERE session_no > $1 AND session_no <= $2 ORDER BY session_no, n", after, last)
	if err != nil {
		return err
	}
	return r.query(func(found pgx.Rows) error {
		key, err := scanMarkKey(found)
		if one := all[key.no]; one != nil {
			one.Deliveries = append(one.Deliveries, key.ref)
		}
		return err
	}, "SELECT session_no, webhook_id, kind, delivery_id FROM @.marks WHERE session_no > $1 AND session_no <= $2 ORDER BY session_no, webhook_id, kind, delivery_id", after, last)
}

// Deliveries implements copying.Reader. Their places are their ids.
func (r *copyReader) Deliveries(ctx context.Context, after []byte, damaged func(error) error, f func(*copying.Delivery) error) error {
	var last uuid.UUID
	copy(last[:], after)
	for more := true; more; {
		list, err := r.deliveryPage(&last, &more, damaged)
		if err != nil {
			return err
		}
		for _, one := range list {
			if err := f(one); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// deliveryPage reads some deliveries behind last, which it moves.
func (r *copyReader) deliveryPage(last *uuid.UUID, more *bool, damaged func(error) error) ([]*copying.Delivery, error) {
	after, size, n := *last, 0, 0
	*more = false
	var list []*copying.Delivery
	var wrong []error
	all := make(map[uuid.UUID]*copying.Delivery)
	hasPayload := make(map[uuid.UUID]bool)
	err := r.query(func(found pgx.Rows) error {
		var bytes int
		d, err := scanDelivery(found, &bytes)
		if d == nil {
			return err
		}
		if n++; size > copyBytes || *more {
			*more = true
			return nil
		}
		*last, size = d.ID, size+bytes
		if err != nil {
			wrong = append(wrong, err)
			return nil
		}
		one := &copying.Delivery{Delivery: d.Delivery, Place: d.ID[:], SessionNo: d.sessionNo, Visitor: d.visitor}
		list, all[d.ID], hasPayload[d.ID] = append(list, one), one, d.hasPayload
		return nil
	}, "SELECT d.*, COALESCE(octet_length(p.body), 0) FROM (SELECT "+deliveryColumns+" FROM @.deliveries WHERE id > $1 ORDER BY id LIMIT $2) d "+
		withPayload+" ORDER BY d.id", pgID(after), copyPage)
	*more = *more || n == copyPage
	if err == nil {
		err = r.addToDeliveries(after, *last, all, &wrong)
	}
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, one := range list {
		switch {
		case all[one.ID] == nil:
		case hasPayload[one.ID] != (one.Payload != nil) || len(one.Attempts) != one.Delivery.Attempts:
			wrong = append(wrong, fmt.Errorf("%w: delivery %s: it has a payload: %t, and it is stored: %t; %d attempts stored, %d counted", ErrCorrupt, one.ID,
				hasPayload[one.ID], one.Payload != nil, len(one.Attempts), one.Delivery.Attempts))
		default:
			kept = append(kept, one)
		}
	}
	for _, err := range wrong {
		if err := damaged(err); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// addToDeliveries adds the payloads and attempts of the deliveries behind after, up to last. Those of which something cannot be read are removed from all.
func (r *copyReader) addToDeliveries(after, last uuid.UUID, all map[uuid.UUID]*copying.Delivery, wrong *[]error) error {
	err := r.query(func(found pgx.Rows) error {
		var id uuid.UUID
		var body []byte
		err := found.Scan((*[16]byte)(&id), &body)
		if one := all[id]; one != nil && err == nil {
			one.Payload = append([]byte{}, body...) // an empty one is one
		}
		return err
	}, "SELECT delivery_id, body FROM @.payloads WHERE delivery_id > $1 AND delivery_id <= $2 ORDER BY delivery_id", pgID(after), pgID(last))
	if err != nil {
		return err
	}
	return r.query(func(found pgx.Rows) error {
		a, err := scanAttempt(found)
		if errors.Is(err, ErrCorrupt) {
			*wrong = append(*wrong, err)
			var id uuid.UUID
			copy(id[:], found.RawValues()[0])
			delete(all, id)
			return nil
		}
		if err != nil {
			return err
		}
		one := all[a.delivery]
		if one == nil {
			return nil
		}
		if a.n != len(one.Attempts)+1 {
			*wrong = append(*wrong, damage("attempt", fmt.Sprintf("%d of %s", a.n, a.delivery)))
			delete(all, a.delivery)
			return nil
		}
		one.Attempts = append(one.Attempts, a.Attempt)
		return nil
	}, "SELECT "+attemptColumns+" FROM @.attempts WHERE delivery_id > $1 AND delivery_id <= $2 ORDER BY delivery_id, n", pgID(after), pgID(last))
}

// Requests implements copying.Reader.
func (r *copyReader) Requests(ctx context.Context, after []byte, damaged func(error) error, f func(*copying.Request) error) error {
	if after == nil {
		after = []byte{}
	}
	return r.query(func(found pgx.Rows) error {
		var key, text []byte
		if err := found.Scan(&key, &text); err != nil {
			return err
		}
		one := new(copying.Request)
		if len(key) != len(one.Key) || json.Unmarshal(text, &one.Done) != nil {
			return damaged(damage("request", fmt.Sprintf("%x", key)))
		}
		copy(one.Key[:], key)
		return f(one)
	}, "SELECT key, done::text FROM @.request_keys WHERE key > $1 ORDER BY key", after)
}

// Rest implements copying.Reader.
func (r *copyReader) Rest(ctx context.Context, damaged func(error) error) (*copying.Rest, error) {
	rest := &copying.Rest{Health: make(map[uint32]engine.Health)}
	err := r.query(func(found pgx.Rows) error {
		w, err := scanWebhook(found)
		if errors.Is(err, ErrCorrupt) {
			return damaged(err)
		}
		if err == nil {
			rest.Webhooks = append(rest.Webhooks, w)
		}
		return err
	}, "SELECT settings::text FROM @.webhooks ORDER BY id")
	if err != nil {
		return nil, err
	}
	if rest.Health, err = r.s.readHealth(ctx, r.conn); err != nil {
		return nil, err
	}
	if err := r.jobs(rest, damaged); err != nil {
		return nil, err
	}
	if err := r.fanOuts(rest, damaged); err != nil {
		return nil, err
	}
	for _, one := range []struct {
		sequence string
		last     *int64
	}{{"webhook_ids", &rest.LastWebhook}, {"session_nos", &rest.LastSession}, {"numbers", &rest.LastJob}} {
		err := r.query(func(found pgx.Rows) error { return found.Scan(one.last) }, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM @."+one.sequence)
		if err != nil {
			return nil, err
		}
	}
	if rest.LastSession > 0 {
		rest.LastSession += sessionBlock - 1
	}
	return rest, nil
}

func (r *copyReader) jobs(rest *copying.Rest, damaged func(error) error) error {
	all, err := r.s.readJobs(r.ctx, r.conn)
	for _, j := range all {
		one := copying.Job{No: j.no, Cancellation: j.Cancellation}
		switch {
		case err != nil:
			return err
		case j.damaged:
			if err := damaged(damage("job", j.no)); err != nil {
				return err
			}
			continue
		case j.Replay != nil:
			one.Replay = &copying.Replay{Replay: j.Replay.Replay, AfterSession: j.Replay.AfterSession, ToSession: j.Replay.ToSession}
			if one.Replay.After, err = r.upTo(j.Replay.After); err == nil {
				one.Replay.To, err = r.upTo(j.Replay.To)
			}
		case j.Erasure != nil:
			one.Erasure = &copying.Erasure{Target: j.Erasure.Target, Erased: j.Erasure.Erased, Damaged: j.Erasure.Damaged, Once: j.Erasure.Once}
		}
		rest.Jobs = append(rest.Jobs, one)
	}
	return err
}

// upTo returns the last id of a delivery up to an id; uuid.Nil if there is none.
func (r *copyReader) upTo(id uuid.UUID) (found uuid.UUID, err error) {
	err = r.query(func(rows pgx.Rows) error { return rows.Scan((*[16]byte)(&found)) }, "SELECT id FROM @.deliveries WHERE id <= $1 ORDER BY id DESC LIMIT 1", pgID(id))
	return found, err
}

// fanOuts leaves out sessions that are not stored any more: nothing is made for them.
func (r *copyReader) fanOuts(rest *copying.Rest, damaged func(error) error) error {
	var all []*fanOut
	var nos []int64
	err := r.query(func(found pgx.Rows) error {
		var no int64
		var body []byte
		if err := found.Scan(&no, &body); err != nil {
			return err
		}
		f, err := decodeFanOut(no, body)
		if errors.Is(err, ErrCorrupt) {
			return damaged(err)
		}
		all, nos = append(all, f), append(nos, no)
		return err
	}, "SELECT no, body FROM @.fan_outs ORDER BY no")
	for i, f := range all {
		if err != nil {
			break
		}
		stored := make(map[int64]bool)
		var sessions []int64
		for j := range f.sessions {
			sessions = append(sessions, f.sessions[j].no)
		}
		err = r.query(func(found pgx.Rows) error {
			var no int64
			err := found.Scan(&no)
			stored[no] = true
			return err
		}, "SELECT no FROM @.sessions WHERE no = ANY($1)", sessions)
		one := copying.FanOut{No: nos[i], After: f.after, Last: f.last}
		for _, s := range f.sessions {
			if stored[s.no] {
				one.Sessions = append(one.Sessions, copying.FannedOut{ID: s.id, No: s.no, FanOut: s.FanOut})
			}
		}
		if len(one.Sessions) > 0 {
			rest.FanOuts = append(rest.FanOuts, one)
		}
	}
	return err
}

// explainMissing says that the schema must be made first.
func explainMissing(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42P01" || pg.Code == "3F000") {
		return fmt.Errorf("the schema has no tables of hookbolt: %w", err)
	}
	return err
}
