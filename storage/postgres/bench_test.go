package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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
func appendNew(s *Store, ready ...engine.Webhook) (done engine.Appended, err error) {
	events, err := engine.ParseEvents(bytes.ReplaceAll(benchBody, []byte(benchID), []byte(uuid.NewString())), benchNow())
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

// BenchmarkLife takes a session through all its writes, where it is ready on arrival: events, trigger, payload, attempt, indexes, in two changes.
func BenchmarkLife(b *testing.B) {
	for _, callers := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("ready=true/callers=%d", callers), func(b *testing.B) {
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
			b.ReportAllocs()
			b.ResetTimer()
			b.SetParallelism(callers)
			var at atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				if at.Add(1) > int64(callers) {
					return
				}
				for pb.Next() {
					done, err := appendNew(s, made.Webhook)
					if err == nil {
						_, err = s.RecordAttempt(context.Background(), engine.AttemptRecord{Delivery: done.Claimed[0].Delivery, Attempt: benchAttempt,
							Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()})
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(mutations.Load())/float64(commits.Load()), "mutations/commit")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
		})
	}
}

// BenchmarkLook claims from lanes in which a million deliveries wait, 64 lanes a call, and gives them back.
func BenchmarkLook(b *testing.B) {
	const lanes, each, room = 100, 10_000, 4
	cluster := postgrestest.Start(b, postgrestest.Options{})
	s, err := Open(b.Context(), Options{URL: cluster.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var requests []engine.ClaimRequest
	for range lanes {
		w := makeWebhook(b, s)
		requests = append(requests, engine.ClaimRequest{Lane: testsOf(w), Room: room})
		d := queueTest(b, s, w, benchNow())
		fill(b, s, d, each, benchNow().Add(-time.Hour))
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
		at = (at + 9) % (lanes - 64)
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
