package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
	"hookbolt/engine/transform"
)

// TestPreviewTakesNoTurnOfWebhooks: whoever tries programs waits for others who do, not so the deliveries of a webhook, whose name the jobs of
// previews do not have. And nobody waits for ever.
func TestPreviewTakesNoTurnOfWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var owners []uint32
		hangs := false
		w := newWorld(t, func(c *engine.Config) {
			c.RunPrograms = func(ctx context.Context, job transform.Job) (transform.Result, error) {
				owners = append(owners, job.Owner)
				if hangs {
					<-ctx.Done()
					return transform.Result{}, context.Cause(ctx)
				}
				return transform.Eval(job)
			}
		})
		hook := w.webhook(`{"url":"https://a.example/","transform":"{}"}`)
		owners = nil
		patch, err := engine.ParseMergePatch([]byte(`{"filter":"true","transform":"empty"}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Preview(t.Context(), engine.PreviewRequest{WebhookID: hook.ID, Settings: patch})
		if err != nil || p.StoppedBy != "transform" || len(owners) != 2 || owners[0] != 0 || owners[1] != 0 {
			t.Errorf("%+v, %v; the owners are %v", p, err, owners)
		}
		hangs = true
		began := time.Now()
		p, err = w.Preview(t.Context(), engine.PreviewRequest{WebhookID: hook.ID})
		if err != nil || p.Passes || p.Error == nil || p.Error.Field != "transform" || len(p.Payload) == 0 || time.Since(began) > 10*time.Second {
			t.Errorf("%+v, %v after %s", p, err, time.Since(began))
		}
	})
}
