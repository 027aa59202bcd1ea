package postgres

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
	"hookbolt/internal/postgrestest"
)

// These benchmarks write to a server that waits for the disk, on the machine of the benchmark. They are those of package bolt:
//
//	go test -run '^$' -bench . -count 10 ./storage/bolt ./storage/postgres

// benchBody is a session as most are, of about 1 KB; its id is that of benchID.
var (
	benchID   = "5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11"
	benchBody = []byte(`{"type":"start","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:26:53.12Z","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":88120457}
{"type":"vote","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:26:58.52Z","question_id":40101,"question":"Where do you run most?","answer_id":401011,"answer":"On roads"}
{"type":"vote","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:04.17Z","question_id":40102,"question":"How far do you go?","answer_id":401023,"answer":"10 to 21 km"}
{"type":"vote","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:12.02Z","question_id":40103,"question":"What matters most?","answer_id":401032,"answer":"Cushioning"}
{"type":"result_view","session_id":"5b0c4d8e-7d0f-4c0b-9a53-6f1f2f6f0d11","time":"2025-03-14T09:27:17.43Z","result":{"result_id":4099,"result_title":"Glider 4 Road","result_image":"content/gcp/1741944413.0412.jpg","result_desc":"A soft daily trainer."}}
`)
	benchPayload = benchBody[:900]
	benchAttempt = engine.Attempt{Outcome: engine.Outcome{Status: 200, Duration: time.Millisecond, Protocol: "HTTP/1.1", Address: "192.0.2.1:443", Reused: true,
		ResponseHeader: []engine.HeaderField{{Name: "Content-Length", Value: "0"}, {Name: "Date", Value: "Fri, 14 Mar 2025 09:27:18 GMT"}},
		Sent:           engine.Sent{Signature: "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", UserAgent: "hookbolt/v1.0.0"}}}
)

func benchNow() time.Time { return time.Now().UTC().Round(0) }

// appendNew stores a new session. Reading its events is part of it, as in earnest.
func appendNew(s *Store, ready ...engine.Webhook) (engine.Appended, error) {
	return appendBody(s, benchBody, ready...)
}

func appendBody(s *Store, body []byte, ready ...engine.Webhook) (done engine.Appended, err error) {
	events, err := engine.ParseEvents(bytes.ReplaceAll(body, []byte(benchID), []byte(uuid.NewString())), benchNow())
	if err != nil {
		return done, err
	}
	a := engine.NewAppend(events, benchNow())
	a.Open = make(map[uint32]bool)
	for _, w := range ready {
		a.Open[w.ID] = true
		a.Sessions[0].Payloads = append(a.Sessions[0].Payloads, engine.RenderedPayload{WebhookID: w.ID, Revision: w.Revision, Body: benchPayload})
	}
	return s.AppendEvents(context.Background(), a)
}

// BenchmarkLife takes a session through all its writes, where it is ready on arrival: events, trigger, payload, attempt, indexes, in two changes. In groups,
// one writer commits what has gathered; alone, each caller has a writer and a connection of its own, and so a transaction for each change.
func BenchmarkLife(b *testing.B) {
	for _, callers := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("grouped/callers=%d", callers), func(b *testing.B) { benchmarkLife(b, callers, false) })
	}
	b.Run("alone/callers=32", func(b *testing.B) { benchmarkLife(b, 32, true) })
}

func benchmarkLife(b *testing.B, callers int, alone bool) {
	var mutations, commits atomic.Int64
	cluster := postgrestest.Start(b, postgrestest.Options{Durable: true})
	s, err := Open(b.Context(), Options{URL: cluster.URL(), ObserveCommit: func(n int, _ time.Duration) { mutations.Add(int64(n)); commits.Add(1) }})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	made, err := s.PutWebhook(b.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
	if err != nil {
		b.Fatal(err)
	}
	stores := make([]*Store, callers)
	for i := range stores {
		if stores[i] = s; alone {
			stores[i] = anotherWriter(b, s)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for _, s := range stores {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := live(s, made.Webhook); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(mutations.Load())/float64(commits.Load()), "mutations/commit")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// live takes a session through its life.
func live(s *Store, w engine.Webhook) error {
	done, err := appendNew(s, w)
	if err != nil {
		return err
	}
	_, err = s.RecordAttempt(context.Background(), engine.AttemptRecord{Delivery: done.Claimed[0].Delivery, Attempt: benchAttempt,
		Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()})
	return err
}

// anotherWriter returns a store that writes beside s, as the same member.
func anotherWriter(b *testing.B, s *Store) *Store {
	other := newStore(s.opts, s.servers.all[0])
	var err error
	if other.conn, err = other.connect(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := other.addWriter(b.Context(), other.conn, s.memberID.Load()); err != nil {
		b.Fatal(err)
	}
	if err := other.loadAll(b.Context(), other.conn); err != nil {
		b.Fatal(err)
	}
	go other.writer()
	b.Cleanup(func() { _ = other.Close() })
	return other
}

// BenchmarkLook claims from 100 lanes in which a million deliveries wait, and gives them back. A look takes the number of its name, of 64 lanes.
func BenchmarkLook(b *testing.B) {
	const lanes, each = 100, 10_000
	cluster := postgrestest.Start(b, postgrestest.Options{})
	s, err := Open(b.Context(), Options{URL: cluster.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var requests []engine.ClaimRequest
	for range lanes {
		w := makeWebhook(b, s)
		requests = append(requests, engine.ClaimRequest{Lane: testsOf(w)})
		d := queueTest(b, s, w, benchNow())
		fill(b, s, d, each, benchNow().Add(-time.Hour))
	}
	for _, room := range []int{1, 4} {
		b.Run(fmt.Sprintf("take=%d", 64*room), func(b *testing.B) { benchmarkLook(b, s, requests, room) })
	}
}

func benchmarkLook(b *testing.B, s *Store, requests []engine.ClaimRequest, room int) {
	for i := range requests {
		requests[i].Room = room
	}
	var took []time.Duration
	b.ReportAllocs()
	at := 0
	for b.Loop() {
		began := time.Now()
		results, err := s.ClaimDue(b.Context(), benchNow(), requests[at:at+64])
		took = append(took, time.Since(began))
		if err != nil {
			b.Fatal(err)
		}
		at = (at + 9) % (len(requests) - 64)
		for i := range results {
			if len(results[i].Claimed) != room {
				b.Fatalf("%d are claimed, want %d", len(results[i].Claimed), room)
			}
			for j := range results[i].Claimed {
				s.unclaim(results[i].Claimed[j].Delivery.ID)
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[0])/1e6, "ms/look-min")
	b.ReportMetric(float64(took[len(took)/2])/1e6, "ms/look-p50")
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "ms/look-p99")
}
