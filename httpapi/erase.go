package httpapi

import (
	"net/http"
	"strconv"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// erased says how much an erasure has removed.
type erased struct {
	Sessions   int64 `json:"sessions"`
	Events     int64 `json:"events"`
	Deliveries int64 `json:"deliveries"`
	Attempts   int64 `json:"attempts"`
	Damaged    int64 `json:"damaged"` // see engine.Erased
}

func (a *API) deleteSession(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	return a.erase(r, engine.Erasure{SessionID: id})
}

func (a *API) deleteVisitor(r *http.Request, ps httprouter.Params) (any, error) {
	s := ps.ByName("poltio_user_id")
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(id, 10) != s { // accept only the canonical form
		return nil, engine.InputErrors{{Field: "poltio_user_id", Detail: "must be an integer of 64 bits, such as 4711 (got " + strconv.Quote(engine.Excerpt(s)) + ")"}}
	}
	return a.erase(r, engine.Erasure{Visitor: &id})
}

func (a *API) erase(r *http.Request, what engine.Erasure) (any, error) {
	done, err := a.engine.Erase(r.Context(), what)
	return erased(done), err
}
