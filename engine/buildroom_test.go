package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
	"hookbolt/engine/transform"
)

// TestLongProgramsHoldNoClaims: webhooks whose programs take long, and that have much to send, do not use up what the global limit allows to
// all: one without programs sends as many deliveries at once as it may.
func TestLongProgramsHoldNoClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{}, 1)
		w := newWorld(t, func(c *engine.Config) {
			c.MaxInFlight, c.WebhookMaxInFlight = 32, 16
			run := c.RunPrograms
			c.RunPrograms = func(ctx context.Context, j transform.Job) (transform.Result, error) {
				turn <- struct{}{}
				defer func() { <-turn }()
				time.Sleep(time.Second)
				return run(ctx, j)
			}
		})
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(100 * time.Millisecond)
			return answer(200), nil
		}
		for i := range 8 {
			w.webhook(fmt.Sprintf(`{"url":"https://long%d.example/","delay":0,"transform":"."}`, i))
		}
		w.sessions(100)
		time.Sleep(time.Minute)
		w.webhook(`{"url":"https://plain.example/","delay":0}`)
		w.sessions(160)
		time.Sleep(3 * time.Second) // 16 at once would take one
		synctest.Wait()
		if n := len(w.net.to("plain.example")); n != 160 {
			t.Errorf("%d of 160 were sent", n)
		}
	})
}
