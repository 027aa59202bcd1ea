package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// settingText is what is stored of the credentials, for comparison.
func settingText(t *testing.T, w *Webhook) string {
	t.Helper()
	kept := members{}
	for i := range Settings {
		if s := &Settings[i]; s.value.members != nil && len(s.value.members(w)) > 0 {
			kept[s.Name] = s.value.members(w).object()
		}
	}
	return string(kept.object())
}

// A change merges objects: what it does not name stays, what is null goes.
func TestMergePatch(t *testing.T) {
	const token = `"token_url":"https://auth.example/t"`
	const standard = `{"oauth2":{"client_id":"i","client_secret":"s","headers":{"X-A":"1","X-B":"2"},"scopes":["a"],` + token + `}}`
	const own = `{"oauth2":{"body":{"a": [1, null],  "b": "<&>"},` + token + `}}`
	for _, tt := range []struct{ has, change, want string }{
		{`{"headers":{"X-A":"1","X-B":"2"}}`, `{"headers":{"X-A":"new"}}`, `{"headers":{"X-A":"new","X-B":"2"}}`},
		{`{"headers":{"X-A":"1","X-B":"2"}}`, `{"headers":{"x-a":"new","x-C":"3"}}`, `{"headers":{"X-A":"new","X-B":"2","X-C":"3"}}`},
		{`{"headers":{"X-A":"1","X-B":"2"}}`, `{"headers":{"x-a":null,"X-Unknown":null}}`, `{"headers":{"X-B":"2"}}`},
		{`{"headers":{"X-A":"1"}}`, `{"headers":{"X-A":null}}`, `{}`},
		{`{"headers":{"X-A":"1"}}`, `{"headers":null}`, `{}`},
		{`{"headers":{"X-A":"1"}}`, `{"headers":{}}`, `{"headers":{"X-A":"1"}}`},
		{`{"headers":{"X-A":"1"}}`, `{"name":"n"}`, `{"headers":{"X-A":"1"}}`},
		{`{}`, `{"headers":{"X-A":"1","X-B":null}}`, `{"headers":{"X-A":"1"}}`},
		{`{"headers":{"Body":"1","Client_id":"2","Token_url":"https://a.example/"}}`, `{"headers":{"body":"3","token_url":"https://b.example/"}}`,
			`{"headers":{"Body":"3","Client_id":"2","Token_url":"https://b.example/"}}`},

		{`{"basic_auth":{"username":"u","password":"p"}}`, `{"basic_auth":{"password":"new"}}`, `{"basic_auth":{"password":"new","username":"u"}}`},
		{`{"basic_auth":{"username":"u","password":"p"}}`, `{"basic_auth":null}`, `{}`},
		{`{}`, `{"basic_auth":{"username":"u","password":""}}`, `{"basic_auth":{"password":"","username":"u"}}`},

		{standard, `{"oauth2":{"client_secret":"new"}}`, strings.Replace(standard, `"s"`, `"new"`, 1)},
		{standard, `{"oauth2":{"scopes":null,"headers":null}}`, `{"oauth2":{"client_id":"i","client_secret":"s",` + token + `}}`},
		{standard, `{"oauth2":{"scopes":["b"],"headers":{"x-a":null,"X-C":"3"}}}`,
			`{"oauth2":{"client_id":"i","client_secret":"s","headers":{"X-B":"2","X-C":"3"},"scopes":["b"],` + token + `}}`},
		{standard, `{"oauth2":{"token_url":"https://auth.example/other"}}`, strings.Replace(standard, `example/t`, `example/other`, 1)},
		{standard, `{"oauth2":{"body":{"a": null}}}`, `{"oauth2":{"body":{"a": null},"headers":{"X-A":"1","X-B":"2"},` + token + `}}`},
		{own, `{"oauth2":{"headers":{"X-A":"1"}}}`, `{"oauth2":{"body":{"a": [1, null],  "b": "<&>"},"headers":{"X-A":"1"},` + token + `}}`},
		{own, `{"oauth2":{"body":{"c":1}}}`, `{"oauth2":{"body":{"c":1},` + token + `}}`},
		{own, `{"oauth2":{"client_id":"i","client_secret":"s"}}`, `{"oauth2":{"client_id":"i","client_secret":"s",` + token + `}}`},
		{own, `{"oauth2":null}`, `{}`},
		// A token endpoint on another host gets what is given for it.
		{standard, `{"oauth2":{"token_url":"https://b.example/t","client_id":"j","client_secret":"t","scopes":null,"headers":null}}`,
			`{"oauth2":{"client_id":"j","client_secret":"t","token_url":"https://b.example/t"}}`},
		{standard, `{"oauth2":{"token_url":"https://b.example/t","body":"grant","headers":{"X-A":"new"}}}`,
			`{"oauth2":{"body":"grant","headers":{"X-A":"new"},"token_url":"https://b.example/t"}}`},
	} {
		w := applyPatch(t, DefaultWebhook(), tt.has)
		before := settingText(t, &w)
		patch, err := ParseMergePatch([]byte(tt.change))
		if err != nil {
			t.Fatal(err)
		}
		after := w
		dropped, err := patch.applyTo(&after)
		if got := settingText(t, &after); err != nil || got != tt.want || len(dropped) > 0 {
			t.Errorf("%s, changed by %s: %s, %v, %v; want %s", tt.has, tt.change, got, dropped, err, tt.want)
		}
		if changes := len(patch.Changes(&w)) > 0 && tt.change != `{"name":"n"}`; changes != (before != tt.want) {
			t.Errorf("%s, changed by %s: Changes is %v", tt.has, tt.change, patch.Changes(&w))
		}
		if settingText(t, &w) != before {
			t.Errorf("%s: the webhook that was read has changed", tt.change)
		}
		if _, err := patch.applyTo(&after); err != nil || settingText(t, &after) != tt.want {
			t.Errorf("%s, a second time: %s, %v", tt.change, settingText(t, &after), err)
		}
		replaced := w
		if p, err := ParseWebhookPatch([]byte(tt.has)); err != nil {
			t.Error(err)
		} else if _, err := p.applyTo(&replaced); err != nil || settingText(t, &replaced) != before {
			t.Errorf("%s: not replaced as a whole: %v", tt.has, err)
		}
	}
}

func TestMergePatchRefuses(t *testing.T) {
	many := func(from, to int) string {
		var all []string
		for i := from; i < to; i++ {
			all = append(all, fmt.Sprintf(`"X-%d":"v"`, i))
		}
		return `{"headers":{` + strings.Join(all, ",") + `}}`
	}
	const standard = `{"oauth2":{"token_url":"https://auth.example/t","client_id":"i","client_secret":"sekret","scopes":["a"]}}`
	for _, tt := range []struct{ has, change, field, detail string }{
		{`{}`, `{"headers":{"X-A":"1","x-a":null}}`, "headers.x-a", "stands twice"},
		{`{}`, `{"headers":{"X-A":"1","X-A":"2"}}`, "headers.X-A", "stands twice"},
		{`{}`, `{"headers":["X"]}`, "headers", "must be an object (got a list)"},
		{`{}`, `{"headers":{"X-A":7}}`, "headers.X-A", "must be a string"},
		{`{}`, `{"headers":{"Host":"h"}}`, "headers.Host", "hookbolt's own"},
		{many(0, 32), `{"headers":{"X-New":"v"}}`, "headers", "at most 32 headers"},
		{`{}`, `{"basic_auth":{"password":"p"}}`, "basic_auth.username", "is required"},
		{`{"basic_auth":{"username":"u","password":"p"}}`, `{"basic_auth":{"password":null}}`, "basic_auth.password", "is required"},
		{`{}`, `{"oauth2":{"client_secret":"s"}}`, "oauth2.token_url", "is required"},
		{`{}`, `{"oauth2":{"scopes":["a"],"scopes":["b"]}}`, "oauth2.scopes", "stands twice"},
		{standard, `{"oauth2":{"audience":"a"}}`, "oauth2.audience", "unknown field"},
		{standard, `{"oauth2":{"client_id":null}}`, "oauth2.client_id", "is required"},
		{standard, `{"oauth2":{"token_url":"x"}}`, "oauth2.token_url", "http or https"},
		{standard, `{"oauth2":{"headers":{"X-A":"1","x-a":"2"}}}`, "oauth2.headers.x-a", "stands twice"},
		{standard, `{"oauth2":{"token_url":"https://evil.example/t","client_id":"i"}}`, "oauth2.client_secret", "must be given again, or null: what is set is for another host"},
		{standard, `{"oauth2":{"token_url":"http://auth.example/t","client_id":"i","scopes":null}}`, "oauth2.client_secret", "another host"},
		{`{"url":"https://a.example/","basic_auth":{"username":"u","password":"sekret"}}`, `{"url":"https://evil.example/","basic_auth":{"username":"v"}}`, "basic_auth.password", "another host"},
		{`{"basic_auth":{"username":"u","password":"p"}}`, `{"basic_auth":{"username":"a:b"},"headers":{"X-A":""}}`, "headers.X-A", "1 to 4096 bytes"},
	} {
		w := applyPatch(t, DefaultWebhook(), tt.has)
		patch, err := ParseMergePatch([]byte(tt.change))
		if err == nil {
			_, err = patch.applyTo(&w)
		}
		bad, ok := err.(InputErrors)
		if !ok || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, tt.detail) || strings.Contains(err.Error(), "sekret") {
			t.Errorf("%.90s, changed by %s: got %v, want %s: …%s…", tt.has, tt.change, err, tt.field, tt.detail)
		}
	}
}

// A webhook that moves takes along the headers that the change names, and no other.
func TestMergePatchMoves(t *testing.T) {
	w := applyPatch(t, DefaultWebhook(), `{"url":"https://a.example/","headers":{"X-A":"1","X-B":"2","X-C":"3"},"basic_auth":{"username":"u","password":"p"}}`)
	patch, err := ParseMergePatch([]byte(`{"headers":{"X-A":"1","x-c":null,"X-New":"4"},"url":"https://b.example/"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(patch.Changes(&w)); got != "[headers url basic_auth]" {
		t.Errorf("Changes is %s", got)
	}
	dropped, err := patch.applyTo(&w)
	if got := fmt.Sprint(dropped); err != nil || got != "[headers.X-B basic_auth]" {
		t.Errorf("dropped %s, %v", got, err)
	}
	if got := settingText(t, &w); got != `{"headers":{"X-A":"1","X-New":"4"}}` {
		t.Errorf("left is %s", got)
	}
}

// What a merge is made of can be read again, whatever is set.
func FuzzMergePatch(f *testing.F) {
	f.Add(`{"headers":{"X-A":"1"}}`, `{"headers":{"x-a":null,"X-B":"\u003c"}}`)
	f.Add(`{"oauth2":{"token_url":"https://a.example/","body":{"a":1}}}`, `{"oauth2":{"client_id":"i","client_secret":"s"}}`)
	f.Fuzz(func(t *testing.T, has, change string) {
		first, err := ParseWebhookPatch([]byte(has))
		if err != nil {
			return
		}
		w := DefaultWebhook()
		if _, err := first.applyTo(&w); err != nil {
			t.Fatal(err)
		}
		patch, err := ParseMergePatch([]byte(change))
		if err != nil {
			return
		}
		before := settingText(t, &w)
		after := w
		if _, err := patch.applyTo(&after); err != nil {
			return
		}
		if settingText(t, &w) != before || !json.Valid([]byte(settingText(t, &after))) {
			t.Fatalf("%s, changed by %s: %s and %s", has, change, settingText(t, &w), settingText(t, &after))
		}
	})
}
