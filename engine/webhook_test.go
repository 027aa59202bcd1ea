package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// applyPatch parses settings and applies them to a copy of a webhook.
func applyPatch(t *testing.T, to Webhook, body string) Webhook {
	t.Helper()
	patch, err := ParseWebhookPatch([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := patch.applyTo(&to); err != nil {
		t.Fatal(err)
	}
	return to
}

const vectorSecret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") // of Standard Webhooks' reference libraries

var vectorTime = time.Unix(1614265330, 0)

// testSecret returns the n-th of ten secrets.
func testSecret(n int) Secret {
	return Secret("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, 32)))
}

// changedWebhook is a webhook on which no setting has its default.
func changedWebhook() Webhook {
	return Webhook{
		ID: 7, Revision: 3, URL: "https://example.com/hook", ContentID: &foldContent, Name: "n", Active: false, Paused: true, PauseReason: "410 Gone",
		Delay: 1, IncompleteDelay: 2, SendAnswers: false, SendLeads: false, SendIncomplete: true, Timeout: new(Duration(time.Second)),
		MaxInFlight: new(5), RetrySchedule: new([]Duration{Duration(time.Minute)}), Secret: vectorSecret,
		PreviousSecrets: []PreviousSecret{{testSecret(1), vectorTime.UTC()}, {testSecret(2), vectorTime.UTC().Add(time.Hour)}},
	}
}

func TestDefaultWebhook(t *testing.T) {
	want := Webhook{Active: true, Delay: 10, SendAnswers: true, SendLeads: true, SendIncomplete: false, IncompleteDelay: 60}
	if got := DefaultWebhook(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWebhookPatch(t *testing.T) {
	tests := []struct {
		body string
		want func(*Webhook) // the change of changedWebhook
	}{
		{`{}`, func(*Webhook) {}},
		{" {\r\n}\n", func(*Webhook) {}},
		{`{"url":"http://example.org:8080/a?b=c&d=%20"}`, func(w *Webhook) { w.URL = "http://example.org:8080/a?b=c&d=%20" }},
		{`{"content_id":"22FFDF18-1035-4e56-baa2-8327e3af5242"}`, func(w *Webhook) { w.ContentID = &foldSID }},
		{`{"content_id":null}`, func(w *Webhook) { w.ContentID = nil }},
		{`{"name":" <ünï> "}`, func(w *Webhook) { w.Name = " <ünï> " }},
		{`{"name":"` + strings.Repeat("ü", 200) + `"}`, func(w *Webhook) { w.Name = strings.Repeat("ü", 200) }},
		{`{"name":null}`, func(w *Webhook) { w.Name = "" }},
		{`{"active":true}`, func(w *Webhook) { w.Active = true }},
		{`{"active":null}`, func(w *Webhook) { w.Active = true }},
		{`{"active":false}`, func(w *Webhook) {}},
		{`{"paused":true}`, func(w *Webhook) {}}, // paused already: the reason stays
		{`{"paused":false}`, func(w *Webhook) { w.Paused, w.PauseReason = false, "" }},
		{`{"paused":null}`, func(w *Webhook) { w.Paused, w.PauseReason = false, "" }},
		{`{"delay":0,"incomplete_delay":31536000}`, func(w *Webhook) { w.Delay, w.IncompleteDelay = 0, 31_536_000 }},
		{`{"delay":null,"incomplete_delay":null}`, func(w *Webhook) { w.Delay, w.IncompleteDelay = 10, 60 }},
		{`{"send_answers":true,"send_leads":true,"send_incomplete":false}`, func(w *Webhook) { w.SendAnswers, w.SendLeads, w.SendIncomplete = true, true, false }},
		{`{"send_answers":null,"send_leads":null,"send_incomplete":null}`, func(w *Webhook) { w.SendAnswers, w.SendLeads, w.SendIncomplete = true, true, false }},
		{`{"timeout":"2m"}`, func(w *Webhook) { w.Timeout = new(Duration(2 * time.Minute)) }},
		{`{"timeout":"1500ms"}`, func(w *Webhook) { w.Timeout = new(Duration(1500 * time.Millisecond)) }},
		{`{"timeout":null,"max_in_flight":null,"retry_schedule":null}`, func(w *Webhook) { w.Timeout, w.MaxInFlight, w.RetrySchedule = nil, nil, nil }},
		{`{"max_in_flight":1}`, func(w *Webhook) { w.MaxInFlight = new(1) }},
		{`{"max_in_flight":1000}`, func(w *Webhook) { w.MaxInFlight = new(1000) }},
		{`{"method":"POST"}`, func(w *Webhook) { w.Method = "" }},
		{`{"method":"PUT","success":[410,302]}`, func(w *Webhook) { w.Method, w.Success = "PUT", []int{302, 410} }},
		{`{"retry_schedule":[]}`, func(w *Webhook) { w.RetrySchedule = new([]Duration{}) }},
		{`{"retry_schedule":["1s","720h"]}`, func(w *Webhook) { w.RetrySchedule = new([]Duration{Duration(time.Second), Duration(720 * time.Hour)}) }},
		{`{"secret":"whsec_` + strings.Repeat("A", 43) + `="}`, func(w *Webhook) { w.Secret, w.PreviousSecrets = Secret("whsec_"+strings.Repeat("A", 43)+"="), nil }},
		{`{"secret":"` + string(vectorSecret) + `"}`, func(w *Webhook) { w.PreviousSecrets = nil }}, // the present one: it is to be alone
	}
	for _, tt := range tests {
		t.Run(tt.body[:min(60, len(tt.body))], func(t *testing.T) {
			want := changedWebhook()
			tt.want(&want)
			if got := applyPatch(t, changedWebhook(), tt.body); !reflect.DeepEqual(got, want) {
				t.Errorf("\n got %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestWebhookPatchPauseByHand: the first hold by hand says so, lifting it clears the reason.
func TestWebhookPatchPauseByHand(t *testing.T) {
	w := applyPatch(t, DefaultWebhook(), `{"paused":true}`)
	if !w.Paused || w.PauseReason != "paused by hand" {
		t.Errorf("paused %t, %q", w.Paused, w.PauseReason)
	}
	if w = applyPatch(t, w, `{"paused":false}`); w.Paused || w.PauseReason != "" {
		t.Errorf("paused %t, %q", w.Paused, w.PauseReason)
	}
}

func TestWebhookPatchNewSecret(t *testing.T) {
	w := applyPatch(t, changedWebhook(), `{"secret":null}`)
	if _, err := w.Secret.Key(); err != nil || w.Secret == vectorSecret || w.PreviousSecrets != nil {
		t.Errorf("secret unchanged or bad, or not alone: %v, %v", err, w.PreviousSecrets)
	}
}

// TestWebhookPatchAppliesTwice: a patch may be applied again when somebody else was faster, and shares nothing.
func TestWebhookPatchAppliesTwice(t *testing.T) {
	patch, err := ParseWebhookPatch([]byte(`{"name":"x","retry_schedule":["5s"],"content_id":"22ffdf18-1035-4e56-baa2-8327e3af5242"}`))
	if err != nil {
		t.Fatal(err)
	}
	a, b := changedWebhook(), changedWebhook()
	for _, w := range []*Webhook{&a, &b} {
		if _, err := patch.applyTo(w); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(a, b) || a.Name != "x" {
		t.Errorf("%+v\n%+v", a, b)
	}
}

func TestWebhookPatchRefuses(t *testing.T) {
	tests := []struct {
		body, field, detail string
	}{
		{``, "", "ends too early"},
		{`[]`, "", "must be an object (got a list)"},
		{`null`, "", "must be an object (got null)"},
		{`{} {}`, "", "the end of the body after one object expected"},
		{"{}\x00", "", "the end of the body after one object expected"},
		{`{"name":"a"`, "", "malformed JSON at byte 12"},
		{"{\"name\":\"\xff\"}", "", "not valid UTF-8"},
		{`{"name":"\ud800","url":"\ud800"}`, "url", "http or https"},
		{`{"nme":"a"}`, "nme", "unknown field"},
		{`{"Name":"a"}`, "Name", "unknown field"},
		{`{"id":1}`, "id", "unknown field"},
		{`{"revision":1}`, "revision", "unknown field"},
		{`{"pause_reason":"x"}`, "pause_reason", "unknown field"},
		{`{"x":` + strings.Repeat("[", 1000) + `}`, "", "nested deeper"},
		{`{"name":"a","name":"b"}`, "name", "stands twice"},
		{`{"name":"` + strings.Repeat("ü", 201) + `"}`, "name", "at most 200 characters"},
		{`{"name":1}`, "name", "must be a string"},
		{`{"active":"true"}`, "active", "must be true or false"},
		{`{"active":1}`, "active", "must be true or false"},
		{`{"paused":0}`, "paused", "must be true or false"},
		{`{"delay":-1}`, "delay", "whole seconds, 0 to 31536000 (got -1)"},
		{`{"delay":31536001}`, "delay", "whole seconds, 0 to 31536000"},
		{`{"delay":1.5}`, "delay", "must be an integer"},
		{`{"delay":"10s"}`, "delay", "must be an integer"},
		{`{"delay":9223372036854775808}`, "delay", "64-bit"},
		{`{"incomplete_delay":-60}`, "incomplete_delay", "whole seconds"},
		{`{"content_id":"{6caaa000-2bd8-4b28-8b9b-bfe1fca94f39}"}`, "content_id", "UUID of 36 characters"},
		{`{"content_id":"all"}`, "content_id", "UUID of 36 characters"},
		{`{"timeout":15}`, "timeout", "must be a string"},
		{`{"timeout":"15"}`, "timeout", "must be a duration"},
		{`{"timeout":"999ms"}`, "timeout", "must be 1s to 2m (got 999ms)"},
		{`{"timeout":"2m0.001s"}`, "timeout", "must be 1s to 2m"},
		{`{"timeout":"-5s"}`, "timeout", "must be 1s to 2m"},
		{`{"max_in_flight":0}`, "max_in_flight", "must be 1 to 1000 (got 0)"},
		{`{"max_in_flight":1001}`, "max_in_flight", "must be 1 to 1000"},
		{`{"retry_schedule":"5s"}`, "retry_schedule", "must be a list"},
		{`{"method":"DELETE"}`, "method", `must be POST, PUT, PATCH or GET, in capital letters (got "DELETE")`},
		{`{"method":"put"}`, "method", "in capital letters"},
		{`{"method":""}`, "method", "must be POST, PUT"},
		{`{"success":302}`, "success", "must be a list"},
		{`{"success":["302"]}`, "success[0]", "must be an integer"},
		{`{"success":[302,299]}`, "success[1]", "must be 300 to 599 (got 299): every 2xx delivers anyway"},
		{`{"success":[200]}`, "success[0]", "every 2xx delivers anyway"},
		{`{"success":[100]}`, "success[0]", "must be 300 to 599 (got 100)"},
		{`{"success":[600]}`, "success[0]", "must be 300 to 599 (got 600)"},
		{`{"success":[302,302]}`, "success[1]", "is there twice (302)"},
		{`{"success":[300,301,302,303,304,305,306,307,308,309,310,311,312,313,314,315,316]}`, "success", "at most 16 statuses (got 17)"},
		{`{"retry_schedule":["5s",5]}`, "retry_schedule[1]", "must be a string"},
		{`{"retry_schedule":["5s","soon"]}`, "retry_schedule[1]", "must be a duration"},
		{`{"retry_schedule":["999ms"]}`, "retry_schedule", "each step must be 1s to 720h"},
		{`{"retry_schedule":["721h"]}`, "retry_schedule", "each step must be 1s to 720h"},
		{`{"retry_schedule":["5s"` + strings.Repeat(`,"5s"`, 50) + `]}`, "retry_schedule", "at most 50 steps (got 51)"},
		{`{"secret":"hush"}`, "secret", "must be whsec_ followed by the base64"},
		{`{"secret":""}`, "secret", "must be whsec_"},
		{`{"url":null}`, "url", "has no default"},
		{`{"url":7}`, "url", "must be a string"},
	}
	for _, tt := range tests {
		t.Run(tt.body[:min(60, len(tt.body))], func(t *testing.T) {
			_, err := ParseWebhookPatch([]byte(tt.body))
			errs, ok := errors.AsType[InputErrors](err)
			if !ok || len(errs) != 1 {
				t.Fatalf("got %v, want one InputError", err)
			}
			if got := errs[0]; got.Index != 0 || got.Field != tt.field || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %+v, want %q, …%s…", got, tt.field, tt.detail)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
}

// TestWebhookPatchNamesAll: one reading finds everything that is wrong.
func TestWebhookPatchNamesAll(t *testing.T) {
	_, err := ParseWebhookPatch([]byte(`{"url":"ftp://a","delay":-1,"name":"fine","nme":1,"basic_auth":{"password":""},"retry_schedule":["soon","later"],"content_id":null,"active":7}`))
	errs, ok := errors.AsType[InputErrors](err)
	if !ok {
		t.Fatalf("got %v, want InputErrors", err)
	}
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field)
	}
	if want := []string{"url", "delay", "nme", "basic_auth.username", "retry_schedule[0]", "active"}; !slices.Equal(fields, want) {
		t.Errorf("it names %v, want %v", fields, want)
	}
}

func TestParseRotation(t *testing.T) {
	const day = 24 * time.Hour
	given := testSecret(5)
	for _, tt := range []struct {
		body string
		want Rotation
	}{
		{``, Rotation{Overlap: day}},
		{` { } `, Rotation{Overlap: day}},
		{`{"overlap":null,"secret":null}`, Rotation{Overlap: day}},
		{`{"overlap":"0s"}`, Rotation{}},
		{`{"overlap":"720h"}`, Rotation{Overlap: 30 * day}},
		{`{"overlap":"1h30m","secret":"` + string(given) + `"}`, Rotation{Overlap: 90 * time.Minute, Secret: given}},
	} {
		if got, err := ParseRotation([]byte(tt.body)); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, %v; want %v", tt.body, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ body, field, detail string }{
		{` `, "", "ends too early"},
		{`null`, "", "must be an object (got null)"},
		{`[]`, "", "must be an object (got a list)"},
		{`{"overlap":"1h"`, "", "malformed JSON at byte 16"},
		{`{} {}`, "", "the end of the body after one object expected"},
		{"{\"secret\":\"\xff\"}", "", "not valid UTF-8"},
		{`{"Overlap":"1h"}`, "Overlap", "unknown field"},
		{`{"overlap":"1h","overlap":"2h"}`, "overlap", "stands twice"},
		{`{"overlap":24}`, "overlap", "must be a string (got a number)"},
		{`{"overlap":"24"}`, "overlap", "must be a duration"},
		{`{"overlap":"1d"}`, "overlap", "must be a duration"},
		{`{"overlap":"-1ns"}`, "overlap", "must be 0s to 720h (got -1ns)"},
		{`{"overlap":"720h0m1s"}`, "overlap", "must be 0s to 720h (got 720h0m1s)"},
		{`{"secret":"hush"}`, "secret", "must be whsec_ followed by the base64 of 24 to 64 bytes"},
		{`{"secret":""}`, "secret", "must be whsec_"},
		{`{"secret":7}`, "secret", "must be a string"},
	} {
		got, err := ParseRotation([]byte(tt.body))
		errs, ok := errors.AsType[InputErrors](err)
		if !ok || len(errs) != 1 || errs[0].Field != tt.field || !strings.Contains(errs[0].Detail, tt.detail) || !reflect.DeepEqual(got, Rotation{}) {
			t.Errorf("%s: got %v, %v; want %q, …%s…", tt.body, got, err, tt.field, tt.detail)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

// TestRotate goes through rotations of one webhook. The digits of want are the numbers of the secrets that sign, newest first.
func TestRotate(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	w := Webhook{Secret: testSecret(0), PreviousSecrets: make([]PreviousSecret, 0, 8)} // room to write over what a copy sees
	signing := func(w *Webhook) string {
		var digits strings.Builder
		for _, s := range w.signingSecrets(now) {
			key, err := s.Key()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(&digits, key[0])
		}
		return digits.String()
	}
	for _, step := range []struct {
		name    string
		wait    time.Duration // before it
		to      int
		overlap time.Duration
		want    string
	}{
		{"the first", 0, 1, time.Hour, "10"},
		{"a nanosecond before the end of 0", time.Hour - 1, 2, time.Minute, "210"},
		{"at the end of 0, and 2 stops at once", 1, 3, 0, "31"},
		{"no longer overlap for 1, which was to end a minute later", time.Minute - 1, 4, time.Hour, "43"},
		{"taken back", 0, 3, time.Hour, "34"},
		{"to a new one again", 0, 5, time.Hour, "534"},
		{"a fourth: the oldest stops before its time", 0, 6, MaxOverlap, "653"},
		{"at the end of 3", time.Hour, 7, time.Hour, "765"},
		{"a nanosecond before the end of 5", MaxOverlap - time.Hour - 1, 8, time.Second, "875"},
	} {
		now = now.Add(step.wait)
		before := w
		seen := signing(&before)
		w.rotate(testSecret(step.to), step.overlap, now)
		if got := signing(&w); got != step.want {
			t.Errorf("%s: %s sign, want %s", step.name, got, step.want)
		}
		if got := signing(&before); got != seen {
			t.Errorf("%s: it changed the webhook that was there before: %s sign, not %s", step.name, got, seen)
		}
		if len(w.PreviousSecrets) != len(step.want)-1 {
			t.Errorf("%s: %d secrets are kept beside the present one, but %s sign", step.name, len(w.PreviousSecrets), step.want)
		}
	}
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{1, "87"}, {time.Second - 2, "87"}, {1, "8"}} { // without a rotation
		if now = now.Add(step.wait); signing(&w) != step.want {
			t.Errorf("%s sign, want %s", signing(&w), step.want)
		}
	}
	w.PreviousSecrets = slices.Repeat([]PreviousSecret{{testSecret(1), now.Add(1)}}, 5) // whatever a database may hold
	if got := signing(&w); got != "811" {
		t.Errorf("%s sign, want three", got)
	}
}

func TestDurationText(t *testing.T) {
	for _, text := range []string{"0s", "1s", "15s", "1m", "5m", "1m30s", "10m", "1h", "10h", "1h30m", "1h0m5s", "720h", "1.5s", "500ms", "-5m"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if d.String() != text {
			t.Errorf("%s is written as %s", text, d)
		}
	}
	for _, text := range []string{"", "5", "5 s", "soon", "1d"} {
		if err := new(Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestWebhookStoredForm: what is stored reads back the same, with all settings at their defaults and with none.
func TestWebhookStoredForm(t *testing.T) {
	for _, w := range []Webhook{DefaultWebhook(), changedWebhook()} {
		b, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var back Webhook
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, w) {
			t.Errorf("\n got %+v\nwant %+v", back, w)
		}
	}
}

func TestCancellations(t *testing.T) {
	other := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	base := func(change func(*Webhook)) *Webhook {
		w := changedWebhook()
		w.Active = true
		change(&w)
		return &w
	}
	asIs := func(*Webhook) {}
	tests := []struct {
		name          string
		before, after *Webhook
		want          []Cancellation
	}{
		{"nothing", base(asIs), base(asIs), nil},
		{"what the payload reads", base(asIs), base(func(w *Webhook) { w.SendAnswers, w.SendLeads, w.Delay, w.IncompleteDelay = true, true, 99, 99 }), nil},
		{"another URL", base(asIs), base(func(w *Webhook) { w.URL = "https://example.org/" }), nil},
		{"paused and on again", base(func(w *Webhook) { w.Paused = false }), base(asIs), nil},
		{"switched on", base(func(w *Webhook) { w.Active = false }), base(asIs), nil},
		{"switched off", base(asIs), base(func(w *Webhook) { w.Active = false }), []Cancellation{{WebhookID: 7, Revision: 3, Scope: CancelAll}}},
		{"switched off and more", base(asIs), base(func(w *Webhook) { w.Active, w.SendIncomplete, w.ContentID = false, false, &other }), []Cancellation{{WebhookID: 7, Revision: 3, Scope: CancelAll}}},
		{"no more incomplete", base(asIs), base(func(w *Webhook) { w.SendIncomplete = false }), []Cancellation{{WebhookID: 7, Revision: 3, Scope: CancelIncomplete}}},
		{"incomplete from now on", base(func(w *Webhook) { w.SendIncomplete = false }), base(asIs), nil},
		{"to every content", base(asIs), base(func(w *Webhook) { w.ContentID = nil }), nil},
		{"from every content", base(func(w *Webhook) { w.ContentID = nil }), base(asIs), []Cancellation{{WebhookID: 7, Revision: 3, Scope: CancelContent, ContentID: foldContent}}},
		{"to another content", base(asIs), base(func(w *Webhook) { w.ContentID = &other }), []Cancellation{{WebhookID: 7, Revision: 3, Scope: CancelContent, ContentID: other}}},
		{"the same content, another pointer", base(asIs), base(func(w *Webhook) { w.ContentID = new(*w.ContentID) }), nil},
		{"two at once", base(asIs), base(func(w *Webhook) { w.SendIncomplete, w.ContentID = false, &other }),
			[]Cancellation{{WebhookID: 7, Revision: 3, Scope: CancelContent, ContentID: other}, {WebhookID: 7, Revision: 3, Scope: CancelIncomplete}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Cancellations(tt.before, tt.after); !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCancellationCovers(t *testing.T) {
	other := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	delivery := func(revision uint64, kind Kind) *Delivery {
		return &Delivery{WebhookID: 7, WebhookRevision: revision, Kind: kind}
	}
	all := Cancellation{WebhookID: 7, Revision: 3, Scope: CancelAll}
	incomplete := Cancellation{WebhookID: 7, Revision: 3, Scope: CancelIncomplete}
	content := Cancellation{WebhookID: 7, Revision: 3, Scope: CancelContent, ContentID: foldContent}
	tests := []struct {
		name    string
		c       Cancellation
		d       *Delivery
		content uuid.UUID
		want    bool
	}{
		{"all, of its revision", all, delivery(3, KindComplete), foldContent, true},
		{"all, older", all, delivery(1, KindIncomplete), foldContent, true},
		{"all, a test", all, delivery(3, KindTest), uuid.Nil, true},
		{"all, queued after the change", all, delivery(4, KindComplete), foldContent, false},
		{"all, of another webhook", all, &Delivery{WebhookID: 8, WebhookRevision: 3, Kind: KindComplete}, foldContent, false},
		{"incomplete, an incomplete one", incomplete, delivery(3, KindIncomplete), foldContent, true},
		{"incomplete, a complete one", incomplete, delivery(3, KindComplete), foldContent, false},
		{"incomplete, a test", incomplete, delivery(3, KindTest), uuid.Nil, false},
		{"incomplete, queued after the change", incomplete, delivery(4, KindIncomplete), foldContent, false},
		{"content, another one", content, delivery(3, KindComplete), other, true},
		{"content, another one, incomplete", content, delivery(2, KindIncomplete), other, true},
		{"content, the one that fits", content, delivery(3, KindComplete), foldContent, false},
		{"content, a test, which has none", content, delivery(3, KindTest), uuid.Nil, false},
		{"content, queued after the change", content, delivery(4, KindComplete), other, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.d.ContentID = tt.content
			if got := tt.c.Covers(tt.d); got != tt.want {
				t.Errorf("Covers = %t", got)
			}
			set := NewWebhookSet(nil, []Cancellation{{WebhookID: 9, Revision: 9, Scope: CancelAll}, tt.c})
			if got := set.Covered(tt.d); got != tt.want {
				t.Errorf("Covered = %t", got)
			}
		})
	}
}

func TestWebhookSet(t *testing.T) {
	hooks := []*Webhook{{ID: 4_000_000_000}, {ID: 2}, {ID: 3}}
	set := NewWebhookSet(hooks, []Cancellation{{WebhookID: 2, Scope: CancelAll}, {WebhookID: 2, Scope: CancelIncomplete}})
	var ids []uint32
	for _, w := range set.All() {
		ids = append(ids, w.ID)
	}
	if want := []uint32{2, 3, 4_000_000_000}; !slices.Equal(ids, want) {
		t.Errorf("All has %v, want %v", ids, want)
	}
	if w := set.Get(3); w != hooks[2] {
		t.Errorf("Get(3) = %v", w)
	}
	if w := set.Get(5); w != nil {
		t.Errorf("Get(5) = %v, want nil", w)
	}
	if got := len(set.Cancellations(2)); got != 2 {
		t.Errorf("%d cancellations of 2, want 2", got)
	}
	if got := set.Cancellations(3); got != nil {
		t.Errorf("cancellations of 3: %v", got)
	}
}
