package httpapi

import (
	"net/http"
	"slices"

	"github.com/julienschmidt/httprouter"
)

// anyOrigin allows all origins.
const anyOrigin = "*"

// preflightMaxAge is how many seconds a browser may cache the response to a preflight. It is Chromium's maximum. With a cached response, a
// page that is being closed sends its last events in one request instead of two.
const preflightMaxAge = "7200"

var (
	errForeignPage = &problem{Status: http.StatusForbidden, Detail: "pages of this origin may not send events: add the origin to http.cors_origins"}
	errPublicAdmin = &problem{Status: http.StatusForbidden, Detail: "this is an admin token in a page of another origin, where anybody can read it, and it opens " +
		"everything. Replace it in http.admin_tokens, and use one of http.ingest_tokens in the page"}
)

// allowsOrigin reports whether pages of an origin may use ingest tokens. origin is written as in an Origin header.
func (g *gate) allowsOrigin(origin string) bool {
	return slices.Contains(g.origins, origin) || origin != "" && slices.Contains(g.origins, anyOrigin)
}

// setCORS lets a page of an allowed origin read the response, whether it is an error or not. Without these headers a browser hides the
// response from the page. Credentials, which are cookies here, are of no use to such a page and not allowed.
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

// preflight answers the request that a browser sends before a page's POST /v1/events, because that has an Authorization header. The
// preflight itself has none.
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
