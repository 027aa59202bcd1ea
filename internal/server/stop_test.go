package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/server"
	"hookbolt/internal/teststore"
	"hookbolt/storage"
)

// A stop waits for what is under way: for an attempt whose answer is awaited, and for a request that is still coming in.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	}))
	defer endpoint.Close()
	dir := t.TempDir()
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, dir, "", `allow_networks = ["127.0.0.1"]`))
	api := p.URL(t)
	status, text := hookbolttest.Call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	hookbolttest.WantStatus(t, 201, status, text)
	status, text = hookbolttest.Call(t, "POST", api+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, text)
	<-arrived

	other := strings.ReplaceAll(hookbolttest.Session, "11111111", "99999999")
	late, replies := beginRequest(t, api, len(other))
	p.Stop(errors.New("signal: of the test"))
	p.Stderr.Find(t, "msg=stopping")
	io.WriteString(late, other)
	if line, err := replies.ReadString('\n'); !strings.Contains(line, "202 Accepted") {
		t.Errorf("the request that was under way got %q, %v", line, err)
	}
	close(answer)
	if code := p.Exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Both are on disk.
	store := teststore.In(t, dir).Open(t)
	page, err := store.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 2 || page.Items[1].Status != engine.StatusDelivered || page.Items[1].Attempts != 1 || !page.Items[0].Status.Waiting() {
		t.Errorf("there are %+v; want the second session's to wait, the first one's delivered", page.Items)
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
	conn.SetDeadline(time.Now().Add(hookbolttest.Timeout))
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
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, dir, `shutdown_timeout = "50ms"`, `allow_networks = ["127.0.0.1"]`))
	api := p.URL(t)
	status, text := hookbolttest.Call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	hookbolttest.WantStatus(t, 201, status, text)
	status, text = hookbolttest.Call(t, "POST", api+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, text)
	<-arrived

	beginRequest(t, api, 1000) // and nothing more
	if code := p.End(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	store := teststore.In(t, dir).Open(t)
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
	storage.Store
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
			cfg := config.Default()
			cfg.HTTP.Listen = "127.0.0.1:0"
			cfg.HTTP.ShutdownTimeout = engine.Duration(time.Hour)
			cfg.Storage.Path = filepath.Join(t.TempDir(), "test.db")
			cfg.Delivery.AllowNetworks = []config.Network{config.Network(netip.MustParsePrefix("127.0.0.0/8"))}
			log := hookbolttest.NewOutput()
			logger, _ := server.NewLog(cfg.Log, log)
			store := failingStore{failed: make(chan struct{})}
			o := server.Options{Config: cfg, Log: logger}
			o.WrapStore(func(s storage.Store) storage.Store {
				store.Store = s
				return store
			})
			s, err := server.New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close() // a failed one is not closed by the server, which is to end at once
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			status, text := hookbolttest.Call(t, "POST", s.URL()+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
			hookbolttest.WantStatus(t, 201, status, text)
			status, text = hookbolttest.Call(t, "POST", s.URL()+"/v1/events", hookbolttest.Session)
			hookbolttest.WantStatus(t, 202, status, text)
			<-arrived
			if when == "while it stops" {
				stop()
				log.Find(t, "msg=stopping")
			}
			close(store.failed)
			select {
			case err := <-ended:
				if err == nil || err.Error() != "commit: the disk is gone" {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(hookbolttest.Timeout):
				t.Fatal("it goes on")
			}
			if _, err := http.Get(s.URL() + "/healthz"); err == nil {
				t.Error("it still answers")
			}
		})
	}
}
