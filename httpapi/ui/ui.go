package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// Pages makes all pages. Its methods may be called from several goroutines.
type Pages struct {
	engine  *engine.Engine
	open    func() bool // nobody signs in
	maxForm func() int64

	readOnly bool // the pages have no buttons and links that lead to changes
}

// New makes the pages of an engine. open reports whether no token is needed, so that nobody can sign in or out. maxForm returns the
// largest size of a form in bytes.
func New(e *engine.Engine, open func() bool, maxForm func() int64) *Pages {
	return &Pages{engine: e, open: open, maxForm: maxForm}
}

// NewReadOnly makes the pages for those who may change nothing. The arguments are those of New. Only the routes with Read are of use.
func NewReadOnly(e *engine.Engine, open func() bool, maxForm func() int64) *Pages {
	return &Pages{engine: e, open: open, maxForm: maxForm, readOnly: true}
}

// Handler responds to a request with a page or a redirect. Its errors are those of the engine or of a context.
type Handler func(*http.Request, httprouter.Params) (*Answer, error)

// Route is a page's method and path, as the router expects them, and its handler.
type Route struct {
	Method, Path string
	Handle       Handler
	// Read means that those who may only read get the page: it reveals no secret, and is no form for a change.
	Read bool
	// ChangesNone means that it changes nothing, though its method is POST.
	ChangesNone bool
}

// Routes are all pages except those for signing in and out, which are in httpapi.
func (p *Pages) Routes() []Route {
	return slices.Concat(p.overviewRoutes(), p.webhookRoutes(), p.webhookActionRoutes(), p.webhookFormRoutes(), p.rotateRoutes(), p.replayRoutes(),
		p.deliveryRoutes(), p.sessionRoutes(), p.playRoutes())
}

// Answer is a rendered page or a redirect.
type Answer struct {
	// Status is the status of the response.
	Status int
	// Location is the target of a redirect; "" for a page.
	Location string
	// Cookies are set by the response.
	Cookies []*http.Cookie

	body []byte
}

// redirect leads to another page after a change, so that a reload does not repeat the change.
func redirect(format string, args ...any) *Answer {
	return &Answer{Status: http.StatusSeeOther, Location: fmt.Sprintf(format, args...)}
}

// done returns the message about a change that a redirect has led here from: the text for the parameter done.
func done(r *http.Request, texts map[string]string) string { return texts[r.URL.Query().Get("done")] }

// view is what a page shows.
type view struct {
	// Template is the name of the page's file in templates, without its ending.
	Template string
	// Title is the page's heading and, with " · hookbolt", its title.
	Title string
	// Nav is the path of the header's link for this page; "" for none. Bare pages have no links.
	Nav  string
	Bare bool
	// Live pages update themselves, unless a request was refused: then the address may be that of a form, or the input is wrong.
	Live bool
	// Done is a message about what was done, Bad about what was wrong; "" for none.
	Done, Bad string
	// Status is the status of the response; 0 means 200.
	Status int
	// Data is the template's .Data.
	Data any
}

// document is a view with what every page needs. Open means that nobody signs in.
type document struct {
	view
	Open, ReadOnly bool

	CSS template.CSS
	JS  template.JS
}

// show makes a page.
func (p *Pages) show(v view) (*Answer, error) {
	t, ok := pages[v.Template]
	if !ok {
		return nil, fmt.Errorf("no template %q", v.Template)
	}
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	v.Live = v.Live && v.Status == http.StatusOK
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout", document{view: v, Open: p.open(), ReadOnly: p.readOnly, CSS: template.CSS(css), JS: template.JS(js)}); err != nil {
		return nil, fmt.Errorf("page %s: %w", v.Template, err)
	}
	return &Answer{Status: v.Status, body: b.Bytes()}, nil
}

// ServeHTTP writes the response.
func (a *Answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	for _, c := range a.Cookies {
		http.SetCookie(w, c)
	}
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	if a.Location != "" {
		header.Set("Location", a.Location)
	} else {
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.Status)
	w.Write(a.body) // an error means that the client has disconnected
}

//go:embed templates static verify
var files embed.FS

var (
	css = readAll("static/*.css")
	js  = readAll("static/*.js")
	// policy allows only the page's own style sheet and script, by their hashes, and forms to this server.
	policy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; connect-src 'self'; form-action 'self'; "+
		"base-uri 'none'; frame-ancestors 'none'", sourceHash(css), sourceHash(js))
	// pages are the templates by file name. All of them include the parts.
	pages = parsePages()
)

// readAll joins files, in the order of their names.
func readAll(pattern string) string {
	var b strings.Builder
	for _, name := range glob(pattern) {
		part, err := files.ReadFile(name)
		if err != nil { // the build would have failed
			panic(err)
		}
		b.Write(part)
	}
	return b.String()
}

func glob(pattern string) []string {
	names, err := fs.Glob(files, pattern)
	if err != nil { // the pattern is malformed
		panic(err)
	}
	return names
}

// sourceHash is the name of an inline block in a Content-Security-Policy.
func sourceHash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func parsePages() map[string]*template.Template {
	parts := template.Must(template.New("").Funcs(helpers).ParseFS(files, "templates/parts/*.html"))
	parsed := make(map[string]*template.Template)
	for _, name := range glob("templates/*.html") {
		parsed[strings.TrimSuffix(path.Base(name), ".html")] = template.Must(template.Must(parts.Clone()).ParseFS(files, name))
	}
	return parsed
}

// Problem makes the page for a refused request. detail is for people.
func (p *Pages) Problem(status int, detail string) (*Answer, error) {
	return p.show(view{Template: "problem", Title: http.StatusText(status), Status: status, Data: detail})
}

// SignInReason says why the browser gets the page for signing in.
type SignInReason int

const (
	// SignInNeeded: the request had no admin or read token.
	SignInNeeded SignInReason = iota
	// SignInWrongToken: the submitted token is no admin or read token.
	SignInWrongToken
	// SignInCookieWithheld: the browser followed a link from another site, and omits a SameSite=Strict cookie then. The page reloads itself
	// once, and that request has the cookie.
	SignInCookieWithheld
)

// SignIn makes the page that asks for an admin or read token. After it, the browser goes to next, a path of this server.
func (p *Pages) SignIn(next string, why SignInReason) (*Answer, error) {
	return p.show(view{Template: "signin", Title: "Sign in", Bare: true, Status: http.StatusUnauthorized, Data: struct {
		Next         string
		Wrong, Again bool
	}{next, why == SignInWrongToken, why == SignInCookieWithheld}})
}
