package send

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"
)

const (
	// maxTokenAnswer is how many bytes of a token endpoint's response are read.
	maxTokenAnswer = 64 << 10
	// tokenMargin is how long before its end a token is replaced: a request takes time, and clocks differ.
	tokenMargin = 10 * time.Second
)

// AuthStyle is how a client shows its id and its secret to a token endpoint (RFC 6749, section 2.3.1).
type AuthStyle string

// The ways to authenticate.
const (
	AuthStyleAuto   AuthStyle = ""       // the header first; if the endpoint refuses that, the body; what was accepted is remembered
	AuthStyleHeader AuthStyle = "header" // basic authentication
	AuthStyleBody   AuthStyle = "body"   // members of the form
)

// tokens caches OAuth tokens until they expire.
type tokens struct {
	userAgent string

	mu    sync.Mutex
	byKey map[string]*tokenSource // by Request.TokenKey; guarded by mu
}

// tokenSource is a token, and how to get the next one. What follows turn belongs to the goroutine that has the turn.
type tokenSource struct {
	settings *OAuth2
	turn     chan struct{} // a lock, so that waiting for it can end with a context: capacity 1, full while it is held
	style    AuthStyle     // AuthStyleAuto until the endpoint has accepted one
	token    *token        // nil: none
	// refused is the last refusal that asked for a wait, nil if there is none: until its end, the endpoint is not asked.
	refused *tokenError
}

// token is an access token.
type token struct {
	value string
	gotAt time.Time
	// expiresAt is when it expires; zero if that is not known.
	expiresAt time.Time
}

// valid reports whether the token may be used.
func (t *token) valid() bool {
	return t != nil && (t.expiresAt.IsZero() || time.Now().Before(t.expiresAt.Add(-tokenMargin)))
}

func newTokens(userAgent string) *tokens {
	return &tokens{userAgent: userAgent, byKey: make(map[string]*tokenSource)}
}

// source returns the token source of a request; a new one if its settings have changed.
func (t *tokens) source(r *Request) *tokenSource {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byKey[r.TokenKey]
	if s == nil || !reflect.DeepEqual(s.settings, r.OAuth2) {
		s = &tokenSource{settings: r.OAuth2, turn: make(chan struct{}, 1), style: r.OAuth2.AuthStyle}
		t.byKey[r.TokenKey] = s
	}
	return s
}

// forget drops the token source of a key.
func (t *tokens) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byKey, key)
}

// grant is a token that an attempt may use.
type grant struct {
	source *tokenSource
	token  *token
	// cached says that the token was not fetched for this attempt, so it may have been revoked since.
	cached bool
}

// authorization returns the value of the header Authorization. The scheme has one spelling whatever the token's type is called: many
// endpoints compare it letter by letter.
func (g *grant) authorization() string { return "Bearer " + g.token.value }

// get returns a token for a request. Only one attempt fetches a token at a time; the others wait for it and share it. While the endpoint
// has asked to be left alone, attempts fail at once with its refusal: their retries come when it may be asked again. The error is a
// tokenError.
func (t *tokens) get(ctx context.Context, r *Request, transport http.RoundTripper) (*grant, error) {
	s := t.source(r)
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, &tokenError{err: ctx.Err()}
	}
	if s.token.valid() {
		return &grant{s, s.token, true}, nil
	}
	if s.refused != nil && time.Now().Before(s.refused.notBefore) {
		return nil, s.refused
	}
	token, refused := s.fetch(ctx, &tokenCall{transport: transport, userAgent: t.userAgent, maxWait: r.RetryAfterMax})
	if refused != nil {
		s.refused = refused
		return nil, refused
	}
	s.token, s.refused = token, nil
	return &grant{s, token, false}, nil
}

// reject drops a token that an endpoint has refused, unless it was replaced already. If ctx ends first, another attempt has been fetching a
// new one all the time.
func (g *grant) reject(ctx context.Context) {
	select {
	case g.source.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	if g.source.token == g.token {
		g.source.token = nil
	}
	<-g.source.turn
}

// tokenCall is what a request for a token needs beside the settings.
type tokenCall struct {
	transport http.RoundTripper
	userAgent string
	maxWait   time.Duration // bounds what the endpoint may ask for with Retry-After
}

// fetch asks for a token: once, or with AuthStyleAuto a second time if the endpoint may have missed the credentials in the header.
func (s *tokenSource) fetch(ctx context.Context, call *tokenCall) (*token, *tokenError) {
	if s.settings.Body != "" || s.style != AuthStyleAuto {
		return s.ask(ctx, call, s.style)
	}
	token, refused := s.ask(ctx, call, AuthStyleHeader)
	if refused == nil {
		s.style = AuthStyleHeader
		return token, nil
	}
	if refused.final {
		return nil, refused
	}
	token, again := s.ask(ctx, call, AuthStyleBody)
	if again == nil {
		s.style = AuthStyleBody
		return token, nil
	}
	if again.err == nil && again.reason != refused.reason {
		again.reason = refused.reason + "; with the client's credentials in the body, " + again.reason
	}
	return nil, again
}

// ask makes one request for a token.
func (s *tokenSource) ask(ctx context.Context, call *tokenCall, style AuthStyle) (*token, *tokenError) {
	req, err := s.settings.request(ctx, style)
	if err != nil {
		return nil, &tokenError{err: err, final: true}
	}
	req.Header.Set("User-Agent", call.userAgent)
	for name, value := range s.settings.Headers {
		req.Header.Set(name, string(value))
	}
	resp, err := roundTrip(call.transport, req)
	if err != nil {
		return nil, &tokenError{err: err, final: true}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	if err != nil {
		return nil, &tokenError{err: err, final: true}
	}
	now := time.Now().Round(0)
	answer := readTokenAnswer(body)
	if reason := answer.trouble(resp.StatusCode, s.settings); reason != "" {
		overloaded := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
		refused := &tokenError{reason: reason, final: overloaded || answer.accessToken != ""}
		if overloaded {
			refused.wait(min(parseRetryAfter(resp.Header, now), call.maxWait), time.Now()) // by the monotonic clock
		}
		return nil, refused
	}
	t := &token{value: answer.token(), gotAt: now}
	if answer.lifetime > 0 {
		t.expiresAt = now.Add(answer.lifetime)
	}
	return t, nil
}

// request makes the token request, without the headers of the settings.
func (o *OAuth2) request(ctx context.Context, style AuthStyle) (*http.Request, error) {
	to, err := wireURL(string(o.TokenURL))
	if err != nil {
		return nil, err
	}
	body, contentType := string(o.Body), "application/x-www-form-urlencoded"
	switch {
	case body == "":
		body = o.form(style).Encode()
	case o.IsJSON:
		contentType = "application/json"
	}
	req, err := newHTTPRequest(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json") // some answer with a form, or a page, to those who do not ask
	if o.Body == "" && style == AuthStyleHeader {
		req.SetBasicAuth(url.QueryEscape(string(o.ClientID)), url.QueryEscape(string(o.ClientSecret))) // RFC 6749, section 2.3.1
	}
	return req, nil
}

// form returns the standard form of a token request.
func (o *OAuth2) form(style AuthStyle) url.Values {
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(o.Scopes) > 0 {
		scopes := make([]string, len(o.Scopes))
		for i, scope := range o.Scopes {
			scopes[i] = string(scope)
		}
		form.Set("scope", strings.Join(scopes, " "))
	}
	if style == AuthStyleBody {
		form.Set("client_id", string(o.ClientID))
		form.Set("client_secret", string(o.ClientSecret))
	}
	return form
}

// tokenError is the error of an attempt that got no token.
type tokenError struct {
	// err is what kept the endpoint's answer from coming; nil if it answered: then reason says how.
	err    error
	reason string
	// final says that the answer does not come from the way in which the client authenticated.
	final bool
	// notBefore is when the endpoint may be asked again; zero if it has not asked for a wait.
	notBefore time.Time
}

func (e *tokenError) Error() string {
	if e.err == nil {
		return e.reason
	}
	return fmt.Sprintf("token endpoint: %v", e.err)
}

func (e *tokenError) Unwrap() error { return e.err }

// wait notes that the endpoint has asked for a wait.
func (e *tokenError) wait(d time.Duration, now time.Time) {
	if d > 0 {
		e.notBefore = now.Add(d)
		e.reason += ", and asked not to be called before " + e.notBefore.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
}

// retryAfter returns the wait that is left of what the endpoint has asked for; 0 if there is none.
func (e *tokenError) retryAfter() time.Duration {
	if e.notBefore.IsZero() {
		return 0
	}
	return max(0, time.Until(e.notBefore))
}

// classify is the function classify for the error of a token request.
func (e *tokenError) classify(at situation) (ErrorClass, string) {
	if e.err == nil {
		return ErrorOAuth, e.reason
	}
	class, detail := classify(e.err, at)
	if class != ErrorAddressRefused {
		class = ErrorOAuth
	}
	return class, "token endpoint: " + detail
}
