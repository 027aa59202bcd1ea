package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sender makes single attempts.
type sender struct {
	// transports are used without an http.Client, which would look at redirects: a redirect is an answer like any other, and no
	// success. Following it would turn the POST into a GET.
	transports *transports
	tokens     *tokens
	// proxied tells that a proxy may resolve names in our place: the guard has only the URL to look at then.
	proxied   bool
	guard     guard
	userAgent string
}

func newSender(cfg Config) *sender {
	userAgent := "hookbolt/" + cfg.Version
	return &sender{transports: newTransports(cfg), tokens: newTokens(userAgent), proxied: cfg.ProxyFromEnvironment,
		guard: guard{cfg.AllowNetworks}, userAgent: userAgent}
}

// send makes one attempt: one POST, one outcome. It returns an error only if the attempt was cut off because ctx ended: such an
// attempt says nothing about the endpoint and is not recorded.
func (s *sender) send(ctx context.Context, w *Webhook, d *Delivery, payload []byte, timeout time.Duration) (Attempt, error) {
	started := time.Now()
	a := Attempt{StartedAt: started.UTC().Round(0)}
	trace := trace{started: started}
	authorization, err := s.post(ctx, &a, &trace, w, d, payload, timeout)
	a.Duration = time.Since(started)
	trace.end(&a)
	if err == nil {
		return a, nil
	}
	if ctx.Err() != nil {
		return Attempt{}, context.Cause(ctx)
	}
	if refused, ok := errors.AsType[*tokenError](err); ok {
		a.Error, a.ErrorDetail = refused.classify(timeout)
	} else {
		a.Error, a.ErrorDetail = classify(err, timeout)
	}
	// net/http's errors may quote what the endpoint has sent.
	a.ErrorDetail = string(redact([]byte(a.ErrorDetail), w.secrets(authorization)))
	return a, nil
}

// errNotMade is the error of a request that could not even be made. What wraps it must not hold the URL.
var errNotMade = errors.New("make request")

// post fills in the attempt's outcome, or returns what kept the answer from coming; authorization is what the OAuth token has made of
// that header.
func (s *sender) post(ctx context.Context, a *Attempt, trace *trace, w *Webhook, d *Delivery, payload []byte, timeout time.Duration) (authorization string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := s.transports.of(w)
	g, err := s.authorize(ctx, a, w, transport)
	if err != nil {
		return "", err
	}
	if g != nil {
		authorization = g.authorization()
	}
	req, err := http.NewRequestWithContext(trace.with(ctx), http.MethodPost, w.URL, bytes.NewReader(payload))
	if err != nil {
		return authorization, fmt.Errorf("%w: the URL cannot be read", errNotMade) // err repeats parts of the URL
	}
	if req.Header, a.Sent, err = s.header(w, d, payload, a.StartedAt, authorization); err != nil {
		return authorization, fmt.Errorf("%w: %w", errNotMade, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return authorization, err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 100 { // net/http takes any three digits
		return authorization, fmt.Errorf("malformed HTTP status code %03d", resp.StatusCode)
	}
	secrets := w.secrets(authorization)
	a.Status, a.Protocol = resp.StatusCode, resp.Proto
	a.ResponseHeader = keptHeader(resp.Header, secrets)
	a.Response = keptBody(resp.Body, secrets)
	if resp.StatusCode/100 != 2 {
		a.Error = ErrorStatus
		a.ErrorDetail = fmt.Sprintf("the endpoint answered %d", resp.StatusCode)
		if text := http.StatusText(resp.StatusCode); text != "" {
			a.ErrorDetail += " " + text
		}
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		a.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	case http.StatusUnauthorized:
		if g != nil && g.cached {
			g.reject()
			// Others may have got the token in between: only one from before this try was due is worth another one at once.
			a.TokenRejected = g.gotAt.Before(d.NextAttemptAt)
		}
	}
	return authorization, nil
}

// payloadType is the Content-Type of every payload.
const payloadType = "application/json"

// header makes the header of an attempt that starts at that time, and what is kept of it.
func (s *sender) header(w *Webhook, d *Delivery, payload []byte, at time.Time, authorization string) (http.Header, Sent, error) {
	h := make(http.Header, 8)
	w.authorize(h, authorization)
	credentials := slices.Sorted(maps.Keys(h))
	h.Set("Content-Type", payloadType)
	h.Set("User-Agent", s.userAgent)
	err := sign(h, w.signingSecrets(at), d.ID.String(), at, payload)
	return h, Sent{Signature: h.Get(HeaderSignature), UserAgent: s.userAgent, Credentials: credentials}, err
}

// authorize gets the token that a webhook's attempts need, nil if they need none; and refuses an address that only shows here.
func (s *sender) authorize(ctx context.Context, a *Attempt, w *Webhook, transport http.RoundTripper) (*grant, error) {
	if s.proxied {
		if err := s.guard.checkWebhook(w); err != nil {
			return nil, err
		}
	}
	if w.OAuth2 == nil {
		return nil, nil
	}
	started := time.Now()
	g, err := s.tokens.get(ctx, w, transport)
	if g == nil || !g.cached {
		a.Phases.Token = time.Since(started)
	}
	return g, err
}

// checkWebhook refuses a webhook of which a URL has a refused address in plain sight.
func (g guard) checkWebhook(w *Webhook) *addressError {
	g = g.with(w.AllowNetworks)
	if err := g.checkEndpoint(w.URL); err != nil {
		return &addressError{"url", w.URL, err}
	}
	if w.OAuth2 != nil {
		if err := g.checkEndpoint(string(w.OAuth2.TokenURL)); err != nil {
			return &addressError{"oauth2.token_url", string(w.OAuth2.TokenURL), err}
		}
	}
	return nil
}

// addressError is the refusal of an address that a setting names in plain sight.
type addressError struct {
	field, url string
	err        error
}

// allow is the network that allow_networks would have to name.
func (e *addressError) allow() netip.Prefix {
	addr, _ := plainAddress(e.url)
	return singleAddress(addr)
}

func (e *addressError) Error() string { return e.err.Error() }
func (e *addressError) Unwrap() error { return e.err }

// keptBody reads the beginning of an answer's body. What the endpoint says has been decided with its status: a body that breaks or
// never ends changes nothing. At least one byte more than is kept is read, for a body that ends by then leaves a connection that can
// be used again; and as much more as it takes to find a secret that stands across the end.
func keptBody(body io.Reader, secrets []string) []byte {
	more := 1
	if len(secrets) > 0 {
		more = max(more, len(secrets[0])) // the longest comes first
	}
	read, _ := io.ReadAll(io.LimitReader(body, int64(maxResponseBytes+more)))
	kept := redact(read, secrets)
	return kept[:min(len(kept), maxResponseBytes)]
}

// keptHeader returns what is kept of an answer's header. What does not fit is left out.
func keptHeader(h http.Header, secrets []string) []HeaderField {
	var kept []HeaderField
	room := maxResponseHeaderKept
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			f := HeaderField{name, value}
			if len(secrets) > 0 {
				f = HeaderField{redactName(name, secrets), string(redact([]byte(value), secrets))}
			}
			if len(f.Name)+len(f.Value) > room {
				continue
			}
			room -= len(f.Name) + len(f.Value)
			kept = append(kept, f)
		}
	}
	return kept
}

// classify turns the error of a request into a class and a line for people. The line must not hold the URL: its query may be a
// credential.
func classify(err error, timeout time.Duration) (ErrorClass, string) {
	detail := err.Error()
	if errors.Is(err, errNotMade) {
		return ErrorInternal, detail
	}
	if errors.Is(err, errAddressRefused) {
		return ErrorAddressRefused, detail
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsTimeout {
			return ErrorTimeout, "the look-up of the host's name timed out"
		}
		return ErrorDNS, detail
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return ErrorTimeout, fmt.Sprintf("no complete answer within %s", Duration(timeout))
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return ErrorTLS, detail
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return ErrorTLS, detail
	}
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	_, isAlert := errors.AsType[tls.AlertError](err)
	switch {
	case isRecord || isAlert || strings.HasPrefix(detail, "tls: ") || strings.HasPrefix(detail, "remote error: tls:"):
		return ErrorTLS, detail
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrorRefused, detail
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		detail == "http: server closed idle connection": // net/http does not export it
		return ErrorReset, detail
	// net/http exports none of these, nor those of its HTTP/2.
	case strings.HasPrefix(detail, "stream error:") && strings.HasSuffix(detail, "received from peer"), strings.HasPrefix(detail, "http2: server sent GOAWAY"),
		strings.HasPrefix(detail, "http2: client connection lost"):
		return ErrorReset, detail
	case strings.Contains(detail, "response headers exceeded"), strings.Contains(detail, "response header list larger than"),
		strings.HasSuffix(detail, "header list too large"), strings.Contains(detail, "1xx"):
		return ErrorTooLarge, fmt.Sprintf("the answer's header, with interim answers before it, has more than %d bytes", maxResponseHeaderBytes)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return ErrorRefused, detail // no route, network unreachable: nobody was reached
	}
	// What net/http quotes is what the endpoint sent, which may be the request's own first line, as from an echo server.
	detail, _, _ = strings.Cut(detail, ` "`)
	return ErrorProtocol, strings.TrimSuffix(detail, ":")
}
