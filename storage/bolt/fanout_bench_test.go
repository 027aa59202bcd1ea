package bolt

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// fanOutBody is the smallest session: it starts and finishes.
var fanOutBody = []byte(`{"type":"start","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:26:53Z","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":88120457}
{"type":"finish","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:17Z"}
`)

// fanOutRequest is a request with so many new sessions.
func fanOutRequest(tb testing.TB, sessions int) engine.Append {
	events, err := engine.ParseEvents(fanOutEvents(sessions), now())
	if err != nil {
		tb.Fatal(err)
	}
	return engine.NewAppend(events, now())
}

// fanOutEvents are the events of so many new sessions.
func fanOutEvents(sessions int) (body []byte) {
	for range sessions {
		body = append(body, bytes.ReplaceAll(fanOutBody, []byte(benchID), []byte(uuid.NewString()))...)
	}
	return body
}

// BenchmarkFanOut stores a request with many sessions where many webhooks match each of them, and makes all deliveries. It tells what a
// delivery costs, how long the longest commit took, and how long the longest of other requests that came meanwhile.
func BenchmarkFanOut(b *testing.B) {
	for _, webhooks := range []int{1, 10, 100, 1000, 10_000} {
		for _, sessions := range []int{1, 100, 1600} {
			if webhooks*sessions > 1_000_000 {
				continue // as 10,000 x 100, only longer
			}
			b.Run(fmt.Sprintf("webhooks=%d/sessions=%d", webhooks, sessions), func(b *testing.B) { benchFanOut(b, webhooks, sessions) })
		}
	}
}

// openFanOut opens a database with so many webhooks, and runs its Watch.
func openFanOut(b *testing.B, webhooks int, o Options) *Store {
	s, err := Open(newPath(b), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	putWebhooks(b, s, webhooks)
	watchStore(b, s)
	return s
}

func benchFanOut(b *testing.B, webhooks, sessions int) {
	var longest time.Duration
	s := openFanOut(b, webhooks, Options{ObserveCommit: func(_ int, took time.Duration) { longest = max(longest, took) }})
	requests := make([]engine.Append, b.N)
	for i := range requests {
		requests[i] = fanOutRequest(b, sessions)
	}
	stop, others := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var waits []time.Duration
		defer func() { others <- waits }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			began := time.Now()
			if _, err := s.Enqueue(context.Background(), engine.Enqueue{WebhookID: 1, Kind: engine.KindTest, Payload: []byte("{}"), At: now()}); err != nil {
				b.Error(err)
			}
			waits = append(waits, time.Since(began))
		}
	}()
	longest = 0
	b.ReportAllocs()
	b.ResetTimer()
	for _, a := range requests {
		if _, err := s.AppendEvents(b.Context(), a); err != nil {
			b.Fatal(err)
		}
		for s.fanningOut.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	b.StopTimer()
	close(stop)
	waits := <-others
	slices.Sort(waits)
	deliveries := float64(b.N * webhooks * sessions)
	b.ReportMetric(float64(b.Elapsed().Microseconds())/deliveries, "µs/delivery")
	b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-commit")
	if len(waits) > 0 {
		b.ReportMetric(float64(waits[len(waits)*99/100].Milliseconds()), "ms-p99-others")
	}
}

// watchStore runs the Watch of a store until the test ends.
func watchStore(tb testing.TB, s *Store) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(engine.News) {}) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

// BenchmarkEraseFanOut erases the sessions of a visitor, with deliveries for many webhooks.
func BenchmarkEraseFanOut(b *testing.B) {
	const webhooks, sessions = 1000, 100
	s := openFanOut(b, webhooks, Options{})
	for b.Loop() {
		b.StopTimer()
		postFanOut(b, s, sessions)
		for s.fanningOut.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
		b.StartTimer()
		for place := ""; ; {
			step, err := s.Erase(b.Context(), visitor(88120457), place)
			if err != nil {
				b.Fatal(err)
			}
			if place = step.Next; place == "" {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*webhooks*sessions), "µs/delivery")
}

// putWebhooks makes so many webhooks for all contents. The callers share commits.
func putWebhooks(tb testing.TB, s *Store, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				w := engine.DefaultWebhook()
				w.URL, w.Delay = "https://hook.example.com/", 86400
				if _, err := s.PutWebhook(context.Background(), engine.WebhookChange{Webhook: w}); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	callers.Wait()
}

// BenchmarkManyWebhooks does what does not depend on one webhook, with 10,000 of them that have 20 deliveries each.
func BenchmarkManyWebhooks(b *testing.B) {
	const webhooks, sessions = 10_000, 20
	path := newPath(b)
	s, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	putWebhooks(b, s, webhooks)
	postFanOut(b, s, sessions)
	finishFanOuts(b, s)
	b.Run("stats", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Stats(b.Context(), now(), true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("webhook", func(b *testing.B) { // a change of one
		for b.Loop() {
			w := *s.Webhooks().Get(5000)
			if _, err := s.PutWebhook(b.Context(), engine.WebhookChange{Webhook: w}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, q := range map[string]engine.DeliveryQuery{"all": {}, "webhook": {WebhookID: 5000}, "scheduled": {Status: engine.StatusScheduled}, "failed": {Status: engine.StatusFailed}} {
		b.Run("list/"+name, func(b *testing.B) {
			q.Limit = 100
			for b.Loop() {
				if _, err := s.Deliveries(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(path, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}
