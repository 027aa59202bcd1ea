//go:build !race

package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/julienschmidt/httprouter"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
)

// description is openapi.yaml as the validator reads it. It is made before any test, outside of all bubbles of fake time.
var description = func() validator.Validator {
	document, err := libopenapi.NewDocument(openapi)
	if err != nil {
		panic(err)
	}
	// Tokens are what auth_test.go is about, and most fixtures have none.
	v, errs := validator.NewValidator(document, config.WithFormatAssertions(), config.WithoutSecurityValidation(), config.WithCustomFormat("int64", wholeNumber64))
	if errs != nil {
		panic(errors.Join(errs...))
	}
	return v
}()

// wholeNumber64 takes the place of the validator's own check, which refuses 9223372036854775807: to the validator every number is a float64,
// and that one is 2^63. The payload's schema is held against exact numbers elsewhere.
func wholeNumber64(v any) error {
	if f, ok := v.(float64); ok && (f != math.Trunc(f) || math.Abs(f) > 1<<63) {
		return errors.New("must be an integer of 64 bits")
	}
	return nil
}

// describedRoutes knows which requests are for a route that is described. What it finds is the route's path in the description.
var describedRoutes = func() *httprouter.Router {
	router := httprouter.New()
	for _, rt := range new(API).routes() {
		if !rt.page {
			router.Handle(rt.method, rt.path, func(http.ResponseWriter, *http.Request, httprouter.Params) {})
		}
	}
	return router
}()

// observed is an API whose every exchange is held against the description.
type observed struct {
	t testing.TB
	h http.Handler
	// answersOnly is for requests that nobody has thought of: what the description says in words only would make each a failure.
	answersOnly bool
}

func (o observed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{method: r.Method, target: r.URL.RequestURI(), path: r.URL.Path}
	watched := *r
	if r.Body != nil {
		watched.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &x.request), r.Body}
	}
	seen := &observer{ResponseWriter: w, seen: &x}
	o.h.ServeHTTP(seen, &watched)
	seen.begin(http.StatusOK) // as net/http does after a handler that has written nothing
	if !x.isDescribed() {
		return
	}
	wrong := x.wrongAnswer()
	if !o.answersOnly {
		wrong = append(wrong, x.wrongRequest()...)
	}
	for _, what := range wrong {
		o.t.Errorf("%s %s: %s", x.method, x.target, what)
	}
}

// exchange is a request and its answer.
type exchange struct {
	method, target, path string
	request              bytes.Buffer // as far as it was read
	status               int
	header               http.Header // of the answer
	answer               bytes.Buffer
}

// observer takes note of an answer.
type observer struct {
	http.ResponseWriter
	seen *exchange
}

// begin takes note of the status and the header, once.
func (o *observer) begin(status int) {
	if o.seen.status == 0 {
		o.seen.status, o.seen.header = status, o.Header().Clone()
	}
}

func (o *observer) WriteHeader(status int) {
	o.begin(status)
	o.ResponseWriter.WriteHeader(status)
}

func (o *observer) Write(p []byte) (int, error) {
	o.begin(http.StatusOK)
	o.seen.answer.Write(p)
	return o.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (o *observer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// describedMethod is the method that the description has it under. HEAD is as GET, but for the answer's body.
func (x *exchange) describedMethod() string {
	if x.method == http.MethodHead {
		return http.MethodGet
	}
	return x.method
}

// isDescribed tells whether the description has anything to say: it has not of pages, of what is not there, and of answers that nobody reads.
func (x *exchange) isDescribed() bool {
	route, _, _ := describedRoutes.Lookup(x.describedMethod(), x.path)
	hidden := strings.Contains(strings.ToLower(x.target), "%2f") || x.status == http.StatusNotFound && bytes.Contains(x.answer.Bytes(), []byte(errNoSuchPath.Detail))
	return route != nil && !hidden && x.status != statusClientGone
}

// wrongAnswer says what of the answer is not as it is described.
func (x *exchange) wrongAnswer() []string {
	r, err := http.NewRequest(x.describedMethod(), "http://localhost"+x.target, nil)
	if err != nil {
		return []string{err.Error()}
	}
	answer := x.answer.Bytes()
	if x.method == http.MethodHead {
		answer = nil
	}
	_, errs := description.ValidateHttpResponse(r, &http.Response{StatusCode: x.status, Header: x.header, Body: io.NopCloser(bytes.NewReader(answer)), Request: r})
	var wrong []string
	for _, e := range errs {
		wrong = append(wrong, fmt.Sprintf("the answer: %v\n%.2000s", e, answer))
	}
	return wrong
}

// wrongRequest says whether the description and the API disagree about the request.
func (x *exchange) wrongRequest() []string {
	// With partial=true, an answer says of some events that they are refused, and of fields that they are left out.
	answer := x.answer.Bytes()
	partly := x.status == http.StatusAccepted && (bytes.Contains(answer, []byte(`"refused":[{`)) || bytes.Contains(answer, []byte(`"left_out":[{`)))
	switch isInvalid := partly || x.status == http.StatusBadRequest || x.status == http.StatusUnprocessableEntity; {
	case x.status < 300 && !partly:
		if why := x.refused(); why != "" {
			return []string{fmt.Sprintf("was answered with %d, but the description refuses it: %s\n%.1000s", x.status, why, x.request.Bytes())}
		}
	case isInvalid && !inexpressible(x.answer.String()) && !(x.merges() && unmergeable(x.answer.String())) && x.refused() == "":
		return []string{fmt.Sprintf("is refused, but the description has it right: %s\n%.1000s", x.answer.Bytes(), x.request.Bytes())}
	}
	return nil
}

// merges tells whether settings of the request are merged with what is set.
func (x *exchange) merges() bool { return x.method == http.MethodPatch || x.path == "/v1/preview" }

// refused says why the description refuses the request; "" if it does not.
func (x *exchange) refused() string {
	for _, body := range x.bodies() {
		r, err := http.NewRequest(x.describedMethod(), "http://localhost"+x.target, bytes.NewReader(body))
		if err != nil {
			return err.Error()
		}
		if len(body) > 0 {
			r.Header.Set("Content-Type", "application/json")
		}
		if _, errs := description.ValidateHttpRequestSync(r); len(errs) > 0 {
			return errs[0].Error()
		}
	}
	return ""
}

// bodies are the bodies to hold against the description: of events each of those that stand one after another, else the only one. What is
// no JSON is left as it is.
func (x *exchange) bodies() [][]byte {
	request := bytes.TrimPrefix(x.request.Bytes(), []byte("\ufeff")) // which every body may begin with
	if x.path != "/v1/events" {
		return [][]byte{request}
	}
	var list [][]byte
	for values := json.NewDecoder(bytes.NewReader(request)); ; {
		var value json.RawMessage
		if err := values.Decode(&value); err == io.EOF && list != nil {
			return list
		} else if err != nil {
			return [][]byte{request}
		}
		list = append(list, value)
	}
}

// inexpressible tells whether an answer refuses something that the description says in words only.
func inexpressible(answer string) bool {
	return slices.ContainsFunc([]string{
		"must hold a program in jq", "must be a media type", "needs a transform that makes", "its path and query have none", "give it without session_id", "give its session_id as well",
		"unknown query parameter", "stands twice", "query string is malformed", "must be the next_cursor of",
		"(got \\\"00000000-0000-0000-0000-000000000000\\\")", "must be an integer of 64 bits, such as",
		"not valid UTF-8", "is no character", "without fraction or exponent", "must be a 64-bit integer", "could not be read to its end",
		"must not be before", "minutes ahead of the server's clock", "is required in the first request", "had happened by then",
		"must name a host", "must not hold a", "must not have a fragment", "must not begin or end with", "must have // after", "such as https://example.com/hook", "is not a public address",
		"1s to 2m", "1s to 720h", "0s to 720h", `"9999999999h`, "hookbolt's own", "hold line breaks", "only one of", "must be a network", "is the current secret already",
		"has no signature.header", "is made with the webhook's own secret", "has no key pair", "sets this header already", "are not the public key of the first 32",
		"is set by delivery.operations", "oauth_login_endpoint: is required", "oauth_request_headers.x",
		"what is set is for another host", "is an address of this machine", "If-Match must be", "Idempotency-Key must be", "this Idempotency-Key belongs to another request", "in its path, which some readers", "as %25 where it begins no escape", "once its characters are encoded",
	}, func(detail string) bool { return strings.Contains(answer, detail) })
}

// unmergeable tells whether an answer refuses a change because of what is set.
func unmergeable(answer string) bool {
	return slices.ContainsFunc([]string{"basic_auth.username: is required", "basic_auth.password: is required", "oauth2.token_url: is required", "oauth2.client_id: is required",
		"oauth2.client_secret: is required", "body: replaces client_id", "must have at most 32 headers",
		"signature.header: is required with", "signature.v1a: must be true, or left out"}, func(detail string) bool { return strings.Contains(answer, detail) })
}

// doctored answers with what somebody has changed on its way.
type doctored struct {
	h      http.Handler
	change func(r *httptest.ResponseRecorder)
}

func (d doctored) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	d.h.ServeHTTP(rec, r)
	d.change(rec)
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes())
}

// complaints collects what would fail a test.
type complaints struct {
	testing.TB
	list []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.list = append(c.list, fmt.Sprintf(format, args...))
}

// TestObserverComplains shows that the observer of all the other tests would see an answer that is not as it is described, and a description
// that refuses what the API takes, or takes what it refuses.
func TestObserverComplains(t *testing.T) {
	f := newFixture(t, Config{})
	api := f.h.(observed).h
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	replaced := func(old, new string) func(*httptest.ResponseRecorder) {
		return func(rec *httptest.ResponseRecorder) {
			before := rec.Body.String()
			rec.Body = bytes.NewBufferString(strings.Replace(before, old, new, 1))
			if rec.Body.String() == before {
				t.Errorf("%s is not in %s", old, before)
			}
		}
	}
	status := func(code int) func(*httptest.ResponseRecorder) {
		return func(rec *httptest.ResponseRecorder) { rec.Code = code }
	}
	for _, c := range []struct {
		name, method, target, body string
		change                     func(*httptest.ResponseRecorder)
		complaint                  string // "" for none
	}{
		{"nothing", "GET", "/v1/webhooks/1", "", status(200), ""},
		{"a field less", "GET", "/v1/webhooks/1", "", replaced(`"delay":10,`, ``), "missing property 'delay'"},
		{"a field less, deep", "GET", "/v1/webhooks", "", replaced(`"failures":0,`, ``), "missing property 'failures'"},
		{"another type", "GET", "/v1/webhooks/1", "", replaced(`"delay":10`, `"delay":"10"`), "got string, want integer"},
		{"another word", "GET", "/v1/webhooks/1", "", replaced(`"state":"ok"`, `"state":"fine"`), "value must be one of 'ok', 'failing'"},
		{"no date", "GET", "/v1/webhooks/1", "", replaced(`"created_at":"2`, `"created_at":"x`), "date-time"},
		{"another status", "GET", "/v1/webhooks/1", "", status(418), "418"},
		{"another status, for HEAD", "HEAD", "/v1/webhooks/1", "", status(418), "418"},
		{"another type of content", "GET", "/v1/webhooks/1", "", func(rec *httptest.ResponseRecorder) { rec.Header().Set("Content-Type", "text/html") }, "text/html"},
		{"a problem of another shape", "GET", "/v1/webhooks/7", "", replaced(`"detail"`, `"message"`), "missing property 'detail'"},
		{"a refusal for nothing", "POST", "/v1/events", start(sessionA), func(rec *httptest.ResponseRecorder) {
			rec.Code, rec.Body = 400, bytes.NewBufferString(`{"type":"about:blank","title":"Bad Request","status":400,"detail":"no"}`)
			rec.Header().Set("Content-Type", "application/problem+json")
		}, "the description has it right"},
		{"a typing error that is taken", "PATCH", "/v1/webhooks/1", `{"nam":"x"}`, func(rec *httptest.ResponseRecorder) {
			*rec = *f.do("PATCH", "/v1/webhooks/1", `{"name":"x"}`)
		}, "the description refuses it"},
		{"the second of two events that is no event", "POST", "/v1/events", start(sessionA) + `{"type":"start"}`, func(rec *httptest.ResponseRecorder) {
			*rec = *f.do("POST", "/v1/events", start(sessionA))
		}, "the description refuses it"},
	} {
		seen := &complaints{TB: t}
		observed{t: seen, h: doctored{api, c.change}}.ServeHTTP(httptest.NewRecorder(), f.request(c.method, c.target, c.body))
		if got := strings.Join(seen.list, "\n"); (got != "") != (c.complaint != "") || !strings.Contains(got, c.complaint) {
			t.Errorf("%s: it complains %q, want %q", c.name, got, c.complaint)
		}
	}
}
