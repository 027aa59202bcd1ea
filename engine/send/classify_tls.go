package send

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// explainTLS explains errors of the handshake, of certificates, and alerts, which may come later as well.
func explainTLS(err error, at situation) (ErrorClass, string) {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return ErrorTLS, explainCertificate(e)
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return ErrorTLS, explainNoTLS(e.RecordHeader[:])
	}
	if errors.Is(err, http.ErrSchemeMismatch) { // http.Client has made this of a RecordHeaderError
		return ErrorTLS, explainNoTLS([]byte("HTTP/"))
	}
	if code, words, ok := alert(err); ok {
		return ErrorTLS, fmt.Sprintf("the endpoint ended TLS with alert %d (%s)%s", code, words, alertHint(code, at))
	}
	// crypto/tls exports no error for what this side has refused.
	for _, text := range chain(err) {
		if refused, ok := strings.CutPrefix(text, "tls: "); ok {
			detail, _, _ := strings.Cut(refused, ` "`)
			if strings.HasPrefix(detail, "server selected unsupported protocol version") {
				return ErrorTLS, "the endpoint speaks only a version of TLS that is too old; it needs TLS 1.2 or later"
			}
			return ErrorTLS, "the TLS handshake failed: " + strings.TrimSuffix(detail, ":")
		}
	}
	return "", ""
}

// chain returns the texts of an error and of those that it wraps one by one.
func chain(err error) []string {
	var texts []string
	for ; err != nil; err = errors.Unwrap(err) {
		texts = append(texts, err.Error())
	}
	return texts
}

// explainNoTLS explains an answer to a TLS handshake that is none.
func explainNoTLS(first []byte) string {
	switch speaks(first) {
	case "HTTP":
		return "the endpoint answers plain HTTP on this port: is the URL meant to be http://?"
	case "":
		return "the endpoint does not speak TLS on this port; is the port right?"
	}
	return fmt.Sprintf("the endpoint does not speak TLS on this port, but %s; is the port right?", speaks(first))
}

// speaks names what a peer speaks, by how it begins; "" if that is unknown.
func speaks(first []byte) string {
	for _, p := range []struct{ begin, name string }{
		{"HTTP/", "HTTP"}, {"SSH-", "SSH"}, {"220 ", "SMTP or FTP"}, {"220-", "SMTP or FTP"}, {"POST ", "the echo protocol"}, {"PUT ", "the echo protocol"}, {"PATCH ", "the echo protocol"},
		{"GET ", "the echo protocol"}, {"\x15\x03", "TLS"}, {"\x16\x03", "TLS"},
	} {
		if bytes.HasPrefix(first, []byte(p.begin)) {
			return p.name
		}
	}
	const frameType, settings = 3, 4 // a server's first frame of HTTP/2 is its settings
	if len(first) > frameType && first[0] == 0 && first[1] == 0 && first[frameType] == settings {
		return "HTTP/2"
	}
	return ""
}

// alert returns the alert with which the peer has ended TLS. Its type is not exported for TLS over TCP: it is of the kind of
// tls.AlertError.
func alert(err error) (code uint8, words string, ok bool) {
	op, ok := errors.AsType[*net.OpError](err)
	for ok && op.Op != "remote error" {
		op, ok = errors.AsType[*net.OpError](op.Err)
	}
	if !ok {
		return 0, "", false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, "", false
	}
	return uint8(v.Uint()), strings.TrimPrefix(op.Err.Error(), "tls: "), true
}

// alertHint returns a hint for an alert of RFC 8446, section 6.2.
func alertHint(code uint8, at situation) string {
	const handshakeFailure, badCertificate, unknownCertificate, protocolVersion, unrecognizedName, certificateRequired = 40, 42, 46, 70, 112, 116
	switch {
	case code == certificateRequired, at.wantsCertificate && (code == handshakeFailure || badCertificate <= code && code <= unknownCertificate):
		return "; it requires a client certificate, and hookbolt has none"
	case code == protocolVersion:
		return "; it needs TLS 1.2 or later"
	case code == unrecognizedName:
		return "; it has no certificate for this host name"
	case code == handshakeFailure:
		return "; it shares no cipher with hookbolt"
	}
	return ""
}

// explainCertificate explains a certificate that was not accepted.
func explainCertificate(err *tls.CertificateVerificationError) string {
	const day = "2006-01-02 15:04 UTC"
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the certificate is not for %s, but for %s; is the host name right?", e.Host, certificateNames(e.Certificate))
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if c := e.Cert; c != nil && bytes.Equal(c.RawIssuer, c.RawSubject) {
			return "the certificate is self-signed; get one of a public authority, or let hookbolt's machine trust it (SSL_CERT_FILE)"
		}
		return "the certificate is by an authority that hookbolt's machine does not know; does the endpoint send the intermediate certificates, too?"
	}
	e, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case ok && e.Reason == x509.Expired && e.Cert != nil && time.Now().Before(e.Cert.NotBefore):
		return fmt.Sprintf("the certificate is not valid before %s; are the clocks right?", e.Cert.NotBefore.UTC().Format(day))
	case ok && e.Reason == x509.Expired && e.Cert != nil:
		return fmt.Sprintf("the certificate expired at %s; renew it", e.Cert.NotAfter.UTC().Format(day))
	case ok && e.Reason == x509.IncompatibleUsage:
		return "the certificate is not one for servers"
	case ok:
		return fmt.Sprintf("the certificate breaks a rule of X.509 (reason %d of Go's crypto/x509)", e.Reason)
	}
	return "the certificate cannot be verified on hookbolt's machine; does it have the public authorities (ca-certificates)?"
}

// certificateNames returns the first names of a certificate.
func certificateNames(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	const shown, length = 3, 48
	var list []string
	for _, name := range names[:min(shown, len(names))] {
		list = append(list, printableStart(name, length))
	}
	switch more := len(names) - shown; {
	case len(names) == 0:
		return "no name"
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(list, ", "), more)
	}
	return strings.Join(list, ", ")
}

// printableStart returns the beginning of a text, with "?" for what is not printable ASCII.
func printableStart(text string, length int) string {
	clean := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if len(clean) > length {
		return clean[:length] + "…"
	}
	return clean
}
