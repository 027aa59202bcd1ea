package send

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// early answers a request whose body it does not read, and resets the connection when the client must have noticed.
func early(answer string) peerOf {
	return raw("http", func(conn *net.TCPConn) {
		http.ReadRequest(bufio.NewReaderSize(conn, 16))
		io.WriteString(conn, answer)
		conn.SetLinger(0)
	})
}

var answerSituations = []atSituation{
	{"silence", raw("http", hears), ErrorTimeout, 0,
		"the timeout of 300ms ended while waiting for the answer; let the endpoint answer first and work afterwards, or raise the timeout"},
	{"end", says(""), ErrorReset, 0, "the endpoint closed the connection without an answer; its log may say why"},
	{"reset", raw("http", func(conn *net.TCPConn) { takeRequest(bufio.NewReader(conn)); conn.SetLinger(0) }), ErrorReset, 0,
		"the endpoint reset the connection without an answer; its log may say why"},
	{"large request: not read", func(t *testing.T) (*Sender, string) {
		end := make(chan struct{})
		address, _ := serveRaw(t, func(*net.TCPConn) { <-end })
		t.Cleanup(func() { close(end) })
		s, _ := testSender(t, loopback...)
		return s, "http://" + address
	}, ErrorTimeout, 0, "the timeout of 300ms ended while the request was sent; the endpoint does not read it"},
	{"large request: reset", early(""), ErrorReset, 0,
		"the endpoint reset the connection while the request was sent; does it limit the size of a request?"},
	{"large request: 413, then reset", early("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), ErrorStatus, 413,
		"the endpoint answered 413 Request Entity Too Large; the payload is larger than it takes"},
	{"large request: 401, then reset", early("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), ErrorStatus, 401,
		"the endpoint answered 401 Unauthorized"},
	{"slow header", banner("http", "HTTP/1.1 200 OK\r\nX:"), ErrorTimeout, 0, "the timeout of 300ms ended within the header of the answer"},
	{"half a header", says("HTTP/1.1 200 OK\r\nX: y\r\n"), ErrorReset, 0,
		"the endpoint closed the connection within the header of the answer; its log may say why"},
}

// greeting is a peer that speaks first, as soon as somebody connects.
func greeting(text string) peerOf {
	return raw("http", func(conn *net.TCPConn) { io.WriteString(conn, text); hears(conn) })
}

var otherProtocolSituations = []atSituation{
	{"SSH", banner("http", "SSH-2.0-OpenSSH_9.9\r\n"), ErrorProtocol, 0, "the endpoint does not speak HTTP on this port, but SSH; is the port right?"},
	{"SMTP", banner("http", "220 mail.example ESMTP\r\n"), ErrorProtocol, 0, "the endpoint does not speak HTTP on this port, but SMTP or FTP; is the port right?"},
	{"SSH that greets", greeting("SSH-2.0-OpenSSH_9.9\r\n"), ErrorProtocol, 0, "the endpoint does not speak HTTP on this port, but SSH; is the port right?"},
	{"SMTP that greets", greeting("220 mail.example ESMTP\r\n"), ErrorProtocol, 0,
		"the endpoint does not speak HTTP on this port, but SMTP or FTP; is the port right?"},
	{"echo", raw("http", func(conn *net.TCPConn) { io.Copy(conn, conn) }), ErrorProtocol, 0,
		"the endpoint does not speak HTTP on this port, but the echo protocol; is the port right?"},
	{"empty line", says("\r\n\r\n"), ErrorProtocol, 0, "the answer does not begin as HTTP does; is the port right?"},
	{"words", says("ERR unknown command\r\n"), ErrorProtocol, 0, "the answer does not begin as HTTP does; is the port right?"},
	{"TLS: alert", says("\x15\x03\x01\x00\x02\x02\x50"), ErrorProtocol, 0, "the endpoint speaks TLS on this port: is the URL meant to be https://?"},
	{"TLS: alert and a line", says("\x15\x03\x03\x00\x02\x02\x46\n"), ErrorProtocol, 0, "the endpoint speaks TLS on this port: is the URL meant to be https://?"},
	{"TLS: Go", plainTo(func(s *httptest.Server) string { return s.Listener.Addr().String() }), ErrorStatus, 400,
		"the endpoint answered 400 Bad Request; it expects TLS on this port: is the URL meant to be https://?"},
	{"TLS: nginx", says("HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>"),
		ErrorStatus, 400, "the endpoint answered 400 Bad Request; it expects TLS on this port: is the URL meant to be https://?"},
	{"TLS: Apache", says("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nReason: You're speaking plain HTTP to an SSL-enabled server port.<br />"),
		ErrorStatus, 400, "the endpoint answered 400 Bad Request; it expects TLS on this port: is the URL meant to be https://?"},
	{"HTTP/2 without TLS", banner("http", "\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d\x00\x04\x00\x01\x00\x00\n"), ErrorProtocol, 0,
		"the endpoint speaks HTTP/2 without having agreed to it in a TLS handshake (ALPN); let it speak HTTP/1.1, or agree"},
	{"HTTP/2 without ALPN", overTLS(nil, func(conn *tls.Conn) {
		conn.Read(make([]byte, 1<<16))
		http2.NewFramer(conn, conn).WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10})
	}), ErrorProtocol, 0, "the endpoint speaks HTTP/2 without having agreed to it in a TLS handshake (ALPN); let it speak HTTP/1.1, or agree"},
	{"SMTP in TLS", overTLS(nil, func(conn *tls.Conn) {
		conn.Read(make([]byte, 1<<16))
		io.WriteString(conn, "220 mail.example ESMTP\r\n")
		io.Copy(io.Discard, conn)
	}), ErrorProtocol, 0,
		"the status of the answer is not a number of three digits from 100"},
	{"words in TLS", overTLS(nil, func(conn *tls.Conn) { conn.Read(make([]byte, 1<<16)); io.WriteString(conn, "sekret\r\n") }), ErrorProtocol, 0,
		"the answer does not begin as HTTP does; is the port right?"},
}

// plainTo is net/http's server with TLS, reached without.
func plainTo(address func(*httptest.Server) string) peerOf {
	return func(t *testing.T) (*Sender, string) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		s, _ := testSender(t, loopback...)
		return s, "http://" + address(server)
	}
}

var headerSituations = []atSituation{
	{"too large", says("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 33<<10) + "\r\n\r\n"), ErrorTooLarge, 0,
		"the response header has more than 32768 bytes; does the endpoint set cookies, or repeat what it was sent?"},
	{"too many lines", says("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 6000) + "\r\n"), ErrorTooLarge, 0,
		"the response header has more than 32768 bytes; does the endpoint set cookies, or repeat what it was sent?"},
	{"too many interim responses", raw("http", func(conn *net.TCPConn) {
		if takeRequest(bufio.NewReader(conn)) == nil {
			flood(conn, []byte(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100)), 1<<30)
		}
	}), ErrorTooLarge, 0, "the interim responses (1xx), which have no end, have more than 32768 bytes"},
	{"malformed interim response", says("HTTP/1.1 103 Early Hints\r\nno colon\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), ErrorProtocol, 0,
		"an interim response (1xx) has a malformed header line"},
	{"malformed line", says("HTTP/1.1 200 OK\r\nStrict\xe2\x80\x90Transport: x\r\n\r\n"), ErrorProtocol, 0, "the answer has a malformed header line"},
	{"no colon", says("HTTP/1.1 200 OK\r\nsekret\r\n\r\n"), ErrorProtocol, 0, "the answer has a malformed header line"},
	{"status in words", says("HTTP/1.1 OK sekret\r\n\r\n"), ErrorProtocol, 0, "the status of the answer is not a number of three digits from 100"},
	{"status of four digits", says("HTTP/1.1 2000 OK\r\n\r\n"), ErrorProtocol, 0, "the status of the answer is not a number of three digits from 100"},
	{"status 000", says("HTTP/1.1 000 OK\r\n\r\n"), ErrorProtocol, 0, "the status of the answer is not a number of three digits from 100"},
	{"unknown version", says("HTTP/x.y 200 OK\r\n\r\n"), ErrorProtocol, 0, "the answer is in an unknown version of HTTP"},
	{"length in words", says("HTTP/1.1 200 OK\r\nContent-Length: sekret\r\n\r\n"), ErrorProtocol, 0, "the length of the answer (Content-Length) is not a number"},
	{"length below zero", says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), ErrorProtocol, 0, "the length of the answer (Content-Length) is not a number"},
	{"no length", says("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"), ErrorProtocol, 0, "the length of the answer (Content-Length) is not a number"},
	{"two lengths", says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ErrorProtocol, 0, "the answer has several lengths (Content-Length)"},
	{"unknown encoding", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: sekret\r\n\r\n"), ErrorProtocol, 0, "the answer is in a transfer encoding other than chunked"},
}

var statusSituations = []atSituation{
	{"503", says("HTTP/1.1 503 sekret\r\nContent-Length: 0\r\n\r\n"), ErrorStatus, 503, "the endpoint answered 503 Service Unavailable"},
	{"unknown", says("HTTP/1.1 799 sekret\r\nContent-Length: 0\r\n\r\n"), ErrorStatus, 799, "the endpoint answered 799"},
	{"400 of an endpoint", says("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"), ErrorStatus, 400, "the endpoint answered 400 Bad Request"},
}

// movedTo answers with a redirect.
func movedTo(status, location string) peerOf {
	return says("HTTP/1.1 " + status + " Moved\r\nLocation: " + location + "\r\nContent-Length: 0\r\n\r\n")
}

var redirectSituations = []atSituation{
	{"301 to another path", movedTo("301", "https://www.example.com/new?token=sekret#x"), ErrorStatus, 301,
		"the endpoint answered 301 Moved Permanently; the endpoint moved to https://www.example.com/new: is that the URL to send to?"},
	{"302 to a password", movedTo("302", "https://sekret:sekret@www.example.com/"), ErrorStatus, 302,
		"the endpoint answered 302 Found; it refers to https://www.example.com/: is that the URL to send to? If it has taken the delivery, " +
			"as Google Apps Script has, set success = [302]"},
	{"307 to another host", movedTo("307", "https://www.example.com/hidden?token=sekret"), ErrorStatus, 307,
		"the endpoint answered 307 Temporary Redirect; the endpoint moved to https://www.example.com/…: is that the URL to send to?"},
	{"308 to a slash", movedTo("308", "/hidden/"), ErrorStatus, 308,
		"the endpoint answered 308 Permanent Redirect; the endpoint moved to http://ADDR/…/: is that the URL to send to?"},
	{"301 to nowhere", movedTo("301", ""), ErrorStatus, 301, "the endpoint answered 301 Moved Permanently"},
	{"301 to no web page", movedTo("301", "javascript:alert(1)"), ErrorStatus, 301, "the endpoint answered 301 Moved Permanently"},
	{"301 to no URL", movedTo("301", "http://[::1"), ErrorStatus, 301, "the endpoint answered 301 Moved Permanently"},
	{"301 to odd letters", movedTo("301", "http://ex\xc3\xa4mple.com/<\xff>"), ErrorStatus, 301,
		"the endpoint answered 301 Moved Permanently; the endpoint moved to http://ex?mple.com/%3C%FF%3E: is that the URL to send to?"},
	{"301 to a long path", movedTo("301", "http://example.com/"+strings.Repeat("x", 1000)), ErrorStatus, 301,
		"the endpoint answered 301 Moved Permanently; the endpoint moved to http://example.com/" + strings.Repeat("x", 141) + "…: is that the URL to send to?"},
	{"303", movedTo("303", "/other"), ErrorStatus, 303,
		"the endpoint answered 303 See Other; it refers to http://ADDR/other: is that the URL to send to? If it has taken the delivery, " +
			"as Google Apps Script has, set success = [303]"},
	{"303 to nowhere", movedTo("303", ""), ErrorStatus, 303, "the endpoint answered 303 See Other"},
	{"304", movedTo("304", "/other"), ErrorStatus, 304, "the endpoint answered 304 Not Modified"},
}

// over2 is an endpoint that speaks HTTP/2: for each connection, serve gets a framer once the request has come, on stream 1. If the client
// comes with HTTP/1.1, http1 serves it.
func over2(serve func(*http2.Framer), http1 func(net.Conn)) peerOf {
	return overTLS([]string{"h2", "http/1.1"}, func(conn *tls.Conn) {
		if conn.ConnectionState().NegotiatedProtocol != "h2" {
			http1(conn)
			return
		}
		if framer := http2.NewFramer(conn, conn); takeRequest2(conn, framer) {
			serve(framer)
			conn.CloseWrite()
			io.Copy(io.Discard, conn)
		}
	})
}

// overTLS is an endpoint that hands each connection to serve when the handshake is done.
func overTLS(protocols []string, serve func(*tls.Conn)) peerOf {
	return func(t *testing.T) (*Sender, string) {
		ca := newAuthority(t)
		config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, NextProtos: protocols}
		address, _ := serveRaw(t, func(conn *net.TCPConn) {
			if secure := tls.Server(conn, config); secure.Handshake() == nil {
				serve(secure)
			}
		})
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig.RootCAs = trusting(ca)
		return s, "https://" + address
	}
}

// takeRequest2 reads one request over HTTP/2.
func takeRequest2(conn net.Conn, framer *http2.Framer) bool {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return false
	}
	framer.WriteSettings()
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return false
		}
		if data, ok := f.(*http2.DataFrame); ok && data.StreamEnded() {
			return true
		}
	}
}

// headers writes a header frame on stream 1.
func headers(f *http2.Framer, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	block := b.Bytes()
	const size = 16 << 10
	first := block[:min(size, len(block))]
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: len(first) == len(block), EndStream: end})
	for block = block[len(first):]; len(block) > 0; block = block[min(size, len(block)):] {
		f.WriteContinuation(1, len(block) <= size, block[:min(size, len(block))])
	}
}

func resetWith(code http2.ErrCode) peerOf {
	return over2(func(f *http2.Framer) { f.WriteRSTStream(1, code) }, func(net.Conn) {})
}

func goAwayWith(last uint32, code http2.ErrCode) peerOf {
	return over2(func(f *http2.Framer) { f.WriteGoAway(last, code, []byte("sekret")) }, func(net.Conn) {})
}

func ok1(conn net.Conn) {
	if takeRequest(bufio.NewReader(conn)) == nil {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

var http2Situations = []atSituation{
	{"RST_STREAM", resetWith(http2.ErrCodeInternal), ErrorReset, 0, "the endpoint ended the request with RST_STREAM, INTERNAL_ERROR; its log may say why"},
	{"RST_STREAM of an unknown code", resetWith(99), ErrorReset, 0, "the endpoint ended the request with RST_STREAM, code 99"},
	{"RST_STREAM for calm", resetWith(http2.ErrCodeEnhanceYourCalm), ErrorReset, 0,
		"the endpoint ended the request with RST_STREAM, ENHANCE_YOUR_CALM; it gets too much at once: set rate_limit or max_in_flight"},
	{"GOAWAY for calm", goAwayWith(1, http2.ErrCodeEnhanceYourCalm), ErrorReset, 0,
		"the endpoint ended the connection with GOAWAY, ENHANCE_YOUR_CALM; it gets too much at once: set rate_limit or max_in_flight"},
	{"GOAWAY without the request", goAwayWith(0, http2.ErrCodeInternal), ErrorReset, 0,
		"the endpoint ended the connection with GOAWAY, INTERNAL_ERROR; its log may say why"},
	{"GOAWAY of an unknown code", goAwayWith(0, 99), ErrorReset, 0, "the endpoint ended the connection with GOAWAY, an unknown code"},
	{"HTTP/1.1 required", over2(func(f *http2.Framer) { f.WriteRSTStream(1, http2.ErrCodeHTTP11Required) }, ok1), "", 200, ""},
	{"HTTP/1.1 required by GOAWAY", over2(func(f *http2.Framer) { f.WriteGoAway(0, http2.ErrCodeHTTP11Required, nil) }, ok1), "", 200, ""},
	{"HTTP/1.1 required by GOAWAY, later", over2(func(f *http2.Framer) { f.WriteGoAway(1, http2.ErrCodeHTTP11Required, nil) }, ok1), "", 200, ""},
	{"HTTP/1.1 required and refused", over2(func(f *http2.Framer) { f.WriteRSTStream(1, http2.ErrCodeHTTP11Required) }, func(conn net.Conn) {
		takeRequest(bufio.NewReader(conn))
	}), ErrorReset, 0,
		"the endpoint closed the connection without an answer; its log may say why"},
	{"HTTP/1.1 in spite of HTTP/2", overTLS([]string{"h2"}, func(conn *tls.Conn) {
		conn.Read(make([]byte, 1<<16))
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, conn)
	}), ErrorProtocol, 0, "the endpoint agreed to HTTP/2 in the TLS handshake and does not speak it; its server or proxy is misconfigured"},
	{"end", over2(func(*http2.Framer) {}, nil), ErrorReset, 0, "the endpoint closed the connection without an answer; its log may say why"},
	{"header too large", over2(func(f *http2.Framer) {
		fields := []string{":status", "200"}
		for range 40 {
			fields = append(fields, "x", strings.Repeat("x", 1000))
		}
		headers(f, true, fields...)
	}, nil), ErrorTooLarge, 0,
		"the response header has more than 32768 bytes; does the endpoint set cookies, or repeat what it was sent?"},
	{"header line too large", over2(func(f *http2.Framer) { headers(f, true, ":status", "200", "x", strings.Repeat("x", 33<<10)) }, nil), ErrorProtocol, 0,
		"the answer breaks a rule of HTTP/2 (COMPRESSION_ERROR), or its header is far too large"},
	{"interim responses without end", over2(func(f *http2.Framer) {
		for range 2000 {
			headers(f, false, ":status", "103", "link", "</x>")
		}
	}, nil), ErrorTooLarge, 0, "the interim responses (1xx), which have no end, have more than 32768 bytes"},
	{"interim response as the last", over2(func(f *http2.Framer) { headers(f, true, ":status", "103") }, nil), ErrorProtocol, 0, "an interim response (1xx) ends the answer"},
	{"no status", over2(func(f *http2.Framer) { headers(f, true, "x", "sekret") }, nil), ErrorProtocol, 0, "the answer has no valid status"},
	{"malformed name", over2(func(f *http2.Framer) { headers(f, true, ":status", "200", "sekret name", "x") }, nil), ErrorProtocol, 0,
		"the answer has a malformed header line"},
	{"malformed frame", over2(func(f *http2.Framer) { f.WriteRawFrame(http2.FrameData, 0, 0, []byte("x")) }, nil), ErrorProtocol, 0,
		"the answer breaks a rule of HTTP/2 (PROTOCOL_ERROR), or its header is far too large"},
}
