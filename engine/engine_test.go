package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/engine/transform"
	"hookbolt/internal/teststore"
)

// received is a request as an endpoint got it.
type received struct {
	at     time.Time
	host   string
	id     string
	header http.Header
	body   []byte
	target string // path and query
}

// network stands in for all endpoints: it answers instead of them, without a socket, so that the clock of a synctest bubble
// runs on.
type network struct {
	answer func(r received, req *http.Request) (*http.Response, error) // nil: 200

	mu  sync.Mutex
	got []received
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r := received{time.Now(), req.URL.Host, req.Header.Get("webhook-id"), req.Header.Clone(), body, req.URL.RequestURI()}
	n.mu.Lock()
	n.got = append(n.got, r)
	n.mu.Unlock()
	if n.answer != nil {
		return n.answer(r, req)
	}
	return answer(200), nil
}

func (n *network) all() []received {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

func (n *network) to(host string) []received {
	return slices.DeleteFunc(n.all(), func(r received) bool { return r.host != host })
}

func answer(status int, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("answer"))}
}

// hang answers when the request is given up.
func hang(_ received, req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// world is an engine on a real database, with a network that answers as the test wants.
type world struct {
	t     testing.TB
	db    *teststore.Database
	net   *network
	cfg   engine.Config
	store teststore.Store
	wrap  func(engine.Store) engine.Store // what the engine is given in place of the store; nil: the store
	*engine.Engine
	metrics *prometheus.Registry
	log     *slog.Logger // nil: the test's output
	stop    func()
}

// health returns the health of a webhook's endpoint.
func (w *world) health(id uint32) engine.Health {
	w.t.Helper()
	all, err := w.Engine.Health(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return all[id]
}

// recent returns the last attempts of a webhook.
func (w *world) recent(id uint32) engine.Recent {
	w.t.Helper()
	all, err := w.Recent(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return all[id]
}

func newWorld(t testing.TB, configure ...func(*engine.Config)) *world {
	t.Helper()
	w := &world{t: t, db: teststore.New(t), net: &network{}, cfg: engine.DefaultConfig()}
	w.cfg.Transport = w.net
	w.cfg.RunPrograms = func(_ context.Context, j transform.Job) (transform.Result, error) { return transform.Eval(j) }
	w.cfg.Retry.Jitter = 0
	for _, f := range configure {
		f(&w.cfg)
	}
	w.start()
	return w
}

func (w *world) start() {
	w.t.Helper()
	w.store = w.db.Open(w.t)
	var given engine.Store = w.store
	if w.wrap != nil {
		given = w.wrap(w.store)
	}
	w.metrics = prometheus.NewRegistry()
	log := w.log
	if log == nil {
		log = slog.New(slog.NewTextHandler(w.t.Output(), nil))
	}
	w.Engine = engine.New(given, w.cfg, w.metrics, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Engine.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		teststore.Close(w.t, w.store)
	})
	w.t.Cleanup(w.stop) // before the store is closed, also after a restart
}

// restart ends the engine and the store, and begins again on the same file.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) webhook(settings string) engine.Webhook {
	w.t.Helper()
	p, err := engine.ParseWebhookPatch([]byte(settings))
	if err != nil {
		w.t.Fatal(err)
	}
	hook, err := w.CreateWebhook(w.t.Context(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	return hook
}

func (w *world) patch(id uint32, settings string) {
	w.t.Helper()
	p, err := engine.ParseWebhookPatch([]byte(settings))
	if err == nil {
		_, err = w.UpdateWebhook(w.t.Context(), id, p)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ingest(body string) {
	w.t.Helper()
	if _, err := w.Ingest(w.t.Context(), []byte(body)); err != nil {
		w.t.Fatal(err)
	}
}

const contentID = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"

// event is the JSON of an event that happens now; fields are added as they stand.
func event(kind string, session uuid.UUID, fields ...string) string {
	return fmt.Sprintf(`{"type":%q,"session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":7,"time":%q%s}`,
		kind, session, contentID, time.Now().UTC().Format(time.RFC3339Nano), strings.Join(append([]string{""}, fields...), ","))
}

// session takes in a whole session that starts and finishes now.
func (w *world) session() uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	w.ingest(event("start", id) + event("finish", id))
	return id
}

// sessions takes in n of them in one request.
func (w *world) sessions(n int) []uuid.UUID {
	w.t.Helper()
	ids := make([]uuid.UUID, n)
	var b strings.Builder
	for i := range ids {
		ids[i] = uuid.New()
		b.WriteString(event("start", ids[i]) + event("finish", ids[i]))
	}
	w.ingest(b.String())
	return ids
}

func (w *world) list(q engine.DeliveryQuery) []engine.Delivery {
	w.t.Helper()
	q.Limit = 100
	var all []engine.Delivery
	for {
		page, err := w.Deliveries(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return all
		}
	}
}

func (w *world) only(q engine.DeliveryQuery) engine.Delivery {
	w.t.Helper()
	all := w.list(q)
	if len(all) != 1 {
		w.t.Fatalf("%d deliveries, want 1: %+v", len(all), all)
	}
	return all[0]
}

func TestCompleteFiresAtItsDueTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/hook","delay":10}`)
		started := time.Now()
		id := w.session()
		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		if got := w.net.all(); len(got) != 0 {
			t.Fatalf("sent %v early", started.Add(10*time.Second).Sub(got[0].at))
		}
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusScheduled || d.SessionID != id || !d.DueAt.Equal(started.Add(10*time.Second)) {
			t.Errorf("before its time: %+v", d)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 1 || !got[0].at.Equal(started.Add(10*time.Second)) {
			t.Fatalf("got %d requests, want one after exactly 10s", len(got))
		}
		d := w.only(engine.DeliveryQuery{})
		if d.Status != engine.StatusDelivered || d.ID.String() != got[0].id || d.Attempts != 1 || d.LastStatus != 200 {
			t.Errorf("after it: %+v", d)
		}
		if err := engine.Verify(got[0].header, hook.Secret, got[0].body, time.Now()); err != nil {
			t.Error(err)
		}
		if ct := got[0].header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("Content-Type %q", ct)
		}
		if !bytes.Contains(got[0].body, []byte(`"session_id":"`+id.String()+`"`)) {
			t.Errorf("payload %s", got[0].body)
		}
	})
}

func TestIncomplete(t *testing.T) {
	tests := []struct {
		name                 string
		finishAfter          time.Duration // 0: never
		complete, incomplete int
	}{
		{"never finishes", 0, 0, 1},
		{"finishes before the instant", 59 * time.Second, 1, 0},
		{"finishes at the instant", 60 * time.Second, 1, 0},
		{"finishes after the instant", 61 * time.Second, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.webhook(`{"url":"https://a.example/","send_incomplete":true}`)
				id, started := uuid.New(), time.Now()
				w.ingest(event("start", id))
				if tt.finishAfter > 0 {
					time.Sleep(tt.finishAfter - time.Millisecond) // arrives before the instant is acted upon
					at := started.Add(tt.finishAfter).UTC().Format(time.RFC3339)
					w.ingest(fmt.Sprintf(`{"type":"finish","session_id":%q,"time":%q}`, id, at))
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				complete, incomplete := 0, 0
				for _, r := range w.net.all() {
					if bytes.Contains(r.body, []byte(`"complete_session":true`)) {
						complete++
					} else {
						incomplete++
						if !r.at.Equal(started.Add(time.Minute)) {
							t.Errorf("incomplete sent after %v", r.at.Sub(started))
						}
					}
				}
				if complete != tt.complete || incomplete != tt.incomplete {
					t.Errorf("got %d complete and %d incomplete, want %d and %d", complete, incomplete, tt.complete, tt.incomplete)
				}
				if n := len(w.list(engine.DeliveryQuery{})); n != tt.complete+tt.incomplete {
					t.Errorf("%d deliveries are stored: a dropped trigger goes without a trace", n)
				}
			})
		})
	}
}

func TestRetriesFollowTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		w.session()
		time.Sleep(30 * 24 * time.Hour / 10) // 3 days; the schedule takes 75h35m5s
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		got := w.net.all()
		if want := len(engine.DefaultRetrySchedule) + 1; len(got) != want {
			t.Fatalf("%d attempts, want %d", len(got), want)
		}
		for i, step := range engine.DefaultRetrySchedule {
			if gap := got[i+1].at.Sub(got[i].at); gap != time.Duration(step) {
				t.Errorf("gap %d is %v, want %v", i, gap, step)
			}
			if got[i+1].id != got[0].id || !bytes.Equal(got[i+1].body, got[0].body) {
				t.Errorf("attempt %d has another id or other bytes", i+1)
			}
			if a, b := got[i+1].header.Get("webhook-signature"), got[i].header.Get("webhook-signature"); a == b {
				t.Errorf("attempt %d has the signature of the one before: the timestamp is not the attempt's", i+1)
			}
		}
		d := w.only(engine.DeliveryQuery{Status: engine.StatusFailed})
		_, _, attempts, err := w.Delivery(t.Context(), d.ID)
		if err != nil || len(attempts) != len(got) || d.Attempts != len(got) {
			t.Errorf("%d attempts recorded (%d counted), %d requests: %v", len(attempts), d.Attempts, len(got), err)
		}
		if a := attempts[0]; a.Status != 500 || a.Error != engine.ErrorStatus || string(a.Response) != "answer" {
			t.Errorf("attempt: %+v", a)
		}

		// By hand it goes out again, under the same id with the same bytes.
		w.net.answer = nil
		if _, err := w.Retry(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		last := w.net.all()[len(got)]
		if last.id != got[0].id || !bytes.Equal(last.body, got[0].body) {
			t.Error("the resend has another id or other bytes")
		}
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered {
			t.Errorf("after the resend: %s", d.Status)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	date := func(after time.Duration) string { return time.Now().Add(after).UTC().Format(http.TimeFormat) }
	tests := []struct {
		name   string
		status int
		header func() string
		want   time.Duration
	}{
		{"seconds on 429", 429, func() string { return "120" }, 120 * time.Second},
		{"date on 503", 503, func() string { return date(10 * time.Minute) }, 10 * time.Minute},
		{"sooner than the schedule", 429, func() string { return "1" }, time.Second},
		{"a date that is past", 503, func() string { return date(-time.Hour) }, 5 * time.Second},
		{"bounded", 429, func() string { return "99999999" }, 24 * time.Hour},
		{"not on 500", 500, func() string { return "120" }, 5 * time.Second},
		{"rubbish", 429, func() string { return "soon" }, 250 * time.Millisecond},
		{"negative", 429, func() string { return "-5" }, 250 * time.Millisecond},
		{"rubbish on 503", 503, func() string { return "soon" }, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.webhook(`{"url":"https://a.example/","delay":0}`)
				first := true
				w.net.answer = func(received, *http.Request) (*http.Response, error) {
					if first {
						first = false
						return answer(tt.status, "Retry-After", tt.header()), nil
					}
					return answer(204), nil
				}
				w.session()
				time.Sleep(25 * time.Hour)
				synctest.Wait()
				got := w.net.all()
				if len(got) != 2 || got[1].at.Sub(got[0].at) != tt.want {
					t.Fatalf("%d requests, gap %v, want 2 with %v", len(got), got[len(got)-1].at.Sub(got[0].at), tt.want)
				}
			})
		})
	}
}

func TestOutcomeOfEachStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.Retry.Schedule = nil })
		for status := 200; status < 600; status++ {
			w.webhook(fmt.Sprintf(`{"url":"https://s%d.example/","delay":0,"name":"%d"}`, status, status))
		}
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			status := 0
			fmt.Sscanf(r.host, "s%d", &status)
			return answer(status, "Location", "https://elsewhere.example/"), nil
		}
		w.session()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.net.to("elsewhere.example")); n != 0 {
			t.Errorf("%d redirects were followed", n)
		}
		deliveries := w.list(engine.DeliveryQuery{})
		if len(deliveries) != 400 {
			t.Fatalf("%d deliveries, want 400", len(deliveries))
		}
		for _, d := range deliveries {
			want := engine.StatusFailed
			switch {
			case d.LastStatus/100 == 2:
				want = engine.StatusDelivered
			case d.LastStatus == 429: // which uses no try
				want = engine.StatusPending
			}
			if d.Status != want || d.Attempts != 1 && d.LastStatus != 429 {
				t.Errorf("status %d: %s after %d attempts, want %s after 1", d.LastStatus, d.Status, d.Attempts, want)
			}
		}
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.Retry.Schedule = nil })
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		w.webhook(`{"url":"https://b.example/","delay":0,"timeout":"3s"}`)
		w.net.answer = hang
		started := time.Now()
		w.session()
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, d := range w.list(engine.DeliveryQuery{}) {
			want := map[uint32]time.Duration{1: 15 * time.Second, 2: 3 * time.Second}[d.WebhookID]
			if d.Status != engine.StatusFailed || d.LastError != engine.ErrorTimeout || d.FinishedAt.Sub(started) != want {
				t.Errorf("webhook %d: %s %s after %v, want a timeout after %v", d.WebhookID, d.Status, d.LastError, d.FinishedAt.Sub(started), want)
			}
		}
	})
}

// One dead endpoint with 10,000 queued deliveries does not delay another webhook's delivery.
func TestDeadEndpointDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://dead.example/","delay":0}`)
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			if r.host == "dead.example" {
				return hang(r, req)
			}
			return answer(200), nil
		}
		for range 10 {
			w.sessions(1000)
		}
		time.Sleep(time.Second)
		o, err := w.Overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if waiting := o.Due + o.InFlight; waiting != 10_000 {
			t.Fatalf("%d wait for the dead endpoint, want 10,000: %+v", waiting, o)
		}
		w.webhook(`{"url":"https://good.example/","delay":3}`)
		for range 20 {
			due := time.Now().Add(3 * time.Second)
			w.session()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			got := w.net.to("good.example")
			if len(got) == 0 || !got[len(got)-1].at.Equal(due) {
				t.Fatalf("after %d good deliveries one is late", len(got))
			}
		}
	})
}

// Each lane may always have one attempt in flight, whatever the global limit says; beyond that, the limits hold.
func TestConcurrencyLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.MaxInFlight, c.WebhookMaxInFlight = 10, 4 })
		var mu sync.Mutex
		now, most, total := map[string]int{}, map[string]int{}, 0
		mostTotal := 0
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			mu.Lock()
			now[r.host]++
			total++
			most[r.host], mostTotal = max(most[r.host], now[r.host]), max(mostTotal, total)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now[r.host]--
			total--
			mu.Unlock()
			return answer(200), nil
		}
		const hooks, sessions = 20, 30
		for i := range hooks {
			w.webhook(fmt.Sprintf(`{"url":"https://h%d.example/","delay":0}`, i))
		}
		w.webhook(`{"url":"https://single.example/","delay":0,"max_in_flight":1}`)
		w.sessions(sessions)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		mu.Lock()
		if len(now) != hooks+1 {
			t.Errorf("only %d of %d endpoints have an attempt in flight at once", len(now), hooks+1)
		}
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for host, n := range most {
			if n > 4 || host == "single.example" && n > 1 {
				t.Errorf("%s had %d attempts at once", host, n)
			}
		}
		if mostTotal != hooks+1+10 {
			t.Errorf("%d attempts at once, want %d", mostTotal, hooks+1+10)
		}
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != (hooks+1)*sessions {
			t.Errorf("%d delivered, want %d", n, (hooks+1)*sessions)
		}
	})
}

func TestPausedHoldsAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1,"paused":true}`)
		var sessions []uuid.UUID
		for range 5 {
			sessions = append(sessions, w.session())
			time.Sleep(time.Minute)
		}
		if n := len(w.net.all()); n != 0 {
			t.Fatalf("%d sent while paused", n)
		}
		if o, err := w.Overview(t.Context()); err != nil || o.Held != 5 {
			t.Errorf("held %d, want 5: %v", o.Held, err)
		}
		w.restart()
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Second)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 5 {
			t.Fatalf("%d sent after the hold, want 5", len(got))
		}
		for i, id := range sessions {
			if !bytes.Contains(got[i].body, []byte(id.String())) {
				t.Errorf("number %d is not the %d. oldest", i, i)
			}
		}
	})
}

// Pausing while deliveries wait for a free place of a slow endpoint gives them back: none is sent until the hold ends.
func TestPauseWithAttemptsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://slow.example/","delay":0,"max_in_flight":1}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return answer(200), nil
		}
		for range 4 {
			w.session()
		}
		time.Sleep(time.Second)
		w.patch(hook.ID, `{"paused":true}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Fatalf("%d requests, want only the one that was in flight", n)
		}
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 4 || len(w.net.all()) != 4 {
			t.Errorf("%d delivered by %d requests, want 4 by 4", n, len(w.net.all()))
		}
	})
}

// What no longer fits a webhook after a change is cancelled, visibly, and none of it is sent.
func TestSettingsThatCancel(t *testing.T) {
	other := "11111111-2222-4333-8444-555555555555"
	tests := []struct {
		name                      string
		change                    func(w *world, id uint32)
		complete, incomplete, all int // how many are cancelled, of 600 each
	}{
		{"switched off", func(w *world, id uint32) { w.patch(id, `{"active":false}`) }, 600, 600, 1200},
		{"deleted", func(w *world, id uint32) {
			if err := w.DeleteWebhook(w.t.Context(), id); err != nil {
				w.t.Error(err)
			}
		}, 600, 600, 1200},
		{"off and on again", func(w *world, id uint32) { w.patch(id, `{"active":false}`); w.patch(id, `{"active":true}`) }, 600, 600, 1200},
		{"no incomplete", func(w *world, id uint32) { w.patch(id, `{"send_incomplete":false}`) }, 0, 600, 600},
		{"other content", func(w *world, id uint32) { w.patch(id, `{"content_id":"`+other+`"}`) }, 600, 600, 1200},
		{"narrowed to the same content", func(w *world, id uint32) { w.patch(id, `{"content_id":"`+contentID+`"}`) }, 0, 0, 0},
		{"a name", func(w *world, id uint32) { w.patch(id, `{"name":"x"}`) }, 0, 0, 0},
	}
	for _, tt := range tests {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%t", tt.name, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					hook := w.webhook(`{"url":"https://a.example/","delay":3600,"send_incomplete":true,"incomplete_delay":1800}`)
					var running strings.Builder
					for range 600 {
						running.WriteString(event("start", uuid.New()))
					}
					w.ingest(running.String())
					w.sessions(600)
					tt.change(w, hook.ID)
					if restart {
						w.restart()
					}
					time.Sleep(2 * time.Hour)
					synctest.Wait()
					cancelled := w.list(engine.DeliveryQuery{Status: engine.StatusCancelled, WebhookID: hook.ID})
					byKind := map[engine.Kind]int{}
					for _, d := range cancelled {
						byKind[d.Kind]++
					}
					if byKind[engine.KindComplete] != tt.complete || byKind[engine.KindIncomplete] != tt.incomplete {
						t.Errorf("cancelled %v, want %d complete and %d incomplete", byKind, tt.complete, tt.incomplete)
					}
					if n := len(w.net.all()); n != 1200-tt.all {
						t.Errorf("%d were sent, want %d", n, 1200-tt.all)
					}
				})
			})
		}
	}
}

func TestCancelByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":60,"max_in_flight":1}`)
		w.session()
		d := w.only(engine.DeliveryQuery{})
		if _, err := w.Cancel(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := len(w.net.all()); n != 0 {
			t.Errorf("%d sent after the cancellation", n)
		}
		if _, err := w.Cancel(t.Context(), d.ID); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("a second cancellation: %v, want ErrConflict", err)
		}
		if _, err := w.Cancel(t.Context(), uuid.New()); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("an unknown delivery: %v, want ErrNotFound", err)
		}

		// It can be sent all the same, later.
		if _, err := w.Retry(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered {
			t.Errorf("after the retry: %s", d.Status)
		}
	})
}

// A delivery that waits for a free place of its endpoint is not sent once its cancellation has been answered; an attempt under
// way is still recorded, and its 2xx counts.
func TestCancelWhileClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://slow.example/","delay":0,"max_in_flight":1}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return answer(200), nil
		}
		w.session()
		time.Sleep(time.Second)
		w.session()
		time.Sleep(time.Second)
		all := w.list(engine.DeliveryQuery{}) // newest first: the second one waits, frozen, behind the first
		for _, d := range all {
			if _, err := w.Cancel(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		all = w.list(engine.DeliveryQuery{})
		if all[0].Status != engine.StatusCancelled || all[1].Status != engine.StatusDelivered || all[1].Attempts != 1 {
			t.Errorf("got %s and %s with %d attempts, want cancelled, and delivered with 1", all[0].Status, all[1].Status, all[1].Attempts)
		}
	})
}

func TestTestDeliveryGoesThroughHoldAndSwitch(t *testing.T) {
	for _, settings := range []string{`"paused":true`, `"active":false`, `"active":true`} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			hook := w.webhook(`{"url":"https://a.example/",` + settings + `}`)
			w.session() // must stay where it is
			d, err := w.TestWebhook(t.Context(), hook.ID)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			got := w.net.all()
			if len(got) != 1 || got[0].id != d.ID.String() {
				t.Fatalf("%s: %d requests, want the test", settings, len(got))
			}
			if err := engine.Verify(got[0].header, hook.Secret, got[0].body, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A claimed attempt that is cut off by the end of the process is no failed attempt.
func TestShutdownCutsOffAndRestartRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.ShutdownTimeout = 5 * time.Second; c.Timeout = time.Minute })
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		w.net.answer = hang
		w.session()
		time.Sleep(time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the end took %v, want the 5s of grace", took)
		}
		w.net.answer = nil
		w.start()
		synctest.Wait()
		got := w.net.all()
		if len(got) != 2 || got[0].id != got[1].id || !bytes.Equal(got[0].body, got[1].body) {
			t.Fatalf("%d requests, want two of the same", len(got))
		}
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered || d.Attempts != 1 {
			t.Errorf("%s after %d attempts, want delivered after 1", d.Status, d.Attempts)
		}
	})
}

func TestShutdownWaitsForAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(3 * time.Second)
			return answer(200), nil
		}
		w.session()
		time.Sleep(time.Second)
		w.restart()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d requests, want 1: the attempt in flight was to be awaited", n)
		}
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered {
			t.Errorf("%s, want delivered", d.Status)
		}
	})
}

// What was due while the process was away is delivered after the start; nothing that was delivered is sent again.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":60}`)
		w.session()
		time.Sleep(2 * time.Minute)
		w.session()
		w.stop()
		time.Sleep(time.Hour)
		w.start()
		synctest.Wait()
		if n := len(w.net.all()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.net.all()); n != 2 {
			t.Errorf("an hour later %d requests, want 2", n)
		}
	})
}

// A session has at most one complete and one incomplete delivery for each webhook, however often its events are sent.
func TestRepeatedEventsFireOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","send_incomplete":true,"incomplete_delay":1,"delay":5}`)
		id := uuid.New()
		start := event("start", id, `"id":"s"`)
		w.ingest(start + start)
		time.Sleep(2 * time.Second)
		for range 3 {
			w.ingest(event("finish", id, `"id":"f"`))
			w.ingest(event("finish", id) + start)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if n := len(w.net.all()); n != 2 {
			t.Errorf("%d requests, want an incomplete and a complete one", n)
		}
		_, record, _, err := w.Session(t.Context(), id)
		if err != nil || record.Head.Events != 1+1+3 {
			t.Errorf("%d events stored, want the start, one finish with an id and three without: %v", record.Head.Events, err)
		}
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/"}`)
		dead := w.webhook(`{"url":"https://b.example/","paused":true}`)
		const n = 700 // several steps
		sessions := w.sessions(n)
		time.Sleep(167 * time.Hour)
		if got := len(w.list(engine.DeliveryQuery{WebhookID: hook.ID})); got != n {
			t.Fatalf("after 167h %d deliveries are left, want %d", got, n)
		}
		time.Sleep(2 * time.Hour)
		if got := len(w.list(engine.DeliveryQuery{WebhookID: hook.ID})); got != 0 {
			t.Errorf("after 169h %d deliveries are left, want 0", got)
		}
		time.Sleep(720 * time.Hour)
		if _, _, _, err := w.Session(t.Context(), sessions[0]); err != nil {
			t.Errorf("a session for which something waits was erased: %v", err)
		}
		w.patch(dead.ID, `{"paused":false}`)
		time.Sleep(3 * time.Hour)
		for _, id := range sessions {
			if _, _, _, err := w.Session(t.Context(), id); !errors.Is(err, engine.ErrNotFound) {
				t.Fatalf("a session is kept beyond its retention: %v", err)
			}
		}
		if got := len(w.net.to("b.example")); got != n {
			t.Errorf("%d delivered after the hold, want %d", got, n)
		}
	})
}

func TestOverviewCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://slow.example/","delay":30,"max_in_flight":1}`)
		w.net.answer = hang
		for range 10 {
			w.session()
			time.Sleep(time.Second)
		}
		check := func(scheduled, due, inFlight int64, oldest time.Duration) {
			t.Helper()
			synctest.Wait()
			o, err := w.Overview(t.Context())
			if err != nil || o.Scheduled != scheduled || o.Due != due || o.InFlight != inFlight || o.OldestDueAge != oldest {
				t.Errorf("%d scheduled, %d due, %d in flight, oldest %v; want %d, %d, %d, %v; %v", o.Scheduled, o.Due, o.InFlight, o.OldestDueAge,
					scheduled, due, inFlight, oldest, err)
			}
		}
		check(10, 0, 0, 0)
		time.Sleep(25 * time.Second) // 35s: six have become due; one is sent, the next one is prepared
		check(4, 4, 2, 5*time.Second)
		w.restart() // 45s: the attempt has timed out, and is made again at 50s; the rest is due
		check(1, 7, 2, 14*time.Second)
	})
}

// A store that fails ends Run with its error: the process is to end rather than to live on without delivering.
func TestRunEndsWhenTheStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":60}`)
		w.session()
		w.stop()
		boom := errors.New("boom")
		s := w.db.Open(t)
		e := engine.New(brokenStore{s, boom}, w.cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err := e.Run(t.Context()); !errors.Is(err, boom) {
			t.Errorf("Run: %v, want %v", err, boom)
		}
		if err := e.Ready(t.Context()); err == nil {
			t.Error("an engine that has ended is ready")
		}
	})
}

// brokenStore cannot take what is due.
type brokenStore struct {
	engine.Store
	err error
}

func (s brokenStore) ClaimDue(context.Context, time.Time, []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	return nil, s.err
}

// The lag of a session that is posted long after it happened is that of hookbolt, not that of who posted it.
func TestLagOfOldSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.net.answer = hang
		old := func() {
			id := uuid.New()
			w.ingest(strings.ReplaceAll(event("start", id)+event("finish", id), time.Now().UTC().Format(time.RFC3339Nano), "2000-01-01T00:00:00Z"))
		}
		time.Sleep(24 * time.Hour)
		old()
		time.Sleep(3 * time.Second)
		o, err := w.Overview(t.Context())
		if err != nil || o.OldestDueAge != 3*time.Second {
			t.Errorf("the oldest is due for %v, want 3s: %v", o.OldestDueAge, err)
		}
		time.Sleep(15 * time.Second) // until the attempt has timed out and is recorded
		synctest.Wait()
		if d := w.only(engine.DeliveryQuery{}); d.Attempts != 1 {
			t.Errorf("%d attempts, want 1", d.Attempts)
		}
		if lag := w.metric("hookbolt_delivery_lag_seconds", "false"); lag != 0 {
			t.Errorf("a lag of %v s was counted, want none: it was attempted as soon as it came", lag)
		}
	})
}

// metric returns the value of a counter or gauge, or the sum of a histogram: the one with a label's value, or without labels.
func (w *world) metric(name, label string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
			}
		}
	}
	w.t.Fatalf("there is no %s %s", name, label)
	return 0
}

func TestCountersOfFinishedDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":60}`)
		want := func(delivered, cancelled float64) {
			t.Helper()
			synctest.Wait()
			d, c := w.metric("hookbolt_deliveries_finished_total", "delivered"), w.metric("hookbolt_deliveries_finished_total", "cancelled")
			if d != delivered || c != cancelled {
				t.Errorf("counted %v delivered and %v cancelled, want %v and %v", d, c, delivered, cancelled)
			}
		}
		w.session()
		time.Sleep(time.Minute)
		want(1, 0)

		// By hand, while an attempt is under way that fails: once.
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(500), nil
		}
		w.session()
		time.Sleep(time.Minute + time.Second/2)
		if _, err := w.Cancel(t.Context(), w.only(engine.DeliveryQuery{Status: engine.StatusPending}).ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		want(1, 1)

		// By hand, and by a change of the webhook, while attempts are under way that succeed: once each, and delivered all the same.
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(200), nil
		}
		w.sessions(2)
		time.Sleep(time.Minute + time.Second/2)
		if _, err := w.Cancel(t.Context(), w.list(engine.DeliveryQuery{Status: engine.StatusPending})[0].ID); err != nil {
			t.Fatal(err)
		}
		w.patch(hook.ID, `{"active":false}`)
		time.Sleep(time.Minute)
		want(1, 3)
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 3 {
			t.Errorf("%d are delivered, want 3", n)
		}
		w.patch(hook.ID, `{"active":true}`)

		// By a change of the webhook.
		w.sessions(123)
		if err := w.DeleteWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		want(1, 126)
	})
}

// A request is refused as a whole: all of its events count, as far as they were read.
func TestCounterOfRefusedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		good := event("start", uuid.New())
		for _, tt := range []struct {
			name, body string
			want       float64
		}{
			{"one of 101 is bad", strings.Repeat(good, 100) + `{"type":"start"}`, 101},
			{"broken after 100", strings.Repeat(good, 100) + `{`, 100},
			{"the session says no", strings.Repeat(good, 3) + `{"type":"finish","session_id":"` + uuid.NewString() + `"}`, 4},
			{"nothing that can be read", `}`, 1},
			{"more than are looked at", strings.Repeat("1 ", 5000), 99},
		} {
			before := w.metric("hookbolt_events_refused_total", "")
			_, err := w.Ingest(t.Context(), []byte(tt.body))
			if _, ok := errors.AsType[engine.InputErrors](err); !ok {
				t.Errorf("%s: %v, want InputErrors", tt.name, err)
			}
			if got := w.metric("hookbolt_events_refused_total", "") - before; got != tt.want {
				t.Errorf("%s: counted %v, want %v", tt.name, got, tt.want)
			}
		}
		if got := w.metric("hookbolt_events_accepted_total", ""); got != 0 {
			t.Errorf("%v events accepted, want none", got)
		}
	})
}

// With IngestPartial, only the events count that are refused, and the limits of a session refuse only what is beyond them.
func TestIngestPartial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := uuid.New()
		start := event("start", id)
		late := uuid.New()
		orphan := `{"type":"finish","id":"x","session_id":"` + late.String() + `"}`
		var orphans strings.Builder
		for range 500 {
			orphans.WriteString(`{"type":"finish","session_id":"` + uuid.New().String() + `"}`)
		}
		for _, tt := range []struct {
			name, body        string
			accepted, refused int
			errs, leftOut     int
		}{
			{"more are bad than are named", strings.Repeat("1 ", 1000) + start, 1, 1000, 100, 0},
			{"a full session", strings.Repeat(start, engine.MaxSessionEvents) + "1", engine.MaxSessionEvents - 1, 2, 2, 0},
			{"nothing more", start + event("start", uuid.New()), 1, 1, 1, 0},
			{"repeats", event("start", id, `"id":"a"`), 0, 1, 1, 0},
			{"a session that refuses all", strings.Repeat(orphan, 9) + event("start", uuid.New()), 1, 9, 9, 0},
			{"sessions that refuse all", orphans.String() + event("start", uuid.New()), 1, 500, 100, 0},
			{"the identity after an event", orphan + event("start", late) + orphan + orphan, 4, 0, 0, 0},
			{"fields that cannot be read", event("start", uuid.New(), `"custom_id":{}`, `"x":1`) + event("start", uuid.New(), `"content_type":"poll"`), 1, 1, 1, 2},
		} {
			refused, accepted := w.metric("hookbolt_events_refused_total", ""), w.metric("hookbolt_events_accepted_total", "")
			leftOut := w.metric("hookbolt_event_fields_left_out_total", "")
			got, err := w.IngestPartial(t.Context(), []byte(tt.body))
			if err != nil || got.Accepted != tt.accepted || len(got.Refused) != tt.errs {
				t.Errorf("%s: %d events and %d errors, %v; want %d and %d", tt.name, got.Accepted, len(got.Refused), err, tt.accepted, tt.errs)
			}
			refused, accepted = w.metric("hookbolt_events_refused_total", "")-refused, w.metric("hookbolt_events_accepted_total", "")-accepted
			if leftOut = w.metric("hookbolt_event_fields_left_out_total", "") - leftOut; int(leftOut) != tt.leftOut || len(got.LeftOut) != tt.leftOut {
				t.Errorf("%s: counted %v fields left out, named %v; want %d", tt.name, leftOut, got.LeftOut, tt.leftOut)
			}
			if int(refused) != tt.refused || int(accepted) != tt.accepted {
				t.Errorf("%s: counted %v and %v, want %d accepted and %d refused", tt.name, accepted, refused, tt.accepted, tt.refused)
			}
		}
	})
}

// Each session of testdata, played through the whole engine at its own times, gives its golden payloads, byte for byte.
func TestGoldensEndToEnd(t *testing.T) {
	files, err := filepath.Glob("../testdata/sessions/*.ndjson")
	if err != nil || len(files) < 14 {
		t.Fatalf("%d sessions in testdata: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".ndjson")
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			events, err := engine.ParseEvents(body, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(events[0].Time))
				w := newWorld(t)
				w.webhook(`{"url":"https://a.example/","send_incomplete":true}`)
				for _, ev := range events {
					// A moment early, so that what happens at a trigger's instant is there before it. One that happened before the
					// one before it arrives at once.
					time.Sleep(time.Until(ev.Time) - time.Millisecond)
					w.ingest(string(ev.JSON))
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				got := make(map[string][]byte)
				for _, r := range w.net.all() {
					kind := "complete"
					if bytes.Contains(r.body, []byte(`"complete_session":false`)) {
						kind = "incomplete"
					}
					if got[kind] != nil {
						t.Errorf("two %s webhooks", kind)
					}
					got[kind] = r.body
				}
				for _, kind := range []string{"complete", "incomplete"} {
					golden, err := os.ReadFile(strings.TrimSuffix(file, "ndjson") + kind + ".json")
					if err != nil && !errors.Is(err, os.ErrNotExist) {
						t.Fatal(err)
					}
					var want bytes.Buffer
					if err == nil {
						if err := json.Compact(&want, golden); err != nil {
							t.Fatal(err)
						}
					}
					if name == "seed-example" { // its time of preparation lies before its session
						seconds := regexp.MustCompile(`"event_time":\d+`)
						got[kind] = seconds.ReplaceAll(got[kind], []byte(`"event_time":1568624875`))
					}
					if !bytes.Equal(got[kind], want.Bytes()) {
						t.Errorf("%s:\n got %s\nwant %s", kind, got[kind], want.Bytes())
					}
				}
			})
		})
	}
}

// An incomplete payload that is built late holds what had happened by its instant, and is prepared when it is built.
func TestIncompleteBuiltLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","send_incomplete":true,"incomplete_delay":60}`)
		id := uuid.New()
		w.ingest(event("start", id))
		time.Sleep(30 * time.Second)
		w.ingest(event("vote", id, `"question_id":1,"answer_id":11`))
		w.stop()
		at := time.Now().Add(40 * time.Second).UTC().Format(time.RFC3339)
		time.Sleep(time.Hour)
		// While the process is away the instant passes; the vote after it arrives before the payload can be built.
		s := w.db.Open(t)
		events, err := engine.ParseEvents(fmt.Appendf(nil, `{"type":"vote","session_id":%q,"question_id":1,"answer_id":12,"time":%q}`, id, at), time.Now())
		if err == nil {
			_, err = s.AppendEvents(t.Context(), engine.NewAppend(events, time.Now().UTC().Round(0)))
		}
		if err != nil {
			t.Fatal(err)
		}
		teststore.Close(t, s)
		w.start()
		synctest.Wait()
		got := w.net.all()
		if len(got) != 1 {
			t.Fatalf("%d requests, want 1", len(got))
		}
		if body := string(got[0].body); !strings.Contains(body, `"answer_id":11`) || strings.Contains(body, `"answer_id":12`) ||
			!strings.Contains(body, fmt.Sprintf(`"event_time":%d`, time.Now().Unix())) {
			t.Errorf("payload %s", body)
		}
	})
}

// A retry by hand gets a schedule of its own, and is not covered by what was cancelled before it.
func TestRetryByHandStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["10s","20s"]}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		w.session()
		time.Sleep(time.Hour)
		d := w.only(engine.DeliveryQuery{Status: engine.StatusFailed})
		w.patch(hook.ID, `{"active":false}`)
		if _, err := w.Retry(t.Context(), d.ID); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("a retry for an inactive webhook: %v, want ErrConflict", err)
		}
		w.patch(hook.ID, `{"active":true}`)
		again := time.Now()
		if _, err := w.Retry(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 6 {
			t.Fatalf("%d requests, want 3 and 3 again", len(got))
		}
		for i, want := range []time.Duration{0, 10 * time.Second, 30 * time.Second} {
			if gap := got[3+i].at.Sub(again); gap != want {
				t.Errorf("attempt %d after the retry came after %v, want %v", i+1, gap, want)
			}
		}
	})
}

// Retention counts from the last event, and from the last final state.
func TestRetentionStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) {
			c.Retention = engine.Retention{Sessions: time.Hour, Deliveries: 10 * time.Hour}
		})
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["30s"]}`)
		id := w.session()
		d := w.only(engine.DeliveryQuery{})
		time.Sleep(50 * time.Minute)
		w.ingest(event("lead", id, `"lead":{"email":"a@example.com"}`))
		time.Sleep(50 * time.Minute)
		if _, _, _, err := w.Session(t.Context(), id); err != nil {
			t.Errorf("50 minutes after its last event the session is gone: %v", err)
		}
		time.Sleep(12 * time.Minute)
		if _, _, _, err := w.Session(t.Context(), id); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("62 minutes after its last event: %v, want ErrNotFound", err)
		}

		// The delivery ended at the start; it is sent again after 9 hours, and ends again.
		time.Sleep(7 * time.Hour)
		synctest.Wait()
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		if _, err := w.Retry(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		if got, _, _, err := w.Delivery(t.Context(), d.ID); err != nil || got.Status != engine.StatusFailed {
			t.Errorf("5 hours after its second end: %s, %v", got.Status, err)
		}
		time.Sleep(6 * time.Hour)
		if _, _, _, err := w.Delivery(t.Context(), d.ID); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("11 hours after its second end: %v, want ErrNotFound", err)
		}
	})
}

// A webhook that is made after a session has finished gets nothing of it, whatever events follow.
func TestWebhookMadeAfterTheFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.session()
		w.webhook(`{"url":"https://a.example/","delay":0,"send_incomplete":true}`)
		w.ingest(event("result_view", id, `"result":{"result_id":1}`) + event("start", id) + event("finish", id))
		time.Sleep(time.Hour)
		if n := len(w.net.all()); n != 0 {
			t.Errorf("%d requests, want none", n)
		}
	})
}

// Each bad event of a request is named, whichever session it is of.
func TestEachBadEventIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bare := func() string { return fmt.Sprintf(`{"type":"start","session_id":%q}`, uuid.New()) }
		_, err := w.Ingest(t.Context(), []byte(bare()+event("start", uuid.New())+bare()+bare()))
		bad, _ := errors.AsType[engine.InputErrors](err)
		var indexes []int
		for _, e := range bad {
			indexes = append(indexes, e.Index)
		}
		if !slices.Equal(indexes, []int{0, 2, 3}) {
			t.Errorf("bad events %v, want 0, 2 and 3: %v", indexes, err)
		}
	})
}

// A request that leads to more deliveries than one transaction makes leads to all of them, also if the process ends meanwhile.
func TestFanOutIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hooks, sessions = 12, 200
		w := newWorld(t)
		for i := range hooks {
			w.webhook(fmt.Sprintf(`{"url":"https://%d.example/","delay":%d}`, i, i%3))
		}
		w.sessions(sessions)
		w.stop()
		w.start()
		time.Sleep(time.Minute)
		if n := w.metric("hookbolt_queue_fan_out_sessions", ""); n != 0 {
			t.Errorf("the deliveries of %v sessions are still to be made", n)
		}
		seen := make(map[string]int)
		for _, r := range w.net.all() {
			seen[r.host]++
		}
		for host, n := range seen {
			if n != sessions {
				t.Errorf("%s got %d, want %d", host, n, sessions)
			}
		}
		if len(seen) != hooks {
			t.Errorf("%d endpoints got something, want %d", len(seen), hooks)
		}
	})
}
