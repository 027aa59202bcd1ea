package ui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// form reads the form that a request has sent.
func (p *Pages) form(r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, p.maxForm())
	if err := r.ParseForm(); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, tooLarge
		}
		return nil, engine.InputErrors{{Detail: "the form is malformed"}}
	}
	return r.PostForm, nil
}

// webhook returns the webhook of the path. An invalid id is not found, like an unknown one.
func (p *Pages) webhook(ps httprouter.Params) (engine.Webhook, error) {
	id, err := strconv.ParseUint(ps.ByName("id"), 10, 32)
	if err != nil {
		return engine.Webhook{}, fmt.Errorf("webhook %q: %w", engine.Excerpt(ps.ByName("id")), engine.ErrNotFound)
	}
	return p.engine.Webhook(uint32(id))
}

// pathUUID reads the id of the path. An invalid id is not found, like an unknown one.
func pathUUID(what string, ps httprouter.Params) (uuid.UUID, error) {
	id, err := engine.ParseUUID(ps.ByName("id"))
	if err != nil {
		return uuid.Nil, fmt.Errorf("%s %q: %w", what, engine.Excerpt(ps.ByName("id")), engine.ErrNotFound)
	}
	return id, nil
}
