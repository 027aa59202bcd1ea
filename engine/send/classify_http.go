package send

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// streamError has the fields of the error of net/http's HTTP/2 for one request. That error fills any struct with its fields, which
// golang.org/x/net/http2.StreamError is meant for.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("stream error %d", e.Code) }

// fromPeer reports whether the peer has reset the stream; otherwise hookbolt has, because of what the peer sent.
func (e streamError) fromPeer() bool {
	return e.Cause != nil && e.Cause.Error() == "received from peer"
}

// http2Codes are the error codes of RFC 9113, section 7.
var http2Codes = []string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", http11Required}

const http11Required = "HTTP_1_1_REQUIRED"

func http2Code(code uint64) string {
	if code < uint64(len(http2Codes)) {
		return http2Codes[code]
	}
	return fmt.Sprintf("code %d", code)
}

// goAway returns the code with which the peer has ended an HTTP/2 connection. net/http exports neither of its two errors for that: one is
// a struct with the fields of golang.org/x/net/http2.GoAwayError, the other a text.
func goAway(err error) (code string, ok bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		if v := reflect.ValueOf(err); v.Kind() == reflect.Struct && v.NumField() == 3 {
			if field := v.FieldByName("ErrCode"); field.IsValid() && field.CanUint() {
				return http2Code(field.Uint()), true
			}
		}
		if code, ok := strings.CutPrefix(err.Error(), "http2: Transport received GOAWAY from server ErrCode:"); ok {
			if slices.Contains(http2Codes, code) {
				return code, true
			}
			return "an unknown code", true
		}
	}
	return "", false
}

// requiresHTTP11 reports whether the endpoint has refused a request only because it came over HTTP/2 (RFC 9113, section 7). It has not
// processed the request.
func requiresHTTP11(err error) bool {
	if e, ok := errors.AsType[streamError](err); ok && e.fromPeer() {
		return http2Code(uint64(e.Code)) == http11Required
	}
	code, _ := goAway(err)
	return code == http11Required
}

// http2Hints are hints for what a peer says.
var http2Hints = map[string]string{
	"ENHANCE_YOUR_CALM": "; it gets too much at once: set rate_limit or max_in_flight",
	"REFUSED_STREAM":    "; it did not process the request: it is overloaded, or ending",
	"INTERNAL_ERROR":    "; its log may say why",
	http11Required:      "; it wants HTTP/1.1: set http2 = false",
}

// notEstablished is net/http's text for an HTTP/2 connection that ended before its first request.
const notEstablished = "http2: client conn could not be established"

// explainHTTP2 explains errors of HTTP/2.
func explainHTTP2(err error, at situation) (ErrorClass, string) {
	if e, ok := errors.AsType[streamError](err); ok {
		code := http2Code(uint64(e.Code))
		if e.fromPeer() {
			return ErrorReset, fmt.Sprintf("the endpoint ended the request with RST_STREAM, %s%s", code, http2Hints[code])
		}
		if e.Cause != nil {
			return classify(e.Cause, at)
		}
		return ErrorProtocol, fmt.Sprintf("the answer breaks a rule of HTTP/2 (%s)", code)
	}
	if code, ok := goAway(err); ok {
		return ErrorReset, fmt.Sprintf("the endpoint ended the connection with GOAWAY, %s%s", code, http2Hints[code])
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		// The type is not exported: a number with an Error method.
		if v := reflect.ValueOf(e); v.Kind() == reflect.Uint32 && strings.HasPrefix(v.Type().PkgPath(), "net/http") {
			return ErrorProtocol, fmt.Sprintf("the answer breaks a rule of HTTP/2 (%s), or its header is far too large", http2Code(v.Uint()))
		}
	}
	switch text := err.Error(); {
	case at.wantsCertificate && text == notEstablished:
		return ErrorTLS, "the endpoint ended the connection after the TLS handshake; " + at.certificateHint()
	case strings.HasSuffix(text, "looked like an HTTP/1.1 header"), text == notEstablished: // the latter if the answer came before the request
		return ErrorProtocol, "the endpoint agreed to HTTP/2 in the TLS handshake and does not speak it; its server or proxy is misconfigured"
	case strings.HasPrefix(text, "http2: client connection lost"):
		return ErrorReset, "the connection was lost: the endpoint no longer answered on it"
	}
	return "", ""
}

// explainTooLarge matches texts of net/http, which exports no error for a header that is too large.
func explainTooLarge(err error, _ situation) (ErrorClass, string) {
	text := err.Error()
	if !strings.Contains(text, "response headers exceeded") && !strings.Contains(text, "response header list larger than") {
		return "", ""
	}
	return ErrorTooLarge, fmt.Sprintf("the response header has more than %d bytes; does the endpoint set cookies, or repeat what it was sent?", maxResponseHeaderBytes)
}

// malformed are parts of texts of net/http for answers that are not HTTP, which it exports no errors for, and what they mean.
var malformed = []struct{ text, meaning string }{
	{"malformed HTTP status code", "the status of the answer is not a number of three digits from 100"},
	{"malformed HTTP version", "the answer is in an unknown version of HTTP"},
	{"multiple Content-Length headers", "the answer has several lengths (Content-Length)"},
	{"Content-Length", "the length of the answer (Content-Length) is not a number"},
	{"transfer encoding", "the answer is in a transfer encoding other than chunked"},
	{"1xx informational response with END_STREAM", "an interim response (1xx) ends the answer"},
	{"malformed response from server", "the answer has no valid status"},
	{"invalid header field", "the answer has a malformed header line"}, // HTTP/2
	{"readLoopPeekFailLocked", "the endpoint speaks before it is sent a request; is the port right?"},
	{"malformed HTTP response", "the answer does not begin as HTTP does; is the port right?"},
}

// explainMalformed explains an answer that is not HTTP.
func explainMalformed(err error, at situation) (ErrorClass, string) {
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		const status = len("HTTP/1.1 ")
		if len(at.first) > status && at.first[status] == '1' && speaks(at.first) == "HTTP" {
			return ErrorProtocol, "an interim response (1xx) has a malformed header line"
		}
		return ErrorProtocol, "the answer has a malformed header line"
	}
	if at.phase == phaseProxy {
		return ErrorProtocol, at.proxyName() + " does not answer in HTTP; is its port right?"
	}
	text := err.Error()
	i := slices.IndexFunc(malformed, func(m struct{ text, meaning string }) bool { return strings.Contains(text, m.text) })
	if i < 0 {
		return "", ""
	}
	first := at.first
	if line, ok := firstLine(text); ok && first == nil {
		first = line
	}
	switch name := speaks(first); name {
	case "HTTP":
		return ErrorProtocol, malformed[i].meaning
	case "":
		if len(first) > 0 {
			i = len(malformed) - 1
		}
		return ErrorProtocol, malformed[i].meaning
	case "TLS":
		return ErrorProtocol, "the endpoint speaks TLS on this port: is the URL meant to be https://?"
	case "HTTP/2":
		return ErrorProtocol, "the endpoint speaks HTTP/2 without having agreed to it in a TLS handshake (ALPN); let it speak HTTP/1.1, or agree"
	default:
		return ErrorProtocol, fmt.Sprintf("the endpoint does not speak HTTP on this port, but %s; is the port right?", name)
	}
}

// firstLine returns how an answer begins that net/http has taken for no HTTP. Over TLS, nothing else tells.
func firstLine(text string) ([]byte, bool) {
	_, quoted, ok := strings.Cut(text, "malformed HTTP response ")
	line, err := strconv.Unquote(quoted)
	return []byte(line), ok && err == nil
}

// toHTTPS are parts of the answers with which servers refuse plain HTTP on a port for TLS: Go, nginx, Apache.
var toHTTPS = [][]byte{[]byte("HTTP request to an HTTPS server"), []byte("plain HTTP request was sent to HTTPS port"),
	[]byte("speaking plain HTTP to an SSL-enabled server port")}

// noCertificate and badCertificate are parts of the answers of nginx to a client without a certificate, and with one that it does not accept.
var noCertificate, badCertificate = []byte("No required SSL certificate was sent"), []byte("The SSL certificate error")

// statusHint returns what a response that is no success hints at; "" for most. body is the beginning of the response's body. Nothing of the
// response but its Location is quoted.
func statusHint(resp *http.Response, body []byte, proxy string, credentials []string) string {
	sent := resp.Request.URL
	switch resp.StatusCode {
	case http.StatusFound, http.StatusSeeOther: // the answer of a server that may have taken the delivery
		if target := redirectTarget(resp, sent, credentials); target != "" {
			return fmt.Sprintf("it refers to %s: is that the URL to send to? If it has taken the delivery, as Google Apps Script has, set success = [%d]",
				target, resp.StatusCode)
		}
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if target := redirectTarget(resp, sent, credentials); target != "" {
			return "the endpoint moved to " + target + ": is that the URL to send to?"
		}
	case http.StatusBadRequest:
		if sent.Scheme == "https" && bytes.Contains(body, noCertificate) {
			return wantedCertificate
		}
		if sent.Scheme == "https" && bytes.Contains(body, badCertificate) {
			return "it does not accept the client certificate of tls.cert"
		}
		if sent.Scheme == "http" && slices.ContainsFunc(toHTTPS, func(part []byte) bool { return bytes.Contains(body, part) }) {
			return "it expects TLS on this port: is the URL meant to be https://?"
		}
	case http.StatusProxyAuthRequired:
		if proxy != "" {
			return "the proxy " + proxy + " did: its user name and password in HTTP_PROXY are missing or wrong"
		}
	case http.StatusForbidden, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if proxy != "" && sent.Scheme == "http" {
			return "or the proxy " + proxy + " did"
		}
	case http.StatusRequestEntityTooLarge:
		return "the payload is larger than it takes"
	}
	return ""
}

// redirectTarget returns where a redirect leads, for people; "" if nowhere. It leaves out user name, password, query and fragment. Where it
// repeats the path that was sent, which may be a credential, it has "/…"; other credentials are redacted before it is cut.
func redirectTarget(resp *http.Response, sent *url.URL, credentials []string) string {
	to, err := sent.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return ""
	}
	path := to.EscapedPath()
	if own := strings.TrimRight(sent.EscapedPath(), "/"); own != "" {
		path = strings.TrimSuffix(strings.ReplaceAll(path+"/", own+"/", "/…/"), "/")
	}
	const length = 160
	return printableURL(string(redact([]byte(to.Scheme+"://"+to.Host+path), credentials)), length)
}

// printableURL is printableStart for a URL that may hold "…".
func printableURL(text string, length int) string {
	parts := strings.Split(text, "…")
	for i, part := range parts {
		parts[i] = printableStart(part, length)
	}
	return strings.Join(parts, "…")
}
