package ui

import (
	"fmt"
	"net/http"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
)

func (p *Pages) webhookActionRoutes() []Route {
	return []Route{
		{Method: "POST", Path: "/webhooks/:id/test", Handle: p.test},
		{Method: "POST", Path: "/webhooks/:id/pause", Handle: p.pause},
		{Method: "POST", Path: "/webhooks/:id/resume", Handle: p.resume},
		{Method: "POST", Path: "/webhooks/:id/activate", Handle: p.activate},
		{Method: "GET", Path: "/webhooks/:id/deactivate", Handle: p.confirmDeactivate},
		{Method: "POST", Path: "/webhooks/:id/deactivate", Handle: p.deactivate},
		{Method: "GET", Path: "/webhooks/:id/delete", Handle: p.confirmDelete},
		{Method: "POST", Path: "/webhooks/:id/delete", Handle: p.deleteWebhook},
	}
}

// test queues a sample and redirects to its delivery, which shows the result.
func (p *Pages) test(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	d, err := p.engine.TestWebhook(r.Context(), w.ID)
	if err != nil {
		return nil, err
	}
	return redirect("/deliveries/%s?done=tested", d.ID), nil
}

func (p *Pages) pause(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"paused": true}`, "paused")
}

func (p *Pages) resume(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"paused": false}`, "resumed")
}

func (p *Pages) activate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"active": true}`, "activated")
}

func (p *Pages) deactivate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"active": false}`, "deactivated")
}

// change changes settings as the API does, and redirects to the webhook. A repeated request changes nothing.
func (p *Pages) change(r *http.Request, ps httprouter.Params, settings, what string) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	patch, err := engine.ParseWebhookPatch([]byte(settings))
	if err != nil {
		return nil, err
	}
	audit.Record(r.Context(), w.ID, patch.Changes(&w))
	if _, err := p.engine.UpdateWebhook(r.Context(), w.ID, patch); err != nil {
		return nil, err
	}
	return redirect("/webhooks/%d?done=%s", w.ID, what), nil
}

// confirmation is a question before a change that cannot be undone.
type confirmation struct {
	ID uint32
	// Waiting is how many deliveries the change cancels.
	Waiting int64
	// Says describes the other effects. Action is the end of the path, Button the button's text.
	Says, Action, Button string
}

func (p *Pages) confirmDeactivate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.confirm(r, ps, "Switch off %s?", confirmation{Action: "deactivate", Button: "Switch it off",
		Says: "It gets no new deliveries until you switch it on again. To keep deliveries for later, pause it instead."})
}

func (p *Pages) confirmDelete(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.confirm(r, ps, "Delete %s?", confirmation{Action: "delete", Button: "Delete it",
		Says: "It gets nothing more. Its settings and its secret are deleted for good. Its deliveries can be viewed until their retention ends."})
}

func (p *Pages) confirm(r *http.Request, ps httprouter.Params, question string, c confirmation) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	s := o.PerWebhook[w.ID]
	c.ID, c.Waiting = w.ID, s.Scheduled+s.Pending
	return p.show(view{Template: "confirm", Title: fmt.Sprintf(question, nameOf(&w)), Nav: "/webhooks", Data: c})
}

// deleteWebhook removes a webhook.
func (p *Pages) deleteWebhook(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	if err := p.engine.DeleteWebhook(r.Context(), w.ID); err != nil {
		return nil, err
	}
	return redirect("/webhooks?done=deleted"), nil
}
