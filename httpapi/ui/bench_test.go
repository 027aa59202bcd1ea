package ui_test

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/httpapi"
	"hookbolt/storage/bolt"
)

// What BenchmarkPages stores: webhooks, two for each content, and so two deliveries for each session. The first two have more: they are
// what a list that is filtered has to pass over.
const (
	benchWebhooks = 50
	benchSmall    = 15_834
	benchLarge    = 120_000
	benchStored   = 2*benchLarge + (benchWebhooks-2)*benchSmall // 1,000,032
)

// benchFate is what becomes of the nth delivery of a webhook; 0 leaves it as it is. Webhook 1 ends with 100,000 failed ones, webhook 2 with
// as many that wait for their next try; up to 20 have some of both among delivered ones, up to 30 cancelled ones, up to 36 what is held, the
// rest scheduled ones.
func benchFate(webhook uint32, n int) engine.Status {
	switch {
	case webhook > 20:
		return 0
	case webhook == 1 && n >= benchLarge-100_000:
		return engine.StatusFailed
	case webhook == 2 && n >= benchLarge-100_000:
		return engine.StatusPending
	case webhook > 2 && n%100 >= 97:
		return engine.StatusPending
	case webhook > 2 && n%100 >= 90:
		return engine.StatusFailed
	}
	return engine.StatusDelivered
}

// benchSettings are a webhook's, beside its content.
func benchSettings(webhook uint32) string {
	switch {
	case webhook > 36:
		return `,"delay":31536000`
	case webhook > 30:
		return `,"delay":0,"paused":true`
	}
	return `,"delay":0`
}

// benchContent is the content of a webhook.
func benchContent(webhook uint32) string {
	return uuid.NewSHA1(uuid.Nil, []byte{byte((webhook + 1) / 2)}).String()
}

// benchSession is the nth session of a webhook's content.
func benchSession(webhook uint32, n int) (id uuid.UUID, events string) {
	id = uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%d/%d", (webhook+1)/2, n))
	return id, fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":88120457}
{"type":"vote","session_id":%[1]q,"question_id":40101,"question":"Where do you run most?","answer_id":401011,"answer":"On roads"}
{"type":"finish","session_id":%[1]q}
`, id, benchContent(webhook))
}

// pagesBench is a database with a million deliveries, and the pages on it.
type pagesBench struct {
	fixture
	b     *testing.B
	store *bolt.Store

	gathered strings.Builder // events that are taken in with the next request
	sessions int             // whose they are
	halfway  time.Time       // when half of them were in
}

// newPagesBench fills a database through the engine and the store, without a network: the events are taken in as any, and each delivery
// is taken up, frozen and recorded as the engine does it.
func newPagesBench(b *testing.B) *pagesBench {
	store, err := bolt.Open(filepath.Join(b.TempDir(), "hookbolt.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	reg, log, cfg := prometheus.NewRegistry(), slog.New(slog.DiscardHandler), engine.DefaultConfig()
	cfg.Transport = transport(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
	})
	p := &pagesBench{fixture: fixture{t: b, engine: engine.New(store, cfg, reg, log)}, b: b, store: store}
	p.h = httpapi.New(p.engine, httpapi.Config{}, reg, log)
	began := time.Now()
	for w := uint32(1); w <= benchWebhooks; w++ {
		p.api("POST", "/v1/webhooks", fmt.Sprintf(`{"url":"https://customer.example/hooks/%d","name":"Customer %[1]d","content_id":%q%s}`, w, benchContent(w), benchSettings(w)))
	}
	for n := range benchSmall {
		if n == benchSmall*2/3 {
			p.halfway = time.Now().UTC()
		}
		for w := uint32(3); w <= benchWebhooks; w += 2 {
			p.take(w, n)
		}
	}
	for n := range benchLarge {
		p.take(1, n)
	}
	p.flush()
	p.settle()
	for w := 21; w <= 30; w++ {
		p.api("PATCH", fmt.Sprintf("/v1/webhooks/%d", w), `{"active":false}`)
	}
	stop := p.run()
	for p.stored()[engine.StatusCancelled] != 10*benchSmall {
		runtime.Gosched()
	}
	sum, stored := int64(0), p.stored()
	for _, n := range stored {
		sum += n
	}
	if sum != benchStored {
		b.Fatalf("%d deliveries are stored, want %d: %v", sum, benchStored, stored)
	}
	b.Logf("filled in %s: %v", time.Since(began).Round(time.Second), stored)
	b.Cleanup(func() {
		stop()
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return p
}

// take gathers a session's events, and takes what is gathered in where that is enough for a request.
func (p *pagesBench) take(webhook uint32, n int) {
	_, events := benchSession(webhook, n)
	p.gathered.WriteString(events)
	if p.sessions++; p.sessions == 5000 {
		p.flush()
	}
}

func (p *pagesBench) flush() {
	if _, err := p.engine.Ingest(p.b.Context(), []byte(p.gathered.String())); err != nil {
		p.b.Fatal(err)
	}
	p.gathered.Reset()
	p.sessions = 0
}

// settle has each delivery meet its fate.
func (p *pagesBench) settle() {
	var rooms []engine.ClaimRequest
	for w := uint32(1); benchFate(w, 0) != 0; w++ {
		rooms = append(rooms, engine.ClaimRequest{Lane: engine.Lane{WebhookID: w}, Room: 500})
	}
	settled := make([]int, len(rooms)) // of each webhook
	for {
		takes, err := p.store.ClaimDue(p.b.Context(), time.Now().UTC(), rooms)
		if err != nil {
			p.b.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range takes {
			for _, t := range takes[i].Claimed {
				fate := benchFate(rooms[i].Lane.WebhookID, settled[i])
				settled[i]++
				all.Go(func() { p.attempt(t, fate) })
			}
		}
		all.Wait()
		if !slices.ContainsFunc(takes, func(t engine.ClaimResult) bool { return len(t.Claimed) > 0 }) {
			return
		}
	}
}

// attempt freezes the payload of a delivery that was taken, and records an attempt that leads to its fate.
func (p *pagesBench) attempt(t engine.Claimed, fate engine.Status) {
	now := time.Now().UTC()
	events, err := t.Session.Events()
	if err != nil {
		p.b.Error(err)
		return
	}
	hook, err := p.engine.Webhook(t.Delivery.WebhookID)
	if err != nil {
		p.b.Error(err)
		return
	}
	payload, err := engine.Render(engine.Fold(events, time.Time{}), &hook, engine.KindComplete, now)
	if err != nil {
		p.b.Error(err)
		return
	}
	if _, err := p.store.Freeze(p.b.Context(), engine.Freeze{Delivery: t.Delivery, Payload: payload, Events: len(events), At: now}); err != nil {
		p.b.Error(err)
		return
	}
	a := engine.Attempt{Outcome: engine.Outcome{StartedAt: now, Duration: 40 * time.Millisecond, Address: "192.0.2.1:443", Reused: true, Protocol: "HTTP/2.0", Status: 204}}
	next := engine.Next{Status: fate}
	if fate != engine.StatusDelivered {
		a.Status, a.Error, a.Response = 503, engine.ErrorStatus, []byte("upstream unavailable")
		next.Reason = engine.NextExhausted
	}
	if fate == engine.StatusPending {
		next.At, next.Reason = now.Add(24*time.Hour), engine.NextBySchedule
	}
	if _, err := p.store.RecordAttempt(p.b.Context(), engine.AttemptRecord{Delivery: t.Delivery, Attempt: a, Next: next, At: now}); err != nil {
		p.b.Error(err)
	}
}

// stored counts the deliveries by status.
func (p *pagesBench) stored() map[engine.Status]int64 {
	o, err := p.engine.Overview(p.b.Context())
	if err != nil {
		p.b.Fatal(err)
	}
	return o.Stored
}

// measure reports how long a page takes to be made and how large it is.
func (p *pagesBench) measure(name, target string) {
	p.b.Run(name, func(b *testing.B) {
		var took []time.Duration
		size := 0
		for b.Loop() {
			began := time.Now()
			rec := p.get(target)
			took = append(took, time.Since(began))
			if size = rec.Body.Len(); rec.Code != 200 {
				b.Fatalf("%s: %d %s", target, rec.Code, mainOf(rec.Body.String()))
			}
		}
		slices.Sort(took)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
		b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
		b.ReportMetric(float64(size)/1000, "KB/page")
		b.ReportMetric(0, "ns/op")
	})
}

// link follows a list to its next page n times, and returns where that is.
func (p *pagesBench) link(target string, n int) string {
	for range n {
		page := p.wantPage(target)
		m := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(page)
		if m == nil {
			p.b.Fatalf("%s is the last page", target)
		}
		target = html.UnescapeString(m[1])
	}
	return target
}

// whileIngesting runs f while 100 sessions a second come in, whose 300 events lead to 200 deliveries.
func (p *pagesBench) whileIngesting(f func()) {
	stop := make(chan struct{})
	var feeder sync.WaitGroup
	feeder.Go(func() {
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for n := benchSmall; ; n++ {
			select {
			case <-pace.C:
				_, events := benchSession(3, n)
				if _, err := p.engine.Ingest(context.Background(), []byte(events)); err != nil {
					p.b.Error(err)
					return
				}
			case <-stop:
				return
			}
		}
	})
	f()
	close(stop)
	feeder.Wait()
}

// BenchmarkPages reports how long pages take to be made, and how large they are, with 1,000,000 deliveries in a database of 1 GB, which it
// takes a minute to fill: go test -run '^$' -bench Pages ./httpapi/ui
func BenchmarkPages(b *testing.B) {
	p := newPagesBench(b)
	until := "until=" + url.QueryEscape(p.halfway.Format(time.RFC3339Nano))
	session, _ := benchSession(3, benchSmall/2)
	delivered := deliveryIDs(p.wantPage("/deliveries?status=delivered&webhook_id=3"))[0]
	for _, page := range []struct{ name, target string }{
		{"overview", "/"},
		{"overview/day", "/?span=day"},
		{"webhooks", "/webhooks"},
		{"webhook", "/webhooks/3"},
		{"webhook/failed=100000", "/webhooks/1"},
		{"webhook/edit", "/webhooks/3/edit"},
		{"webhook/replay/failed=100000", "/webhooks/1/replay?status=failed"},
		{"webhook/replay/missing=0", "/webhooks/3/replay?status=missing"},
		{"deliveries/page=100", p.link("/deliveries", 99)},
		{"deliveries/until", "/deliveries?" + until},
		{"deliveries/until/status=failed", "/deliveries?status=failed&" + until},
		{"deliveries/until/status=delivered", "/deliveries?status=delivered&" + until},
		{"deliveries/until/status=pending", "/deliveries?status=pending&" + until},
		{"deliveries/session", "/deliveries?session_id=" + session.String()},
		{"delivery", "/deliveries/" + delivered},
		{"sessions", "/sessions"},
		{"session", "/sessions/" + session.String()},
	} {
		p.measure(page.name, page.target)
	}
	for _, w := range []uint32{0, 1, 2, 3} {
		for _, s := range append([]engine.Status{0}, engine.Statuses...) {
			name, query := "deliveries", make(url.Values)
			if w != 0 {
				name += fmt.Sprintf("/webhook=%d", w)
				query.Set("webhook_id", fmt.Sprint(w))
			}
			if s != 0 {
				name += "/status=" + s.String()
				query.Set("status", s.String())
			}
			p.measure(name, "/deliveries?"+query.Encode())
		}
	}
	p.whileIngesting(func() {
		p.measure("ingesting/overview", "/")
		p.measure("ingesting/webhooks", "/webhooks")
		p.measure("ingesting/deliveries", "/deliveries")
	})
}
