package httpapi

import (
	"errors"
	"net/http"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (a *API) deleteSession(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	return a.engine.Erase(r.Context(), engine.Erasure{SessionID: id})
}

func (a *API) deleteVisitor(r *http.Request, ps httprouter.Params) (any, error) {
	s := ps.ByName("poltio_user_id")
	id, ok := parseVisitor(s)
	if !ok {
		return nil, engine.InputErrors{{Field: "poltio_user_id", Detail: visitorDetail(s)}}
	}
	return a.engine.Erase(r.Context(), engine.Erasure{Visitor: &id})
}

// erasure is what POST /v1/erase has erased, or a dry run has counted.
type erasure struct {
	DryRun bool `json:"dry_run"`
	engine.Erased
}

// postErase erases a session or a person. If nothing is stored, it responds with zeros: whoever asks wants just that.
func (a *API) postErase(r *http.Request, _ httprouter.Params) (any, error) {
	body, err := a.readBody(r, maxCommand)
	if err != nil {
		return nil, err
	}
	return a.once(r, onceCall{
		body: body,
		do: func(o *engine.Once) (any, error) {
			what, err := engine.ParseErasure(body)
			if err != nil {
				return nil, err
			}
			what.Once = o
			done, err := a.engine.Erase(r.Context(), what)
			if errors.Is(err, engine.ErrNotFound) {
				err = nil
			}
			if err != nil {
				return nil, err
			}
			return erasure{what.DryRun, done}, nil
		},
		again: func(done *engine.Done) (any, error) {
			if done.Erased == nil { // its client has gone, and it goes on
				return nil, errKeyInUse
			}
			return erasure{Erased: *done.Erased}, nil
		},
	})
}
