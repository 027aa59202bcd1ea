package ui

import (
	"net/http"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) overviewRoutes() []Route {
	return []Route{{"GET", "/", p.overview}}
}

// overview shows the state of the whole.
func (p *Pages) overview(r *http.Request, _ httprouter.Params) (*Answer, error) {
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	return p.show(view{Template: "overview", Title: "Overview", Nav: "/", Live: true, Data: struct {
		engine.Overview
		Waiting int64
	}{o, o.Scheduled + o.Due + o.InFlight + o.Held}})
}
