package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Limits of an attempt beside its overall timeout; see durability.md, 10, for what happens without them.
const (
	connectTimeout         = 10 * time.Second
	tlsHandshakeTimeout    = 10 * time.Second
	maxResponseHeaderBytes = 32 << 10
	idleConnTimeout        = 90 * time.Second
	// idleConnsPerHost keeps a connection for each of a lane's attempts in flight, by default.
	idleConnsPerHost = 64
)

// newTransport makes the transport that attempts go through: guarded at the dial, bounded, no proxy, no compression.
func newTransport(cfg Config) *http.Transport {
	return &http.Transport{
		DialContext:            guard{cfg.AllowNetworks}.dialer(cfg.Resolver),
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
	}
}

// sender makes single attempts.
type sender struct {
	// transport is used without an http.Client, which would look at redirects: a redirect is an answer like any other, and no
	// success. Following it would turn the POST into a GET.
	transport http.RoundTripper
	userAgent string
}

func newSender(transport http.RoundTripper, version string) *sender {
	return &sender{transport: transport, userAgent: "hookbolt/" + version}
}

// send makes one attempt: one POST, one outcome. It returns an error only if the attempt was cut off because ctx ended: such an
// attempt says nothing about the endpoint and is not recorded.
func (s *sender) send(ctx context.Context, w *Webhook, d *Delivery, payload []byte, timeout time.Duration) (Attempt, error) {
	started := time.Now()
	a := Attempt{StartedAt: started.UTC().Round(0)}
	err := s.post(ctx, &a, w, d, payload, timeout)
	a.Duration = time.Since(started)
	if err == nil {
		return a, nil
	}
	if ctx.Err() != nil {
		return Attempt{}, context.Cause(ctx)
	}
	a.Error, a.ErrorDetail = classify(err, timeout)
	return a, nil
}

// errNotMade is the error of a request that could not even be made. What wraps it must not hold the URL.
var errNotMade = errors.New("make request")

// post fills in the attempt's outcome, or returns what kept the answer from coming.
func (s *sender) post(ctx context.Context, a *Attempt, w *Webhook, d *Delivery, payload []byte, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("%w: the URL cannot be read", errNotMade) // err repeats parts of the URL
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.userAgent)
	if err := sign(req.Header, w.signingSecrets(a.StartedAt), d.ID.String(), a.StartedAt, payload); err != nil {
		return fmt.Errorf("%w: %w", errNotMade, err)
	}
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a.Status = resp.StatusCode
	// What the endpoint says has been decided with its status: a body that breaks or never ends changes nothing. One byte
	// more than is kept is read, for a body that ends by then leaves a connection that can be used again.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes+1))
	a.Response = body[:min(len(body), maxResponseBytes)]
	if resp.StatusCode/100 != 2 {
		a.Error = ErrorStatus
		a.ErrorDetail = fmt.Sprintf("the endpoint answered %d", resp.StatusCode)
		if text := http.StatusText(resp.StatusCode); text != "" {
			a.ErrorDetail += " " + text
		}
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		a.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return nil
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
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return ErrorRefused, detail // no route, network unreachable: nobody was reached
	}
	// What net/http quotes is what the endpoint sent, which may be the request's own first line, as from an echo server.
	detail, _, _ = strings.Cut(detail, ` "`)
	return ErrorProtocol, strings.TrimSuffix(detail, ":")
}
