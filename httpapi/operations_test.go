package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOperationsShown reads every kind of operational event that an endpoint can cause, as a delivery; each is held against the description by
// the way. Those of the disk have a test in the engine.
func TestOperationsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := http.StatusInternalServerError // changed only while everything waits
		f := newFixtureOn(t, Config{}, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "ops.example" {
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		})
		cfg := f.engine.Config()
		cfg.OperationsURL = "https://ops.example/"
		f.engine.Configure(cfg)
		if err := f.engine.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.engine.Run(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()

		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","delay":0,"retry_schedule":["1s","1s","1s","1s","1s","1s","2h"],"name":"crm"}`)
		f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
		f.want(202, "POST", "/v1/events", start(sessionB)+finish(sessionB))
		time.Sleep(4 * time.Hour) // failing, failing for long, failed for good
		synctest.Wait()
		status = http.StatusOK
		f.want(202, "POST", "/v1/webhooks/2/test", "")
		time.Sleep(10 * time.Minute) // recovered
		synctest.Wait()
		f.want(200, "PATCH", "/v1/webhooks/2", `{"paused":true}`)
		f.want(202, "POST", "/v1/webhooks/1/test", "")
		time.Sleep(time.Minute)
		synctest.Wait()

		var list listOf[shownDelivery]
		f.wantJSON(&list, 200, "GET", "/v1/deliveries?limit=200&webhook_id=1", "")
		types := make(map[string]bool)
		for _, d := range list.Items {
			var got shownDetail
			f.wantJSON(&got, 200, "GET", "/v1/deliveries/"+d.ID, "")
			payload, _ := got.Payload.(map[string]any)
			if name, ok := payload["type"].(string); ok {
				types[name] = true
			}
			if d.SessionID != nil || d.Status != "delivered" || d.Kind != "operation" && d.Kind != "test" {
				t.Errorf("%+v", d)
			}
		}
		got := strings.Join(slices.Sorted(maps.Keys(types)), " ")
		if want := "delivery.failed operations.test webhook.failing webhook.paused webhook.recovered"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		if body := f.want(200, "GET", "/v1/webhooks/1", ""); !strings.Contains(body, `"operations":true`) {
			t.Error(body)
		}
		wantProblem(t, f.do("DELETE", "/v1/webhooks/1", ""), http.StatusConflict)
		wantProblem(t, f.do("GET", "/v1/webhooks/1/preview?session_id="+sessionA, ""), http.StatusConflict)
		wantInputProblem(t, f.do("PATCH", "/v1/webhooks/1", `{"url":"https://example.com/"}`), 0, "url", "delivery.operations_url")
	})
}
