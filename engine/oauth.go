package engine

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

// maxTokenAnswer is how much of a token endpoint's answer is read.
const maxTokenAnswer = 64 << 10

// tokens keeps the OAuth tokens of webhooks until they expire.
type tokens struct {
	userAgent string

	mu        sync.Mutex
	byWebhook map[uint32]*tokenSource // guarded by mu
}

// tokenSource is a webhook's token, and how to get another one.
type tokenSource struct {
	settings *OAuth2                   // what config was made from
	turn     chan struct{}             // capacity 1; holds a value while somebody has the turn
	config   *clientcredentials.Config // remembers how the endpoint wants the client's credentials; used by whoever has the turn
	token    *oauth2.Token             // nil: none; read and written by whoever has the turn, as gotAt
	gotAt    time.Time                 // when the token was got
}

func newTokens(userAgent string) *tokens {
	return &tokens{userAgent: userAgent, byWebhook: make(map[uint32]*tokenSource)}
}

// source returns a webhook's token source; a new one if its settings have changed.
func (t *tokens) source(w *Webhook) *tokenSource {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byWebhook[w.ID]
	if s != nil && reflect.DeepEqual(s.settings, w.OAuth2) {
		return s
	}
	o := w.OAuth2
	config := &clientcredentials.Config{TokenURL: string(o.TokenURL), ClientID: string(o.ClientID), ClientSecret: string(o.ClientSecret)}
	for _, scope := range o.Scopes {
		config.Scopes = append(config.Scopes, string(scope))
	}
	if o.Body != "" {
		config.AuthStyle = oauth2.AuthStyleInParams // the body is replaced: there is nothing to find out
	}
	s = &tokenSource{settings: o, turn: make(chan struct{}, 1), config: config}
	t.byWebhook[w.ID] = s
	return s
}

// forget drops what is kept of a webhook.
func (t *tokens) forget(webhookID uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byWebhook, webhookID)
}

// grant is a token that an attempt may use.
type grant struct {
	source *tokenSource
	token  *oauth2.Token
	gotAt  time.Time
	// cached tells that it has been there before, so that it may have been revoked since.
	cached bool
}

// authorization is the value of the Authorization header.
func (g *grant) authorization() string { return g.token.Type() + " " + g.token.AccessToken }

// get returns a webhook's token. Only one attempt asks the token endpoint at a time; the others wait for what it gets.
func (t *tokens) get(ctx context.Context, w *Webhook, transport http.RoundTripper) (*grant, error) {
	s := t.source(w)
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
		return nil, &tokenError{errors.New("the token cannot stand in a header")} // kept, it would fail every attempt
	}
	s.token, s.gotAt = token, utcNow()
	return &grant{s, token, s.gotAt, false}, nil
}

// reject drops a token that an endpoint has refused, unless there is another one already.
func (g *grant) reject() {
	g.source.turn <- struct{}{} // for no longer than somebody's attempt lasts
	if g.source.token == g.token {
		g.source.token = nil
	}
	<-g.source.turn
}

// tokenTransport makes the token request what a webhook's settings want it to be.
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
	resp, err := t.next.RoundTrip(req)
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

// grantErrors are those of RFC 6749, section 5.2. Other text of a token endpoint is not repeated: it may hold what it was sent.
var grantErrors = []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// classify is classify for the error of a token request.
func (e *tokenError) classify(timeout time.Duration) (ErrorClass, string) {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](e.err); ok {
		detail := fmt.Sprintf("the token endpoint answered %d", refused.Response.StatusCode)
		if slices.Contains(grantErrors, refused.ErrorCode) {
			detail += ": " + refused.ErrorCode
		}
		return ErrorOAuth, detail
	}
	err, isTransport := e.err, errors.Is(e.err, context.DeadlineExceeded)
	if u, ok := errors.AsType[*url.Error](err); ok { // it repeats the URL
		err, isTransport = u.Err, true
	}
	if !isTransport {
		return ErrorOAuth, "the token endpoint's answer holds no token that can be sent"
	}
	class, detail := classify(err, timeout)
	if class != ErrorAddressRefused {
		class = ErrorOAuth
	}
	return class, "token endpoint: " + detail
}
