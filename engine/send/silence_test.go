package send

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// silenceTimeout is the timeout of attempts whose endpoint begins a response and says nothing more.
const silenceTimeout = time.Second

// eachStatus makes an attempt for every status from 100 to 599 and some beyond, at the same time. It fails the test if one does not end, or
// ends neither with the status nor with a timeout: a busy machine may be slow.
func eachStatus(t *testing.T, attempt func(status int) Outcome, want func(status int) int) {
	t.Helper()
	statuses := []int{600, 700, 799, 999}
	for status := 100; status <= 599; status++ {
		statuses = append(statuses, status)
	}
	var attempts sync.WaitGroup
	for _, status := range statuses {
		attempts.Go(func() {
			ended := make(chan Outcome, 1)
			go func() { ended <- attempt(status) }()
			select {
			case a := <-ended:
				if a.Status != want(status) && a.Error != ErrorTimeout {
					t.Errorf("%03d: status %d, %s: %s", status, a.Status, a.Error, a.ErrorDetail)
				}
			case <-time.After(10 * silenceTimeout):
				t.Errorf("%03d: the attempt does not end", status)
			}
		})
	}
	attempts.Wait()
}

// TestSilenceAfterEveryStatus: whatever an endpoint answers, an attempt ends in time. Its response begins and never ends.
func TestSilenceAfterEveryStatus(t *testing.T) {
	// net/http waits for the response after an interim one, unless it is a 101.
	final := func(status int) int {
		if status < 200 && status != 101 {
			return 0
		}
		return status
	}
	address, _ := serveRaw(t, func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		header := "Transfer-Encoding: chunked\r\n"
		if req.URL.RawQuery == "upgrade" {
			header = "Connection: Upgrade\r\nUpgrade: x\r\n"
		}
		fmt.Fprintf(conn, "HTTP/1.1 %s No\r\n%s\r\n", strings.TrimPrefix(req.URL.Path, "/"), header)
		io.Copy(io.Discard, conn) // until the client has had enough
	})
	for _, kind := range []string{"", "upgrade"} {
		t.Run("HTTP/1.1 "+kind, func(t *testing.T) {
			s, _ := testSender(t, loopback...)
			eachStatus(t, func(status int) Outcome {
				return try(t, s, fmt.Sprintf("http://%s/%03d?%s", address, status, kind), silenceTimeout)
			}, final)
		})
	}
	t.Run("HTTP/2.0", func(t *testing.T) {
		over := make(chan struct{})
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
			if err != nil {
				t.Error(err)
				return
			}
			w.WriteHeader(status)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-over:
			}
		}))
		server.EnableHTTP2 = true
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are raced and not used
		server.StartTLS()
		defer server.Close()
		defer close(over)
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
		transport.TLSClientConfig.NextProtos = nil
		eachStatus(t, func(status int) Outcome { return try(t, s, fmt.Sprintf("%s/%d", server.URL, status), silenceTimeout) }, func(status int) int {
			if status < 200 {
				return 200 // net/http's server makes the flush a response of its own
			}
			return status
		})
	})
	// A token endpoint is asked by the same rules.
	t.Run("token endpoint", func(t *testing.T) {
		s, _ := testSender(t, loopback...)
		eachStatus(t, func(status int) Outcome {
			r := requestTo("http://" + address + "/200")
			r.Timeout = silenceTimeout
			r.TokenKey = strconv.Itoa(status)
			r.OAuth2 = &OAuth2{TokenURL: Credential(fmt.Sprintf("http://%s/%03d?upgrade", address, status)), ClientID: "a", ClientSecret: "b"}
			a, err := s.Send(t.Context(), r)
			if err != nil || a.Error != ErrorOAuth {
				t.Errorf("%03d: %s: %s, %v", status, a.Error, a.ErrorDetail, err)
			}
			return a
		}, func(int) int { return 0 })
	})
}
