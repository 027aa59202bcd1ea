package postgres

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"hookbolt/engine"
)

// What a newer version has added to a webhook stays when an older one changes it, also within its objects. What was removed does not come back.
func TestUnknownSettingsAreKept(t *testing.T) {
	s := openTest(t)
	w := hook(t, s, func(w *engine.Webhook) {
		w.Headers = map[string]engine.Header{"x-old": {Value: "1"}}
		w.BasicAuth = &engine.BasicAuth{Username: "u", Password: "p"}
		w.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	newer := func(fields string) {
		sqlOf(t, s, `WITH done AS (UPDATE @.webhooks SET settings = (settings::jsonb || jsonb_build_object('region', 'eu', 'quota', jsonb_build_object('a', 1))`+fields+`)::json RETURNING 1) SELECT count(*)::text FROM done`)
	}
	newer(` || jsonb_build_object('basic_auth', settings::jsonb->'basic_auth' || '{"realm": "r"}')`)
	stored := func() (fields map[string]any) {
		if err := json.Unmarshal([]byte(sqlOf(t, s, "SELECT settings::text FROM @.webhooks")[0]), &fields); err != nil {
			t.Fatal(err)
		}
		return fields
	}
	change := func(f func(*engine.Webhook)) map[string]any {
		t.Helper()
		f(&w)
		done, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
		if err != nil {
			t.Fatal(err)
		}
		w = done.Webhook
		return stored()
	}
	got := change(func(w *engine.Webhook) { w.Name, w.Headers, w.BasicAuth.Username = "changed", nil, "v" })
	if got["region"] != "eu" || !reflect.DeepEqual(got["quota"], map[string]any{"a": 1.0}) || got["name"] != "changed" || got["headers"] != nil {
		t.Errorf("after a change by an older version: %v", got)
	}
	if auth := got["basic_auth"]; !reflect.DeepEqual(auth, map[string]any{"username": "v", "password": "p", "realm": "r"}) {
		t.Errorf("within an object: %v", auth)
	}
	got = change(func(w *engine.Webhook) { w.BasicAuth = nil })
	if _, there := got["basic_auth"]; there || got["region"] != "eu" {
		t.Errorf("after an object was removed: %v", got)
	}
}
