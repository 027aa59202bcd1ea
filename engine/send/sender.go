// Package send makes one delivery attempt: it signs a message, sends it to an endpoint, and reports what came of it.
//
// The endpoint is not trusted. Its URL may point into the local network, and it may answer slowly, endlessly, or with what it was
// sent. So every attempt is bounded in time and memory, connects only to addresses that the guard allows, and keeps no credential in
// its outcome.
//
// The parts, in the order in which an attempt goes through them:
//
//   - Request is what to send: endpoint, credentials, signing secrets, message (request.go, credentials.go).
//   - CanonicalURL and CheckAddress refuse a bad URL before anything is sent (url.go, guard.go).
//   - OAuth 2.0 access tokens are fetched and cached (oauth.go).
//   - The message is signed as Standard Webhooks 1.0 specifies (sign.go, signingkey.go), and as other endpoints want it (bodysignature.go). Or it is a mail
//     (mail.go), which goes to a mail server by SMTP (smtp.go) on a connection of its own.
//   - The pool has a connection, or makes one. The guard checks each resolved address when its socket is dialled (transport.go, pool.go,
//     proxy.go, wire.go, guard.go).
//   - The trace measures the phases, and knows which one is under way (trace.go). The connection knows what the endpoint has said (wire.go).
//   - Outcome is the result of an attempt (outcome.go): the response (response.go) without credentials (redact.go), or the class of its
//     error (classify*.go). A trouble of this machine is not the endpoint's (trouble.go).
//
// The package knows nothing of webhooks, deliveries or retries: its caller hands it all that it needs.
package send

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Options are what all attempts of a Sender have in common.
type Options struct {
	// UserAgent is the value of the header User-Agent, also for token endpoints.
	UserAgent string
	// AllowNetworks are special-purpose addresses that any attempt may connect to.
	AllowNetworks []netip.Prefix
	// ProxyFromEnvironment sends attempts through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name. The proxy resolves names
	// then, and has to guard the network behind it.
	ProxyFromEnvironment bool
	// CAFile is a file with authorities that are trusted beside the system's, as PEM; "" for none. TLSDir is the directory of the files that
	// TLS settings may name; "" means that they may name none. The files are read again as they change.
	CAFile, TLSDir string
	// Log gets what the files of TLS lead to. Nil means nowhere.
	Log *slog.Logger
	// Transport carries the attempts. Nil means a guarded transport; only tests set another one.
	Transport http.RoundTripper
	// Resolver looks names up. Nil means the system's; only tests set another one.
	Resolver *net.Resolver
}

// Sender makes attempts. It keeps connections and OAuth tokens between them. Its methods may be called at the same time.
type Sender struct {
	// transports are used without an http.Client, which would follow redirects. A redirect is not followed: that would turn a POST into a GET,
	// or send the payload to whomever the endpoint names.
	transports *transports
	tokens     *tokens
	guard      guard
	// proxied says that a proxy may resolve names: the guard can check only the URL then.
	proxied   bool
	userAgent string
	machine   *machine
	// dialMail connects to mail servers; nil means as the guard allows. Only tests set it.
	dialMail dialFunc
}

// New returns a Sender.
func New(o Options) *Sender {
	return &Sender{transports: newTransports(o), tokens: newTokens(o.UserAgent), guard: guard{o.AllowNetworks}, proxied: o.ProxyFromEnvironment,
		userAgent: o.UserAgent, machine: &machine{resolver: o.Resolver, hasRoute: hasRoute}}
}

// ErrWithdrawn is returned by Send if Request.MaySend did not let the request go out. Nothing was sent.
var ErrWithdrawn = errors.New("the attempt was withdrawn before it was sent")

// Send makes one attempt. It returns an error only if the attempt was cut off because ctx ended, or an ErrWithdrawn: such an attempt says nothing
// about the endpoint.
func (s *Sender) Send(ctx context.Context, r Request) (Outcome, error) {
	started := time.Now()
	t := &trace{started: started, maySend: r.MaySend}
	a := attempt{sender: s, request: &r, trace: t, current: t, outcome: Outcome{StartedAt: started.UTC().Round(0)}}
	run := a.run
	if r.Mail != nil {
		run = a.runMail
	}
	err := run(ctx)
	a.outcome.Duration = time.Since(started)
	a.trace.end(&a.outcome)
	if err == nil {
		return a.outcome, nil
	}
	if ctx.Err() != nil {
		return Outcome{}, context.Cause(ctx)
	}
	if errors.Is(err, ErrWithdrawn) {
		return Outcome{}, ErrWithdrawn
	}
	at := a.current.situation(r.Timeout)
	class, detail := classify(err, at)
	if a.tlsTrouble != "" {
		detail += "; " + a.tlsTrouble
	}
	if a.outcome.Trouble = s.machine.trouble(ctx, err, at.phase == phaseLookup); a.outcome.Trouble != "" {
		if ctx.Err() != nil { // it ended while the name servers were asked
			return Outcome{}, context.Cause(ctx)
		}
		reason := a.outcome.Trouble.detail()
		if class != ErrorTimeout { // the endpoint was not waited for
			reason += ": " + detail
		}
		class, detail = ErrorInternal, reason
	}
	// Errors of net/http may quote what the endpoint has sent.
	a.outcome.Error, a.outcome.ErrorDetail = class, string(redact([]byte(detail), r.credentials(a.authorization)))
	return a.outcome, nil
}

// attempt is a Send under way.
type attempt struct {
	sender  *Sender
	request *Request
	trace   *trace // on its own: goroutines of net/http that outlive the attempt keep it
	// current is the trace of the request that is under way, or was last: for the token, or to the endpoint.
	current *trace
	outcome Outcome
	// tlsTrouble says why the files of the request's TLS settings cannot be used as they are now; "" for most.
	tlsTrouble string
	// grant is the OAuth token in use, nil if there is none. authorization is its value for the header Authorization, "" without one.
	grant         *grant
	authorization string
}

// errNotMade is the error of a request that could not even be made. What wraps it must not hold the URL.
var errNotMade = errors.New("make request")

// errNoURL is the error of a request whose URL lacks a value.
var errNoURL = errors.New("the URL has names for which the delivery has no values; it was built before url_values was changed")

// run fills in the outcome, or returns the error that kept the response from coming.
func (a *attempt) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.request.Timeout)
	defer cancel()
	transport, trouble, err := a.sender.transports.of(a.request)
	if err != nil {
		return err
	}
	a.tlsTrouble = trouble
	if a.sender.proxied {
		if err := a.sender.guard.checkRequest(a.request); err != nil {
			return err
		}
	}
	if err := a.authorize(ctx); err != nil {
		return err
	}
	req, err := a.httpRequest(ctx)
	if err != nil {
		return err
	}
	resp, err := roundTrip(transport, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return a.read(ctx, resp)
}

// roundTrip makes every request of an attempt. The request's context bounds the reading of the response's body as well: after a 101
// net/http hands the connection over and lets no context end a read, so such a response gets no body.
func roundTrip(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	resp, err := transport.RoundTrip(req)
	if err == nil {
		resp.Request = req // that of a test's transport may lack it
	}
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, err
}

// authorize gets the OAuth token, if the request needs one.
func (a *attempt) authorize(ctx context.Context) error {
	if a.request.OAuth2 == nil {
		return nil
	}
	transport, _, err := a.sender.transports.with(a.request, a.request.tokenTLS())
	if err != nil {
		return &tokenError{err: err}
	}
	started := time.Now()
	a.current = &trace{started: a.trace.started}
	var g *grant
	g, err = a.sender.tokens.get(withTrace(ctx, a.current), a.request, transport)
	a.outcome.TokenRepeats = a.current.stop()
	if g == nil || !g.cached {
		a.outcome.Phases.Token = time.Since(started)
	}
	if refused, ok := errors.AsType[*tokenError](err); ok {
		a.outcome.RetryAfter = refused.retryAfter()
	}
	if err != nil {
		return err
	}
	a.grant, a.authorization, a.current = g, g.authorization(), a.trace
	return nil
}

// read fills in the outcome from the response.
func (a *attempt) read(ctx context.Context, resp *http.Response) error {
	if resp.StatusCode < 100 { // net/http accepts any three digits
		return fmt.Errorf("malformed HTTP status code %03d", resp.StatusCode)
	}
	o, credentials := &a.outcome, a.request.credentials(a.authorization)
	o.setResponse(a.request, resp, credentials)
	if o.Delivered() {
		return nil
	}
	at := a.trace.situation(a.request.Timeout)
	if hint := statusHint(resp, o.Response, at.proxy, credentials); hint != "" {
		o.ErrorDetail += "; " + hint
	}
	if a.tlsTrouble != "" {
		o.ErrorDetail += "; " + a.tlsTrouble
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		o.RetryAfter = parseRetryAfter(resp.Header, time.Now())
	case http.StatusUnauthorized:
		if a.grant != nil && a.grant.cached {
			a.grant.reject(ctx)
			// Another attempt may have fetched the token after this one was due. Only an older token may have been revoked since.
			o.TokenRejected = a.grant.token.gotAt.Before(a.request.DueAt)
		}
	}
	return nil
}

// Preview returns the header that Send would send at that time, as Sent.Header returns it for an attempt. It fetches no token. The
// error is that of a secret that cannot sign.
func (s *Sender) Preview(r Request, at time.Time) ([]HeaderField, error) {
	authorization := ""
	if r.OAuth2 != nil {
		authorization = hidden
	}
	_, sent, err := s.header(&r, at, authorization)
	if err != nil {
		return nil, err
	}
	return sent.Header(&r, at), nil
}

// ForgetToken drops the OAuth token that is cached under a Request's TokenKey.
func (s *Sender) ForgetToken(key string) { s.tokens.forget(key) }

// CloseUnused closes the connections of sets of AllowNetworks, and of TLS settings, that no endpoint has any more; inUse are those that
// endpoints have.
func (s *Sender) CloseUnused(inUse iter.Seq2[[]netip.Prefix, *TLS]) { s.transports.closeUnused(inUse) }

// RecheckTLS has the files of TLS settings read again by the next attempts.
func (s *Sender) RecheckTLS() { s.transports.tls.recheck() }

// CheckTLS returns what is wrong with TLS settings that are new, the files that they name included. The error is mostly a TLSError.
func (s *Sender) CheckTLS(t *TLS) error {
	client, trouble, err := s.transports.tls.of(*t)
	switch {
	case err != nil:
		return err
	case trouble != "":
		return errors.New(trouble)
	}
	return client.identity.checkExpiry(client.names, time.Now())
}

// ClientCertificate returns the client certificate that attempts with these TLS settings send now, nil if there is none. The error says why its
// files cannot be used.
func (s *Sender) ClientCertificate(t *TLS) (*x509.Certificate, error) {
	if t == nil {
		return nil, nil
	}
	client, trouble, err := s.transports.tls.of(*t)
	if err != nil {
		return nil, err
	}
	if trouble != "" {
		err = errors.New(trouble)
	}
	if client.identity.certificate == nil {
		return nil, err
	}
	return client.identity.certificate.Leaf, err
}

// CloseIdleConnections closes the connections that no attempt uses. Those in use are closed by the idle timeout later.
func (s *Sender) CloseIdleConnections() { s.transports.closeIdleConnections() }
