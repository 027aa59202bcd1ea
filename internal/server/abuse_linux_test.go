package server_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/internal/hookbolttest"
)

// abuse is an attack on a server with the default settings. To add one, add a row to TestAbuse.
type abuse struct {
	// name is what is sent; it stands in docs/security.md.
	name string
	// tls is true for a server with HTTPS, which speaks HTTP/2.
	tls bool
	// http are further lines of the section http.
	http string
	// descriptors is how many the server may have; 0 for as many as the test may have.
	descriptors int
	// attack sends it from 127.0.0.1. It returns when the worst is over, and may leave connections open.
	attack func(*testing.T, *victim)
	// maxMiB bounds the memory of the server, at its peak; 0 means maxAbuseMiB.
	maxMiB int
}

const (
	// maxAbuseMiB is what the server may use at its defaults, whatever is sent.
	maxAbuseMiB = 256
	// maxAbuseWait is how long a small request of another address may take meanwhile, on a slow machine.
	maxAbuseWait = 3 * time.Second

	abuseAdmin, abuseIngest = "admin-token-0123456789", "ingest-token-0123456789"
)

// TestAbuse sends to a real process what strangers and holders of an ingest token may send. Its memory stays bounded, others are served
// meanwhile from another address, and their deliveries succeed at the first try.
func TestAbuse(t *testing.T) {
	for _, a := range []abuse{
		{name: "2,000 idle connections, 256 descriptors", descriptors: 256, attack: idleConnections(2000)},
		{name: "2,000 slow headers, 256 descriptors", descriptors: 256, attack: slowHeaders(2000, 10)},
	} {
		t.Run(a.name, func(t *testing.T) {
			v := newVictim(t, &a)
			b := v.watch(t)
			began := time.Now()
			a.attack(t, v)
			took := time.Since(began)
			calls, slowest := b.end(t)
			peak := v.peakMiB(t)
			t.Logf("| %s | %d MiB in %.1f s | %d calls of others, the slowest %d ms |", a.name, peak, took.Seconds(), calls, slowest.Milliseconds())
			if most := cmp.Or(a.maxMiB, maxAbuseMiB); peak > most {
				t.Errorf("the server used %d MiB, more than %d", peak, most)
			}
			if slowest > maxAbuseWait {
				t.Errorf("a call of another address took %v", slowest)
			}
			v.wantUnharmed(t, calls)
		})
	}
}

// victim is a server in a process of its own, with a webhook.
type victim struct {
	*hookbolttest.Child
	address  string
	pool     *x509.CertPool // nil for plain HTTP
	received atomic.Int64
}

func newVictim(t *testing.T, a *abuse) *victim {
	t.Helper()
	v := &victim{}
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { v.received.Add(1) }))
	endpoint.Config.SetKeepAlivesEnabled(false) // each attempt needs a descriptor
	t.Cleanup(endpoint.Close)
	dir := t.TempDir()
	lines := fmt.Sprintf("admin_tokens = [%q]\ningest_tokens = [%q]\n", abuseAdmin, abuseIngest)
	lines += a.http + "\n"
	if a.tls {
		certFile, keyFile, pool := hookbolttest.WriteCertificate(t, dir, 1)
		lines += fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\n", certFile, keyFile)
		v.pool = pool
	}
	cmd, log := hookbolttest.Command(t, nil, "serve", "-config", hookbolttest.WriteConfig(t, dir, lines, `allow_networks = ["127.0.0.0/8"]`))
	if a.descriptors != 0 {
		cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, a.descriptors), cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
	v.Child = hookbolttest.Launch(t, cmd, log)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	v.address = regexp.MustCompile(`[\d.]+:\d+`).FindString(v.URL)
	status, answer := v.call(v.client("127.0.0.2", false), abuseAdmin, "POST", "/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	if status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, answer)
	}
	return v
}

// client returns a client whose connections come from an address of this machine.
func (v *victim) client(from string, http2 bool) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{RootCAs: v.pool}, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 1}
	return &http.Client{Transport: transport, Timeout: hookbolttest.Timeout}
}

// call makes a request. The status is 0 if there is no response; then answer is the error.
func (v *victim) call(c *http.Client, token, method, path, body string) (status int, answer string) {
	req, err := http.NewRequest(method, v.URL+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// peakMiB returns the most memory that the process has had.
func (v *victim) peakMiB(t *testing.T) int {
	t.Helper()
	kib, err := strconv.Atoi(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(hookbolttest.Read(t, fmt.Sprintf("/proc/%d/status", v.Process.Pid)))[1])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// bystander calls a server from another address until it is ended.
type bystander struct {
	stop, done chan struct{}
	calls      int
	slowest    time.Duration
	failed     []string
}

// watch starts a bystander: every few milliseconds it sends a session or asks for readiness, over a connection that it keeps or a new one.
func (v *victim) watch(t *testing.T) *bystander {
	b := &bystander{stop: make(chan struct{}), done: make(chan struct{})}
	kept, fresh := v.client("127.0.0.2", false), v.client("127.0.0.2", false)
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	go func() {
		defer close(b.done)
		defer kept.CloseIdleConnections()
		for n := 0; ; n++ {
			select {
			case <-b.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			client, began := kept, time.Now()
			if n%2 == 1 {
				client = fresh
			}
			session := strings.ReplaceAll(hookbolttest.Session, "11111111-2222-4333-8444-555555555555", uuid.NewString())
			if status, answer := v.call(client, abuseIngest, "POST", "/v1/events", session); status != http.StatusAccepted {
				b.failed = append(b.failed, fmt.Sprintf("events: %d %s", status, answer))
			}
			if status, answer := v.call(client, "", "GET", "/readyz", ""); status != http.StatusOK || strings.Contains(answer, "troubles") {
				b.failed = append(b.failed, fmt.Sprintf("readyz: %d %s", status, answer))
			}
			b.calls++
			b.slowest = max(b.slowest, time.Since(began))
		}
	}()
	return b
}

// end returns how many times the bystander has called, and the longest time that it took.
func (b *bystander) end(t *testing.T) (calls int, slowest time.Duration) {
	t.Helper()
	close(b.stop)
	<-b.done
	if len(b.failed) > 0 {
		t.Errorf("%d of %d calls of another address failed, the first with %s", len(b.failed), b.calls, b.failed[0])
	}
	if b.calls == 0 {
		t.Error("another address could not call at all")
	}
	return b.calls, b.slowest
}

// wantUnharmed checks that the sessions of the bystander were delivered at the first try.
func (v *victim) wantUnharmed(t *testing.T, sessions int) {
	t.Helper()
	deadline := time.Now().Add(hookbolttest.Timeout)
	for v.received.Load() < int64(sessions) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	client := v.client("127.0.0.2", false)
	defer client.CloseIdleConnections()
	_, answer := v.call(client, abuseAdmin, "GET", "/v1/webhooks/1", "")
	var hook struct {
		Health struct{ State string }
	}
	if err := json.Unmarshal([]byte(answer), &hook); err != nil || hook.Health.State != "ok" && hook.Health.State != "healthy" {
		t.Errorf("the webhook: %s %v", answer, err)
	}
	_, metrics := v.call(client, abuseAdmin, "GET", "/metrics", "")
	for _, m := range regexp.MustCompile(`(?m)^hookbolt_(?:attempts_total\{outcome="[^2][^"]*"\}|attempts_unmade_total\{.*\}) [^0].*$`).FindAllString(metrics, -1) {
		t.Errorf("not every attempt succeeded: %s", m)
	}
	if n := v.received.Load(); n < int64(sessions) {
		t.Errorf("%d of %d sessions were delivered", n, sessions)
	}
}

// open opens n connections from 127.0.0.1, which stay open until the test ends, and calls use with each.
func (v *victim) open(t *testing.T, n int, use func(net.Conn)) {
	t.Helper()
	var work sync.WaitGroup
	turns := make(chan struct{}, 64)
	for range n {
		turns <- struct{}{}
		conn, err := net.Dial("tcp", v.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		work.Go(func() {
			defer func() { <-turns }()
			conn.SetDeadline(time.Now().Add(hookbolttest.Timeout))
			use(conn)
		})
	}
	work.Wait()
}

// idleConnections makes one request over each connection.
func idleConnections(n int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		v.open(t, n, func(conn net.Conn) {
			io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
			conn.Read(make([]byte, 512))
		})
	}
}

// slowHeaders begins a request over each connection, with that much of a header, and does not end it.
func slowHeaders(n, size int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		v.open(t, n, func(conn net.Conn) {
			io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: "+strings.Repeat("x", size))
		})
	}
}
