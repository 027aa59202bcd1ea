package send

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
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
	// Secrets sign the message, in this order.
	Secrets []Secret
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

// httpRequest makes the HTTP request, which the trace watches.
func (a *attempt) httpRequest(ctx context.Context) (*http.Request, error) {
	target, err := a.request.Target()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoURL, err)
	}
	target, err = wireURL(target)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(withTrace(ctx, a.trace), http.MethodPost, target, bytes.NewReader(a.request.Payload))
	if err != nil {
		return nil, fmt.Errorf("%w: the URL cannot be parsed", errNotMade) // err quotes parts of the URL
	}
	req.Header, a.outcome.Sent, err = a.sender.header(a.request, a.outcome.StartedAt, a.authorization)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotMade, err)
	}
	return req, nil
}

// header returns the header of an attempt that starts at that time, and what is kept of it.
func (s *Sender) header(r *Request, at time.Time, authorization string) (http.Header, Sent, error) {
	h := make(http.Header, 8)
	r.setCredentials(h, authorization)
	credentials := slices.Sorted(maps.Keys(h))
	h.Set("Content-Type", r.ContentType)
	h.Set("User-Agent", s.userAgent)
	if r.Kind != "" {
		h.Set(HeaderKind, r.Kind)
	}
	err := sign(h, r.Secrets, r.ID, at, r.Payload)
	return h, Sent{Signature: h.Get(HeaderSignature), UserAgent: s.userAgent, Credentials: credentials}, err
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
