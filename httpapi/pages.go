package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/julienschmidt/httprouter"

	"hookbolt/httpapi/ui"
)

// pageRoutes are the routes of the pages.
func (a *API) pageRoutes() []route {
	routes := []route{
		{method: "GET", path: "/sign-in", allowedRoles: adminToken | cookie, handle: toOverview, page: true},
		{method: "POST", path: "/sign-in", allowedRoles: anybody, handle: a.signIn, page: true},
		{method: "POST", path: "/sign-out", allowedRoles: anybody, handle: a.signOut, page: true},
	}
	for _, p := range a.pages.Routes() {
		routes = append(routes, route{method: p.Method, path: p.Path, allowedRoles: adminToken | cookie, page: true,
			handle: func(r *http.Request, ps httprouter.Params) (any, error) {
				if p.Slow {
					return slowResponse(func() (any, error) { return p.Handle(r, ps) }), nil
				}
				return p.Handle(r, ps)
			}})
	}
	return routes
}

// tokenCookie is the name of the cookie that holds the admin token of a browser that has signed in.
const tokenCookie = "hookbolt_token"

// tokenCookieAge is for how many seconds a browser stays signed in: a week.
const tokenCookieAge = 7 * 24 * 60 * 60

// newTokenCookie makes the cookie. Tokens may have characters that a cookie may not, hence the base64.
func newTokenCookie(r *http.Request, token string) *http.Cookie {
	return &http.Cookie{
		Name: tokenCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(token)), Path: "/", MaxAge: tokenCookieAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// hookbolt itself speaks plain HTTP: a proxy in front tells whether the browser does. Who lies about it harms only himself.
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}

// cookieKinds returns which kinds of token stand in the cookie; 0 without one. There may be several of that name: browsers keep cookies by
// host and not by port, so whatever else runs on this one may set its own, for a longer path, which comes first and must lock nobody out.
func (g *gate) cookieKinds(r *http.Request) (kinds access) {
	for _, c := range r.CookiesNamed(tokenCookie) {
		if token, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil {
			kinds |= g.tokenKinds(string(token))
		}
	}
	return kinds
}

// toOverview is for who is signed in and asks for the sign-in: by its address, or because it was the page before.
func toOverview(*http.Request, httprouter.Params) (any, error) {
	return &ui.Answer{Status: http.StatusSeeOther, Location: "/"}, nil
}

// signIn answers the form of the page that asks for a token.
func (a *API) signIn(r *http.Request, _ httprouter.Params) (any, error) {
	// The browser of somebody who was made to post it would be signed in as somebody else.
	if err := a.gate().sameOrigin(r); err != nil {
		return nil, err
	}
	body, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Detail: "the form is malformed"}
	}
	next, token := localPath(form.Get("next")), strings.TrimSpace(form.Get("token"))
	if a.gate().open {
		return &ui.Answer{Status: http.StatusSeeOther, Location: next}, nil
	}
	if a.gate().tokenKinds(token)&adminToken == 0 {
		return a.pages.SignIn(next, ui.SignInWrongToken)
	}
	return &ui.Answer{Status: http.StatusSeeOther, Location: next, Cookies: []*http.Cookie{newTokenCookie(r, token)}}, nil
}

func (a *API) signOut(r *http.Request, _ httprouter.Params) (any, error) {
	if err := a.gate().sameOrigin(r); err != nil {
		return nil, err
	}
	gone := newTokenCookie(r, "")
	gone.MaxAge = -1
	return &ui.Answer{Status: http.StatusSeeOther, Location: "/", Cookies: []*http.Cookie{gone}}, nil
}

// localPath returns a path of this server, and "/" for everything else: a link to the sign-in must not lead elsewhere afterwards.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsRune(next, '\\') {
		return "/"
	}
	return next
}

// refusePage is what a person gets to see of an error.
func (a *API) refusePage(r *http.Request, p *problem) (*ui.Answer, error) {
	if p.Status != http.StatusUnauthorized {
		return a.pages.Problem(p.Status, p.Detail)
	}
	next := "/"
	if r.Method == http.MethodGet {
		next = localPath(r.URL.RequestURI())
	}
	why := ui.SignInNeeded
	if _, err := r.Cookie(tokenCookie); err != nil && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		why = ui.SignInCookieWithheld
	}
	return a.pages.SignIn(next, why)
}

// wantsPage tells whether a request for something that is not there comes from a person with a browser.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/v1/")
}
