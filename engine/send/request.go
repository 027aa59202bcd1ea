package send

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Request is what one attempt sends, and to whom. It is not changed.
type Request struct {
	// URL is the endpoint. CanonicalURL has passed it. If HasURLValues, URLValues take the place of the names in it; else its braces stand for
	// themselves.
	URL          string
	URLValues    URLValues
	HasURLValues bool
	// AllowNetworks are special-purpose addresses that this attempt may connect to, beside those of Options.
	AllowNetworks []netip.Prefix
	// NoHTTP2 keeps the attempt to HTTP/1.1.
	NoHTTP2 bool
	// Method is the method of the request; "" means POST. A GET has no body, and its signature is over none.
	Method string
	// Success are the statuses that deliver beside 2xx. Each has lost what else it means: a 410 delivers, and so does a 401 or a 429.
	Success []int
	// TLS is how the endpoint is spoken to over TLS; nil means the defaults. A token endpoint gets it only on the same server: a client
	// certificate is for the endpoint.
	TLS *TLS
	// MaySend is asked each time before a request to the endpoint goes out on a connection: what was true as the attempt began may be true no longer, because the
	// machine was stopped, or a connection took its time. false withdraws the attempt. nil means true.
	MaySend func() bool
	// Timeout bounds the attempt as a whole: token, DNS lookup, connection, request and response.
	Timeout time.Duration

	// Headers, BasicAuth and OAuth2 are the endpoint's credentials. At most one of them may set the header Authorization.
	Headers   map[string]Header
	BasicAuth *BasicAuth
	OAuth2    *OAuth2
	// TokenKey is the key under which the token of OAuth2 is cached. A token is used only while OAuth2 stays as it was.
	TokenKey string
	// RetryAfterMax bounds the wait that the token endpoint may ask for: as long it is not asked again.
	RetryAfterMax time.Duration

	// ID is the message id: the same for all attempts of a message. It must not hold a dot, which separates what is signed.
	ID          string
	ContentType string
	// Kind is the value of HeaderKind; "" for none.
	Kind    string
	Payload []byte
	// Mail is what is sent if URL is that of a mail server; see CanonicalMailURL. Nothing else is, and nothing is signed.
	Mail *Mail
	// Secrets and Keys sign the message as v1 and v1a, in this order. BodySignature is a header that signs the body alone; nil for none.
	Secrets       []Secret
	Keys          []SigningKey
	BodySignature *BodySignature
	// DueAt is the time from which the attempt was due; see Outcome.TokenRejected.
	DueAt time.Time
}

// Target returns the URL with its values, as it is written for people: braces stand for themselves.
func (r Request) Target() (string, error) {
	if !r.HasURLValues {
		return r.URL, nil
	}
	return FillURL(r.URL, r.URLValues.Map())
}

// tls returns the TLS settings.
func (r *Request) tls() TLS {
	if r.TLS == nil {
		return TLS{}
	}
	return *r.TLS
}

// tokenTLS returns the TLS settings for the token endpoint.
func (r *Request) tokenTLS() TLS {
	if !SameHost(r.URL, string(r.OAuth2.TokenURL)) {
		return TLS{}
	}
	return r.tls()
}

// HasBody reports whether a request of that method has the payload as its body.
func HasBody(method string) bool { return method != http.MethodGet }

// body returns the bytes that are sent, nil for none. They are what is signed.
func (r *Request) body() []byte {
	if !HasBody(r.Method) {
		return nil
	}
	return r.Payload
}

// delivers reports whether a status is a success.
func (r *Request) delivers(status int) bool {
	return status/100 == 2 || slices.Contains(r.Success, status)
}

// httpRequest makes the HTTP request, which the trace watches.
func (a *attempt) httpRequest(ctx context.Context) (*http.Request, error) {
	target, err := a.request.Target()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoURL, err)
	}
	to, err := wireURL(target)
	if err != nil {
		return nil, err
	}
	var body io.Reader // nil for none: an empty one would be sent as such
	if bytesSent := a.request.body(); bytesSent != nil {
		body = bytes.NewReader(bytesSent)
	}
	req, err := newHTTPRequest(withTrace(ctx, a.trace), cmp.Or(a.request.Method, http.MethodPost), to, body)
	if err != nil {
		return nil, err
	}
	req.Header, a.outcome.Sent, err = a.sender.header(a.request, a.outcome.StartedAt, a.authorization)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotMade, err)
	}
	return req, nil
}

// newHTTPRequest is http.NewRequestWithContext for a URL that was parsed already.
func newHTTPRequest(ctx context.Context, method string, to *url.URL, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "", body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotMade, err)
	}
	req.URL, req.Host = to, to.Host
	return req, nil
}

// header returns the header of an attempt that starts at that time, and what is kept of it.
func (s *Sender) header(r *Request, at time.Time, authorization string) (http.Header, Sent, error) {
	h := make(http.Header, 8)
	r.setCredentials(h, authorization)
	var credentials []string
	if len(h) > 0 { // most have none
		credentials = slices.Sorted(maps.Keys(h))
	}
	if HasBody(r.Method) {
		h.Set("Content-Type", r.ContentType)
	}
	h.Set("User-Agent", s.userAgent)
	if r.Kind != "" {
		h[wireKind] = []string{r.Kind}
	}
	sent, err := r.sign(h, at)
	sent.Method, sent.UserAgent, sent.Credentials = r.Method, s.userAgent, credentials
	return h, sent, err
}

// setCredentials sets the endpoint's credentials. authorization is the value that the OAuth token gives the header Authorization, ""
// without a token.
func (r *Request) setCredentials(h http.Header, authorization string) {
	for name, value := range r.Headers {
		h.Set(name, string(value.Value))
	}
	switch {
	case r.BasicAuth != nil:
		h.Set("Authorization", r.BasicAuth.authorization())
	case authorization != "":
		h.Set("Authorization", authorization)
	}
}
