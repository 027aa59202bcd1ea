package server_test

import (
	"bytes"
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
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"hookbolt/internal/hookbolttest"
)

// abuse is an attack on a server with the default settings. To add one, add a row to TestAbuse, and to the table in docs/security.md.
type abuse struct {
	// name is what is sent; it stands in docs/security.md.
	name string
	// tls is true for a server with HTTPS, which speaks HTTP/2.
	tls bool
	// descriptors is how many the server may have; 0 for as many as the test may have.
	descriptors int
	// addresses is how many addresses it comes from; 0 for one.
	addresses int
	// attack sends it. It returns when the worst is over, and may leave connections open.
	attack func(*testing.T, *victim)
}

const (
	// maxAbuseMiB is what the server may use at its defaults, whatever is sent.
	maxAbuseMiB = 256
	// maxAbuseWait is how long a small request of another address may take meanwhile, on a machine that runs other tests as well.
	maxAbuseWait = 10 * time.Second

	// ownDescriptors are kept for what the test itself does meanwhile: the endpoint, the bystander, and bodies that are sent at once.
	ownDescriptors = 600

	abuseAdmin, abuseIngest = "admin-token-0123456789", "ingest-token-0123456789"
)

// TestAbuse sends to a real process what strangers and holders of an ingest token may send. Its memory stays bounded, others are served
// meanwhile from another address, and their deliveries succeed at the first try.
func TestAbuse(t *testing.T) {
	documented := hookbolttest.ReadFile(t, "docs/security.md")
	for _, a := range []abuse{
		{name: "2,000 idle connections, 256 descriptors", descriptors: 256, attack: idleConnections(2000)},
		{name: "2,000 slow headers, 256 descriptors", descriptors: 256, attack: slowHeaders(2000, 10)},
		{name: "2,500 slow headers of 15 KiB, 4 addresses", addresses: 4, attack: slowHeaders(2500, 15<<10)},
		{name: "600 TLS connections", tls: true, attack: tlsConnections(600)},
		{name: "2,500 connections that read no response, 4 addresses", addresses: 4, attack: unreadResponses(2500)},
		{name: "4,000 streams that read no response, 4 addresses", tls: true, addresses: 4, attack: streams(40, 100, "GET", "/openapi.yaml", 0)},
		{name: "4,000 streams with slow forms of 8 KiB for /sign-in, 4 addresses", tls: true, addresses: 4, attack: streams(40, 100, "POST", "/sign-in", 8<<10)},
		{name: "2,500 slow forms for /sign-in, 4 addresses", addresses: 4, attack: slowBodies(2500, "/sign-in", "", 15<<10, -1)},
		{name: "ingest token: 1,000 slow bodies of 64 KiB, 4 addresses", addresses: 4, attack: slowBodies(1000, "/v1/events", abuseIngest, 62<<10, 64<<10)},
		{name: "ingest token: 300 slow bodies of 1 MiB, 4 addresses", addresses: 4, attack: slowBodies(300, "/v1/events", abuseIngest, 900<<10, -1)},
		{name: "ingest token: 200 bodies of 1 MiB with short events", attack: manyBodies(200, "short events")},
		{name: "ingest token: 200 bodies of 1 MiB with short sessions", attack: manyBodies(200, "sessions of two events")},
		{name: "ingest token: 1,600 sessions for 100 webhooks in one request", attack: fanOut(1600, 100)},
		{name: "ingest token: all of this at once, 8 addresses", addresses: 8, attack: together(slowHeaders(1000, 15<<10), slowBodies(300, "/sign-in", "", 15<<10, -1),
			slowBodies(300, "/v1/events", abuseIngest, 62<<10, 64<<10), slowBodies(100, "/v1/events", abuseIngest, 900<<10, -1), manyBodies(100, "sessions of two events"))},
	} {
		t.Run(a.name, func(t *testing.T) {
			if !strings.Contains(documented, "| "+a.name+" |") {
				t.Error("docs/security.md does not list it")
			}
			v := newVictim(t, &a)
			b := v.watch(t)
			began := time.Now()
			a.attack(t, v)
			took := time.Since(began)
			calls, slowest := b.end(t)
			peak := v.peakMiB(t)
			t.Logf("| %s | %d MiB in %.1f s | %d calls of others, the slowest %d ms |", a.name, peak, took.Seconds(), calls, slowest.Milliseconds())
			if peak > maxAbuseMiB {
				t.Errorf("the server used %d MiB, more than %d", peak, maxAbuseMiB)
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
	callers  int            // addresses that connections are opened from
	opened   int            // connections of the attack
	pool     *x509.CertPool // nil for plain HTTP
	received atomic.Int64
}

func newVictim(t *testing.T, a *abuse) *victim {
	t.Helper()
	v := &victim{callers: max(1, a.addresses)}
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { v.received.Add(1) }))
	endpoint.Config.SetKeepAlivesEnabled(false) // each attempt needs a descriptor
	t.Cleanup(endpoint.Close)
	dir := t.TempDir()
	lines := fmt.Sprintf("admin_tokens = [%q]\ningest_tokens = [%q]\n", abuseAdmin, abuseIngest)
	if a.tls {
		certFile, keyFile, pool := hookbolttest.WriteCertificate(t, dir, 1)
		lines += fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q\n", certFile, keyFile)
		v.pool = pool
	}
	cmd, log := hookbolttest.Command(t, nil, "serve", "-config", hookbolttest.WriteConfig(t, dir, lines, `allow_networks = ["127.0.0.0/8"]`))
	cmd.Path = hookbolttest.Build(t) // a test binary may be one that finds races, which takes several times the memory
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
			client := kept
			if n%2 == 1 {
				client = fresh
			}
			call := func(token, method, path, body string) (status int, answer string) {
				began := time.Now()
				defer func() { b.slowest = max(b.slowest, time.Since(began)) }()
				return v.call(client, token, method, path, body)
			}
			session := hookbolttest.NewSession()
			if status, answer := call(abuseIngest, "POST", "/v1/events", session); status != http.StatusAccepted {
				b.failed = append(b.failed, fmt.Sprintf("events: %d %s", status, answer))
			}
			if status, answer := call("", "GET", "/readyz", ""); status != http.StatusOK || strings.Contains(answer, "troubles") {
				b.failed = append(b.failed, fmt.Sprintf("readyz: %d %s", status, answer))
			}
			b.calls++
		}
	}()
	return b
}

// end returns how many times the bystander has called, and the longest time that a call took.
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

// open opens n connections, in turn from each of the attack's addresses, which stay open until the test ends, and calls use with each. If this
// process may not have so many descriptors, it opens as many as it may: the server's limits are lower then, too.
func (v *victim) open(t *testing.T, n int, use func(net.Conn)) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = int(min(uint64(n), limit.Cur-min(limit.Cur, ownDescriptors+uint64(v.opened))))
	v.opened += n
	var work sync.WaitGroup
	turns := make(chan struct{}, 64)
	for i := range n {
		turns <- struct{}{}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%v.callers))}}
		conn, err := d.DialContext(t.Context(), "tcp", v.address)
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

// The shapes of bodies that take most memory for their size.
var bodyShapes = map[string]func(size int) string{
	"sessions of two events": func(size int) string {
		return fill(size, func(int) string {
			return hookbolttest.NewSession()
		})
	},
	"short events": func(size int) string {
		id := ""
		return fill(size, func(i int) string {
			if i%9000 == 0 {
				id = uuid.NewString()
				return strings.ReplaceAll(hookbolttest.Session, "11111111-2222-4333-8444-555555555555", id)
			}
			return `{"type":"finish","session_id":"` + id + `"}`
		})
	},
	"answers": func(size int) string {
		vote := hookbolttest.NewSession() + `{"type":"vote","session_id":"11111111-2222-4333-8444-555555555555","question_id":1,"answers":[`
		return vote + strings.TrimSuffix(fill(size-len(vote), func(int) string { return `{"answer_id":1},` }), ",") + "]}"
	},
	"malformed events": func(size int) string { return fill(size, func(int) string { return `{"":0}` }) },
}

// fill returns parts that have about that size together.
func fill(size int, part func(i int) string) string {
	var b strings.Builder
	for i := 0; ; i++ {
		p := part(i)
		if b.Len()+len(p) > size {
			return b.String()
		}
		b.WriteString(p)
	}
}

// fanOut sends sessions that each lead to a delivery for many webhooks, in a request, and stays for a while until these are made.
func fanOut(sessions, webhooks int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		client := v.client("127.0.0.1", false)
		defer client.CloseIdleConnections()
		for range webhooks - 1 { // there is one
			if status, answer := v.call(client, abuseAdmin, "POST", "/v1/webhooks", `{"url": "https://later.example/", "delay": 86400}`); status != http.StatusCreated {
				t.Fatalf("status %d: %s", status, answer)
			}
		}
		var body strings.Builder
		for range sessions {
			id := uuid.NewString()
			fmt.Fprintf(&body, `{"type":"start","session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":1}{"type":"finish","session_id":%[1]q}`, id)
		}
		if status, answer := v.call(client, abuseIngest, "POST", "/v1/events", body.String()); status != http.StatusAccepted {
			t.Fatalf("status %d: %s", status, answer)
		}
		for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
			if _, metrics := v.call(client, abuseAdmin, "GET", "/metrics", ""); strings.Contains(metrics, "hookbolt_queue_fan_out_sessions 0\n") {
				return
			}
		}
	}
}

// slowBodies sends a part of a body over each connection and stops. token "" is none. length is the Content-Length, -1 for a chunked body.
func slowBodies(n int, path, token string, arrived, length int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		head := "POST " + path + " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n"
		part := strings.Repeat(" ", arrived)
		if length >= 0 {
			head += fmt.Sprintf("Content-Length: %d\r\n\r\n", length)
		} else {
			head += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", arrived+1)
		}
		v.open(t, n, func(conn net.Conn) { io.WriteString(conn, head+part) })
		time.Sleep(300 * time.Millisecond) // it may take longer to notice the last ones than to send them
	}
}

// unreadResponses asks for a document over each connection many times, and reads nothing.
func unreadResponses(n int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		v.open(t, n, func(conn net.Conn) {
			io.WriteString(conn, strings.Repeat("GET /openapi.yaml HTTP/1.1\r\nHost: a\r\n\r\n", 50))
		})
	}
}

// manyBodies sends that many bodies of 1 MiB at once. Each is accepted or gets 503 with Retry-After.
func manyBodies(n int, shape string) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		body := bodyShapes[shape](1 << 20)
		var work sync.WaitGroup
		var accepted, busy atomic.Int64
		for range n {
			work.Go(func() {
				client := v.client("127.0.0.1", false)
				defer client.CloseIdleConnections()
				switch status, answer := v.call(client, abuseIngest, "POST", "/v1/events", body); status {
				case http.StatusAccepted, http.StatusBadRequest:
					accepted.Add(1)
				case http.StatusServiceUnavailable:
					busy.Add(1)
				case 0: // refused before the body was sent
					busy.Add(1)
				default:
					t.Errorf("status %d: %.200s", status, answer)
				}
			})
		}
		work.Wait()
		if accepted.Load() == 0 {
			t.Error("no body was accepted")
		}
		t.Logf("%d were handled, %d refused", accepted.Load(), busy.Load())
	}
}

// tlsConnections makes a handshake over each connection.
func tlsConnections(n int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		v.open(t, n, func(conn net.Conn) {
			tls.Client(conn, &tls.Config{RootCAs: v.pool, ServerName: "127.0.0.1", NextProtos: []string{"h2"}}).Handshake()
		})
	}
}

// streams opens streams of HTTP/2, as many in a connection as the server allows, and reads nothing of the responses. bodies are sent as far
// as the server reads them.
func streams(conns, each int, method, path string, body int) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		v.open(t, conns, func(conn net.Conn) {
			secure := tls.Client(conn, &tls.Config{RootCAs: v.pool, ServerName: "127.0.0.1", NextProtos: []string{"h2"}})
			if err := secure.Handshake(); err != nil {
				return // refused, which is an answer
			}
			sendStreams(secure, each, method, path, body)
			go io.Copy(io.Discard, secure) // without an update of the window
		})
		time.Sleep(300 * time.Millisecond)
	}
}

func sendStreams(conn net.Conn, n int, method, path string, body int) {
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, nil)
	framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var header bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	for i := range n {
		header.Reset()
		for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "127.0.0.1"}, {":path", path}} {
			encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		id := uint32(2*i + 1)
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: body == 0})
		for sent := 0; sent < body; sent += 8 << 10 {
			if framer.WriteData(id, false, make([]byte, 8<<10)) != nil {
				return
			}
		}
	}
}

// together sends attacks one after the other. What the former ones hold, they hold on to.
func together(attacks ...func(*testing.T, *victim)) func(*testing.T, *victim) {
	return func(t *testing.T, v *victim) {
		for _, attack := range attacks {
			attack(t, v)
		}
	}
}
