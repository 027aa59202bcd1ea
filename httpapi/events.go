package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// postEvents accepts events. It is by far the most frequent call, so its response is built without the JSON encoder.
func (a *API) postEvents(r *http.Request, _ httprouter.Params) (any, error) {
	res := a.reserve(r, a.bodies.small, a.bodies.large)
	defer res.release()
	body, err := readBody(r, a.settings.Load().maxBody, &res)
	if err != nil {
		return nil, err
	}
	// The whole request has arrived, so store it even if the client seems to have disconnected. A client that closes its half of the
	// connection, as nc -N does, still waits for the response.
	ctx := context.WithoutCancel(r.Context())
	done, err := a.bodies.parse(ctx, len(body))
	if err != nil {
		return nil, err
	}
	defer done()
	if r.URL.RawQuery != "" {
		q := queryOf(r)
		partial := q.flag("partial")
		if err := q.err(); err != nil {
			return nil, err
		}
		if partial {
			return a.postPartial(ctx, body)
		}
	}
	ingested, err := a.engine.Ingest(ctx, body)
	if err != nil {
		return nil, err
	}
	answer := append(make(rawJSON, 0, 48), `{"accepted":`...)
	answer = strconv.AppendInt(answer, int64(ingested.Accepted), 10)
	answer = append(answer, `,"duplicates":`...)
	answer = strconv.AppendInt(answer, int64(ingested.Duplicates), 10)
	return append(answer, "}\n"...), nil
}

// partlyAccepted is the response to a partial request: its bad events do not refuse the others.
type partlyAccepted struct {
	Accepted   int `json:"accepted"`
	Duplicates int `json:"duplicates"`
	// Refused has an entry for each bad event, at most 100.
	Refused engine.InputErrors `json:"refused"`
	// LeftOut has an entry for each field that was left out of an event that was stored, at most 100.
	LeftOut engine.InputErrors `json:"left_out"`
}

func (a *API) postPartial(ctx context.Context, body []byte) (any, error) {
	ingested, err := a.engine.IngestPartial(ctx, body)
	if err != nil {
		return nil, err
	}
	answer := partlyAccepted{ingested.Accepted, ingested.Duplicates, ingested.Refused, ingested.LeftOut}
	if answer.Refused == nil {
		answer.Refused = engine.InputErrors{}
	}
	if answer.LeftOut == nil {
		answer.LeftOut = engine.InputErrors{}
	}
	return answer, nil
}
