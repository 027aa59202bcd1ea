package engine_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"hookbolt/engine"
)

// Over real sockets: a delivery's bytes and id are the same on every attempt, whether it is the first, a retry, one by hand, one of a
// replay, or after a restart and a rotation; the timestamp is the attempt's second, and the signature that of the attempt's secret.
func TestEveryAttemptIsTheSame(t *testing.T) {
	type request struct {
		header http.Header
		body   string
		at     time.Time
	}
	got := make(chan request, 16)
	status := make(chan int, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		code := <-status
		w.WriteHeader(code)
		got <- request{r.Header, string(body), time.Now()}
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "hookbolt.db")
	l := newLive(t, path)
	l.hook(fmt.Sprintf(`{"url":%q,"delay":0,"retry_schedule":["1s","1s"]}`, server.URL))
	status <- 500
	l.fill(1, contentA, func(int) time.Time { return time.Now() })
	first := <-got

	ctx := context.Background()
	only := func() engine.Delivery {
		t.Helper()
		page, err := l.Deliveries(ctx, engine.DeliveryQuery{Limit: 2})
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%+v, %v", page.Items, err)
		}
		return page.Items[0]
	}
	made := 1
	settle := func() {
		t.Helper()
		for only().Attempts < made { // an attempt is recorded a moment after its answer
		}
	}
	byHand := func() {
		t.Helper()
		if _, err := l.Retry(ctx, only().ID); err != nil {
			t.Error(err)
		}
	}
	for _, step := range []struct {
		name string
		code int
		do   func()
	}{
		{"retry", 302, func() {}},
		{"by hand", 200, byHand},
		{"by hand after it was delivered", 404, byHand},
		{"after a restart", 200, func() { l.stop(); l = newLive(t, path); byHand() }},
		{"after other settings", 200, func() {
			p, err := engine.ParseWebhookPatch([]byte(`{"send_answers":false,"send_leads":false}`))
			if err == nil {
				_, err = l.UpdateWebhook(ctx, 1, p)
			}
			if err != nil {
				t.Fatal(err)
			}
			byHand()
		}},
		{"replay after a rotation", 200, func() {
			if _, err := l.RotateSecret(ctx, 1, engine.Rotation{}); err != nil {
				t.Fatal(err)
			}
			if r, err := l.Replay(ctx, engine.Replay{WebhookID: 1, Scope: engine.ReplayAny}); err != nil || r.Count != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
		}},
	} {
		settle()
		status <- step.code
		step.do()
		r := <-got
		made++
		if r.body != first.body || r.header.Get(engine.HeaderID) != first.header.Get(engine.HeaderID) {
			t.Errorf("%s: other bytes, or another id: %v %s", step.name, r.header, r.body)
		}
		w, err := l.Webhook(1)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Verify(r.header, w.Secret, []byte(r.body), r.at); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		second, err := strconv.ParseInt(r.header.Get(engine.HeaderTimestamp), 10, 64)
		if at := time.Unix(second, 0); err != nil || r.at.Sub(at) > 2*time.Second || at.After(r.at) {
			t.Errorf("%s: timestamp %v at %v", step.name, at, r.at)
		}
	}
	settle()
	l.stop()
	l = newLive(t, path)
	_, payload, attempts, err := l.Delivery(ctx, only().ID)
	if err != nil || string(payload) != first.body || len(attempts) != 7 {
		t.Fatalf("%d attempts, %v", len(attempts), err)
	}
	for i, a := range attempts {
		if want := []int{500, 302, 200, 404, 200, 200, 200}[i]; a.Status != want || a.Address != server.Listener.Addr().String() {
			t.Errorf("attempt %d: %d at %s, want %d", i+1, a.Status, a.Address, want)
		}
	}
}
