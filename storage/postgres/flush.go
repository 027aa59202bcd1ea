package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// uuids is a list of ids as an argument of a statement. pgx would find out anew for each of a []uuid.UUID how to encode it.
type uuids []uuid.UUID

// Dimensions, Index and IndexType implement pgtype.ArrayGetter.
func (u uuids) Dimensions() []pgtype.ArrayDimension {
	if u == nil {
		return []pgtype.ArrayDimension{}
	}
	return []pgtype.ArrayDimension{{Length: int32(len(u)), LowerBound: 1}}
}
func (u uuids) Index(i int) any { return pgID(u[i]) }
func (u uuids) IndexType() any  { return pgtype.UUID{} }

// pgID is an id as an argument of a statement.
func pgID(id uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// lists is a query that returns rows of the given columns and types, from an argument for each column that is a list with a value for each row. It unpacks the
// lists in the list of the results: a single unnest of all of them stores each in a table of its own first, and takes five times as long.
func lists(columns, types string) string {
	names, kinds := strings.Split(columns, ", "), strings.Split(types, ", ")
	parts := make([]string, len(names))
	for i := range names {
		parts[i] = fmt.Sprintf("unnest($%d::%s[]) AS %s", i+1, kinds[i], names[i])
	}
	return "SELECT " + strings.Join(parts, ", ")
}

// A join with a table whose statistics say that it has hardly any rows may read it as a whole, and go on with that when it has a million: a queue is empty
// most of the time, and its statistics with it. So a table is joined row by row: OFFSET 0 keeps the planner from turning the join around.

// located is lists with the place of each one's row in a table, as r.ctid. match compares the table's columns with those of t.
func located(table, lists, match string) string {
	return "(" + lists + ") t CROSS JOIN LATERAL (SELECT ctid FROM @." + table + " WHERE " + match + " OFFSET 0) r"
}

// deleteOf deletes the rows of a table that lists name.
func deleteOf(table, lists, match string) string {
	return "DELETE FROM @." + table + " WHERE ctid = ANY(ARRAY(SELECT r.ctid FROM " + located(table, lists, match) + "))"
}

// withPayload joins deliveries with their payloads, as p.body.
const withPayload = "LEFT JOIN LATERAL (SELECT body FROM @.payloads WHERE delivery_id = id OFFSET 0) p ON true"

// The rows that the statements of a flush write.
var (
	eventsLists   = lists("session_no, n, received_at, ids, body", "bigint, int, bigint, bytea, bytea")
	deliveryLists = lists(deliveryColumns, "uuid, int, bigint, bigint, uuid, uuid, bigint, smallint, smallint, bigint, bigint, bigint, bigint, bigint, int, int, int, text, int, boolean, bytea")
	changedLists  = lists("id, revision, status, due_at, next_at, frozen_at, finished_at, attempts, tries, last_status, last_error, late_events, has_payload, rest",
		"uuid, bigint, smallint, bigint, bigint, bigint, bigint, int, int, int, text, int, boolean, bytea")
	payloadLists   = lists("delivery_id, body", "uuid, bytea")
	attemptLists   = lists(attemptColumns, "uuid, int, bigint, bigint, int, text, bytea")
	placesLists    = lists("webhook_id, class, at, delivery_id", "int, smallint, bigint, uuid")
	exceptionLists = lists("webhook_id, status, delivery_id", "int, smallint, uuid")
)

// flush sends all that the batch has changed, in one round trip that ends with the commit. The batch row comes first: if another transaction has
// used its number, nothing else is done.
func (b *batch) flush() error {
	var p pgx.Batch
	deltas := b.deltas()
	p.Queue(b.s.sql("INSERT INTO @.batches (writer, n, counts, news) VALUES ($1, $2, $3, $4)"), b.s.writerID, b.n, deltas.encode(), b.newsText())
	b.flushSessions(&p)
	b.flushEvents(&p)
	b.flushDeliveries(&p)
	b.flushPayloads(&p)
	b.flushAttempts(&p)
	b.flushPlaces(&p)
	b.flushExceptions(&p)
	b.flushMarks(&p)
	b.flushExpiring(&p)
	b.flushSmall(&p)
	for _, st := range b.extra {
		p.Queue(st.sql, st.args...)
	}
	p.Queue("COMMIT").Exec(func(tag pgconnTag) error {
		if tag.String() != "COMMIT" {
			return errRolledBack
		}
		return nil
	})
	return b.s.send(b.ctx, b.conn, &p)
}

// sessionValues are the values of some rows of sessions, a list for each column.
type sessionValues struct {
	no, bytes, first, last, started, finished []int64
	id, content                               uuids
	visitor                                   []*int64
	events, batches                           []int32
	head                                      [][]byte
}

func (v *sessionValues) add(r *sessionRow) {
	v.no, v.id, v.content, v.visitor = append(v.no, r.no), append(v.id, r.ID), append(v.content, r.Identity.ContentID), append(v.visitor, r.Identity.PoltioUserID)
	v.events, v.bytes, v.batches = append(v.events, int32(r.Events)), append(v.bytes, r.Bytes), append(v.batches, int32(r.batches))
	v.first, v.last = append(v.first, fields.Instant(r.FirstReceivedAt)), append(v.last, fields.Instant(r.LastReceivedAt))
	v.started, v.finished = append(v.started, fields.Instant(r.StartedAt)), append(v.finished, fields.Instant(r.FinishedAt))
	v.head = append(v.head, r.head())
}

func (v *sessionValues) args() []any {
	return []any{v.no, v.id, v.content, v.visitor, v.events, v.bytes, v.batches, v.first, v.last, v.started, v.finished, v.head}
}

var sessionLists = lists(sessionColumns, "bigint, uuid, uuid, bigint, int, bigint, int, bigint, bigint, bigint, bigint, bytea")

// flushSessions writes sessions. New ones come in the order of their ids, so that two writers do not wait for each other in a circle.
func (b *batch) flushSessions(p *pgx.Batch) {
	var removed []int64
	var made []*sessionRow
	var changed sessionValues
	b.sessions.each(func(_ uuid.UUID, before, after *sessionRow) {
		switch {
		case before != nil && after != nil && before.no == after.no:
			changed.add(after)
			return
		case before != nil:
			removed = append(removed, before.no)
		}
		if after != nil {
			made = append(made, after)
			b.expireSession(after)
		}
	})
	if len(removed) > 0 {
		p.Queue(b.s.sql("DELETE FROM @.sessions WHERE no = ANY($1)"), removed)
	}
	if len(made) > 0 {
		slices.SortFunc(made, func(a, b *sessionRow) int { return slices.Compare(a.ID[:], b.ID[:]) })
		var v sessionValues
		for _, r := range made {
			v.add(r)
		}
		p.Queue(b.s.sql("INSERT INTO @.sessions ("+sessionColumns+") "+sessionLists), v.args()...)
	}
	if len(changed.no) > 0 {
		p.Queue(b.s.sql("UPDATE @.sessions s SET content_id = t.content_id, visitor = t.visitor, events = t.events, bytes = t.bytes, batches = t.batches, "+
			"first_at = t.first_at, last_at = t.last_at, started_at = t.started_at, finished_at = t.finished_at, head = t.head FROM "+
			located("sessions", sessionLists, "no = t.no")+" WHERE s.ctid = r.ctid"), changed.args()...)
	}
}

// flushEvents writes events, and removes those of sessions that are gone.
func (b *batch) flushEvents(p *pgx.Batch) {
	if len(b.gone) > 0 {
		p.Queue(b.s.sql("DELETE FROM @.events WHERE session_no = ANY($1)"), b.gone)
		p.Queue(b.s.sql("DELETE FROM @.marks WHERE session_no = ANY($1)"), b.gone)
	}
	var no, received []int64
	var n []int32
	var ids, body [][]byte
	for i := range b.events {
		r := &b.events[i]
		if slices.Contains(b.gone, r.no) {
			continue
		}
		no, n, received = append(no, r.no), append(n, int32(r.n)), append(received, r.receivedAt)
		ids, body = append(ids, encodeIDs(r.ids)), append(body, r.body)
	}
	if len(no) > 0 {
		p.Queue(b.s.sql("INSERT INTO @.events (session_no, n, received_at, ids, body) "+eventsLists), no, n, received, ids, body)
	}
}

// deliveryValues are the values of some rows of deliveries.
type deliveryValues struct {
	id, sessionID, content                     uuids
	webhook, attempts, tries, lastStatus, late []int32
	revision, sessionNo                        []int64
	visitor                                    []*int64
	kind, status                               []int16
	created, due, next, frozen, finished       []int64
	lastError                                  []string
	hasPayload                                 []bool
	rest                                       [][]byte
}

func (v *deliveryValues) add(r *deliveryRow) {
	v.id, v.webhook, v.revision, v.sessionNo = append(v.id, r.ID), append(v.webhook, int32(r.WebhookID)), append(v.revision, int64(r.WebhookRevision)), append(v.sessionNo, r.sessionNo)
	v.sessionID, v.content, v.visitor = append(v.sessionID, r.SessionID), append(v.content, r.ContentID), append(v.visitor, r.visitor)
	v.kind, v.status = append(v.kind, int16(r.Kind)), append(v.status, int16(r.Status))
	v.created, v.due, v.next = append(v.created, fields.Instant(r.CreatedAt)), append(v.due, fields.Instant(r.DueAt)), append(v.next, fields.Instant(r.NextAttemptAt))
	v.frozen, v.finished = append(v.frozen, fields.Instant(r.FrozenAt)), append(v.finished, fields.Instant(r.FinishedAt))
	v.attempts, v.tries, v.lastStatus = append(v.attempts, int32(r.Attempts)), append(v.tries, int32(r.Tries)), append(v.lastStatus, int32(r.LastStatus))
	v.lastError, v.late, v.hasPayload, v.rest = append(v.lastError, string(r.LastError)), append(v.late, int32(r.LateEvents)), append(v.hasPayload, r.hasPayload), append(v.rest, r.rest())
}

// flushDeliveries writes deliveries.
func (b *batch) flushDeliveries(p *pgx.Batch) {
	var made, changed deliveryValues
	var removed uuids
	b.deliveries.each(func(id uuid.UUID, before, after *deliveryRow) {
		switch {
		case after == nil:
			removed = append(removed, id)
		case before == nil:
			made.add(after)
		default:
			changed.add(after)
		}
		if after != nil && !after.FinishedAt.IsZero() && (before == nil || !before.FinishedAt.Equal(after.FinishedAt)) {
			b.expireDelivery(after)
		}
	})
	if v := &made; len(v.id) > 0 {
		p.Queue(b.s.sql("INSERT INTO @.deliveries ("+deliveryColumns+") "+deliveryLists),
			v.id, v.webhook, v.revision, v.sessionNo, v.sessionID, v.content, v.visitor, v.kind, v.status, v.created, v.due, v.next, v.frozen, v.finished,
			v.attempts, v.tries, v.lastStatus, v.lastError, v.late, v.hasPayload, v.rest)
	}
	if v := &changed; len(v.id) > 0 {
		p.Queue(b.s.sql("UPDATE @.deliveries d SET revision = t.revision, status = t.status, due_at = t.due_at, next_at = t.next_at, frozen_at = t.frozen_at, "+
			"finished_at = t.finished_at, attempts = t.attempts, tries = t.tries, last_status = t.last_status, last_error = t.last_error, late_events = t.late_events, "+
			"has_payload = t.has_payload, rest = t.rest FROM "+located("deliveries", changedLists, "id = t.id")+" WHERE d.ctid = r.ctid"),
			v.id, v.revision, v.status, v.due, v.next, v.frozen, v.finished, v.attempts, v.tries, v.lastStatus, v.lastError, v.late, v.hasPayload, v.rest)
	}
	if len(removed) > 0 {
		p.Queue(b.s.sql("DELETE FROM @.deliveries WHERE id = ANY($1)"), removed)
		p.Queue(b.s.sql("DELETE FROM @.attempts WHERE delivery_id = ANY($1)"), removed)
	}
}

// flushPayloads writes payloads.
func (b *batch) flushPayloads(p *pgx.Batch) {
	var ids, removed uuids
	var bodies [][]byte
	for _, id := range b.payloads.order {
		if body := b.payloads.changed[id]; body != nil {
			ids, bodies = append(ids, id), append(bodies, *body)
		} else {
			removed = append(removed, id)
		}
	}
	if len(ids) > 0 {
		p.Queue(b.s.sql("INSERT INTO @.payloads (delivery_id, body) "+payloadLists+" ON CONFLICT (delivery_id) DO UPDATE SET body = EXCLUDED.body"),
			ids, bodies)
	}
	if len(removed) > 0 {
		p.Queue(b.s.sql("DELETE FROM @.payloads WHERE delivery_id = ANY($1)"), removed)
	}
}

// flushAttempts writes attempts.
func (b *batch) flushAttempts(p *pgx.Batch) {
	if len(b.attempts) == 0 {
		return
	}
	var ids uuids
	var n, status []int32
	var started, duration []int64
	var class []string
	var rest [][]byte
	for i := range b.attempts {
		r := &b.attempts[i]
		ids, n, status = append(ids, r.delivery), append(n, int32(r.n)), append(status, int32(r.Status))
		started, duration = append(started, fields.Instant(r.StartedAt)), append(duration, int64(r.Duration))
		class, rest = append(class, string(r.Error)), append(rest, r.rest())
	}
	p.Queue(b.s.sql("INSERT INTO @.attempts ("+attemptColumns+") "+attemptLists),
		ids, n, started, duration, status, class, rest)
}

// flushPlaces moves deliveries in the queue.
func (b *batch) flushPlaces(p *pgx.Batch) {
	var from, to []place
	b.deliveries.each(func(_ uuid.UUID, before, after *deliveryRow) {
		old, was := before.place()
		now, is := after.place()
		if was == is && old == now {
			return
		}
		if was {
			from = append(from, old)
		}
		if is {
			to = append(to, now)
		}
	})
	if len(from) > 0 {
		p.Queue(b.s.sql(deleteOf("queue", placesLists, "webhook_id = t.webhook_id AND class = t.class AND at = t.at AND delivery_id = t.delivery_id")), placeLists(from)...)
	}
	b.queued = to
	if len(to) > 0 {
		p.Queue(b.s.sql("INSERT INTO @.queue (webhook_id, class, at, delivery_id) "+placesLists), placeLists(to)...)
	}
}

func placeLists(list []place) []any {
	var webhooks []int32
	var classes []int16
	var at []int64
	var ids uuids
	for _, p := range list {
		webhooks, classes, at, ids = append(webhooks, int32(p.lane.WebhookID)), append(classes, class(p.lane)), append(at, p.at), append(ids, p.id)
	}
	return []any{webhooks, classes, at, ids}
}

// flushExceptions keeps the table exceptions.
func (b *batch) flushExceptions(p *pgx.Batch) {
	var from, to []*deliveryRow
	b.deliveries.each(func(_ uuid.UUID, before, after *deliveryRow) {
		if before.isException() == after.isException() && (!before.isException() || before.Status == after.Status) {
			return
		}
		if before.isException() {
			from = append(from, before)
		}
		if after.isException() {
			to = append(to, after)
		}
	})
	lists := func(list []*deliveryRow) []any {
		var webhooks []int32
		var status []int16
		var ids uuids
		for _, r := range list {
			webhooks, status, ids = append(webhooks, int32(r.WebhookID)), append(status, int16(r.Status)), append(ids, r.ID)
		}
		return []any{webhooks, status, ids}
	}
	if len(from) > 0 {
		p.Queue(b.s.sql(deleteOf("exceptions", exceptionLists, "webhook_id = t.webhook_id AND status = t.status AND delivery_id = t.delivery_id")), lists(from)...)
	}
	if len(to) > 0 {
		p.Queue(b.s.sql("INSERT INTO @.exceptions (webhook_id, status, delivery_id) "+exceptionLists), lists(to)...)
	}
}

// flushMarks writes the marks that do not stand in the row of their session.
func (b *batch) flushMarks(p *pgx.Batch) {
	var from, to []markKey
	b.marks.each(func(k markKey, before, after *struct{}) {
		switch {
		case slices.Contains(b.gone, k.no):
		case after == nil:
			from = append(from, k)
		case before == nil:
			to = append(to, k)
		}
	})
	if len(from) > 0 {
		p.Queue(b.s.sql(deleteOf("marks", markLists, "session_no = t.session_no AND webhook_id = t.webhook_id AND kind = t.kind AND delivery_id = t.delivery_id")), markArgs(from)...)
	}
	if len(to) > 0 {
		p.Queue(b.s.sql("INSERT INTO @.marks (session_no, webhook_id, kind, delivery_id) "+markLists), markArgs(to)...)
	}
}

func markArgs(list []markKey) []any {
	var nos []int64
	var webhooks []int32
	var kinds []int16
	var ids uuids
	for _, k := range list {
		nos, webhooks, kinds, ids = append(nos, k.no), append(webhooks, int32(k.ref.WebhookID)), append(kinds, int16(k.ref.Kind)), append(ids, k.ref.ID)
	}
	return []any{nos, webhooks, kinds, ids}
}

// The kinds of the table expiry.
const (
	expirySession  = 0 // ids are the numbers of sessions
	expiryDelivery = 1 // ids are those of deliveries
)

// expiring collects what a batch adds to expiry, of one kind. One row holds all of them: retention counts in days, and a row for each would be a
// large part of what is written for a delivery.
type expiring struct {
	ids []byte
	at  time.Time // the latest of their times
}

func (e *expiring) add(id []byte, at time.Time) {
	e.ids = append(e.ids, id...)
	if at.After(e.at) {
		e.at = at
	}
}

func (b *batch) expireSession(r *sessionRow) {
	e := fields.NewEncoder(8)
	e.Fixed(uint64(r.no))
	b.expiring[expirySession].add(e.Bytes(), r.FirstReceivedAt)
}

func (b *batch) expireDelivery(r *deliveryRow) { b.expiring[expiryDelivery].add(r.ID[:], r.FinishedAt) }

func (b *batch) flushExpiring(p *pgx.Batch) {
	for kind, e := range b.expiring {
		if len(e.ids) > 0 {
			p.Queue(b.s.sql("INSERT INTO @.expiry (kind, at, ids) VALUES ($1, $2, $3)"), int16(kind), fields.Instant(e.at), e.ids)
		}
	}
}

// flushSmall writes the tables that change rarely, row by row.
func (b *batch) flushSmall(p *pgx.Batch) {
	b.webhooks.each(func(id uint32, before, after *engine.Webhook) {
		switch {
		case after == nil:
			p.Queue(b.s.sql("DELETE FROM @.webhooks WHERE id = $1"), int32(id))
			p.Queue(b.s.sql("DELETE FROM @.health WHERE webhook_id = $1"), int32(id))
			p.Queue(b.s.sql("DELETE FROM @.recent WHERE webhook_id = $1"), int32(id))
			p.Queue(b.s.sql("DELETE FROM @.lanes WHERE webhook_id = $1"), int32(id))
		default:
			p.Queue(b.s.sql("INSERT INTO @.webhooks (id, revision, operations, settings) VALUES ($1, $2, $3, $4::text::json) ON CONFLICT (id) DO UPDATE SET "+
				"revision = EXCLUDED.revision, operations = EXCLUDED.operations, settings = EXCLUDED.settings"), int32(id), int64(after.Revision), after.Operations, b.unknown[id].addTo(jsonText(after)))
		}
	})
	for id, h := range b.health {
		switch {
		case sameHealth(h, b.s.health[id]) && !b.forced[id] || b.hooks.Get(id) == nil:
		case h.IsZero():
			p.Queue(b.s.sql("DELETE FROM @.health WHERE webhook_id = $1"), int32(id))
		default:
			p.Queue(b.s.sql("INSERT INTO @.health (webhook_id, health) VALUES ($1, $2::text::json) ON CONFLICT (webhook_id) DO UPDATE SET health = EXCLUDED.health"),
				int32(id), jsonText(h))
		}
	}
	b.onces.each(func(key engine.OnceKey, before, after *engine.Done) {
		if before == nil && after != nil { // another process may remember the same key at the same time: then this one begins anew
			p.Queue(b.s.sql("INSERT INTO @.request_keys (key, at, done) VALUES ($1, $2, $3::text::json)"), key[:], fields.Instant(after.At), jsonText(after))
			return
		}
		if after == nil {
			p.Queue(b.s.sql("DELETE FROM @.request_keys WHERE key = $1"), key[:])
			return
		}
		p.Queue(b.s.sql("INSERT INTO @.request_keys (key, at, done) VALUES ($1, $2, $3::text::json) ON CONFLICT (key) DO UPDATE SET at = EXCLUDED.at, done = EXCLUDED.done"),
			key[:], fields.Instant(after.At), jsonText(after))
	})
	b.jobs.each(func(no int64, before, after *job) {
		if after == nil {
			p.Queue(b.s.sql("DELETE FROM @.jobs WHERE no = $1"), no)
			return
		}
		p.Queue(b.s.sql("INSERT INTO @.jobs (no, job) VALUES ($1, $2::text::json) ON CONFLICT (no) DO UPDATE SET job = EXCLUDED.job"), no, jsonText(after))
	})
	b.fanOuts.each(func(no int64, before, after *fanOut) {
		if after == nil {
			p.Queue(b.s.sql("DELETE FROM @.fan_outs WHERE no = $1"), no)
			return
		}
		p.Queue(b.s.sql("INSERT INTO @.fan_outs (no, sessions, body) VALUES ($1, $2, $3) ON CONFLICT (no) DO UPDATE SET sessions = EXCLUDED.sessions, body = EXCLUDED.body"),
			no, len(after.sessions), after.encode())
	})
}

// jsonText returns the JSON of a value that always has one.
func jsonText(v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // none of the types has a field that cannot be written
	}
	return string(body)
}

// deltas returns what the batch changes in the counts.
func (b *batch) deltas() deltas {
	d := make(deltas)
	b.deliveries.each(func(_ uuid.UUID, before, after *deliveryRow) {
		d.add(before, -1)
		d.add(after, +1)
	})
	return d
}
