package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"
)

// postEvents accepts events. It is by far the most frequent call, so its response is built without the JSON encoder.
func (a *API) postEvents(r *http.Request, _ httprouter.Params) (any, error) {
	body, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	// The whole request has arrived, so store it even if the client seems to have disconnected. A client that closes its half of the
	// connection, as nc -N does, still waits for the response.
	n, err := a.engine.Ingest(context.WithoutCancel(r.Context()), body)
	if err != nil {
		return nil, err
	}
	answer := append(make(rawJSON, 0, 32), `{"accepted":`...)
	answer = strconv.AppendInt(answer, int64(n), 10)
	return append(answer, "}\n"...), nil
}
