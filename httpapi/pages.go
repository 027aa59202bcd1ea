package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/julienschmidt/httprouter"

	"hookbolt/httpapi/ui"
)

// pageRoutes are the routes of the pages.
func (a *API) pageRoutes() []route {
	routes := []route{
		{method: "GET", path: "/sign-in", allowedRoles: readToken | cookie, handle: toOverview, page: true},
		{method: "POST", path: "/sign-in", allowedRoles: anybody, handle: a.signIn, page: true},
		{method: "POST", path: "/sign-out", allowedRoles: anybody, handle: a.signOut, page: true},
	}
	readers := a.readers.Routes()
	for i, p := range a.pages.Routes() {
		rt := route{method: p.Method, path: p.Path, allowedRoles: adminToken | cookie, page: true, changesNone: p.ChangesNone}
		if p.Read {
			rt.allowedRoles = readToken | cookie
		}
		rt.handle = func(r *http.Request, ps httprouter.Params) (any, error) {
			if visitOf(r).caller.kinds&adminToken == 0 {
				return readers[i].Handle(r, ps)
			}
			return p.Handle(r, ps)
		}
		routes = append(routes, rt)
	}
	return routes
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
	res := a.reserve(r, a.bodies.signIn, nil)
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
	by, err := a.holder(r, token)
	if err != nil {
		return nil, err
	}
	if by.kinds&pageRoles == 0 {
		return a.pages.SignIn(next, ui.SignInWrongToken)
	}
	visitOf(r).caller = by
	_, cookies, err := a.endSignIn(r)
	if err != nil {
		return nil, err
	}
	cookie, err := a.beginSignIn(r, token)
	if err != nil {
		return nil, err
	}
	return &ui.Answer{Status: http.StatusSeeOther, Location: next, Cookies: append(cookies, cookie)}, nil
}

func (a *API) signOut(r *http.Request, _ httprouter.Params) (any, error) {
	if err := a.gate().sameOrigin(r); err != nil {
		return nil, err
	}
	by, cookies, err := a.endSignIn(r)
	if err != nil {
		return nil, err
	}
	visitOf(r).caller = by
	return &ui.Answer{Status: http.StatusSeeOther, Location: "/", Cookies: cookies}, nil
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
	if len(a.signInIDs(r)) == 0 && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		why = ui.SignInCookieWithheld
	}
	page, err := a.pages.SignIn(next, why)
	if err == nil {
		page.Cookies = expire(r, oldTokenCookie)
	}
	return page, err
}

// wantsPage reports whether a request for an unknown path comes from a person with a browser.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/v1/")
}
