package engine_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
		if now, err := w.UpdateWebhook(t.Context(), seen.ID, p.IfRevision(now.Revision)); err != nil || now.Delay != 8 {
			t.Errorf("the delay is %d, %v", now.Delay, err)
		}
	})
}

// TestMoveDropsCredentials shows what a webhook takes along to another host: what is given for it, and the secret that signs.
func TestMoveDropsCredentials(t *testing.T) {
	const headers, basic = `"headers":{"X-Key":"sekret","X-Other":"sekret"}`, `"basic_auth":{"username":"u","password":"sekret"}`
	const oauth = `"oauth2":{"token_url":"https://auth.example/t","client_id":"i","client_secret":"sekret"}`
	const all = "headers.X-Key headers.X-Other basic_auth"
	for _, tc := range []struct{ has, change, dropped, sent string }{
		{headers + "," + basic, `"url":"https://a.example/other?q=1"`, "", "X-Key X-Other Authorization"},
		{headers + "," + basic, `"url":"https://A.EXAMPLE:443/hook"`, "", "X-Key X-Other Authorization"},
		{headers + "," + basic, `"timeout":"5s"`, "", "X-Key X-Other Authorization"},
		{headers + "," + basic, `"url":"https://b.example/hook"`, all, ""},
		{headers + "," + basic, `"url":"https://a.example.b.example/hook"`, all, ""},
		{headers + "," + basic, `"url":"https://a.example:8443/hook"`, all, ""},
		{headers + "," + basic, `"url":"http://a.example/hook"`, all, ""},
		{headers + "," + basic, `"url":"https://b.example/hook",` + basic, "headers.X-Key headers.X-Other", "Authorization"},
		{headers + "," + basic, `"url":"https://b.example/hook","headers":{"X-New":"n"}`, "basic_auth", "X-New"},
		{headers + "," + basic, `"url":"https://b.example/hook","headers":null,"basic_auth":null`, "", ""},
		{basic, `"url":"https://b.example/hook",` + oauth, "basic_auth", ""},
		{oauth, `"url":"https://b.example/hook"`, "oauth2", ""},
		{headers, `"url":"https://b.example/hook","active":false`, "headers.X-Key headers.X-Other", ""},
		{`"allow_networks":["10.1.2.3"]`, `"url":"https://b.example/hook"`, "", ""},
		{"", `"url":"https://b.example/hook"`, "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			settings := `{"url":"https://a.example/hook"}`
			if tc.has != "" {
				settings = `{"url":"https://a.example/hook",` + tc.has + `}`
			}
			before := w.webhook(settings)
			p, err := engine.ParseWebhookPatch([]byte("{" + tc.change + "}"))
			if err != nil {
				t.Fatal(err)
			}
			after, err := w.UpdateWebhook(t.Context(), before.ID, p)
			if err != nil || strings.Join(after.Dropped, " ") != tc.dropped {
				t.Fatalf("%s: dropped %v, %v; want %s", tc.change, after.Dropped, err, tc.dropped)
			}
			if after.Secret != before.Secret || len(after.AllowNetworks) != len(before.AllowNetworks) {
				t.Errorf("%s: the secret or the networks did not stay", tc.change)
			}
			if again, err := w.UpdateWebhook(t.Context(), before.ID, p); err != nil || len(again.Dropped) != 0 {
				t.Errorf("%s again: dropped %v, %v", tc.change, again.Dropped, err)
			}
			if after.OAuth2 != nil {
				return
			}
			if _, err := w.TestWebhook(t.Context(), before.ID); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			got := w.net.all()
			if len(got) != 1 || got[0].header.Get("webhook-signature") == "" {
				t.Fatalf("%s: %d requests: %v", tc.change, len(got), got)
			}
			for _, name := range []string{"X-Key", "X-Other", "X-New", "Authorization"} {
				if sent := got[0].header.Get(name) != ""; sent != slices.Contains(strings.Fields(tc.sent), name) {
					t.Errorf("%s: %s is sent: %t", tc.change, name, sent)
				}
			}
		})
	}
}

// TestOperationsMoveDropsCredentials: the URL of the configuration is no other way to take them along.
func TestOperationsMoveDropsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		id := operationsID(w)
		w.patch(id, `{"headers":{"X-Key":"sekret"}}`)
		cfg := w.Engine.Config()
		for _, move := range []struct {
			url  string
			kept bool
		}{{"https://ops.example/other", true}, {"https://ops2.example/", false}} {
			cfg.OperationsURL = move.url
			w.Configure(cfg)
			if err := w.EnsureOperations(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now, err := w.Webhook(id); err != nil || now.URL != move.url || (len(now.Headers) == 1) != move.kept {
				t.Errorf("%s: %+v, %v", move.url, now, err)
			}
		}
	})
}

// TestUpdateWithoutChange shows that a patch that changes nothing is stored nowhere: what is kept stays as it is, byte for byte.
func TestUpdateWithoutChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://example.com/","name":"n","timeout":"5s","retry_schedule":["1m"],"rate_limit":2,"headers":{"X-Key":"k"},
			"content_id":"` + contentID + `","oauth2":{"token_url":"https://example.com/t","body":{"a":1},"headers":{"X-B":"c"}}}`)
		plain := w.webhook(`{"url":"https://example.com/"}`)
		w.rotate(hook.ID, `{"overlap":"1h"}`)
		seen, err := w.Webhook(hook.ID)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, settings := range []string{`{}`, `{"name":"n"}`, `{"paused":false}`, `{"delay":null,"active":true}`, `{"timeout":"5000ms","retry_schedule":["60s"],"rate_limit":2.0}`,
			`{"headers":{"x-key":"k"}}`, `{"allow_networks":[]}`, `{"content_id":"` + strings.ToUpper(contentID) + `"}`,
			`{"oauth2":{"headers":{"X-B":"c"},"body":{"a":1},"token_url":"https://example.com/t"}}`} {
			w.patch(hook.ID, settings)
			if now, err := w.Webhook(hook.ID); err != nil || !reflect.DeepEqual(now, seen) {
				t.Errorf("%s: now %+v, %v; was %+v", settings, now, err, seen)
			}
		}
		for _, settings := range []string{`{"headers":{}}`, `{"basic_auth":null,"allow_networks":null,"retry_schedule":null}`} {
			w.patch(plain.ID, settings)
			if now, err := w.Webhook(plain.ID); err != nil || !reflect.DeepEqual(now, plain) {
				t.Errorf("%s: now %+v, %v; was %+v", settings, now, err, plain)
			}
		}
		// The secret that it has, set anew, ends those before it, which is a change.
		for _, settings := range []string{`{"headers":{"X-Key":"l"}}`, `{"retry_schedule":[]}`, `{"secret":"` + string(seen.Secret) + `"}`} {
			before, _ := w.Webhook(hook.ID)
			w.patch(hook.ID, settings)
			if now, err := w.Webhook(hook.ID); err != nil || now.Revision != before.Revision+1 || !now.UpdatedAt.Equal(time.Now()) {
				t.Errorf("%s: revision %d after %d, updated at %s: %v", settings, now.Revision, before.Revision, now.UpdatedAt, err)
			}
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
			{`{"url":"http://[fe80::1]/"}`, "url", "fe80::1/128"},
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
