package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// maxTokenAnswer is how many bytes of a token endpoint's response are read.
const maxTokenAnswer = 64 << 10

// tokens caches OAuth tokens until they expire.
type tokens struct {
	userAgent string

	mu    sync.Mutex
	byKey map[string]*tokenSource // by Request.TokenKey; guarded by mu
}

// tokenSource is a token, and how to get the next one. What follows turn belongs to the goroutine that has the turn.
type tokenSource struct {
	settings *OAuth2                   // what config was made from
	turn     chan struct{}             // a lock, so that waiting for it can end with a context: capacity 1, full while it is held
	config   *clientcredentials.Config // remembers in which form the endpoint accepts the client's credentials
	token    *oauth2.Token             // nil: none
	gotAt    time.Time                 // when the token was fetched
}

func newTokens(userAgent string) *tokens {
	return &tokens{userAgent: userAgent, byKey: make(map[string]*tokenSource)}
}

// source returns the token source of a request; a new one if its settings have changed.
func (t *tokens) source(r *Request) *tokenSource {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byKey[r.TokenKey]
	if s != nil && reflect.DeepEqual(s.settings, r.OAuth2) {
		return s
	}
	o := r.OAuth2
	target, err := wireURL(string(o.TokenURL))
	if err != nil {
		target = string(o.TokenURL) // the request fails with it
	}
	config := &clientcredentials.Config{TokenURL: target, ClientID: string(o.ClientID), ClientSecret: string(o.ClientSecret)}
	for _, scope := range o.Scopes {
		config.Scopes = append(config.Scopes, string(scope))
	}
	if o.Body != "" {
		config.AuthStyle = oauth2.AuthStyleInParams // the body is replaced anyway: do not probe for the style
	}
	s = &tokenSource{settings: o, turn: make(chan struct{}, 1), config: config}
	t.byKey[r.TokenKey] = s
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
	token  *oauth2.Token
	gotAt  time.Time
	// cached says that the token was not fetched for this attempt, so it may have been revoked since.
	cached bool
}

// authorization returns the value of the header Authorization.
func (g *grant) authorization() string { return g.token.Type() + " " + g.token.AccessToken }

// get returns a token for a request. Only one attempt fetches a token at a time; the others wait for it and share it. The error is a
// tokenError.
func (t *tokens) get(ctx context.Context, r *Request, transport http.RoundTripper) (*grant, error) {
	s := t.source(r)
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, &tokenError{ctx.Err()}
	}
	if s.token.Valid() {
		return &grant{s, s.token, s.gotAt, true}, nil
	}
	client := &http.Client{
		Transport:     &tokenTransport{transport, s.settings, t.userAgent},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	token, err := s.config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return nil, &tokenError{err}
	}
	if strings.ContainsFunc(token.Type()+token.AccessToken, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, &tokenError{errors.New("the token is not valid in a header")} // cached, it would fail every attempt
	}
	s.token, s.gotAt = token, time.Now().Round(0)
	return &grant{s, token, s.gotAt, false}, nil
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

// tokenTransport changes the standard token request as the settings say.
type tokenTransport struct {
	next      http.RoundTripper
	settings  *OAuth2
	userAgent string
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", t.userAgent)
	if body := string(t.settings.Body); body != "" {
		req.Body.Close()
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(body))
		if t.settings.IsJSON {
			req.Header.Set("Content-Type", "application/json")
		}
	}
	for name, value := range t.settings.Headers {
		req.Header.Set(name, string(value))
	}
	resp, err := roundTrip(t.next, req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxTokenAnswer), resp.Body}
	}
	return resp, err
}

// tokenError is the error of an attempt that got no token.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return fmt.Sprintf("token endpoint: %v", e.err) }
func (e *tokenError) Unwrap() error { return e.err }

// grantErrors are those of RFC 6749, section 5.2. Other text of a token endpoint is not quoted: it may hold what the endpoint was sent.
var grantErrors = []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// classify is the function classify for the error of a token request.
func (e *tokenError) classify(at situation) (ErrorClass, string) {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](e.err); ok {
		detail := fmt.Sprintf("the token endpoint answered %d", refused.Response.StatusCode)
		if slices.Contains(grantErrors, refused.ErrorCode) {
			detail += ": " + refused.ErrorCode
		}
		return ErrorOAuth, detail
	}
	err, isTransport := e.err, errors.Is(e.err, context.DeadlineExceeded)
	if u, ok := errors.AsType[*url.Error](err); ok { // its text has the URL
		err, isTransport = u.Err, true
	}
	if !isTransport {
		return ErrorOAuth, "the token endpoint's answer holds no token that can be sent"
	}
	class, detail := classify(err, at)
	if class != ErrorAddressRefused {
		class = ErrorOAuth
	}
	return class, "token endpoint: " + detail
}
