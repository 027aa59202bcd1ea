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
