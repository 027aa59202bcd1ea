package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/teststore"
)

// TestDeletedWebhooksLeaveNothing makes and deletes thousands of webhooks under load: some of their deliveries are scheduled, some in flight,
// some wait for a retry when the webhook goes. The heap must not grow with them.
func TestDeletedWebhooksLeaveNothing(t *testing.T) {
	const webhooks, alive = 3000, 20
	// What may stay is what the store counts by webhook, as long as the deliveries of a deleted one are kept.
	const perWebhook = 300
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, db: teststore.In(t, simDir(t)), net: &network{}, cfg: engine.DefaultConfig()}
		w.cfg.Transport, w.cfg.Retention.Deliveries = w.net, time.Hour
		w.start()
		defer func() { w.stop() }()
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			w.net.mu.Lock()
			w.net.got = nil // or the test itself would grow
			w.net.mu.Unlock()
			switch {
			case r.host == "token.example":
				time.Sleep(3 * time.Second)
				a := answer(200)
				a.Header = http.Header{"Content-Type": {"application/json"}}
				a.Body = io.NopCloser(strings.NewReader(`{"access_token":"` + strings.Repeat("t", 500) + `","token_type":"Bearer","expires_in":3600000}`))
				return a, nil
			case strings.HasPrefix(r.host, "fail"):
				return answer(500), nil
			}
			time.Sleep(2 * time.Second)
			return answer(200), nil
		}
		var ids []uint32
		heap := func() uint64 {
			time.Sleep(6 * time.Hour) // all are kept no longer
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		var before uint64
		for i := range webhooks {
			kind := []string{"ok", "fail", "later"}[i%3]
			settings := fmt.Sprintf(`{"url":"https://%s-%d.example/","delay":%d`, kind, i, map[bool]int{true: 86400}[kind == "later"])
			if i%2 == 0 {
				settings += `,"oauth2":{"token_url":"https://token.example/","client_id":"a","client_secret":"b"}`
			}
			ids = append(ids, w.webhook(settings+"}").ID)
			if i%alive == 0 {
				w.session()
				time.Sleep(time.Second)
			}
			if len(ids) > alive {
				if err := w.DeleteWebhook(t.Context(), ids[0]); err != nil {
					t.Fatal(err)
				}
				ids = ids[1:]
			}
			if i == webhooks/10 {
				before = heap()
			}
		}
		after := heap()
		if grown := int64(after) - int64(before); grown > perWebhook*webhooks*9/10 {
			t.Errorf("the heap grew by %d bytes a webhook, from %d to %d", grown/(webhooks*9/10), before, after)
		} else {
			t.Logf("the heap grew by %d bytes a webhook, from %d to %d", grown/(webhooks*9/10), before, after)
		}
	})
}
