package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// zeroTime is the zero time of Go and .NET: programs send it by mistake. It is long ago, and not the same as no time.
const zeroTime = "0001-01-01T00:00:00Z"

func TestPreview(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","send_leads":false}`)
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","content_id":"`+contentB+`"}`)
	at := func(second string) string {
		return `"time":"2024-01-01T00:00:` + second + `Z","session_id":"` + sessionA + `"`
	}
	f.want(202, "POST", "/v1/events", `{"type":"start","content_id":"`+contentA+`","content_type":"quiz","poltio_user_id":7,`+at("10")+`}
		{"type":"vote","question_id":1,"answer_id":2,"question":"1 < 2",`+at("20")+`}
		{"type":"lead","lead":{"email":"a@example.com"},`+at("25")+`}
		{"type":"result_view","result":{"result_id":3},`+at("30")+`}`)
	type payload struct {
		SessionID string            `json:"session_id"`
		Complete  bool              `json:"complete_session"`
		Answers   []json.RawMessage `json:"answers"`
		Result    json.RawMessage   `json:"result"`
		EventTime int64             `json:"event_time"`
	}
	preview := func(query string) (p payload, raw string) {
		raw = f.want(200, "GET", "/v1/webhooks/1/preview?session_id="+sessionA+query, "")
		if err := json.Unmarshal([]byte(raw), &p); err != nil {
			t.Fatal(err)
		}
		return p, raw
	}
	p, raw := preview("")
	if p.SessionID != sessionA || !p.Complete || len(p.Answers) != 1 || string(p.Result) == "null" || p.EventTime == 0 {
		t.Errorf("now: %s", raw)
	}
	if strings.Contains(raw, "leads") || !strings.Contains(raw, "1 < 2") {
		t.Errorf("not as this webhook wants it: %s", raw)
	}
	if p, raw := preview("&as_of=2024-01-01T00:00:29Z"); p.Complete || len(p.Answers) != 1 || string(p.Result) != "null" {
		t.Errorf("before the result: %s", raw)
	}
	if p, raw := preview("&as_of=2024-01-01T00:00:10Z"); p.Complete || len(p.Answers) != 0 {
		t.Errorf("at the start: %s", raw)
	}
	wantInputProblem(t, f.do("GET", "/v1/webhooks/1/preview?session_id="+sessionA+"&as_of=2024-01-01T00:00:09Z", ""), 0, "as_of", "nothing of the session")
	wantInputProblem(t, f.do("GET", "/v1/webhooks/1/preview?session_id="+sessionA+"&as_of="+zeroTime, ""), 0, "as_of", "nothing of the session")
	conflict := wantProblem(t, f.do("GET", "/v1/webhooks/2/preview?session_id="+sessionA, ""), http.StatusConflict)
	if !strings.Contains(conflict.Detail, "webhook 2 is for content "+contentB) {
		t.Errorf("detail %q", conflict.Detail)
	}
	wantProblem(t, f.do("GET", "/v1/webhooks/1/preview?session_id="+nobodys, ""), http.StatusNotFound)
	// Nothing has come of it.
	var list listOf[shownDelivery]
	f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
	if len(list.Items) != 1 || list.Items[0].Status != "scheduled" {
		t.Errorf("%+v", list.Items)
	}
}

func TestReplay(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA)+start(sessionB)+finish(sessionB))
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	type shownReplay struct {
		Status string  `json:"status"`
		Since  *string `json:"since"`
		Until  *string `json:"until"`
		DryRun bool    `json:"dry_run"`
		Count  int     `json:"count"`
		Queued int     `json:"queued"`
	}
	var r shownReplay
	f.wantJSON(&r, 200, "POST", "/v1/webhooks/1/replay", `{"status":"missing","dry_run":true}`)
	if r.Count != 2 || !r.DryRun || r.Since != nil || r.Until == nil || r.Status != "missing" {
		t.Errorf("%+v", r)
	}
	for _, scope := range []string{"missing", "any", "failed"} {
		f.wantJSON(&r, 200, "POST", "/v1/webhooks/1/replay", `{"status":"`+scope+`","since":"`+zeroTime+`","until":"`+zeroTime+`","dry_run":true}`)
		if r.Count != 0 || *r.Until != zeroTime || *r.Since != zeroTime {
			t.Errorf("until the zero time: %+v", r)
		}
	}
	r = shownReplay{}
	f.wantJSON(&r, 202, "POST", "/v1/webhooks/1/replay", `{"status":"missing","since":"2024-01-01T00:00:00Z"}`)
	if r.Count != 2 || r.DryRun || *r.Since != "2024-01-01T00:00:00Z" {
		t.Errorf("%+v", r)
	}
	// The engine does not run here: it waits, and shows.
	var detail struct{ Replays []shownReplay }
	if err := json.Unmarshal([]byte(f.want(200, "GET", "/v1/webhooks/1", "")), &detail); err != nil || len(detail.Replays) != 1 || detail.Replays[0].Count != 2 {
		t.Errorf("%+v, %v", detail, err)
	}
	f.wantJSON(&r, 202, "POST", "/v1/webhooks/1/replay", `{"status":"failed"}`)
	if r.Count != 0 {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct{ body, field, detail string }{
		{"", "", "malformed JSON"},
		{"{}", "status", "failed, filtered, any or missing"},
		{`{"status":"lost"}`, "status", `(got "lost")`},
		{`{"status":"any","since":"2024-01-02T00:00:00Z","until":"2024-01-01T00:00:00Z"}`, "until", "must not be before since"},
		{`{"status":"any","limit":5}`, "limit", "unknown field"},
	} {
		wantInputProblem(t, f.do("POST", "/v1/webhooks/1/replay", c.body), 0, c.field, c.detail)
	}
	f.want(200, "PATCH", "/v1/webhooks/1", `{"active":false}`)
	wantProblem(t, f.do("POST", "/v1/webhooks/1/replay", `{"status":"any"}`), http.StatusConflict)
}
