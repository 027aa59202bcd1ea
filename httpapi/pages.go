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
			handle: func(r *http.Request, ps httprouter.Params) (any, error) { return p.Handle(r, ps) }})
	}
	return routes
}

// tokenCookie is the name of the cookie that holds the admin token of a browser that has signed in.
const tokenCookie = "hookbolt_token"

// tokenCookieAge is how many seconds a browser stays signed in: a week.
const tokenCookieAge = 7 * 24 * 60 * 60

// newTokenCookie creates the cookie. The token is in base64, because it may have characters that a cookie may not.
func newTokenCookie(r *http.Request, token string) *http.Cookie {
	return &http.Cookie{
		Name: tokenCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(token)), Path: "/", MaxAge: tokenCookieAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// A proxy in front says whether the browser uses HTTPS. A client that sends this header itself affects only its own cookie.
		Secure: r.TLS != nil || forwardedHTTPS(r),
	}
}

// forwardedHTTPS reports whether a proxy in front says that the browser uses HTTPS. Each proxy of a chain may append what it has seen; the
// first value is the browser's.
func forwardedHTTPS(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https")
}

// cookieKinds returns the kinds of the token in the cookie, 0 without a valid one. There may be several cookies of that name, so all are
// tried. Browsers store cookies by host and not by port: another server on this host may set one for a longer path, which comes first.
func (g *gate) cookieKinds(r *http.Request) (kinds access) {
	for _, c := range r.CookiesNamed(tokenCookie) {
		if token, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil {
			kinds |= g.tokenKinds(string(token))
		}
	}
	return kinds
}

// toOverview redirects a browser that is signed in and requests the sign-in page.
func toOverview(*http.Request, httprouter.Params) (any, error) {
	return &ui.Answer{Status: http.StatusSeeOther, Location: "/"}, nil
}

// signIn handles the form of the sign-in page.
func (a *API) signIn(r *http.Request, _ httprouter.Params) (any, error) {
	// Otherwise another site could sign a browser in with a token of its own.
	if err := a.gate().sameOrigin(r); err != nil {
		return nil, err
	}
	res := reserve(r, a.bodies.signIn, nil)
	defer res.release()
	body, err := readBody(r, min(maxSignIn, a.settings.Load().maxBody), &res)
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

// localPath returns next if it is a path of this server, else "/". A link to the sign-in page must not redirect to another site.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsRune(next, '\\') {
		return "/"
	}
	return next
}

// refusePage returns the page for an error.
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

// wantsPage reports whether a request for an unknown path comes from a person with a browser.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/v1/")
}
