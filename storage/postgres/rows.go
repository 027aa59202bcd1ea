package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// ErrCorrupt is returned when a stored record is not what hookbolt writes.
var ErrCorrupt = errors.New("stored record is damaged")

// recordV1 is the first byte of the binary columns. A later version has fields at the end, which More tells.
const recordV1 = 1

// newRecord begins the value of a binary column.
func newRecord(size int) *fields.Encoder {
	e := fields.NewEncoder(size + 1)
	e.Byte(recordV1)
	return e
}

// openRecord begins to read one.
func openRecord(b []byte) *fields.Decoder {
	d := fields.NewDecoder(b)
	if v := d.Byte(); v != recordV1 {
		return fields.NewDecoder(nil)
	}
	return d
}

// damage is an ErrCorrupt about a row.
func damage(table string, key any) error { return fmt.Errorf("%w: %s %v", ErrCorrupt, table, key) }

// sessionRow is a row of sessions. Values of this type are not changed once they are in a batch.
type sessionRow struct {
	engine.SessionHead       // its Deliveries are the marks that stand in the row
	no                 int64 // 0 for one that is not stored yet
	batches            int   // how many rows the session has in events
	marks              int   // how many of its marks stand in the table marks
}

// sessionColumns are those that scanSession reads and flushSessions writes.
const sessionColumns = "no, id, content_id, visitor, events, bytes, batches, first_at, last_at, started_at, finished_at, head"

// scanSession reads a row of sessionColumns. With ErrCorrupt it returns what it could read, which has the keys.
func scanSession(rows pgx.Rows) (*sessionRow, error) {
	var r sessionRow
	var first, last, started, finished int64
	var head []byte
	err := rows.Scan(&r.no, (*[16]byte)(&r.ID), (*[16]byte)(&r.Identity.ContentID), &r.Identity.PoltioUserID, &r.Events, &r.Bytes, &r.batches,
		&first, &last, &started, &finished, &head)
	if err != nil {
		return nil, err
	}
	r.FirstReceivedAt, r.LastReceivedAt, r.StartedAt, r.FinishedAt = fields.Time(first), fields.Time(last), fields.Time(started), fields.Time(finished)
	d := openRecord(head)
	r.Identity.ContentType, r.Identity.PublisherUUID, r.Identity.CustomID = engine.ContentType(d.String()), d.OptionalString(), d.OptionalString()
	r.marks = int(d.Count())
	for n := d.Uint(); n > 0 && d.More(); n-- {
		r.Deliveries = append(r.Deliveries, engine.DeliveryRef{WebhookID: d.Count(), Kind: engine.Kind(d.Byte()), ID: d.UUID()})
	}
	if !d.OK() {
		return &r, damage("session", r.ID)
	}
	return &r, nil
}

// head is the column of that name: what no query needs.
func (r *sessionRow) head() []byte {
	e := newRecord(32 + 21*len(r.Deliveries))
	e.String(string(r.Identity.ContentType))
	e.OptionalString(r.Identity.PublisherUUID)
	e.OptionalString(r.Identity.CustomID)
	e.Uint(uint64(r.marks))
	e.Uint(uint64(len(r.Deliveries)))
	for _, m := range r.Deliveries {
		e.Uint(uint64(m.WebhookID))
		e.Byte(byte(m.Kind))
		e.UUID(m.ID)
	}
	return e.Bytes()
}

// deliveryRow is a row of deliveries. Values of this type are not changed once they are in a batch.
type deliveryRow struct {
	engine.Delivery
	sessionNo  int64  // 0 for a delivery of no session
	visitor    *int64 // of the session
	hasPayload bool   // it has a row in payloads: its body, or the system event that the body is built from
}

// deliveryColumns are those that scanDelivery reads and flushDeliveries writes.
const deliveryColumns = "id, webhook_id, revision, session_no, session_id, content_id, visitor, kind, status, created_at, due_at, next_at, frozen_at, " +
	"finished_at, attempts, tries, last_status, last_error, late_events, has_payload, rest"

// scanDelivery reads a row that begins with deliveryColumns. more are the destinations of further columns. With ErrCorrupt it returns what it could read,
// which has the keys.
func scanDelivery(rows pgx.Rows, more ...any) (*deliveryRow, error) {
	var r deliveryRow
	var created, due, next, frozen, finished int64
	var kind, status int16
	var lastError string
	var rest []byte
	err := rows.Scan(append([]any{(*[16]byte)(&r.ID), &r.WebhookID, &r.WebhookRevision, &r.sessionNo, (*[16]byte)(&r.SessionID), (*[16]byte)(&r.ContentID), &r.visitor,
		&kind, &status, &created, &due, &next, &frozen, &finished, &r.Attempts, &r.Tries, &r.LastStatus, &lastError, &r.LateEvents, &r.hasPayload, &rest}, more...)...)
	if err != nil {
		return nil, err
	}
	r.Kind, r.Status, r.LastError = engine.Kind(kind), engine.Status(status), engine.ErrorClass(lastError)
	r.CreatedAt, r.DueAt, r.NextAttemptAt = fields.Time(created), fields.Time(due), fields.Time(next)
	r.FrozenAt, r.FinishedAt = fields.Time(frozen), fields.Time(finished)
	d := openRecord(rest)
	r.AsOf, r.BuiltFrom, r.SupersededBy, r.Shaped = d.Time(), int(d.Count()), d.OptionalUUID(), d.Bool()
	r.BuildError, r.ContentType, r.URLValues = d.String(), d.String(), engine.URLValues(d.String())
	if !d.OK() || r.Status < engine.StatusScheduled || r.Status > engine.StatusFiltered || r.Kind < engine.KindComplete || r.Kind > engine.KindUpdate {
		return &r, damage("delivery", r.ID)
	}
	return &r, nil
}

// rest is the column of that name: what no query needs.
func (r *deliveryRow) rest() []byte {
	e := newRecord(24 + len(r.BuildError) + len(r.ContentType) + len(r.URLValues))
	e.Time(r.AsOf)
	e.Uint(uint64(r.BuiltFrom))
	e.OptionalUUID(r.SupersededBy)
	e.Bool(r.Shaped)
	e.String(r.BuildError)
	e.String(r.ContentType)
	e.String(string(r.URLValues))
	return e.Bytes()
}

// source says what the next attempt can be made from. hasSession reports whether the delivery's session is stored.
func (r *deliveryRow) source(hasSession bool) engine.Source {
	return engine.Source{Frozen: !r.FrozenAt.IsZero(), Session: r.hasPayload || hasSession}
}

// place is the place of a delivery in the table queue.
type place struct {
	lane engine.Lane
	at   int64
	id   uuid.UUID
}

// place returns where a delivery waits; ok is false if it does not wait.
func (r *deliveryRow) place() (p place, ok bool) {
	if r == nil || !r.Status.Waiting() {
		return place{}, false
	}
	return place{r.Lane(), fields.Instant(r.NextAttemptAt), r.ID}, true
}

// class is the column of that name in the queue.
func class(l engine.Lane) int16 {
	if l.Test {
		return 1
	}
	return 0
}

// isException reports whether a delivery is in the table exceptions, which finds the few that did not arrive.
func (r *deliveryRow) isException() bool {
	return r != nil && (r.Status == engine.StatusFailed || r.Status == engine.StatusCancelled || r.Status == engine.StatusFiltered)
}

// attemptRow is a row of attempts.
type attemptRow struct {
	delivery uuid.UUID
	n        int
	engine.Attempt
}

// attemptColumns are those that scanAttempt reads and flushAttempts writes.
const attemptColumns = "delivery_id, n, started_at, duration, status, error, rest"

// scanAttempt reads a row of attemptColumns.
func scanAttempt(rows pgx.Rows) (*attemptRow, error) {
	var r attemptRow
	var started, duration int64
	var class string
	var rest []byte
	if err := rows.Scan((*[16]byte)(&r.delivery), &r.n, &started, &duration, &r.Status, &class, &rest); err != nil {
		return nil, err
	}
	r.StartedAt, r.Error = fields.Time(started), engine.ErrorClass(class)
	d := openRecord(rest)
	r.Duration = d.Duration()
	r.ErrorDetail, r.Response = d.String(), []byte(d.String())
	for _, span := range r.phases() {
		*span = d.Duration()
	}
	r.Address, r.Reused, r.Protocol = d.String(), d.Bool(), d.String()
	for n := d.Uint(); n > 0 && d.More(); n-- {
		r.ResponseHeader = append(r.ResponseHeader, engine.HeaderField{Name: d.String(), Value: d.String()})
	}
	r.NextAt, r.NextReason, r.Repeated = d.Time(), engine.NextReason(d.String()), engine.Repeat(d.String())
	r.Sent.Signature, r.Sent.UserAgent, r.Sent.Method = d.String(), d.String(), d.String()
	r.Sent.BodySignature = engine.HeaderField{Name: d.String(), Value: d.String()}
	for n := d.Uint(); n > 0 && d.More(); n-- {
		r.Sent.Credentials = append(r.Sent.Credentials, d.String())
	}
	if !d.OK() {
		return nil, damage("attempt", fmt.Sprintf("%d of %s", r.n, r.delivery))
	}
	return &r, nil
}

// phases are the spans of an attempt, in the order in which they are stored.
func (r *attemptRow) phases() []*time.Duration {
	return []*time.Duration{&r.Phases.Token, &r.Phases.DNS, &r.Phases.Connect, &r.Phases.TLS, &r.Phases.FirstByte}
}

// rest is the column of that name: what no query needs.
func (r *attemptRow) rest() []byte {
	e := newRecord(256 + len(r.ErrorDetail) + len(r.Response) + 64*len(r.ResponseHeader))
	e.Duration(r.Duration)
	e.String(r.ErrorDetail)
	e.String(string(r.Response))
	for _, span := range r.phases() {
		e.Duration(*span)
	}
	e.String(r.Address)
	e.Bool(r.Reused)
	e.String(r.Protocol)
	e.Uint(uint64(len(r.ResponseHeader)))
	for _, f := range r.ResponseHeader {
		e.String(f.Name)
		e.String(f.Value)
	}
	e.Time(r.NextAt)
	e.String(string(r.NextReason))
	e.String(string(r.Repeated))
	e.String(r.Sent.Signature)
	e.String(r.Sent.UserAgent)
	e.String(r.Sent.Method)
	e.String(r.Sent.BodySignature.Name)
	e.String(r.Sent.BodySignature.Value)
	e.Uint(uint64(len(r.Sent.Credentials)))
	for _, name := range r.Sent.Credentials {
		e.String(name)
	}
	return e.Bytes()
}

// eventsRow is a row of events: those of one request for a session.
type eventsRow struct {
	no         int64 // of the session
	n          int
	receivedAt int64
	ids        []string
	body       []byte // a JSON list of the events as they came
}

// newEventsRow makes the row of fresh events.
func newEventsRow(no int64, n int, fresh []engine.Event) eventsRow {
	r := eventsRow{no: no, n: n, receivedAt: fields.Instant(fresh[0].ReceivedAt)}
	size := 2
	for i := range fresh {
		size += len(fresh[i].JSON) + 1
	}
	r.body = make([]byte, 0, size)
	for i := range fresh {
		r.body = append(append(r.body, listSeparator(i)), fresh[i].JSON...)
		if fresh[i].ID != "" {
			r.ids = append(r.ids, fresh[i].ID)
		}
	}
	r.body = append(r.body, ']')
	return r
}

func listSeparator(i int) byte {
	if i == 0 {
		return '['
	}
	return ','
}

// batch returns the row as the engine knows it.
func (r *eventsRow) batch() engine.EventBatch {
	return engine.EventBatch{ReceivedAt: fields.Time(r.receivedAt), JSON: r.body}
}

// encodeIDs makes the column ids, nil for none; decodeIDs reads it.
func encodeIDs(ids []string) []byte {
	if len(ids) == 0 {
		return nil
	}
	e := newRecord(40 * len(ids))
	for _, id := range ids {
		e.String(id)
	}
	return e.Bytes()
}

func decodeIDs(b []byte) (ids []string, ok bool) {
	if b == nil {
		return nil, true
	}
	d := openRecord(b)
	for d.More() {
		ids = append(ids, d.String())
	}
	return ids, d.OK()
}
