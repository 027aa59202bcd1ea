package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// classify turns the error of an attempt into a class and a detail for people. The detail must not hold the URL: its query may be a
// credential.
func classify(err error, timeout time.Duration) (ErrorClass, string) {
	if refused, ok := errors.AsType[*tokenError](err); ok {
		return refused.classify(timeout)
	}
	detail := err.Error()
	switch {
	case errors.Is(err, errNotMade):
		return ErrorInternal, detail
	case errors.Is(err, errAddressRefused):
		return ErrorAddressRefused, detail
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsTimeout {
			return ErrorTimeout, "the DNS lookup of the host name timed out"
		}
		return ErrorDNS, detail
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		// time.Duration writes two minutes as 2m0s.
		return ErrorTimeout, "no complete answer within " + strings.Replace(timeout.String(), "m0s", "m", 1)
	}
	switch {
	case isTLS(err):
		return ErrorTLS, detail
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrorRefused, detail
	case isReset(err):
		return ErrorReset, detail
	case isTooLarge(detail):
		return ErrorTooLarge, fmt.Sprintf("the response header, with interim responses before it, has more than %d bytes", maxResponseHeaderBytes)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return ErrorRefused, detail // no route to the endpoint; see machine for a network that is down
	}
	// net/http quotes what the endpoint sent. That may be the request's own first line, as from an echo server.
	detail, _, _ = strings.Cut(detail, ` "`)
	return ErrorProtocol, strings.TrimSuffix(detail, ":")
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	return strings.HasPrefix(err.Error(), "tls: ") || strings.HasPrefix(err.Error(), "remote error: tls:")
}

// isReset matches texts where net/http, and its HTTP/2, export no error.
func isReset(err error) bool {
	for _, e := range []error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	text := err.Error()
	return text == "http: server closed idle connection" ||
		strings.HasPrefix(text, "stream error:") && strings.HasSuffix(text, "received from peer") ||
		strings.HasPrefix(text, "http2: server sent GOAWAY") || strings.HasPrefix(text, "http2: client connection lost")
}

// isTooLarge matches texts of net/http, which exports no error for a header that is too large.
func isTooLarge(text string) bool {
	return strings.Contains(text, "response headers exceeded") || strings.Contains(text, "response header list larger than") ||
		strings.HasSuffix(text, "header list too large") || strings.Contains(text, "1xx")
}
