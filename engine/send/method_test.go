package send

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

var methods = []string{"", "POST", "PUT", "PATCH", "GET"}

// TestMethods: each method sends the signed payload, but for GET, which sends nothing and signs that.
func TestMethods(t *testing.T) {
	for _, withHTTP2 := range []bool{false, true} {
		for _, method := range methods {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", method, withHTTP2), func(t *testing.T) {
				var got *http.Request
				var body []byte
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					got = r
					body, _ = io.ReadAll(r.Body)
				}))
				server.EnableHTTP2 = withHTTP2
				server.StartTLS()
				defer server.Close()
				s, transport := testSender(t, loopback...)
				transport.TLSClientConfig.RootCAs = trustOf(server).RootCAs
				r := requestTo(server.URL)
				r.Method = method
				want := r
				if want.Method == "" {
					want.Method = "POST"
				}
				if want.Method == "GET" {
					want.Payload, want.ContentType = nil, ""
				}
				a, err := s.Send(t.Context(), r)
				if err != nil || !a.Delivered() || (got.ProtoMajor == 2) != withHTTP2 {
					t.Fatalf("%v, %+v", err, a)
				}
				if got.Method != want.Method || string(body) != string(want.Payload) || got.Header.Get("Content-Type") != want.ContentType {
					t.Errorf("sent %s %q of the type %q", got.Method, body, got.Header.Get("Content-Type"))
				}
				if int(got.ContentLength) != len(want.Payload) || got.Header.Get("Expect") != "" || len(got.TransferEncoding) > 0 {
					t.Errorf("a length of %d, %v", got.ContentLength, got.Header)
				}
				if err := Verify(got.Header, r.Secrets[0], body, time.Now()); err != nil {
					t.Error(err)
				}
				for _, f := range a.Sent.Header(&r, a.StartedAt) {
					if sent := got.Header.Get(f.Name); sent != f.Value {
						t.Errorf("%s is kept as %q, sent was %q", f.Name, f.Value, sent)
					}
				}
				if _, hasType := got.Header["Content-Type"]; hasType == (want.Method == "GET") {
					t.Errorf("the header is %v", got.Header)
				}
			})
		}
	}
}

// TestNoMethodIsRepeatedMore: net/http takes GET for a method that may be sent again at any time. The pool repeats each method alike: once, and
// only what was sent on a connection that had been used before.
func TestNoMethodIsRepeatedMore(t *testing.T) {
	for _, method := range methods {
		inEach(t, protocols, func(t *testing.T, protocol string) {
			p, done := newPeer(protocol, nil, dropping(protocol))
			defer done()
			send := func() Outcome {
				r := requestTo(p.url)
				r.Method = method
				a, err := p.sender.Send(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			if a := send(); !a.Delivered() {
				t.Fatalf("%s: %s", a.Error, a.ErrorDetail)
			}
			synctest.Wait()
			// The next request goes into the connection, which ends, and then into a new one, which answers.
			if a := send(); !a.Delivered() || a.Repeated == "" || p.requests.Load() != 3 {
				t.Errorf("%s: %s, repeated %q, %d requests", a.Error, a.ErrorDetail, a.Repeated, p.requests.Load())
			}
			if n := p.dials(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
		t.Run(method+" on a new connection", func(t *testing.T) {
			address, accepted := serveRaw(t, func(conn *net.TCPConn) { takeRequest(bufio.NewReader(conn)) })
			s, _ := testSender(t, loopback...)
			r := requestTo("http://" + address)
			r.Method = method
			if a, err := s.Send(t.Context(), r); err != nil || a.Error != ErrorReset || a.Repeated != "" || accepted.Load() != 1 {
				t.Errorf("%v, %s: %s, repeated %q, %d connections", err, a.Error, a.ErrorDetail, a.Repeated, accepted.Load())
			}
		})
	}
}

// dropping answers the first request on each connection, and ends the connection at the second.
func dropping(protocol string) func(p *peer, conn net.Conn) {
	if protocol == "HTTP/2.0" {
		return frames(1, func(f *http2.Framer, conn net.Conn, stream uint32) {
			f.WriteGoAway(stream-2, http2.ErrCodeNo, nil)
			conn.Close()
		})
	}
	return func(p *peer, conn net.Conn) {
		r := bufio.NewReader(conn)
		for used := false; takeRequest(r) == nil; used = true {
			if p.requests.Add(1); used {
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
}

// TestSuccess: a status that is listed delivers, whatever else it means; all others fail as before.
func TestSuccess(t *testing.T) {
	for _, status := range []int{300, 302, 303, 304, 308, 401, 409, 410, 429, 500, 503, 599} {
		for _, listed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d, listed %t", status, listed), func(t *testing.T) {
				requests := 0
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requests++
					w.Header().Set("Location", "/elsewhere")
					w.Header().Set("Retry-After", "77")
					w.WriteHeader(status)
				}))
				defer server.Close()
				s, _ := testSender(t, loopback...)
				r := requestTo(server.URL)
				r.Success = []int{203, 404}
				if listed {
					r.Success = append(r.Success, status)
				}
				a, err := s.Send(t.Context(), r)
				if err != nil || a.Delivered() != listed || a.Status != status || (a.Error == ErrorStatus) == listed || (a.ErrorDetail == "") != listed {
					t.Errorf("%v, %+v", err, a)
				}
				asks := slices.Contains([]int{429, 503}, status) && !listed
				if (a.RetryAfter > 0) != asks || requests != 1 || len(a.ResponseHeader) == 0 {
					t.Errorf("a wait of %s, %d requests, %v", a.RetryAfter, requests, a.ResponseHeader)
				}
			})
		}
	}
}

// TestSuccessKeepsTheToken: a 401 that delivers says nothing of the OAuth token.
func TestSuccessKeepsTheToken(t *testing.T) {
	tokens := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/token") {
			tokens++
			io.WriteString(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	s, _ := testSender(t, loopback...)
	r := requestTo(server.URL)
	r.Success, r.Method = []int{401}, "PUT"
	r.OAuth2, r.TokenKey = &OAuth2{TokenURL: Credential(server.URL + "/token"), ClientID: "a", ClientSecret: "b"}, "1"
	for range 3 {
		r.DueAt = time.Now().Add(time.Hour)
		if a, err := s.Send(t.Context(), r); err != nil || !a.Delivered() || a.TokenRejected {
			t.Errorf("%v, %+v", err, a)
		}
	}
	if tokens != 1 {
		t.Errorf("%d requests for a token", tokens)
	}
}
