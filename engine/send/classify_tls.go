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
	if e, ok := errors.AsType[*TLSError](err); ok {
		return ErrorTLS, "no connection was made: " + e.Error()
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		if at.phase <= phaseProxy && at.proxy != "" {
			return ErrorTLS, fmt.Sprintf("of %s, %s", at.proxyName(), explainCertificate(e, at.withProxy()))
		}
		return ErrorTLS, explainCertificate(e, at)
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
				return ErrorTLS, "the endpoint speaks only a version of TLS that is too old; it needs " + at.leastVersion()
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

// wantedCertificate says that a peer wants a client certificate which it does not get.
const wantedCertificate = "it requires a client certificate: set tls.cert and tls.key"

// alertHint returns a hint for an alert of RFC 8446, section 6.2.
func alertHint(code uint8, at situation) string {
	const handshakeFailure, badCertificate, unknownCertificate, unknownCA, accessDenied, protocolVersion, unrecognizedName, certificateRequired = 40, 42, 46, 48, 49, 70, 112, 116
	refuses := code == handshakeFailure || badCertificate <= code && code <= unknownCertificate || code == unknownCA || code == accessDenied
	switch {
	case code == certificateRequired, at.wantsCertificate && refuses:
		if c := at.clientCertificate(); c != nil {
			return "; it does not accept the client certificate of tls.cert, " + describe(c)
		}
		if at.mail {
			return "; it requires a client certificate, and hookbolt has none for mail servers"
		}
		return "; " + wantedCertificate
	case code == protocolVersion:
		return "; it needs " + at.leastVersion()
	case code == unrecognizedName:
		return "; it has no certificate for this host name"
	case code == handshakeFailure:
		return "; it shares no cipher with hookbolt"
	}
	return ""
}

// leastVersion names the versions of TLS that the attempt may use.
func (at situation) leastVersion() string {
	if at.tls != nil && at.tls.minVersion == tls.VersionTLS13 {
		return "TLS 1.3, which tls.min_version asks for"
	}
	return "TLS 1.2 or later"
}

// clientCertificate returns the client certificate of the attempt, nil if there is none.
func (at situation) clientCertificate() *x509.Certificate {
	if at.tls == nil || at.tls.identity.certificate == nil {
		return nil
	}
	return at.tls.identity.certificate.Leaf
}

// withProxy is the situation of the connection to the proxy.
func (at situation) withProxy() situation { return situation{proxy: at.proxy, server: at.proxy} }

// certificateHint is a hint for a peer that asked for a client certificate and ended the connection.
func (at situation) certificateHint() string {
	if c := at.clientCertificate(); c != nil {
		return "maybe it does not accept the client certificate of tls.cert, " + describe(c)
	}
	return wantedCertificate
}

// describe says whose certificate it is, whose word that is, and until when.
func describe(c *x509.Certificate) string {
	text := fmt.Sprintf("%s by %s", subjectOf(c), named(c.Issuer.String()))
	if c.NotAfter.Before(time.Now()) {
		return text + ", which expired at " + minute(c.NotAfter)
	}
	return text + ", which ends at " + minute(c.NotAfter)
}

// explainCertificate explains a certificate that was not accepted.
func explainCertificate(err *tls.CertificateVerificationError, at situation) string {
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return explainName(e, at)
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return explainAuthority(err, e.Cert, at)
	}
	e, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case ok && e.Reason == x509.Expired && e.Cert != nil && time.Now().Before(e.Cert.NotBefore):
		return fmt.Sprintf("the certificate is not valid before %s; are the clocks right?", minute(e.Cert.NotBefore))
	case ok && e.Reason == x509.Expired && e.Cert != nil:
		return fmt.Sprintf("the certificate expired at %s; renew it", minute(e.Cert.NotAfter))
	case ok && e.Reason == x509.IncompatibleUsage:
		return "the certificate is not one for servers"
	case ok:
		return fmt.Sprintf("the certificate breaks a rule of X.509 (reason %d of Go's crypto/x509)", e.Reason)
	}
	return "the certificate cannot be verified on hookbolt's machine; does it have the public authorities (ca-certificates)?"
}

// explainName explains a certificate that is for another name.
func explainName(e x509.HostnameError, at situation) string {
	c := e.Certificate
	if len(c.DNSNames)+len(c.IPAddresses) == 0 {
		kind := "DNS"
		if net.ParseIP(strings.Trim(e.Host, "[]")) != nil {
			kind = "IP"
		}
		return fmt.Sprintf("the certificate has no name that counts (subjectAltName), whatever its common name is; reissue it, with openssl req -addext subjectAltName=%s:%s",
			kind, e.Host)
	}
	hint := "is the host name right?"
	switch {
	case at.tls != nil && at.tls.serverName != "":
		hint = "is tls.server_name right?"
	case at.mail:
	case at.proxy == "" || at.phase > phaseProxy:
		hint += " If the endpoint has no other certificate, set tls.server_name to one of its names"
	}
	return fmt.Sprintf("the certificate is not for %s, but for %s; %s", e.Host, certificateNames(c), hint)
}

// explainAuthority explains a certificate that is not trusted. c is where the chain ends; nil if that is not known.
func explainAuthority(err *tls.CertificateVerificationError, c *x509.Certificate, at situation) string {
	leaf := c
	if len(err.UnverifiedCertificates) > 0 {
		leaf = err.UnverifiedCertificates[0]
	}
	if leaf == nil {
		return "the certificate is by an authority that hookbolt's machine does not know"
	}
	show := "openssl s_client -showcerts -connect " + at.server
	if at.tls != nil && at.tls.serverName != "" {
		show += " -servername " + at.tls.serverName
	}
	setting := "tls.ca"
	if at.mail || at.proxy != "" && at.proxy == at.server { // they have no settings of their own
		setting = "delivery.ca_file"
	}
	if at.mail && at.command != "" { // TLS did not begin at once
		show += " -starttls smtp"
	}
	who := fmt.Sprintf("%s, SHA-256 %s", subjectOf(leaf), fingerprint(leaf))
	selfSigned := bytes.Equal(leaf.RawIssuer, leaf.RawSubject)
	switch {
	case at.tls != nil && at.tls.ownCA && selfSigned:
		return fmt.Sprintf("the certificate is self-signed, and not one of tls.ca (%s); was it renewed? %s shows it: if it is the endpoint's, put it into tls.ca", who, show)
	case at.tls != nil && at.tls.ownCA:
		return fmt.Sprintf("the certificate is by an authority that is not in tls.ca (%s, by %s); does the endpoint send the intermediate certificates, too? %s shows what it sends",
			who, named(leaf.Issuer.String()), show)
	case selfSigned:
		return fmt.Sprintf("the certificate is self-signed (%s); get one of a public authority, or trust this one: if %s shows the same, and it is the endpoint's, put it into %s",
			who, show, setting)
	}
	return fmt.Sprintf("the certificate is by an authority that hookbolt does not know (%s, by %s); does the endpoint send the intermediate certificates, too? "+
		"To trust the authority, put its certificate into %s: the last that %s shows, or ask whoever runs the endpoint", who, named(leaf.Issuer.String()), setting, show)
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
