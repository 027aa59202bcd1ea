package engine_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
	"hookbolt/storage/bolt/bolttest"
)

// TestHistoryIsFed holds the history against what was made to happen and against the metrics.
func TestHistoryIsFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		statuses := []int{500, 200, 500, 503, 200} // of the attempts, one after another
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			status := statuses[0]
			statuses = statuses[1:]
			return answer(status), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["5s"]}`)
		if got := w.recent(hook.ID); got != (engine.Recent{}) {
			t.Errorf("before any attempt: %+v", got)
		}
		w.session() // 500, 200
		time.Sleep(time.Minute)
		w.session() // 500, 503
		time.Sleep(time.Minute)
		failed := w.only(engine.DeliveryQuery{Status: engine.StatusFailed})
		first := w.recent(hook.ID)
		if first.DeliveryID != failed.ID || first.Status != 503 || first.Error != engine.ErrorStatus || !first.AttemptedAt.Equal(failed.FinishedAt) {
			t.Errorf("after a failure: %+v, want that of %+v", first, failed)
		}
		if !first.DeliveredAt.Equal(began.Add(7 * time.Second)) { // 1 s, the step of 5 s, 1 s
			t.Errorf("delivered at %v, want seven seconds after %v", first.DeliveredAt, began)
		}

		// Held beyond its time: what it waits is its lag. A test goes out meanwhile, and counts for all but that.
		w.patch(hook.ID, `{"paused":true}`)
		w.session()
		test, err := w.TestWebhook(t.Context(), hook.ID)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if got := w.recent(hook.ID); got.DeliveryID != test.ID || got.Status != 200 || !got.DeliveredAt.Equal(got.AttemptedAt) || !got.LagAt.Equal(first.LagAt) {
			t.Errorf("after a test: %+v", got)
		}
		time.Sleep(18 * time.Second)
		statuses = []int{204}
		w.patch(hook.ID, `{"paused":false,"delay":60}`)
		time.Sleep(2 * time.Second)
		if got := w.recent(hook.ID); got.Lag != 20*time.Second || got.Status != 204 {
			t.Errorf("after 20 s on hold: %+v", got)
		}

		// Cancelled by hand, and with the webhook.
		w.sessions(3)
		if _, err := w.Cancel(t.Context(), w.list(engine.DeliveryQuery{Status: engine.StatusScheduled})[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.recent(hook.ID); got != (engine.Recent{}) {
			t.Errorf("after its end: %+v", got)
		}

		list, since, err := w.History(t.Context(), time.Minute, 60)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 60 || !since.Equal(began) {
			t.Errorf("%d intervals, counted since %v", len(list), since)
		}
		var got engine.Interval
		for _, in := range list {
			got.Accepted += in.Accepted
			got.Delivered += in.Delivered
			got.Failed += in.Failed
			got.Cancelled += in.Cancelled
			got.Retried += in.Retried
			got.Attempted += in.Attempted
			got.LagMax = max(got.LagMax, in.LagMax)
		}
		if want := (engine.Interval{Accepted: 12, Delivered: 3, Failed: 1, Cancelled: 3, Retried: 2, Attempted: 4, LagMax: 20 * time.Second}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		for name, count := range map[string]int64{"delivered": got.Delivered, "failed": got.Failed, "cancelled": got.Cancelled} {
			if metric := w.metric("hookbolt_deliveries_finished_total", name); metric != float64(count) {
				t.Errorf("%s: %d in the history, %v in the metric", name, count, metric)
			}
		}
		if lag := w.metric("hookbolt_delivery_lag_seconds", "false"); lag != 0 {
			t.Errorf("a lag of %v s is counted as hookbolt's own", lag)
		}
		if lag := w.metric("hookbolt_delivery_lag_seconds", "true"); lag != got.LagMax.Seconds() {
			t.Errorf("a lag of %v in the history, of %v s in the metric", got.LagMax, lag)
		}
	})
}

// TestRecentOfAWebhookThatIsGone ends an attempt after its webhook.
func TestRecentOfAWebhookThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return answer(200), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"timeout":"2m"}`)
		w.session()
		time.Sleep(time.Second)
		if err := w.DeleteWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(w.net.all()) != 1 {
			t.Fatalf("%d requests", len(w.net.all()))
		}
		if got := w.recent(hook.ID); got != (engine.Recent{}) {
			t.Errorf("%+v is left of it", got)
		}
	})
}

func TestOverviewTellsTheLimits(t *testing.T) {
	store, err := bolt.Open(filepath.Join(t.TempDir(), "hookbolt.db"), bolt.Options{MaxBytes: 1 << 30, MinFree: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer bolttest.Close(t, store)
	o, err := engine.New(store, engine.DefaultConfig(), prometheus.NewRegistry(), nil).Overview(t.Context())
	if err != nil || o.File.MaxBytes != 1<<30 || o.File.MinFreeBytes != 1<<20 || o.SizeBytes <= o.File.FreeBytes || o.Full != nil {
		t.Errorf("%+v, %v", o, err)
	}
}
