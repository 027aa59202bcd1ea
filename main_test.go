package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// TestMain lets the test binary be hookbolt itself, for tests that need a process of their own. It fails the package if its tests leave
// a goroutine behind.
func TestMain(m *testing.M) {
	if os.Getenv("HOOKBOLT_TEST_MAIN") != "" && !slices.Contains(os.Args, "-test.fuzzworker") {
		main()
	}
	os.Setenv("HOOKBOLT_TEST_MAIN", "1") // also for the process that a server inspects its database in
	goleak.VerifyTestMain(m)
}

// testPatience is how long a test waits for what should come at once, on a machine that is busy with something else.
const testPatience = 20 * time.Second

// output is what a command prints. It can be waited for.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // capacity 1
}

func newOutput() *output { return &output{more: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// find waits for the first match of a pattern and returns its last group.
func (o *output) find(t *testing.T, pattern string) string {
	t.Helper()
	re, deadline := regexp.MustCompile(pattern), time.After(testPatience)
	for {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-o.more:
		case <-deadline:
			t.Fatalf("no %s in:\n%s", pattern, o.String())
		}
	}
}

// process is hookbolt, run by a test.
type process struct {
	stdout, stderr *output
	stop           context.CancelCauseFunc
	code           chan int // receives the exit code
}

// start runs hookbolt with args until the test ends.
func start(t *testing.T, args ...string) *process {
	ctx, stop := context.WithCancelCause(context.Background())
	p := &process{stdout: newOutput(), stderr: newOutput(), stop: stop, code: make(chan int, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.code <- run(ctx, args, p.stdout, p.stderr)
	}()
	t.Cleanup(func() {
		stop(errors.New("the test has ended"))
		<-ended
		if t.Failed() {
			t.Logf("hookbolt %s said:\n%s%s", strings.Join(args, " "), p.stdout, p.stderr)
		}
	})
	return p
}

// end asks for the end and returns the exit code.
func (p *process) end(t *testing.T) int {
	t.Helper()
	p.stop(errors.New("signal: of the test"))
	return p.exit(t)
}

func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case code := <-p.code:
		return code
	case <-time.After(testPatience):
		t.Fatalf("hookbolt does not end; it said:\n%s%s", p.stdout, p.stderr)
		return 0
	}
}

// url waits until a server is ready and returns where it is.
func (p *process) url(t *testing.T) string {
	t.Helper()
	return p.stderr.find(t, `msg=ready url=(\S+)`)
}

// writeConfig writes a configuration for a free port and a database in dir, with more settings.
func writeConfig(t *testing.T, dir, http, delivery string) string {
	t.Helper()
	path := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("[http]\nlisten = \"127.0.0.1:0\"\n%s\n[storage]\npath = '%s'\n[delivery]\n%s\n", http, filepath.Join(dir, "test.db"), delivery)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// call makes a call of the API and returns its answer.
func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func wantStatus(t *testing.T, want, got int, answer string) {
	t.Helper()
	if got != want {
		t.Fatalf("answer %d, want %d: %s", got, want, answer)
	}
}

const testSession = `
	{"type": "start", "session_id": "11111111-2222-4333-8444-555555555555", "content_id": "66666666-7777-4888-8999-aaaaaaaaaaaa", "content_type": "quiz", "poltio_user_id": 1}
	{"type": "finish", "session_id": "11111111-2222-4333-8444-555555555555"}`

func TestServe(t *testing.T) {
	requests := make(chan *http.Request, 1)
	bodies := make(chan []byte, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		bodies <- body
	}))
	defer endpoint.Close()
	dir := t.TempDir()
	config := writeConfig(t, dir, "", "")

	// The second run finds what the first one has left.
	for round, id := range []string{"1", "2"} {
		p := start(t, "serve", "-config", config, "-allow", "127.0.0.0/8")
		api := p.url(t)
		session := strings.ReplaceAll(testSession, "11111111", strings.Repeat(id, 8))

		status, answer := call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
		wantStatus(t, 201, status, answer)
		var hook struct {
			ID     json.Number   `json:"id"`
			Secret engine.Secret `json:"secret"`
		}
		if err := json.Unmarshal([]byte(answer), &hook); err != nil || hook.ID.String() != id {
			t.Fatalf("webhook %s, want %s: %v", hook.ID, id, err)
		}
		if round == 1 {
			status, answer = call(t, "DELETE", api+"/v1/webhooks/1", "")
			wantStatus(t, 204, status, answer)
		}
		status, answer = call(t, "POST", api+"/v1/events", session)
		wantStatus(t, 202, status, answer)
		select {
		case r := <-requests:
			body := <-bodies
			if err := engine.Verify(r.Header, hook.Secret, body, time.Now()); err != nil {
				t.Error(err)
			}
			if !bytes.Contains(body, []byte(`"complete_session":true`)) {
				t.Errorf("got %s", body)
			}
		case <-time.After(testPatience):
			t.Fatal("no webhook")
		}
		for path, want := range map[string]string{
			"/healthz": "ok", "/readyz": "ready",
			"/metrics": `hookbolt_build_info{go_version="` + runtime.Version() + `"`,
		} {
			status, answer = call(t, "GET", api+path, "")
			wantStatus(t, 200, status, answer)
			if !strings.Contains(answer, want) {
				t.Errorf("%s lacks %s:\n%s", path, want, answer)
			}
		}
		if code := p.end(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		for _, line := range []string{"msg=stopping cause=\"signal: of the test\"", "msg=stopped"} {
			if !strings.Contains(p.stderr.String(), line) {
				t.Errorf("the log lacks %s:\n%s", line, p.stderr)
			}
		}
		if p.stdout.String() != "" {
			t.Errorf("on stdout: %s", p.stdout)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	config := writeConfig(t, t.TempDir(), "", "")
	first := start(t, "-config", config) // serve is the default
	api := first.url(t)
	second := start(t, "-config", config)
	if code := second.exit(t); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	if got := second.stderr.String(); !strings.Contains(got, "in use by another process") || strings.Count(got, "\n") != 1 {
		t.Errorf("it said %q", got)
	}
	status, answer := call(t, "GET", api+"/readyz", "")
	wantStatus(t, 200, status, answer)
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	config := writeConfig(t, dir, "", "")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("127.0.0.1:0"), []byte(taken.Addr().String()), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time to see that the database was closed
		p := start(t, "serve", "-config", config)
		if code := p.exit(t); code != exitFailure {
			t.Errorf("exit code %d", code)
		}
		got := p.stderr.String()
		if !strings.HasPrefix(got, "hookbolt: http.listen: ") || !strings.Contains(got, taken.Addr().String()) || strings.Count(got, "\n") != 1 {
			t.Errorf("it said %q", got)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.toml")
	if err := os.WriteFile(open, []byte("[http]\nlisten = \"0.0.0.0:0\""), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, "lost.toml")
	if err := os.WriteFile(lost, fmt.Appendf(nil, "[storage]\npath = '%s'", filepath.Join(dir, "none", "x.db")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"surf", 2, `unknown command "surf"; "hookbolt help" lists them`},
		{"help surf", 2, `unknown command "surf"`},
		{"-verbose", 2, `serve: flag provided but not defined: -verbose; "hookbolt help serve" lists the flags`},
		{"serve now", 2, `serve: unexpected argument "now"`},
		{"serve -allow localhost", 2, `serve: invalid value "localhost" for flag -allow: must be a network or an address`},
		{"serve -config", 2, `serve: flag needs an argument: -config`},
		{"serve -config " + filepath.Join(dir, "none.toml"), 1, `configuration: open `},
		{"serve -config " + dir, 1, `configuration: `},
		{"serve -config " + open, 1, open + `: http.listen: 0.0.0.0:0 can be reached from other machines`},
		{"serve -config " + lost, 1, `open database `},
		{"demo -fast", 2, `demo: flag provided but not defined: -fast`},
		{"listen -secret hush", 2, `listen: invalid value "hush" for flag -secret: must be whsec_`},
		{"listen -status 99", 2, `listen: -status must be 200 to 599 (got 99)`},
		{"listen -status 99999", 2, `listen: -status must be 200 to 599 (got 99999)`},
		{"listen -delay -1s", 2, `listen: -delay and -fail must not be negative`},
		{"listen -fail -1", 2, `listen: -delay and -fail must not be negative`},
		{"listen -delay soon", 2, `listen: invalid value "soon" for flag -delay`},
		{"listen -addr nowhere", 1, `listen: `},
		{"version 2", 2, `version: unexpected argument "2"`},
		{"check", 2, `check: wants FILE; usage: hookbolt check FILE`},
		{"check a b", 2, `check: unexpected argument "b"; usage: hookbolt check FILE`},
		{"check -deep a", 2, `check: flag provided but not defined: -deep`},
		{"check " + filepath.Join(dir, "none.db"), 1, `check database `},
		{"check " + open, 1, `check database ` + open + `: not a hookbolt database`},
		{"compact a", 2, `compact: wants FILE OUT; usage: hookbolt compact FILE OUT`},
		{"compact a b c", 2, `compact: unexpected argument "c"; usage: hookbolt compact FILE OUT`},
		{"compact " + filepath.Join(dir, "none.db") + " " + filepath.Join(dir, "out.db"), 1, `compact database `},
	} {
		t.Run(tc.args, func(t *testing.T) {
			p := start(t, strings.Fields(tc.args)...)
			if code := p.exit(t); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if got := p.stderr.String(); !strings.HasPrefix(got, "hookbolt: "+tc.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("it said %q, want one line beginning with %q", got, "hookbolt: "+tc.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"help", "Usage: hookbolt [command] [flags]"},
		{"-h", "Usage: hookbolt [command] [flags]"},
		{"--help", "Usage: hookbolt [command] [flags]"},
		{"help serve", "-allow NETWORK"},
		{"serve -h", "-config FILE"},
		{"demo -h", "-keep"},
		{"listen --help", "-secret SECRET"},
		{"help check", "Usage: hookbolt check FILE\n"},
		{"compact -h", "Usage: hookbolt compact FILE OUT\n"},
		{"version", "hookbolt "},
		{"-version", runtime.Version()},
	} {
		p := start(t, strings.Fields(tc.args)...)
		if code := p.exit(t); code != 0 {
			t.Errorf("%s: exit code %d", tc.args, code)
		}
		if !strings.Contains(p.stdout.String(), tc.want) || p.stderr.String() != "" {
			t.Errorf("%s: it said %q and %q, want %q", tc.args, p.stdout, p.stderr, tc.want)
		}
	}
	for name := range commands {
		if name == "inspect" || name == "bench-relay" { // not for people
			continue
		}
		if !strings.Contains(usage, "\n  "+name) {
			t.Errorf("the usage lacks %s", name)
		}
	}
}

// A stop waits for what is under way: for an attempt whose answer is awaited, and for a request that is still coming in.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	}))
	defer endpoint.Close()
	dir := t.TempDir()
	p := start(t, "serve", "-config", writeConfig(t, dir, "", `allow_networks = ["127.0.0.1"]`))
	api := p.url(t)
	status, text := call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	wantStatus(t, 201, status, text)
	status, text = call(t, "POST", api+"/v1/events", testSession)
	wantStatus(t, 202, status, text)
	<-arrived

	other := strings.ReplaceAll(testSession, "11111111", "99999999")
	late, replies := beginRequest(t, api, len(other))
	p.stop(errors.New("signal: of the test"))
	p.stderr.find(t, "msg=stopping")
	io.WriteString(late, other)
	if line, err := replies.ReadString('\n'); !strings.Contains(line, "202 Accepted") {
		t.Errorf("the request that was under way got %q, %v", line, err)
	}
	close(answer)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Both are on disk.
	store, err := bolt.Open(filepath.Join(dir, "test.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	page, err := store.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 2 || page.Items[1].Status != engine.StatusDelivered || page.Items[1].Attempts != 1 || page.Items[0].Status != engine.StatusScheduled {
		t.Errorf("there are %+v; want the second session's scheduled, the first one's delivered", page.Items)
	}
}

// beginRequest posts events up to the body, of which the server has begun to read by its return.
func beginRequest(t *testing.T, api string, length int) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testPatience))
	// The server answers "100 Continue" when the body is first read.
	fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", length)
	replies := bufio.NewReader(conn)
	if line, err := replies.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := replies.ReadString('\n'); err != nil { // the empty line
		t.Fatal(err)
	}
	return conn, replies
}

// A stop does not wait for longer than it is told to.
func TestStopIsBounded(t *testing.T) {
	arrived, quit := make(chan struct{}), make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-quit
	}))
	defer endpoint.Close()
	defer close(quit)
	dir := t.TempDir()
	p := start(t, "serve", "-config", writeConfig(t, dir, `shutdown_timeout = "50ms"`, `allow_networks = ["127.0.0.1"]`))
	api := p.url(t)
	status, text := call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	wantStatus(t, 201, status, text)
	status, text = call(t, "POST", api+"/v1/events", testSession)
	wantStatus(t, 202, status, text)
	<-arrived

	beginRequest(t, api, 1000) // and nothing more
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	store, err := bolt.Open(filepath.Join(dir, "test.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	page, err := store.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || page.Items[0].Status != engine.StatusPending || page.Items[0].Attempts != 0 {
		t.Errorf("there are %+v; want one that is pending, its attempt cut off and not counted", page.Items)
	}
}

// failingStore is a database whose disk fails when the test says so.
type failingStore struct {
	*bolt.Store
	failed chan struct{}
}

func (s failingStore) Failed() <-chan struct{} { return s.failed }
func (s failingStore) Err() error              { return errors.New("commit: the disk is gone") }

// A failed commit ends the server at once, whatever is under way.
func TestFailedCommitStopsAtOnce(t *testing.T) {
	for _, when := range []string{"while it works", "while it stops"} {
		t.Run(when, func(t *testing.T) {
			arrived, quit := make(chan struct{}), make(chan struct{})
			endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				arrived <- struct{}{}
				<-quit
			}))
			defer endpoint.Close()
			defer close(quit)
			cfg := DefaultConfig()
			cfg.HTTP.Listen = "127.0.0.1:0"
			cfg.HTTP.ShutdownTimeout = engine.Duration(time.Hour)
			cfg.Storage.Path = filepath.Join(t.TempDir(), "test.db")
			cfg.Delivery.AllowNetworks = []Network{Network(netip.MustParsePrefix("127.0.0.0/8"))}
			log := newOutput()
			logger, _ := cfg.Log.logger(log)
			a, err := newApp(cfg, logger)
			if err != nil {
				t.Fatal(err)
			}
			store := failingStore{a.store.(*bolt.Store), make(chan struct{})}
			defer store.Close()
			a.store = store
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan error, 1)
			go func() { ended <- a.run(ctx) }()
			status, text := call(t, "POST", a.url()+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
			wantStatus(t, 201, status, text)
			status, text = call(t, "POST", a.url()+"/v1/events", testSession)
			wantStatus(t, 202, status, text)
			<-arrived
			if when == "while it stops" {
				stop()
				log.find(t, "msg=stopping")
			}
			close(store.failed)
			select {
			case err := <-ended:
				if err == nil || err.Error() != "commit: the disk is gone" {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(testPatience):
				t.Fatal("it goes on")
			}
			if _, err := http.Get(a.url() + "/healthz"); err == nil {
				t.Error("it still answers")
			}
		})
	}
}

func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGTERM on Windows")
	}
	arrived, quit := make(chan struct{}), make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-quit
	}))
	defer endpoint.Close()
	defer close(quit)
	config := writeConfig(t, t.TempDir(), "", `allow_networks = ["127.0.0.1"]`)
	launch := func() (*exec.Cmd, *output) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "serve", "-config", config)
		stderr := newOutput()
		cmd.Env = append(os.Environ(), "HOOKBOLT_TEST_MAIN=1")
		cmd.Stderr = stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, stderr
	}

	cmd, stderr := launch()
	stderr.find(t, "msg=ready")
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after SIGTERM: %v\n%s", err, stderr)
	}
	if got := stderr.String(); !strings.Contains(got, `cause="signal: terminated"`) {
		t.Errorf("the log does not name the signal:\n%s", got)
	}

	// A second signal does not wait for the attempt that is under way.
	cmd, stderr = launch()
	api := stderr.find(t, `msg=ready url=(\S+)`)
	status, text := call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	wantStatus(t, 201, status, text)
	status, text = call(t, "POST", api+"/v1/events", testSession)
	wantStatus(t, 202, status, text)
	<-arrived
	cmd.Process.Signal(os.Interrupt)
	stderr.find(t, "msg=stopping")
	cmd.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailure {
		t.Errorf("after the second signal: %v, want exit code 1\n%s", err, stderr)
	}
}

// What an endpoint sends unasked may repeat what was sent to it: none of it may reach the log.
func TestEndpointCannotWriteToTheLog(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	delivered, closed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(closed)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.Copy(io.Discard, req.Body)
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		<-delivered // the connection is idle now
		io.WriteString(conn, "ada@example.com was here")
		io.Copy(io.Discard, conn) // until hookbolt has seen it and closes
	}()
	cmd, api := spawn(t, writeConfig(t, t.TempDir(), "", `allow_networks = ["127.0.0.1"]`))
	status, text := call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": "http://%s/", "delay": 0}`, listener.Addr()))
	wantStatus(t, 201, status, text)
	status, text = call(t, "POST", api+"/v1/events", testSession)
	wantStatus(t, 202, status, text)
	for deadline := time.Now().Add(testPatience); ; {
		if _, text = call(t, "GET", api+"/v1/deliveries", ""); strings.Contains(text, `"status":"delivered"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not delivered: %s", text)
		}
	}
	close(delivered)
	<-closed
	if got := cmd.Stderr.(*output).String(); strings.Contains(got, "ada@") {
		t.Errorf("the log repeats what an endpoint sent:\n%s", got)
	}
}
