package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"
)

// postEvents takes events in. It is by far the most frequent call, so its answer is put together by hand.
func (a *API) postEvents(r *http.Request, _ httprouter.Params) (any, error) {
	body, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	// The request is here as a whole. Whether its sender still listens does not matter: one who has closed his half of the
	// connection, as nc -N does, seems to be gone and is not.
	n, err := a.engine.Ingest(context.WithoutCancel(r.Context()), body)
	if err != nil {
		return nil, err
	}
	answer := append(make(rawJSON, 0, 32), `{"accepted":`...)
	answer = strconv.AppendInt(answer, int64(n), 10)
	return append(answer, "}\n"...), nil
}
