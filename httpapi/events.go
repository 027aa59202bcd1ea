package httpapi

import (
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"
)

// postEvents takes events in. It is by far the most frequent call, so its answer is put together by hand.
func (a *api) postEvents(r *http.Request, _ httprouter.Params) (any, error) {
	body, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	n, err := a.engine.Ingest(r.Context(), body)
	if err != nil {
		return nil, err
	}
	answer := append(make(rawJSON, 0, 32), `{"accepted":`...)
	answer = strconv.AppendInt(answer, int64(n), 10)
	return append(answer, "}\n"...), nil
}
