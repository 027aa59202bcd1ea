package httpapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
)

// slowStore takes ten minutes for everything that reads or changes many records.
type slowStore struct{ engine.Store }

func (slowStore) wait() { time.Sleep(10 * time.Minute) }

func (s slowStore) Erase(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error) {
	s.wait()
	return s.Store.Erase(ctx, what, place)
}

func (s slowStore) Sessions(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
	s.wait()
	return s.Store.Sessions(ctx, q)
}

func (s slowStore) Replay(ctx context.Context, r engine.Replay) (int64, error) {
	s.wait()
	return s.Store.Replay(ctx, r)
}

func (s slowStore) Deliveries(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
	s.wait()
	return s.Store.Deliveries(ctx, q)
}

func (s slowStore) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	s.wait()
	return s.Store.AppendEvents(ctx, a)
}

// slowFixture is a fixture on a slowStore, with a webhook and a session in it.
func slowFixture(t *testing.T) *fixture {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.reg = prometheus.NewRegistry()
	f.engine = engine.New(slowStore{f.store}, engine.DefaultConfig(), f.reg, log)
	f.h = observed{t: t, h: New(f.engine, Config{Backup: func(context.Context) (Snapshot, error) {
		slowStore{}.wait()
		return &snapshot{Reader: bytes.NewReader(make([]byte, 1000))}, nil
	}}, f.reg, log)}
	return f
}

// TestSlowCalls has each call that may search or copy a large database take longer than the write timeout: the response arrives all the same.
// In HTTP/2 the timeout is a timer that resets the stream, whether there is something to write or not.
func TestSlowCalls(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, c := range []struct {
			method, path, body string
			status             int
		}{
			{"GET", "/v1/backup", "", 200},
			{"DELETE", "/v1/sessions/" + sessionA, "", 200},
			{"DELETE", "/v1/visitors/7", "", 200},
			{"POST", "/v1/erase", `{"email":"jane@example.com","dry_run":true}`, 200},
			{"GET", "/v1/sessions?email=jane@example.com", "", 200},
			{"POST", "/v1/webhooks/1/replay", `{"status":"missing","dry_run":true}`, 200},
			{"POST", "/v1/events", start(sessionB), 202},
			{"GET", "/v1/deliveries", "", 200},
			{"GET", "/platform/hooks/web/1/logs?page=1&per_page=10", "", 200},
			{"POST", "/sessions/" + sessionA + "/erase", "", 303},
			{"GET", "/webhooks/1/replay?status=any", "", 200},
			{"POST", "/webhooks/1/replay", "status=any", 303},
			{"GET", "/deliveries", "", 200},
		} {
			t.Run(protocol+" "+c.method+" "+c.path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := slowFixture(t)
					client := f.client(t, protocol)
					req, err := http.NewRequest(c.method, "http://localhost"+c.path, strings.NewReader(c.body))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					began := time.Now()
					resp, err := client.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil || resp.StatusCode != c.status || resp.Proto != protocol {
						t.Errorf("%s %d: %.200s: %v; want %d", resp.Proto, resp.StatusCode, body, err, c.status)
					}
					if took := time.Since(began); took < 10*time.Minute {
						t.Errorf("it took only %s", took)
					}
				})
			})
		}
	}
}

// client makes requests to the fixture's server in fake time.
func (f *fixture) client(t *testing.T, protocol string) *http.Transport {
	dial := startServer(t, f)
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(), nil },
		Protocols:   new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}
