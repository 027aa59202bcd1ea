package ui_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// previewOf is the part of a page with the preview, as text.
func previewOf(page string) string {
	_, panel, _ := strings.Cut(page, `id="preview"`)
	return html.UnescapeString(panel)
}

// TestFormPreview sends the form for its preview: it comes back as it was typed, nothing is saved, and what is wrong stands beside its input.
func TestFormPreview(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/events", played(sessionA))
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/{id}","url_values":"{id: .session_id}","headers":{"X-Key":"sekret"},"transform":"{s: .session_id}"}`)
	form := settingsOf(f.wantPage("/webhooks/1/edit", `formaction="/webhooks/1/edit#preview"`, `>A sample: complete session<`, `value="`+sessionA+`"`))
	before := f.webhook(1)
	for _, tt := range []struct {
		name   string
		values []string
		want   []string
	}{
		{"as it is", nil, []string{"This would be sent", `"s": "22ffdf18-1035-4e56-baa2-8327e3af5242"`, "POST https://a.example/22ffdf18", "X-Key"}},
		{"a session", []string{"preview_session", sessionA}, []string{`value="` + sessionA + `" selected`, `"s": "` + sessionA}},
		{"a sample", []string{"preview_session", "incomplete", "transform", ".complete_session"}, []string{`value="incomplete" selected`, ">false</pre>"}},
		{"no such session", []string{"preview_session", contentA}, []string{"There is no such session any more"}},
		{"no session", []string{"preview_session", "<x>"}, []string{"must be a UUID"}},
		{"another content", []string{"preview_session", sessionA, "content_id", "018f4e9a-3b7c-7d21-9c65-0a1b2c3d4e18"}, []string{"is for content 018f4e9a"}},
		{"no URL yet", []string{"url", "ftp://x", "url_values", ""}, []string{"This would be sent", "POST (the URL must"}},
		{"filtered", []string{"filter", "false"}, []string{"the filter does not let this session through", `"poltio_user_id"`}},
		{"nothing", []string{"transform", "empty"}, []string{"the transform gives nothing", `"poltio_user_id"`}},
		{"a form", []string{"content_type", "application/x-www-form-urlencoded", "transform", "{a: [1, 2]}"}, []string{"a=1&a=2", "application/x-www-form-urlencoded"}},
		{"no transform", []string{"content_type", "text/plain", "transform", ""}, []string{"Nothing would be sent: Content type needs a transform", `"poltio_user_id"`}},
		{"no media type", []string{"content_type", "text"}, []string{"Nothing would be sent: Content type must be a media type", `"poltio_user_id"`}},
		{"a wrong delay", []string{"delay", "x"}, []string{"This would be sent"}},
		{"visitors' text", []string{"transform", `"<script>\u0007\u202e"`}, []string{`"<script>\u0007`}},
	} {
		page := f.wantIn(f.post("/webhooks/1/edit", with(form, tt.values...)), 200)
		for _, want := range tt.want {
			if got := previewOf(page); !strings.Contains(got, want) {
				t.Errorf("%s: the preview lacks %q:\n%s", tt.name, want, got)
			}
		}
		if strings.Contains(page, "Not saved") || strings.Contains(page, "sekret") {
			t.Errorf("%s: %s", tt.name, page)
		}
	}
	if got := f.webhook(1); asJSON(t, got)["revision"] != asJSON(t, before)["revision"] {
		t.Error("something was saved")
	}
}

// TestFormMarksPrograms: a mistake in a program stands beside it, with its line and a mark below the column; in the preview, and where it is saved.
func TestFormMarksPrograms(t *testing.T) {
	f := newFixture(t, nil)
	form := with(settingsOf(f.wantPage("/new-webhook")), "url", "https://a.example/", "transform", "{\r\n\ta: .b,\r\n\tb: ][\r\n}")
	for target, status := range map[string]int{"/new-webhook": 200, "/webhooks": 400} {
		page := f.wantIn(f.post(target, form), status, `id="transform-error">line 3, column 5: `, "3 |  b: ][\n        ^</pre>", `<details class="card" id="shaping" open>`)
		if tag := regexp.MustCompile(`<textarea id="transform"[^>]*>`).FindString(page); !strings.Contains(tag, `aria-invalid="true"`) {
			t.Errorf("%s: the input is not marked: %s", target, tag)
		}
		if sent := strings.ReplaceAll(settingsOf(page).Get("transform"), "\r\r", "\r"); sent != form.Get("transform") { // which a browser reads as one
			t.Errorf("%s: the program comes back as %q", target, sent)
		}
	}
	long := strings.Repeat("1+", 2000)
	page := f.wantIn(f.post("/new-webhook", with(form, "transform", long+"]"+long)), 200)
	_, mark, _ := strings.Cut(html.UnescapeString(page), `aria-hidden="true">1 | `)
	if want := "…" + strings.Repeat("1+", 18) + "]" + strings.Repeat("1+", 17) + "1…\n" + strings.Repeat(" ", len("1 | ")+1+36) + "^</pre>"; !strings.HasPrefix(mark, want) {
		t.Errorf("a long line: %.200s", mark)
	}
}

// TestRecipeForms fills the form in by each recipe. What has to be filled in is marked, also after the form was sent, and the preview shows a body.
func TestRecipeForms(t *testing.T) {
	f := newFixture(t, nil)
	page := f.wantPage("/new-webhook", "Start from a recipe")
	names := regexp.MustCompile(`href="/new-webhook\?recipe=(\w+)"`).FindAllStringSubmatch(page, -1)
	if len(names) < 10 {
		t.Errorf("%d recipes", len(names))
	}
	for _, m := range names {
		page := f.wantPage("/new-webhook?recipe="+m[1], `name="recipe" value="`+m[1]+`"`, `class="blank"`, `id="shaping" open>`)
		form := settingsOf(page)
		form.Set("preview_session", "")
		again := f.wantIn(f.post("/new-webhook", form), 200, `class="blank"`)
		if got := previewOf(again); !strings.Contains(got, "This would be sent") {
			t.Errorf("%s: %s", m[1], got)
		}
	}
	for _, target := range []string{"/new-webhook?recipe=nonsense", "/new-webhook?recipe="} {
		if page := f.wantPage(target); strings.Contains(page, `name="recipe"`) {
			t.Errorf("%s has a recipe", target)
		}
	}
	// A webhook that is made of it.
	form := with(settingsOf(f.wantPage("/new-webhook?recipe=hubspot")), "headers", "Authorization: Bearer sekret")
	f.wantIn(f.post("/webhooks", form), 303)
	if w := f.webhook(1); w.Transform == nil || string(w.Headers["Authorization"].Value) != "Bearer sekret" || w.RateLimit == nil {
		t.Errorf("%+v", w)
	}
}

// TestParkedOnPages: the page of a webhook counts what was filtered and what waits for a program to be mended, with a way out; the delivery leads
// to the form, with its session; and what is mended is built and sent.
func TestParkedOnPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/{id}","delay":0,"filter":".content_type == \"quiz\"","transform":".leads[0].email // .content_id | tonumber? // ascii_downcase",
			"url_values":"{id: .session_id}"}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0,"transform":"if .session_id == \"`+sessionB+`\" then .poltio_user_id | keys else . end"}`)
		f.api("POST", "/v1/events", played(sessionB))
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0,"filter":".poltio_user_id == null"}`)
		f.api("POST", "/v1/events", played(sessionA))
		time.Sleep(time.Minute)
		page := f.wantPage("/webhooks/2", "1 delivery waits</a> for a program to be mended", `href="/webhooks/2/replay?status=failed-transform#count">Build 1 delivery again</a>`)
		f.wantPage("/webhooks/3", "<dt>Filtered</dt>", `href="/deliveries?webhook_id=3&amp;status=filtered"`)
		if strings.Contains(page, "<dt>Filtered</dt>") {
			t.Error("it counts what was filtered, and nothing was")
		}
		id := regexp.MustCompile(`id="d-([0-9a-f-]{36})"`).FindAllStringSubmatch(f.wantPage("/deliveries?webhook_id=2&status=failed"), -1)
		if len(id) != 1 {
			t.Fatalf("%q have failed", id)
		}
		f.wantPage("/deliveries/"+id[0][1], `href="/webhooks/2/edit?session_id=`+sessionB+`#preview">Mend the program, with this session</a>`, "A program of the webhook could not build")
		f.wantPage("/webhooks/2/edit?session_id="+sessionB, `value="`+sessionB+`" selected`)
		sent := regexp.MustCompile(`id="d-([0-9a-f-]{36})"`).FindStringSubmatch(f.wantPage("/deliveries?webhook_id=1&status=delivered"))
		f.wantPage("/deliveries/"+sent[1], "<dt>URL</dt><dd class=\"mono\">https://a.example/22ffdf18", "-g &#39;https://a.example/22ffdf18")

		f.wantPage("/webhooks/2/replay?status=failed-transform", "They are built anew", `name="status" value="failed-transform"`)
		f.api("PATCH", "/v1/webhooks/2", `{"transform":"."}`)
		f.wantIn(f.post("/webhooks/2/replay", url.Values{"status": {"failed-transform"}}), 303)
		time.Sleep(time.Minute)
		if page := f.wantPage("/webhooks/2"); strings.Contains(page, "to be mended") || strings.Contains(page, "Build 1") {
			t.Error("it still waits")
		}
	})
}
