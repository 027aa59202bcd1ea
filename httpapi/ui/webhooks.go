package ui

import (
	"net/http"

	"github.com/julienschmidt/httprouter"
)

func (p *Pages) webhookRoutes() []Route {
	return []Route{{Method: "GET", Path: "/webhooks", Handle: p.webhooks}}
}

// webhooks lists all webhooks.
func (p *Pages) webhooks(*http.Request, httprouter.Params) (*Answer, error) {
	return p.show(view{Template: "webhooks", Title: "Webhooks", Nav: "/webhooks", Live: true, Data: p.engine.Webhooks()})
}
