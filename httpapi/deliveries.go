package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// delivery is a delivery in a response.
type delivery struct {
	ID            uuid.UUID          `json:"id"`
	WebhookID     uint32             `json:"webhook_id"`
	SessionID     *uuid.UUID         `json:"session_id"` // null for a test
	Kind          engine.Kind        `json:"kind"`
	Status        engine.Status      `json:"status"`
	CreatedAt     instant            `json:"created_at"`
	DueAt         instant            `json:"due_at"`
	AsOf          instant            `json:"as_of"` // null unless incomplete
	NextAttemptAt instant            `json:"next_attempt_at"`
	FrozenAt      instant            `json:"frozen_at"`
	FinishedAt    instant            `json:"finished_at"`
	AttemptsMade  int                `json:"attempts_made"`
	LastStatus    *int               `json:"last_status"`
	LastError     *engine.ErrorClass `json:"last_error"`
	// BuildError says why the programs of the webhook could not build the body.
	BuildError   *string    `json:"build_error"`
	LateEvents   int        `json:"late_events"`
	SupersededBy *uuid.UUID `json:"superseded_by"`
}

func showDelivery(d *engine.Delivery) delivery {
	return delivery{
		ID: d.ID, WebhookID: d.WebhookID, SessionID: orNull(d.SessionID), Kind: d.Kind, Status: d.Status,
		CreatedAt: instant(d.CreatedAt), DueAt: instant(d.DueAt), AsOf: instant(d.AsOf), NextAttemptAt: instant(d.NextAttemptAt), FrozenAt: instant(d.FrozenAt),
		FinishedAt: instant(d.FinishedAt), AttemptsMade: d.Attempts, LastStatus: orNull(d.LastStatus), LastError: orNull(d.LastError),
		BuildError: orNull(d.BuildError), LateEvents: d.LateEvents, SupersededBy: orNull(d.SupersededBy),
	}
}

// showDeliveries never returns nil, because JSON would show that as null.
func showDeliveries(list []engine.Delivery) []delivery {
	shown := make([]delivery, len(list))
	for i := range list {
		shown[i] = showDelivery(&list[i])
	}
	return shown
}

func (a *API) listDeliveries(r *http.Request, _ httprouter.Params) (any, error) {
	q := queryOf(r)
	ask := engine.DeliveryQuery{
		WebhookID: q.webhookID(), SessionID: q.uuid("session_id"), Status: q.status(), Since: q.time("since"), Until: q.time("until"),
		LateEvents: q.flag("late_events"), Limit: q.limit(), Cursor: q.cursor(),
	}
	if !ask.Until.IsZero() && ask.Until.Before(ask.Since) {
		q.refuse("until", "must not be before since")
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	found, err := a.engine.Deliveries(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	return page[delivery]{showDeliveries(found.Items), orNull(found.NextCursor)}, nil
}

// deliveryDetail is a delivery with its payload and its attempts.
type deliveryDetail struct {
	delivery
	// Payload is the frozen body; null while there is none. One that is not JSON is a string.
	Payload json.RawMessage `json:"payload"`
	// Shaped, ContentType and URLValues are frozen with it.
	Shaped      bool              `json:"shaped"`
	ContentType *string           `json:"content_type"`
	URLValues   map[string]string `json:"url_values"`
	Attempts    []attempt         `json:"attempts"`
}

// showBody shows a body: as it is if it is JSON, otherwise as a string.
func showBody(d *engine.Delivery, body []byte) json.RawMessage {
	if body == nil || !d.Shaped || json.Valid(body) {
		return body
	}
	text, err := json.Marshal(string(body))
	if err != nil {
		panic(err) // cannot be: a string
	}
	return text
}

// attempt is an attempt in a response. Durations are in milliseconds, with a resolution of a microsecond.
type attempt struct {
	StartedAt  instant `json:"started_at"`
	DurationMS float64 `json:"duration_ms"`
	Phases     phases  `json:"phases"`
	// Address is the address and port that the attempt connected to, or tried last.
	Address     *string            `json:"address"`
	Reused      bool               `json:"connection_reused"`
	Repeated    *engine.Repeat     `json:"repeated"`
	Protocol    *string            `json:"protocol"`
	Status      *int               `json:"status"`
	Error       *engine.ErrorClass `json:"error"`
	ErrorDetail *string            `json:"error_detail"`
	// Method is the method of the request; null if nothing was sent.
	Method *string `json:"method"`
	// RequestHeaders are the headers that were sent, except those of HTTP itself, with "…" in place of credentials; empty if nothing
	// was sent.
	RequestHeaders http.Header `json:"request_headers"`
	// ResponseHeaders has a list of values for each name.
	ResponseHeaders http.Header `json:"response_headers"`
	// Response is the beginning of the response body. encoding/json replaces invalid UTF-8 in it, also where it is cut.
	Response string `json:"response"`
	// NextAttemptAt is when the next attempt was planned after this one. NextReason says why then, or why there is none.
	NextAttemptAt instant            `json:"next_attempt_at"`
	NextReason    *engine.NextReason `json:"next_reason"`
}

// phases are the parts of an attempt; null for those that did not occur.
type phases struct {
	TokenMS   *float64 `json:"token_ms"`
	DNSMS     *float64 `json:"dns_ms"`
	ConnectMS *float64 `json:"connect_ms"`
	TLSMS     *float64 `json:"tls_ms"`
	// FirstByteMS counts from the start of the attempt.
	FirstByteMS *float64 `json:"first_byte_ms"`
}

func milliseconds(d time.Duration) float64 { return float64(d/time.Microsecond) / 1000 }

func showAttempt(d *engine.Delivery, a *engine.Attempt) attempt {
	phase := func(d time.Duration) *float64 {
		if d == 0 {
			return nil
		}
		return new(milliseconds(d))
	}
	shown := attempt{
		StartedAt: instant(a.StartedAt), DurationMS: milliseconds(a.Duration), Address: orNull(a.Address), Reused: a.Reused, Repeated: orNull(a.Repeated), Protocol: orNull(a.Protocol),
		Phases: phases{phase(a.Phases.Token), phase(a.Phases.DNS), phase(a.Phases.Connect), phase(a.Phases.TLS), phase(a.Phases.FirstByte)},
		Status: orNull(a.Status), Error: orNull(a.Error), ErrorDetail: orNull(a.ErrorDetail), Method: orNull(a.RequestMethod()), RequestHeaders: http.Header{}, ResponseHeaders: http.Header{}, Response: string(a.Response),
		NextAttemptAt: instant(a.NextAt), NextReason: orNull(a.NextReason),
	}
	for _, f := range a.RequestHeader(d) {
		shown.RequestHeaders[f.Name] = []string{f.Value} // lower case, as it is documented
	}
	for _, f := range a.ResponseHeader {
		shown.ResponseHeaders.Add(f.Name, f.Value)
	}
	return shown
}

func (a *API) getDelivery(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	d, payload, attempts, err := a.engine.Delivery(r.Context(), id)
	if err != nil {
		return nil, err
	}
	answer := deliveryDetail{delivery: showDelivery(&d), Payload: showBody(&d, payload), Shaped: d.Shaped, URLValues: make(map[string]string), Attempts: make([]attempt, len(attempts))}
	maps.Copy(answer.URLValues, d.URLValues.Map())
	if !d.FrozenAt.IsZero() {
		answer.ContentType = new(d.FrozenType())
	}
	for i := range attempts {
		answer.Attempts[i] = showAttempt(&d, &attempts[i])
	}
	return answer, nil
}

func (a *API) retryDelivery(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	d, err := a.engine.Retry(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return showDelivery(&d), nil
}

func (a *API) cancelDelivery(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	d, err := a.engine.Cancel(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return showDelivery(&d), nil
}
