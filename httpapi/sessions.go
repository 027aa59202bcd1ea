package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// session is a session in a response: its folded state, its events and its deliveries.
type session struct {
	// Session has the payload's fields except event_time.
	Session json.RawMessage `json:"session"`
	// Events are in the order of arrival.
	Events     []event    `json:"events"`
	Deliveries []delivery `json:"deliveries"`
}

// listedSession is a session in a list: what is known of it without its events.
type listedSession struct {
	ID            uuid.UUID           `json:"session_id"`
	State         engine.SessionState `json:"state"`
	ContentID     uuid.UUID           `json:"content_id"`
	ContentType   engine.ContentType  `json:"content_type"`
	PoltioUserID  *int64              `json:"poltio_user_id"`
	PublisherUUID *string             `json:"publisher_uuid"`
	CustomID      *string             `json:"custom_id"`
	Events        int                 `json:"events"`
	FirstReceived instant             `json:"first_received_at"`
	LastReceived  instant             `json:"last_received_at"`
	FinishedAt    instant             `json:"finished_at"`
}

func showSession(h *engine.SessionHead) listedSession {
	return listedSession{
		ID: h.ID, State: h.State(), ContentID: h.Identity.ContentID, ContentType: h.Identity.ContentType, PoltioUserID: h.Identity.PoltioUserID,
		PublisherUUID: h.Identity.PublisherUUID, CustomID: h.Identity.CustomID, Events: h.Events, FirstReceived: instant(h.FirstReceivedAt),
		LastReceived: instant(h.LastReceivedAt), FinishedAt: instant(h.FinishedAt),
	}
}

func (a *API) listSessions(r *http.Request, _ httprouter.Params) (any, error) {
	q := queryOf(r)
	ask := engine.SessionQuery{
		ContentID: q.uuid("content_id"), Visitor: q.visitor(), Email: q.email(), Phone: q.phone(), State: q.sessionState(),
		Since: q.time("since"), Until: q.time("until"), Limit: q.limit(), Cursor: q.cursor(),
	}
	if !ask.Until.IsZero() && ask.Until.Before(ask.Since) {
		q.refuse("until", "must not be before since")
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	found, err := a.engine.Sessions(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	shown := make([]listedSession, len(found.Items))
	for i := range found.Items {
		shown[i] = showSession(&found.Items[i])
	}
	return page[listedSession]{shown, orNull(found.NextCursor)}, nil
}

// event is an event as it was received, except for white space and halves of surrogate pairs.
type event struct {
	ReceivedAt instant         `json:"received_at"`
	Event      json.RawMessage `json:"event"`
}

func (a *API) getSession(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	folded, record, deliveries, err := a.engine.Session(r.Context(), id)
	if err != nil {
		return nil, err
	}
	shown, err := engine.DescribeSession(folded)
	if err != nil {
		return nil, err
	}
	answer := session{Session: shown, Events: []event{}, Deliveries: showDeliveries(deliveries)}
	for _, batch := range record.Batches {
		var events []json.RawMessage
		if err := json.Unmarshal(batch.JSON, &events); err != nil {
			return nil, fmt.Errorf("events of session %s: %w", id, err)
		}
		for _, ev := range events {
			answer.Events = append(answer.Events, event{instant(batch.ReceivedAt), engine.WellFormedJSON(ev)})
		}
	}
	return answer, nil
}

// pathUUID reads the id of the path.
func pathUUID(ps httprouter.Params) (uuid.UUID, error) {
	id, err := engine.ParseUUID(ps.ByName("id"))
	if err != nil {
		return uuid.Nil, engine.InputErrors{{Field: "id", Detail: err.Error()}}
	}
	return id, nil
}
