package httpapi

import (
	"net/http"
	"slices"

	"github.com/julienschmidt/httprouter"
)

// anyOrigin in place of origins stands for all of them.
const anyOrigin = "*"

// preflightMaxAge is for how many seconds a browser may remember what a preflight was answered: the most that Chromium does. While it
// remembers, the last events of a page that ends go out in one request instead of two.
const preflightMaxAge = "7200"

var (
	errForeignPage = &problem{Status: http.StatusForbidden, Detail: "pages of this origin may not send events: add the origin to http.cors_origins"}
	errPublicAdmin = &problem{Status: http.StatusForbidden, Detail: "this is an admin token in a page of another origin, where anybody can read it, and it opens " +
		"everything. Replace it in http.admin_tokens, and use one of http.ingest_tokens in the page"}
)

// allowsOrigin tells whether pages of an origin, as an Origin header names it, may call what ingest tokens open.
func (g *gate) allowsOrigin(origin string) bool {
	return slices.Contains(g.origins, origin) || origin != "" && slices.Contains(g.origins, anyOrigin)
}

// setCORS lets the page that has sent a request read the answer, whatever it will be, if pages of its origin may call. Without these
// headers a browser keeps the answer to itself. Credentials, which are cookies here, are of no use to such a page, so none are allowed.
func (g *gate) setCORS(header http.Header, r *http.Request) {
	if len(g.origins) == 0 {
		return
	}
	if g.origins[0] == anyOrigin {
		header.Set("Access-Control-Allow-Origin", anyOrigin)
		return
	}
	header.Set("Vary", "Origin")
	if origin := r.Header.Get("Origin"); g.allowsOrigin(origin) {
		header.Set("Access-Control-Allow-Origin", origin)
	}
}

// preflight answers the question that a browser asks before a page's POST /v1/events, because of the Authorization that comes with it. The
// question itself comes without one.
func (a *API) preflight(r *http.Request, _ httprouter.Params) (any, error) {
	origin := r.Header.Get("Origin")
	if origin != "" && !a.gate().allowsOrigin(origin) {
		return nil, errForeignPage
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header.Set("Allow", "OPTIONS, POST")
		if origin != "" {
			header.Set("Access-Control-Allow-Methods", "POST")
			header.Set("Access-Control-Allow-Headers", "authorization, content-type")
			header.Set("Access-Control-Max-Age", preflightMaxAge)
		}
		w.WriteHeader(http.StatusNoContent)
	}), nil
}
