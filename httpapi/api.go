package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	stdlog "log"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/httpapi/ui"
	"hookbolt/internal/loopback"
)

// DefaultMaxBodyBytes is the limit of a request's body if Config sets none.
const DefaultMaxBodyBytes = 1 << 20

// Config says who may call the API, and with which limits.
type Config struct {
	// AdminTokens allow everything, ReadTokens to read everything but secrets, IngestTokens only POST /v1/events, MetricsTokens only GET
	// /metrics. Without AdminTokens no token is needed, but only requests whose Host is loopback are answered.
	AdminTokens, ReadTokens, IngestTokens, MetricsTokens []string
	// TokenNames are the names of tokens in the log, by token. A token without one is named by its kind and its place in the list.
	TokenNames map[string]string
	// CORSOrigins are the origins whose pages may POST /v1/events with an ingest token, written as browsers write them. "*" alone
	// allows all origins. Without AdminTokens no other origin is allowed.
	CORSOrigins []string
	// TrustedProxies are the networks of the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []netip.Prefix
	// MaxBodyBytes is the limit of a request's body. Defaults to DefaultMaxBodyBytes.
	MaxBodyBytes int64
	// Backup makes a snapshot of the database. The handler closes it. Backup's errors are like those of the engine. nil means that
	// there is no GET /v1/backup.
	Backup func(context.Context) (Snapshot, error)
	// Fleet is this process among those that share its data. nil for a process that has its data for itself.
	Fleet Fleet
	// NoBackup says why there is no Backup, and what to do instead. GET /v1/backup answers 409 with it.
	NoBackup string
}

// API is the handler of the whole API. Its fields are set by New and only read afterwards, except settings.
type API struct {
	engine   *engine.Engine
	settings atomic.Pointer[settings]
	router   http.Handler
	pages    *ui.Pages
	readers  *ui.Pages // the pages for read tokens
	signIns  SignIns
	fleet    Fleet // nil for a process that has its data for itself
	guesses  guesses
	backup   func(context.Context) (Snapshot, error)
	noBackup string
	log      *slog.Logger
	requests *prometheus.CounterVec // route, method, code
	scrape   http.Handler
	bodies   *bodyBudgets
	// transientLogged is when an engine.ErrTransient was last logged, in Unix nanoseconds.
	transientLogged atomic.Int64
}

// settings are what Configure may replace. A value is not changed once it is stored.
type settings struct {
	gate    gate
	proxies proxies
	maxBody int64
}

// handler answers a request. Its value becomes JSON, unless it is a rawJSON or an http.Handler; a reply has header fields with it. problemOf finds the
// status of its error.
type handler func(*http.Request, httprouter.Params) (any, error)

// route is a row of the table of routes.
type route struct {
	method, path string
	status       int    // of the response, if the handler returns no error and its value has no status of its own
	allowedRoles access // the tokens that may call it, beside admin tokens
	handle       handler
	params       []string // the query parameters that it accepts
	page         bool     // people call it: its errors are pages, too
	changesNone  bool     // it changes nothing, though its method is POST, and shows nothing that a read token may not see
}

func (a *API) routes() []route {
	paged := []string{"limit", "cursor"}
	return slices.Concat(a.pageRoutes(), []route{
		{method: "POST", path: "/v1/events", status: http.StatusAccepted, allowedRoles: ingestToken, handle: a.postEvents, params: []string{"partial"}},
		{method: "OPTIONS", path: "/v1/events", status: http.StatusNoContent, allowedRoles: ingestToken | anybody, handle: a.preflight, params: []string{"partial"}},
		{method: "POST", path: "/v1/webhooks", status: http.StatusCreated, allowedRoles: adminToken, handle: a.postWebhook},
		{method: "GET", path: "/v1/webhooks", status: http.StatusOK, allowedRoles: readToken, handle: a.listWebhooks, params: append(paged, "content_id")},
		{method: "GET", path: "/v1/webhooks/:id", status: http.StatusOK, allowedRoles: readToken, handle: a.getWebhook},
		{method: "PATCH", path: "/v1/webhooks/:id", status: http.StatusOK, allowedRoles: adminToken, handle: a.patchWebhook, params: []string{"replace"}},
		{method: "DELETE", path: "/v1/webhooks/:id", status: http.StatusNoContent, allowedRoles: adminToken, handle: a.deleteWebhook},
		{method: "GET", path: "/v1/webhooks/:id/secret", status: http.StatusOK, allowedRoles: adminToken, handle: a.getSecret},
		{method: "GET", path: "/v1/webhooks/:id/public-key", status: http.StatusOK, allowedRoles: readToken, handle: a.getPublicKeys, params: []string{"format"}},
		{method: "POST", path: "/v1/webhooks/:id/rotate-secret", status: http.StatusOK, allowedRoles: adminToken, handle: a.rotateSecret},
		{method: "POST", path: "/v1/webhooks/:id/test", status: http.StatusAccepted, allowedRoles: adminToken, handle: a.testWebhook},
		{method: "POST", path: "/v1/webhooks/:id/replay", status: http.StatusAccepted, allowedRoles: adminToken, handle: a.replayWebhook},
		{method: "GET", path: "/v1/webhooks/:id/preview", status: http.StatusOK, allowedRoles: readToken, handle: a.previewWebhook, params: []string{"session_id", "as_of"}},
		{method: "POST", path: "/v1/preview", status: http.StatusOK, allowedRoles: adminToken, handle: a.postPreview, changesNone: true},
		{method: "GET", path: "/v1/sessions", status: http.StatusOK, allowedRoles: readToken, handle: a.listSessions,
			params: append(paged, "content_id", "poltio_user_id", "email", "phone", "state", "since", "until")},
		{method: "GET", path: "/v1/sessions/:id", status: http.StatusOK, allowedRoles: readToken, handle: a.getSession},
		{method: "DELETE", path: "/v1/sessions/:id", status: http.StatusOK, allowedRoles: adminToken, handle: a.deleteSession},
		{method: "DELETE", path: "/v1/visitors/:poltio_user_id", status: http.StatusOK, allowedRoles: adminToken, handle: a.deleteVisitor},
		{method: "POST", path: "/v1/erase", status: http.StatusOK, allowedRoles: adminToken, handle: a.postErase},
		{method: "GET", path: "/v1/deliveries", status: http.StatusOK, allowedRoles: readToken, handle: a.listDeliveries, params: append(paged, "webhook_id", "session_id", "status", "since", "until", "late_events")},
		{method: "GET", path: "/v1/deliveries/:id", status: http.StatusOK, allowedRoles: readToken, handle: a.getDelivery},
		{method: "POST", path: "/v1/deliveries/:id/retry", status: http.StatusAccepted, allowedRoles: adminToken, handle: a.retryDelivery},
		{method: "POST", path: "/v1/deliveries/:id/cancel", status: http.StatusOK, allowedRoles: adminToken, handle: a.cancelDelivery},
		{method: "GET", path: "/v1/members", status: http.StatusOK, allowedRoles: readToken, handle: a.listMembers},
		{method: "GET", path: "/v1/backup", status: http.StatusOK, allowedRoles: adminToken, handle: a.getBackup},
		{method: "GET", path: "/v1/drain", status: http.StatusOK, allowedRoles: readToken, handle: a.getDrain},
		{method: "POST", path: "/v1/drain", status: http.StatusAccepted, allowedRoles: adminToken, handle: a.postDrain},
		{method: "DELETE", path: "/v1/drain", status: http.StatusOK, allowedRoles: adminToken, handle: a.deleteDrain},
		{method: "GET", path: "/hookbolt.js", status: http.StatusOK, allowedRoles: anybody, handle: a.script},
		{method: "GET", path: "/v1/payload.schema.json", status: http.StatusOK, allowedRoles: anybody, handle: document("application/schema+json", payloadSchema)},
		{method: "GET", path: "/openapi.yaml", status: http.StatusOK, allowedRoles: anybody, handle: document("application/yaml", openapi)}, // RFC 9512
		{method: "GET", path: "/healthz", status: http.StatusOK, allowedRoles: anybody, handle: a.healthz},
		{method: "GET", path: "/readyz", status: http.StatusOK, allowedRoles: anybody, handle: a.readyz},
		{method: "GET", path: "/metrics", status: http.StatusOK, allowedRoles: metricsToken | readToken, handle: a.metrics},
	}, a.platformRoutes())
}

// New creates the handler of the whole API. /metrics serves reg. New registers the metrics of the API with reg, so call it once for each
// registry.
func New(e *engine.Engine, cfg Config, reg *prometheus.Registry, log *slog.Logger) *API {
	a := &API{
		engine: e, backup: cfg.Backup, noBackup: cfg.NoBackup, fleet: cfg.Fleet, log: log, scrape: newScrape(reg, log), bodies: newBodyBudgets(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_http_requests_total",
			Help: "HTTP requests by the route's pattern, method and status code; 499 means that the client went away."},
			[]string{"route", "method", "code"}),
	}
	a.signIns, a.guesses.members = new(signInsHere), func() int { return 1 }
	if cfg.Fleet != nil {
		a.signIns, a.guesses.members = cfg.Fleet, cfg.Fleet.Members
	}
	a.guesses.log, a.guesses.wrong = log, prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_http_wrong_tokens_total",
		Help: "Tokens that were sent and are not known, in the Authorization header or in the form for signing in."})
	a.Configure(cfg)
	open, maxForm := func() bool { return a.gate().open }, func() int64 { return min(maxSettings, a.settings.Load().maxBody) }
	a.pages, a.readers = ui.New(e, open, maxForm), ui.NewReadOnly(e, open, maxForm)
	reg.MustRegister(a.requests, a.guesses.wrong, a.bodies)
	a.router = a.newRouter()
	return a
}

// Configure replaces the tokens and limits. It may be called while requests are served; requests in progress may use the old or the new
// ones. It does not change Backup and Fleet.
func (a *API) Configure(cfg Config) {
	if cfg.MaxBodyBytes <= 0 {
		cfg.MaxBodyBytes = DefaultMaxBodyBytes
	}
	s := &settings{gate: newGate(cfg), proxies: cfg.TrustedProxies, maxBody: cfg.MaxBodyBytes}
	a.settings.Store(s)
	a.endOldSignIns(&s.gate)
}

func (a *API) gate() *gate { return &a.settings.Load().gate }

// strictTransport has browsers use HTTPS for this host for 30 days after a visit, however a link to it is written. It holds for all ports
// of the host, but not for its subdomains, where other servers may be.
var strictTransport = []string{"max-age=2592000"}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Only over TLS of hookbolt's own: behind a proxy, this is for the proxy to say. Not for localhost, where other servers speak plain HTTP.
	if r.TLS != nil && !loopback.IsHost(r.Host) {
		w.Header()["Strict-Transport-Security"] = strictTransport
	}
	a.router.ServeHTTP(w, r)
}

func (a *API) newRouter() http.Handler {
	router := httprouter.New()
	// A redirected POST is lost or sent twice by many clients: a path is right or it is not.
	router.RedirectTrailingSlash, router.RedirectFixedPath = false, false
	// The router would answer every OPTIONS before the gate has seen it.
	router.HandleOPTIONS = false
	for _, rt := range a.routes() {
		router.Handle(rt.method, rt.path, a.serve(rt))
		if rt.method == http.MethodGet {
			router.Handle(http.MethodHead, rt.path, a.serve(rt))
		}
	}
	unmatched := func(p *problem) http.HandlerFunc {
		refuse := func(*http.Request, httprouter.Params) (any, error) { return nil, p }
		page := a.serve(route{path: "other", allowedRoles: adminToken | cookie, handle: refuse, page: true})
		call := a.serve(route{path: "other", allowedRoles: adminToken, handle: refuse})
		return func(w http.ResponseWriter, r *http.Request) {
			if wantsPage(r) {
				page(w, r, nil)
				return
			}
			call(w, r, nil)
		}
	}
	notAllowed := unmatched(&problem{Status: http.StatusMethodNotAllowed, Detail: "this path does not take this method; see the Allow header"})
	router.NotFound = unmatched(errNoSuchPath)
	router.MethodNotAllowed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The router always lists OPTIONS.
		options, _, _ := router.Lookup(http.MethodOptions, r.URL.Path)
		allow := slices.DeleteFunc(strings.Split(w.Header().Get("Allow"), ", "), func(m string) bool { return m == http.MethodOptions && options == nil })
		w.Header().Set("Allow", strings.Join(allow, ", "))
		notAllowed(w, r)
	})
	return router
}

// Header values that many responses share. net/http only reads them.
var (
	typeJSON    = []string{"application/json"}
	typeProblem = []string{"application/problem+json"}
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
)

// serve is the adapter around every handler: it checks the gate and the query, and writes the response and its metric. It logs neither
// successful requests nor errors of the caller.
func (a *API) serve(rt route) httprouter.Handle {
	return func(w http.ResponseWriter, r *http.Request, ps httprouter.Params) {
		r = begin(r, &rt, ps)
		defer a.recovered(w, r, &rt)
		header := w.Header()
		header["X-Content-Type-Options"], header["Cache-Control"] = noSniff, noStore
		if rt.allowedRoles&ingestToken != 0 {
			a.gate().setCORS(header, r) // for errors, too
		}
		value, err := a.call(w, r, ps, &rt)
		if err != nil {
			a.refuse(w, r, &rt, err)
			return
		}
		if own, ok := value.(reply); ok {
			for name, text := range own.header {
				header.Set(name, text)
			}
			value = own.value
		}
		if streamed, ok := value.(http.Handler); ok {
			a.stream(w, r, &rt, streamed)
			return
		}
		body, contentType, err := encode(value)
		if err != nil {
			a.refuse(w, r, &rt, err)
			return
		}
		if contentType != nil {
			header["Content-Type"] = contentType
		}
		status := rt.status
		if s, ok := value.(interface{ status() int }); ok {
			status = s.status()
		}
		w.WriteHeader(status)
		w.Write(body) // an error means that the client has disconnected
		a.finish(r, &rt, status)
	}
}

// call runs the handler of a route if the request is allowed. The write timeout starts when the response is ready: a backup or an erasure
// takes as long as it takes. The request's context ends when the client disconnects, so that the work can stop.
func (a *API) call(w http.ResponseWriter, r *http.Request, ps httprouter.Params, rt *route) (any, error) {
	// The server's own deadline counts from the request. HTTP/2 does not wait for a write to miss it: it resets the stream. An error means
	// that there is no deadline.
	timeout := http.NewResponseController(w)
	timeout.SetWriteDeadline(time.Time{})
	defer func() { timeout.SetWriteDeadline(time.Now().Add(writeTimeout)) }()
	if err := a.admit(r, rt); err != nil {
		return nil, err
	}
	if strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") { // a proxy in front would see another path
		return nil, errNoSuchPath
	}
	// Probes and scrapers send parameters of their own, so only those of the API are checked.
	if r.URL.RawQuery != "" && strings.HasPrefix(rt.path, "/v1/") {
		if err := checkQuery(r.URL.RawQuery, rt.params); err != nil {
			return nil, err
		}
	}
	if rt.readsWebhooks() {
		if err := a.engine.Current(r.Context()); err != nil {
			return nil, err
		}
	}
	return rt.handle(r, ps)
}

// readsWebhooks reports whether a route may answer from the webhooks in memory: they must be those of all processes, so that a change that has returned
// at one of them is seen at another one. Events are decided about in the database; probes and metrics tell of this process.
func (rt *route) readsWebhooks() bool {
	return rt.method != "" && rt.allowedRoles&pageRoles != 0 && rt.allowedRoles&(anybody|ingestToken|metricsToken) == 0
}

// rawJSON is a response body that is JSON already.
type rawJSON []byte

// encode returns the body of a response. nil becomes an empty body.
func encode(value any) (body []byte, contentType []string, err error) {
	switch v := value.(type) {
	case nil:
		return nil, nil, nil
	case rawJSON:
		return v, typeJSON, nil
	case exact:
		if v.contentType == "" {
			return v.body, nil, nil
		}
		return v.body, []string{v.contentType}, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // keep text as it is, as payloads do
	err = enc.Encode(value)
	return b.Bytes(), typeJSON, err
}

// observeTransient logs why a store that works refuses a request, at most once a minute: clients repeat it. The store itself tells of a database that
// is away.
func (a *API) observeTransient(r *http.Request, rt *route, err error) {
	if !errors.Is(err, engine.ErrTransient) || errors.Is(err, engine.ErrAway) {
		return
	}
	now := time.Now().UnixNano()
	if last := a.transientLogged.Load(); now-last >= int64(time.Minute) && a.transientLogged.CompareAndSwap(last, now) {
		a.log.Warn("the store takes no work at the moment; clients are told to repeat their requests", "method", methodLabel(r.Method), "route", rt.path, "error", err)
	}
}

// refuse responds with a problem.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, rt *route, err error) {
	p := problemOf(r.Context(), err)
	if p.Status == http.StatusInternalServerError && p != errPanicked {
		// Log the route's pattern and not the path, because ids of sessions are personal data. The engine's errors contain no input.
		a.log.Error("a request failed", "method", methodLabel(r.Method), "route", rt.path, "error", err)
	}
	a.observeTransient(r, rt, err)
	for name, value := range p.header {
		w.Header().Set(name, value)
	}
	if rt.page {
		page, err := a.refusePage(r, p)
		if err != nil { // cannot be: the templates take any text
			panic(err)
		}
		a.stream(w, r, rt, page)
		return
	}
	var shown any = p.complete()
	status, contentType := p.Status, typeProblem
	if strings.HasPrefix(r.URL.Path, platformPath) { // also where there is no such route
		shown, status = showPlatformProblem(p)
		contentType = typeJSON
	}
	body, _, err := encode(shown)
	if err != nil { // cannot be: a problem is strings and numbers
		panic(err)
	}
	w.Header()["Content-Type"] = contentType
	w.WriteHeader(status)
	w.Write(body)
	a.finish(r, rt, status)
}

// recovered turns a panic of a handler into a 500. It must be deferred.
func (a *API) recovered(w http.ResponseWriter, r *http.Request, rt *route) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { // net/http's way to abort a connection
		panic(v)
	}
	a.log.Error("a request handler panicked", "method", methodLabel(r.Method), "route", rt.path, "panic", v, "stack", string(debug.Stack()))
	a.refuse(w, r, rt, errPanicked)
}

// stream lets a handler write its response itself.
func (a *API) stream(w http.ResponseWriter, r *http.Request, rt *route, h http.Handler) {
	rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
	h.ServeHTTP(rec, r)
	a.finish(r, rt, rec.status)
}

// statusRecorder records the status of a streamed response.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// finish counts a request that has been answered, and writes its line of the audit.
func (a *API) finish(r *http.Request, rt *route, status int) {
	a.audit(r, rt, status)
	a.guesses.tell()
	a.requests.WithLabelValues(rt.path, methodLabel(r.Method), strconv.Itoa(status)).Inc()
}

// methodLabel keeps unknown methods out of the metrics, because each would be a new series.
func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE":
		return method
	}
	return "other"
}

// readBody is the function readBody for a call of an admin, whose body has a limit of its own.
func (a *API) readBody(r *http.Request, most int64) ([]byte, error) {
	return readBody(r, min(most, a.settings.Load().maxBody), nil)
}

// instant is a time in a response: RFC 3339 in UTC, to the microsecond; null for the zero time.
type instant time.Time

// MarshalJSON implements json.Marshaler.
func (i instant) MarshalJSON() ([]byte, error) {
	t := time.Time(i)
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.999999Z07:00"`), nil
}

// orNull returns nil for a zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// writeTimeout bounds how long a client may take to read a response.
const writeTimeout = 60 * time.Second

// What a connection may cost before a handler reads from it.
const (
	maxHeaderBytes = 16 << 10
	// maxConcurrentStreams is the number below which a server should not go (RFC 9113, section 6.5.2).
	maxConcurrentStreams = 100
	http2StreamBuffer    = 64 << 10
	http2ConnBuffer      = 256 << 10
)

// NewServer creates a server for h. Its timeouts bound how long a slow or idle client can hold a connection.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxConcurrentStreams, MaxReceiveBufferPerStream: http2StreamBuffer, MaxReceiveBufferPerConnection: http2ConnBuffer,
		},
		ErrorLog: stdlog.New(serverLog{log}, "", 0),
	}
}

// serverLog writes the messages of net/http's server to the log.
type serverLog struct{ log *slog.Logger }

// Write drops failed TLS handshakes: every scanner causes one, with its address.
func (l serverLog) Write(line []byte) (int, error) {
	if !bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		l.log.Warn(string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}
