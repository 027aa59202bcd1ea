package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"hookbolt/engine"
)

// TestIfRevision shows that a change that was made for one revision does not take back another change.
func TestIfRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		seen := w.webhook(`{"url":"https://example.com/"}`)
		w.patch(seen.ID, `{"delay":7}`)
		p, err := engine.ParseWebhookPatch([]byte(`{"delay":8}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, revision := range []uint64{seen.Revision, 0} {
			if _, err := w.UpdateWebhook(t.Context(), seen.ID, p.IfRevision(revision)); !errors.Is(err, engine.ErrConflict) {
				t.Errorf("for revision %d: %v, want ErrConflict", revision, err)
			}
		}
		now, err := w.Webhook(seen.ID)
		if err != nil || now.Delay != 7 {
			t.Fatalf("the delay is %d, %v", now.Delay, err)
		}
		if now, err = w.UpdateWebhook(t.Context(), seen.ID, p.IfRevision(now.Revision)); err != nil || now.Delay != 8 {
			t.Errorf("the delay is %d, %v", now.Delay, err)
		}
	})
}

// TestRefusedAddressNamesNetwork shows that a refused address comes with what would have to be allowed.
func TestRefusedAddressNamesNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, tt := range []struct{ settings, field, allow string }{
			{`{"url":"http://localhost/"}`, "url", "127.0.0.1/32"},
			{`{"url":"http://[::ffff:10.0.0.7]/"}`, "url", "10.0.0.7/32"},
			{`{"url":"http://[fe80::1%25eth0]/"}`, "url", "fe80::1/128"},
			{`{"url":"https://example.com/","oauth2":{"token_url":"http://[::1]/","client_id":"i","client_secret":"s"}}`, "oauth2.token_url", "::1/128"},
		} {
			p, err := engine.ParseWebhookPatch([]byte(tt.settings))
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.CreateWebhook(t.Context(), p)
			bad, ok := errors.AsType[engine.InputErrors](err)
			if !ok || bad[0].Field != tt.field || bad[0].Allow.String() != tt.allow {
				t.Errorf("%s: %+v, want %s refused and %s to be allowed", tt.settings, err, tt.field, tt.allow)
			}
		}
	})
}
