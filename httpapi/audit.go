package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
)

// visit is what serve keeps of a request to a page or to a route that is audited. The context of the request has it.
type visit struct {
	caller caller
	params httprouter.Params
	change audit.Change
}

type visitKey struct{}

// visitOf returns the visit of a request; nil for the routes that have none.
func visitOf(r *http.Request) *visit {
	v, _ := r.Context().Value(visitKey{}).(*visit)
	return v
}

// begin returns the request with a visit in its context if the route needs one. Events, by far the most requests, need none.
func begin(r *http.Request, rt *route, ps httprouter.Params) *http.Request {
	if !rt.page && !rt.audited() {
		return r
	}
	v := &visit{params: ps}
	ctx := context.WithValue(r.Context(), visitKey{}, v)
	if rt.audited() {
		ctx = audit.NewContext(ctx, &v.change)
	}
	return r.WithContext(ctx)
}

// audited reports whether each request of a route is told in the log: what changes something, and what reveals secrets. It follows from the
// method and the tokens of the route, so no route can be forgotten. Events are no changes of an admin. Previews are made while somebody types:
// their lines would hide the others.
func (rt *route) audited() bool {
	if rt.changesNone {
		return false
	}
	switch rt.method {
	case "", http.MethodOptions: // "" is a path that is no route
		return false
	case http.MethodGet: // what a read token may not read has secrets. The pages are forms, whose secrets take a POST
		return rt.allowedRoles == adminToken && !rt.page
	}
	return rt.allowedRoles&ingestToken == 0
}

// audit writes the line about a request that has changed something, or may have: an error inside hookbolt, or a client that has gone, may
// come after the change. A refused request has changed nothing. Ids of sessions and visitors are personal data, so they are left out.
func (a *API) audit(r *http.Request, rt *route, status int) {
	v := visitOf(r)
	if v == nil || !rt.audited() || v.caller.token == "" || r.Method == http.MethodHead || status >= 400 && status < statusClientGone {
		return
	}
	told := []any{"by", v.caller.token, "operation", rt.method + " " + rt.path}
	webhook := v.change.Webhook
	if webhook == 0 && (strings.Contains(rt.path, "/webhooks/:id") || strings.Contains(rt.path, "/hooks/web/:id")) {
		webhook, _ = parseWebhookID(v.params.ByName("id"))
	}
	if webhook != 0 {
		told = append(told, "webhook", webhook)
	}
	if strings.Contains(rt.path, "/deliveries/:id") {
		if id, err := engine.ParseUUID(v.params.ByName("id")); err == nil {
			told = append(told, "delivery", id.String())
		}
	}
	if len(v.change.Settings) > 0 {
		told = append(told, "settings", v.change.Settings)
	}
	if v.change.Repeated {
		told = append(told, "repeated", true)
	}
	a.log.Info("audit", append(told, "status", status, "address", a.clientAddr(r).String())...)
}
