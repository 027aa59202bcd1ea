package copying_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/engine/send"
	"hookbolt/storage/internal/copying"
)

// made is a store of made-up records in all states. It makes each record anew from its number, so that millions take no memory.
type made struct {
	seed     uint64
	sessions int
	webhooks int
	rich     bool // has what few records have: all states, long lists, odd bytes
}

// Everything was received from this time on, at odd nanoseconds.
var madeAt = time.Date(2026, 3, 29, 0, 59, 59, 123_456_789, time.UTC)

func (m *made) rand(kind, n uint64) *rand.Rand { return rand.New(rand.NewPCG(m.seed<<32|n, kind)) }

func (m *made) Mark() string { return fmt.Sprint("made ", m.seed) }

func (m *made) Totals(context.Context) (copying.Totals, error) {
	return copying.Totals{Sessions: int64(m.sessions), Deliveries: int64(m.sessions), Requests: 3}, nil
}

func randomID(r *rand.Rand) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	id[6], id[8] = 0x40|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}

func (m *made) sessionID(no int64) uuid.UUID { return randomID(m.rand(1, uint64(no))) }

// deliveryID is that of a session's delivery; several updates have an id each.
func (m *made) deliveryID(no, n int64) (id uuid.UUID) {
	at := madeAt.Add(time.Duration(no) * time.Second)
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|uint64(n)&0xfff)
	binary.BigEndian.PutUint64(id[8:], 1<<63|uint64(no)<<20|uint64(n))
	return id
}

func (m *made) webhook(no int64) uint32 { return uint32(1 + no%int64(m.webhooks)) }

// marks is how many updates a session has had beside its complete delivery. They are not stored any more.
func (m *made) marks(no int64) int64 {
	if m.rich && no%50 == 7 {
		return 100
	}
	return 0
}

// isFannedOut tells which sessions still wait for their deliveries.
func (m *made) isFannedOut(no int64) bool { return m.rich && no%40 == 3 }

func (m *made) Sessions(_ context.Context, after int64, _ func(error) error, f func(*copying.Session) error) error {
	for no := after + 1; no <= int64(m.sessions); no++ {
		if err := f(m.session(no)); err != nil {
			return err
		}
	}
	return nil
}

func (m *made) session(no int64) *copying.Session {
	r := m.rand(2, uint64(no))
	at := madeAt.Add(time.Duration(no) * time.Second)
	one := &copying.Session{No: no}
	one.ID = m.sessionID(no)
	one.Identity = engine.Identity{ContentID: randomID(m.rand(3, 1)), ContentType: "quiz"}
	if r.IntN(4) > 0 {
		one.Identity.PoltioUserID = new(r.Int64N(1 << 40))
	}
	if m.rich && r.IntN(3) == 0 {
		one.Identity.PublisherUUID, one.Identity.CustomID = new(""), new("Zo\u00eb \u0000 \U0001f600\xff")
	}
	requests := 1
	if m.rich {
		requests += r.IntN(3)
	}
	for i := range requests {
		events := 1 + r.IntN(2)
		body := []byte{}
		e := copying.Events{ReceivedAt: at.Add(time.Duration(i) * 11 * time.Nanosecond)}
		for j := range events {
			id := fmt.Sprintf("%d-%d-%d", no, i, j)
			e.IDs = append(e.IDs, id)
			body = append(body, "[,"[min(j, 1)])
			ev := fmt.Sprintf(`{"type":"vote","id":%q,"session_id":%q,"content_id":%q,"question_id":%d,"answer_id":1,"answer_text":"a \u0000 b \ud83d\ude00"}`,
				id, one.ID, one.Identity.ContentID, i)
			body = append(body, ev...)
			one.Bytes += int64(len(ev))
		}
		e.JSON = append(body, ']')
		one.Events += events
		one.Requests = append(one.Requests, e)
		one.LastReceivedAt = e.ReceivedAt
	}
	one.FirstReceivedAt, one.StartedAt, one.FinishedAt = at, at, at.Add(time.Second)
	if m.isFannedOut(no) {
		return one
	}
	one.Deliveries = append(one.Deliveries, engine.DeliveryRef{WebhookID: m.webhook(no), Kind: engine.KindComplete, ID: m.deliveryID(no, 0)})
	for n := range m.marks(no) {
		one.Deliveries = append(one.Deliveries, engine.DeliveryRef{WebhookID: m.webhook(no), Kind: engine.KindUpdate, ID: m.deliveryID(no, n+1)})
	}
	return one
}

// The places of deliveries are the numbers of their sessions.
func (m *made) Deliveries(_ context.Context, after []byte, _ func(error) error, f func(*copying.Delivery) error) error {
	no := int64(0)
	if after != nil {
		no = int64(binary.BigEndian.Uint64(after))
	}
	for no++; no <= int64(m.sessions); no++ {
		if m.isFannedOut(no) {
			continue
		}
		if err := f(m.delivery(no)); err != nil {
			return err
		}
	}
	return nil
}

func (m *made) delivery(no int64) *copying.Delivery {
	r, session := m.rand(4, uint64(no)), m.session(no)
	at := session.FinishedAt
	d := engine.Delivery{ID: m.deliveryID(no, 0), WebhookID: m.webhook(no), WebhookRevision: 1 + r.Uint64N(9), SessionID: session.ID, ContentID: session.Identity.ContentID,
		Kind: engine.KindComplete, Status: engine.StatusDelivered, CreatedAt: at, DueAt: at.Add(time.Second)}
	if m.rich {
		d.Status = engine.Statuses[r.IntN(len(engine.Statuses))]
		d.LateEvents = r.IntN(2)
	}
	one := &copying.Delivery{Place: binary.BigEndian.AppendUint64(nil, uint64(no)), SessionNo: no, Visitor: session.Identity.PoltioUserID}
	if d.Status.Waiting() {
		d.NextAttemptAt = d.DueAt.Add(time.Duration(r.IntN(100)) * time.Hour)
	} else {
		d.FinishedAt = at.Add(time.Duration(r.IntN(1000)) * time.Second)
	}
	switch {
	case d.Status == engine.StatusPending, d.Status == engine.StatusDelivered, d.Status == engine.StatusFailed && r.IntN(2) == 0:
		d.FrozenAt, d.BuiltFrom = at, session.Events
		one.Payload = fmt.Appendf(nil, `{"session":%q,"answers":"%0*d \u0000"}`, session.ID, 1+r.IntN(300), 7)
		if m.rich && r.IntN(5) == 0 {
			d.Shaped, d.ContentType, d.URLValues = true, "text/plain", engine.URLValues(`{"a":"b"}`)
			one.Payload = []byte{0, 0xff, '\n'}[:r.IntN(4)]
		}
		d.Attempts = r.IntN(3)
		if d.Status == engine.StatusDelivered {
			d.Attempts++
		}
	case d.Status == engine.StatusFailed:
		d.BuildError, d.LastError = "it failed: \"\u0000\"", engine.ErrorTransform
	case d.Status == engine.StatusCancelled:
		d.SupersededBy = randomID(r)
	}
	for i := range d.Attempts {
		one.Attempts = append(one.Attempts, m.attempt(r, at.Add(time.Duration(i)*time.Minute), i == d.Attempts-1 && d.Status == engine.StatusDelivered))
		d.Tries, d.LastStatus, d.LastError = i+1, one.Attempts[i].Status, one.Attempts[i].Error
	}
	one.Delivery = d
	return one
}

func (m *made) attempt(r *rand.Rand, at time.Time, delivered bool) engine.Attempt {
	a := engine.Attempt{Outcome: engine.Outcome{StartedAt: at, Duration: time.Duration(r.Int64N(1 << 40)), Status: 500, Error: "http_5xx", ErrorDetail: "\x00 no", Response: []byte("\xff\x00")}}
	a.NextAt, a.NextReason = at.Add(time.Hour+3), "schedule"
	if delivered {
		a.Outcome = engine.Outcome{StartedAt: at, Duration: 1, Status: 200}
		a.NextAt, a.NextReason = time.Time{}, ""
	}
	a.Phases.DNS, a.Phases.FirstByte, a.Address, a.Protocol = 5, 7, "127.0.0.1:9", "HTTP/1.1"
	if m.rich {
		a.ResponseHeader = []engine.HeaderField{{Name: "X", Value: "\x00"}}
		a.Sent = send.Sent{Signature: "v1,x", UserAgent: "hookbolt", Credentials: []string{"Authorization"}, Method: "PUT"}
		a.Repeated, a.Reused = "x", true
	}
	return a
}

func (m *made) Requests(_ context.Context, after []byte, _ func(error) error, f func(*copying.Request) error) error {
	for i := range byte(3) {
		one := &copying.Request{Key: engine.OnceKey{i + 1, 0, 0xff}, Done: engine.Done{Request: []byte{i}, At: madeAt, WebhookID: uint32(i)}}
		if string(one.Key[:]) <= string(after) {
			continue
		}
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

func (m *made) Rest(context.Context, func(error) error) (*copying.Rest, error) {
	rest := &copying.Rest{Health: make(map[uint32]engine.Health), LastWebhook: int64(m.webhooks) + 5, LastSession: int64(m.sessions) + 3, LastJob: 40}
	for i := range m.webhooks {
		w := &engine.Webhook{ID: uint32(i + 1), Revision: 10, CreatedAt: madeAt, UpdatedAt: madeAt, URL: "https://example.com/", Name: "n \u0000 \u2028", Active: true}
		rest.Webhooks = append(rest.Webhooks, w)
	}
	if !m.rich {
		return rest, nil
	}
	rest.Health[1] = engine.Health{Failures: 3, Refused: 1, FirstFailedAt: madeAt, FailingSince: madeAt, Probes: 2, NextProbeAt: madeAt, NextSlotAt: madeAt,
		Throttle: engine.Throttle{Refusals: 1, HeldUntil: madeAt, Ceiling: 0.1, Known: true}}
	half := int64(m.sessions / 2)
	for m.isFannedOut(half) {
		half++
	}
	rest.Jobs = []copying.Job{
		{No: 3, Cancellation: &engine.Cancellation{WebhookID: 1, Revision: 4, Scope: engine.CancelAll}},
		{No: 4, Replay: &copying.Replay{Replay: engine.Replay{WebhookID: 1, Scope: engine.ReplayMissing, Until: madeAt, Count: 9, Done: 2}, AfterSession: half, ToSession: int64(m.sessions)}},
		{No: 7, Replay: &copying.Replay{Replay: engine.Replay{WebhookID: 2, Scope: engine.ReplayAny, Since: madeAt, Until: madeAt, Count: 9, Done: 2}, After: m.deliveryID(half, 0), To: m.deliveryID(int64(m.sessions), 0)}},
		{No: 9, Erasure: &copying.Erasure{Target: engine.Erasure{Email: "a@example.com"}, Erased: engine.Erased{Sessions: 2}, Damaged: []string{"x"}, Once: make([]byte, 32)}},
	}
	fan := copying.FanOut{No: 12, After: 1, Last: 2}
	for no := int64(1); no <= int64(m.sessions) && len(fan.Sessions) < 64; no++ {
		if m.isFannedOut(no) {
			fan.Sessions = append(fan.Sessions, copying.FannedOut{ID: m.sessionID(no), No: no, FanOut: engine.FanOut{StartedAt: madeAt, FinishedAt: madeAt, Continued: true, WasFinished: true,
				ReceivedAt: madeAt, Settle: time.Second, Late: engine.Late{Events: 2, Before: 1, Answers: true, Leads: true, Rest: true}}})
		}
	}
	rest.FanOuts = append(rest.FanOuts, fan)
	return rest, nil
}
