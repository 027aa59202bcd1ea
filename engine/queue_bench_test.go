package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// These benchmarks measure what a person would notice, in real time and over real sockets of the loopback address. They report
// their own figures; run each once: go test -run '^$' -bench 'Queue' -benchtime 1x ./engine

// live is an engine as it runs in earnest.
type live struct {
	*engine.Engine
	b     testing.TB
	store *bolt.Store
	stop  func()
}

func newLive(b testing.TB, path string) *live {
	b.Helper()
	store, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	cfg := engine.DefaultConfig()
	cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.ShutdownTimeout = 0
	l := &live{Engine: engine.New(store, cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)), b: b, store: store}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() { l.stop() })
	return l
}

func (l *live) hook(settings string) {
	l.b.Helper()
	p, err := engine.ParseWebhookPatch([]byte(settings))
	if err == nil {
		_, err = l.CreateWebhook(context.Background(), p)
	}
	if err != nil {
		l.b.Fatal(err)
	}
}

// fill takes in n sessions of a content, of which the i-th finishes at at(i).
func (l *live) fill(n int, content string, at func(i int) time.Time) {
	l.b.Helper()
	var body strings.Builder
	for i := range n {
		id := uuid.New()
		fmt.Fprintf(&body, `{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":7}{"type":"finish","session_id":%[1]q,"time":%[3]q}`,
			id, content, at(i).UTC().Format(time.RFC3339Nano))
		if i%1000 == 999 || i == n-1 {
			if _, err := l.Ingest(context.Background(), []byte(body.String())); err != nil {
				l.b.Fatal(err)
			}
			body.Reset()
		}
	}
}

const (
	contentA = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"
	contentB = "0b7f9d0e-93f4-4a43-8a4b-6b5f4a1f2c11"
)

// endpoint is a receiver that notes when requests arrive.
func endpoint(b testing.TB) (url string, arrivals <-chan time.Time) {
	ch := make(chan time.Time, 1<<16)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ch <- time.Now() }))
	b.Cleanup(server.Close)
	return server.URL, ch
}

func report(b *testing.B, lags []time.Duration) {
	slices.Sort(lags)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(lags[len(lags)/2]), "p50-ms")
	b.ReportMetric(ms(lags[len(lags)*99/100]), "p99-ms")
	b.ReportMetric(ms(lags[len(lags)-1]), "max-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkQueueBesideDeadEndpoint reports the lag of one webhook's deliveries while 10,000 of another wait for an endpoint
// that takes connections and never answers.
func BenchmarkQueueBesideDeadEndpoint(b *testing.B) {
	for b.Loop() {
		l := newLive(b, filepath.Join(b.TempDir(), "hookbolt.db"))
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer dead.Close()
		url, arrivals := endpoint(b)
		l.hook(fmt.Sprintf(`{"url":"http://%s/","delay":0,"content_id":%q}`, dead.Addr(), contentA))
		l.hook(fmt.Sprintf(`{"url":%q,"delay":0,"content_id":%q}`, url, contentB))
		l.fill(10_000, contentA, func(int) time.Time { return time.Now() })
		var lags []time.Duration
		for range 500 {
			at := time.Now()
			l.fill(1, contentB, func(int) time.Time { return at })
			lags = append(lags, (<-arrivals).Sub(at))
		}
		report(b, lags)
		l.stop()
	}
}

// BenchmarkQueueTriggerAccuracy reports how late triggers fire while 100,000 entries wait.
func BenchmarkQueueTriggerAccuracy(b *testing.B) {
	for b.Loop() {
		l := newLive(b, filepath.Join(b.TempDir(), "hookbolt.db"))
		url, arrivals := endpoint(b)
		l.hook(fmt.Sprintf(`{"url":%q,"delay":3600,"content_id":%q}`, url, contentA))
		l.hook(fmt.Sprintf(`{"url":%q,"delay":0,"content_id":%q}`, url, contentB))
		l.fill(100_000, contentA, func(int) time.Time { return time.Now() })
		const n = 1000
		due := make([]time.Time, n)
		first := time.Now().Add(time.Second)
		for i := range due {
			due[i] = first.Add(time.Duration(i) * 3 * time.Millisecond)
		}
		l.fill(n, contentB, func(i int) time.Time { return due[i] })
		lags := make([]time.Duration, n)
		for i := range lags {
			lags[i] = (<-arrivals).Sub(due[i]) // in the order of their due times
		}
		report(b, lags)
		l.stop()
	}
}

// BenchmarkQueueMillionScheduled reports what 1,000,000 scheduled entries cost: the Go heap, and a start.
func BenchmarkQueueMillionScheduled(b *testing.B) {
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "hookbolt.db")
		l := newLive(b, path)
		for i := range 10 {
			l.hook(fmt.Sprintf(`{"url":"http://127.0.0.1:9/%d","delay":86400,"content_id":%q}`, i, uuid.NewSHA1(uuid.Nil, []byte{byte(i)})))
		}
		began := time.Now()
		for i := range 10 {
			l.fill(100_000, uuid.NewSHA1(uuid.Nil, []byte{byte(i)}).String(), func(int) time.Time { return time.Now() })
		}
		b.ReportMetric(1e6/time.Since(began).Seconds(), "sessions/s")
		heap := func() float64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc) / (1 << 20)
		}
		b.ReportMetric(heap(), "heap-MiB")
		l.stop()

		began = time.Now()
		l = newLive(b, path)
		for l.Ready(context.Background()) != nil {
			runtime.Gosched()
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "start-ms")
		b.ReportMetric(heap(), "heap-after-start-MiB")
		o, err := l.Overview(context.Background())
		if err != nil || o.Scheduled != 1_000_000 {
			b.Fatalf("%d scheduled: %v", o.Scheduled, err)
		}
		b.ReportMetric(float64(o.SizeBytes)/(1<<20), "file-MiB")
		b.ReportMetric(0, "ns/op")
		l.stop()
	}
}
