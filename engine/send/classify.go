package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// The texts for people end with what to do, after a semicolon. They are made of parts that are safe to show: they quote neither what the
// endpoint has sent, which may be what it was sent, nor the URL, whose path and query may be credentials, nor this machine's addresses.

// situation is what classify knows of a failed request beside its error.
type situation struct {
	phase phase
	// address is as in trace, proxy as in exchange.
	address, proxy string
	// first is what the peer has sent first after the request; nil over TLS.
	first            []byte
	wantsCertificate bool
	server           string        // host and port, as in the URL
	tls              *tlsClient    // nil for the defaults
	mail             bool          // the peer is a mail server
	command          string        // as in exchange
	timeout          time.Duration // the webhook's
	expired          bool          // the timeout has ended
}

// classify turns the error of an attempt into a class and a detail for people.
func classify(err error, at situation) (ErrorClass, string) {
	if refused, ok := errors.AsType[*tokenError](err); ok {
		return refused.classify(at)
	}
	switch {
	case errors.Is(err, errNoURL):
		return ErrorTransform, err.Error()
	case errors.Is(err, errNotMade):
		return ErrorInternal, err.Error()
	case errors.Is(err, errAddressRefused):
		return ErrorAddressRefused, err.Error()
	case errors.Is(err, errInterim):
		return ErrorTooLarge, fmt.Sprintf("the interim responses (1xx), which have no end, have more than %d bytes", maxResponseHeaderBytes)
	}
	for _, explain := range []func(error, situation) (ErrorClass, string){
		explainMail, explainTimeout, explainLookup, explainProxy, explainTLS, explainConnect, explainHTTP2, explainTooLarge, explainEnd, explainNetwork,
		explainMalformed,
	} {
		if class, detail := explain(err, at); class != "" {
			return class, detail
		}
	}
	// net/http quotes what the endpoint sent. That may be the request's own first line, as from an echo server.
	detail, _, _ := strings.Cut(err.Error(), ` "`)
	return ErrorProtocol, strings.TrimSuffix(detail, ":")
}

// errInterim is the error of too many interim responses.
var errInterim = errors.New("too many interim responses")

// explainTimeout explains the end of the attempt's time.
func explainTimeout(err error, at situation) (ErrorClass, string) {
	_, isErrno := connectErrno(err)
	if e, ok := errors.AsType[net.Error](err); !errors.Is(err, context.DeadlineExceeded) && (!ok || !e.Timeout() || isErrno) {
		return "", ""
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && !at.expired {
		return ErrorTimeout, fmt.Sprintf("the name servers gave no answer for %s in the time that this machine's resolver has; are they up?", e.Name)
	}
	if at.phase == phaseProxy && !at.expired {
		return ErrorTimeout, fmt.Sprintf("%s did not connect to the endpoint within net/http's limit of 1m", at.proxyName())
	}
	// time.Duration writes two minutes as 2m0s.
	limit := strings.Replace(at.timeout.String(), "m0s", "m", 1)
	return ErrorTimeout, fmt.Sprintf("the timeout of %s ended %s", limit, at.during())
}

// during tells what was under way, with a hint.
func (at situation) during() string {
	if at.command != "" {
		return at.whileMail()
	}
	switch at.phase {
	case phaseLookup:
		return "while the host name was looked up; are its name servers up?"
	case phaseConnect:
		return "while connecting to " + at.peer() + "; does a firewall drop the packets?"
	case phaseProxy:
		return "while " + at.proxyName() + " was connecting to the endpoint; can the proxy reach it?"
	case phaseTLS:
		with := at.address
		if at.proxy != "" {
			with = "the endpoint, through " + at.proxyName()
		}
		return "during the TLS handshake with " + with + "; does this port speak TLS?"
	case phaseSend:
		return "while the request was sent; the endpoint does not read it"
	case phaseWait:
		return "while waiting for the answer; let the endpoint answer first and work afterwards, or raise the timeout"
	case phaseHeader:
		return "within the header of the answer"
	}
	return "before a connection was made"
}

// peer names the other side of the connection.
func (at situation) peer() string {
	if at.proxy != "" {
		return at.proxyName()
	}
	return at.address
}

func (at situation) proxyName() string { return "the proxy " + at.proxy }

// explainLookup explains an error of name servers. The net package does not tell a name without addresses from one that does not exist.
func explainLookup(err error, _ situation) (ErrorClass, string) {
	e, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok:
		return "", ""
	case e.IsNotFound:
		return ErrorDNS, fmt.Sprintf("looking up %s: no such host, or one without an address; is the name right?", e.Name)
	case e.IsTemporary:
		return ErrorDNS, fmt.Sprintf("looking up %s: its name servers fail; ask whoever runs them", e.Name)
	}
	return ErrorDNS, fmt.Sprintf("looking up %s: %s", e.Name, e.Err)
}

// explainProxy explains a proxy's refusal to connect to the endpoint.
func explainProxy(err error, at situation) (ErrorClass, string) {
	if e, ok := errors.AsType[*proxyError](err); ok {
		hint := "ask whoever runs the proxy"
		switch e.status {
		case http.StatusProxyAuthRequired, http.StatusUnauthorized:
			hint = "its user name and password in HTTPS_PROXY are missing or wrong"
		case http.StatusForbidden, http.StatusMethodNotAllowed:
			hint = "it does not allow this host or port"
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			hint = "it cannot reach the endpoint"
		}
		return ErrorRefused, e.Error() + "; " + hint
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "socks connect" && !isEnd(err) {
		return ErrorRefused, fmt.Sprintf("%s did not connect to the endpoint: %s", at.proxyName(), strings.TrimPrefix(e.Err.Error(), "unknown error "))
	}
	return "", ""
}

// connectHints are hints for errors of connect(2).
var connectHints = map[syscall.Errno]string{
	syscall.ECONNREFUSED: "is a server listening there, and is the port right?",
	syscall.EHOSTUNREACH: "a router says that no way leads to this address; is it right, and the host up?",
	noRoute:              "this machine has no route to this address; IPv6, maybe?",
	noLocalAddress:       "this machine has no address to connect from; IPv6, maybe?",
	syscall.ETIMEDOUT:    "the limit is this machine's; does a firewall drop the packets?",
	syscall.EACCES:       "a firewall or a policy of this machine forbids it",
	syscall.EPERM:        "a firewall or a policy of this machine forbids it",
}

// connectErrno returns the error with which the system has ended a connect.
func connectErrno(err error) (errno syscall.Errno, ok bool) {
	op, ok := errors.AsType[*net.OpError](err)
	for ok && op.Op != "dial" { // it is within that of a proxy
		op, ok = errors.AsType[*net.OpError](op.Err)
	}
	if !ok {
		return 0, false
	}
	return errors.AsType[syscall.Errno](op.Err)
}

// explainConnect explains an error of connect(2). See machine for those that are this machine's trouble.
func explainConnect(err error, at situation) (ErrorClass, string) {
	errno, ok := connectErrno(err)
	if !ok {
		return "", ""
	}
	detail := fmt.Sprintf("connecting to %s: %v", at.peer(), errno)
	if hint := connectHints[errno]; hint != "" {
		detail += "; " + hint
	}
	switch errno {
	case syscall.ECONNRESET:
		return ErrorReset, detail
	case syscall.ETIMEDOUT:
		return ErrorTimeout, detail
	}
	return ErrorRefused, detail
}

// isEnd reports whether the peer has ended the connection. net/http exports no error for one that it meets between two requests.
func isEnd(err error) bool {
	for _, e := range []error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err.Error() == "http: server closed idle connection"
}

// explainEnd explains a connection that its peer has ended too early.
func explainEnd(err error, at situation) (ErrorClass, string) {
	if !isEnd(err) {
		return "", ""
	}
	who, how := "the endpoint", "closed"
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		how = "reset"
	}
	if at.phase == phaseProxy {
		who = at.proxyName()
	}
	return ErrorReset, fmt.Sprintf("%s %s the connection %s", who, how, at.endedDuring())
}

// explainNetwork explains what else the network may say. The text of a net.OpError has this machine's address.
func explainNetwork(err error, at situation) (ErrorClass, string) {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
		return "", ""
	case at.phase < phaseProxy:
		return ErrorRefused, fmt.Sprintf("connecting to %s: %v", at.peer(), op.Err)
	}
	return ErrorReset, fmt.Sprintf("the connection to %s failed: %v", at.peer(), op.Err)
}

// endedDuring tells when the connection ended, with a hint.
func (at situation) endedDuring() string {
	if at.command != "" {
		return at.whileMail()
	}
	switch at.phase {
	case phaseProxy:
		return "before it was connected to the endpoint"
	case phaseTLS:
		return "during the TLS handshake; does this port speak TLS?"
	case phaseSend:
		if at.wantsCertificate { // with TLS 1.3 it refuses one after the handshake, and a reset may overtake the alert that says so
			return "while the request was sent; " + at.certificateHint() + "; or it limits the size of a request"
		}
		return "while the request was sent; does it limit the size of a request?"
	case phaseHeader:
		return "within the header of the answer; its log may say why"
	}
	return "without an answer; its log may say why"
}

// statusText writes a status as in "503 Service Unavailable". The words are not those of the response.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}
