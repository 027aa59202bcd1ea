package bolt

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// These benchmarks write to a real file and wait for the disk. For benchstat:
//
//	go test -run '^$' -bench . -count 10 ./storage ./engine > new.txt

// benchWaiting is how many scheduled deliveries there are for BenchmarkWaiting.
const benchWaiting = 200_000

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

// appendNew stores a new session. Reading its events is part of it, as in earnest.
func appendNew(s *Store, ready ...engine.Webhook) (done engine.Appended, err error) {
	events, err := engine.ParseEvents(bytes.ReplaceAll(benchBody, []byte(benchID), []byte(uuid.NewString())), now())
	if err != nil {
		return done, err
	}
	a := engine.NewAppend(events, now())
	a.Open = make(map[uint32]bool)
	for _, w := range ready {
		a.Open[w.ID] = true
		a.Sessions[0].Payloads = append(a.Sessions[0].Payloads, engine.RenderedPayload{WebhookID: w.ID, Revision: w.Revision, Body: benchPayload})
	}
	return s.AppendEvents(context.Background(), a)
}

// benchStore opens a database with a webhook, and reports what its commits have come to.
func benchStore(b *testing.B, delay int64) (*Store, engine.Lane) {
	b.Helper()
	var mutations, commits atomic.Int64
	path := newPath(b)
	s, err := Open(path, Options{ObserveCommit: func(n int, _ time.Duration) { mutations.Add(int64(n)); commits.Add(1) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if n := commits.Load(); n > 0 {
			b.ReportMetric(float64(mutations.Load())/float64(n), "mutations/commit")
		}
		info, err := os.Stat(path)
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			b.Error(err)
		}
		b.ReportMetric(float64(info.Size())/float64(b.N), "file-B/op")
	})
	return s, engine.Lane{WebhookID: putWebhook(b, s, engine.Webhook{Delay: delay}).ID}
}

// inParallel runs f b.N times, by so many callers at once.
func inParallel(b *testing.B, callers int, f func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	b.SetParallelism(callers) // for each processor: enough of them for as many
	var at atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		if at.Add(1) > int64(callers) {
			return
		}
		for pb.Next() {
			if err := f(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkAppend stores a finished session that is due later, in a request of its own.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, _ := benchStore(b, 86400)
			inParallel(b, callers, func() error { _, err := appendNew(s); return err })
		})
	}
}

// benchLife takes a session through all its writes: events, trigger, payload, attempt, indexes. Where it is ready on arrival, that is two
// changes, else three and a look at the lane.
func benchLife(s *Store, lane engine.Lane, ready bool) func() error {
	ctx := context.Background()
	finish := func(d engine.Delivery) error {
		_, err := s.RecordAttempt(ctx, engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: delivered, At: now()})
		return err
	}
	return func() error {
		if ready {
			done, err := appendNew(s, *s.Webhooks().Get(lane.WebhookID))
			if err != nil {
				return err
			}
			return finish(done.Claimed[0].Delivery)
		}
		if _, err := appendNew(s); err != nil {
			return err
		}
		takes, err := s.ClaimDue(ctx, now(), []engine.ClaimRequest{{Lane: lane, Room: 1}})
		if err != nil {
			return err
		}
		for _, t := range takes[0].Claimed {
			if err := freeze(ctx, s, t.Delivery, benchPayload); err != nil {
				return err
			}
			if err := finish(t.Delivery); err != nil {
				return err
			}
		}
		return nil
	}
}

func BenchmarkLife(b *testing.B) {
	for _, ready := range []bool{true, false} {
		b.Run(fmt.Sprintf("ready=%t", ready), func(b *testing.B) {
			s, lane := benchStore(b, 0)
			inParallel(b, 32, benchLife(s, lane, ready))
		})
	}
}

// BenchmarkWaiting measures on a database with many scheduled deliveries.
func BenchmarkWaiting(b *testing.B) {
	s, lane := benchStore(b, 86400)
	at := now()
	for range benchWaiting / 1000 {
		var events []engine.Event
		for range 1000 {
			events = append(events, session(b, uuid.New(), at)...)
		}
		if _, err := s.AppendEvents(b.Context(), engine.NewAppend(events, now())); err != nil {
			b.Fatal(err)
		}
	}
	due := engine.Lane{WebhookID: putWebhook(b, s, engine.Webhook{ContentID: &uuid.UUID{1}}).ID}
	b.Run("Life", func(b *testing.B) { inParallel(b, 32, benchLife(s, due, true)) })
	b.Run("ClaimDue/room=32", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			takes, err := s.ClaimDue(b.Context(), at.Add(48*time.Hour), []engine.ClaimRequest{{Lane: lane, Room: 32}})
			if err != nil || len(takes[0].Claimed) != 32 {
				b.Fatalf("%d taken: %v", len(takes[0].Claimed), err)
			}
			for _, t := range takes[0].Claimed {
				if err := s.Release(b.Context(), []engine.Delivery{t.Delivery}); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	for name, q := range map[string]engine.DeliveryQuery{"all": {}, "scheduled": {Status: engine.StatusScheduled}, "webhook": {WebhookID: lane.WebhookID}} {
		b.Run("Deliveries/"+name, func(b *testing.B) {
			b.ReportAllocs()
			q.Limit = 50
			for b.Loop() {
				page, err := s.Deliveries(b.Context(), q)
				if err != nil || len(page.Items) != 50 {
					b.Fatalf("%d listed: %v", len(page.Items), err)
				}
			}
		})
	}
	b.Run("Start", func(b *testing.B) { // what a start reads of it, without the look for free pages
		for b.Loop() {
			again := &Store{db: s.db}
			if err := s.db.View(again.loadNumbers); err != nil {
				b.Fatal(err)
			}
		}
	})
}
