package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shownDetail is the answer of GET /v1/deliveries/:id as a client reads it.
type shownDetail struct {
	shownDelivery
	Payload  any `json:"payload"`
	Attempts []struct {
		StartedAt  string  `json:"started_at"`
		DurationMS float64 `json:"duration_ms"`
		Phases     struct {
			TokenMS     *float64 `json:"token_ms"`
			DNSMS       *float64 `json:"dns_ms"`
			ConnectMS   *float64 `json:"connect_ms"`
			TLSMS       *float64 `json:"tls_ms"`
			FirstByteMS *float64 `json:"first_byte_ms"`
		} `json:"phases"`
		Address         *string             `json:"address"`
		Reused          bool                `json:"connection_reused"`
		Repeated        *string             `json:"repeated"`
		Protocol        *string             `json:"protocol"`
		Status          *int                `json:"status"`
		Error           *string             `json:"error"`
		ErrorDetail     *string             `json:"error_detail"`
		RequestHeaders  map[string][]string `json:"request_headers"`
		ResponseHeaders map[string][]string `json:"response_headers"`
		Response        string              `json:"response"`
		NextAttemptAt   *string             `json:"next_attempt_at"`
		NextReason      *string             `json:"next_reason"`
	} `json:"attempts"`
}

func TestCancelAndRetry(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	var list listOf[shownDelivery]
	f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
	if len(list.Items) != 1 {
		t.Fatalf("%+v", list)
	}
	id := list.Items[0].ID
	target := "/v1/deliveries/" + id

	// The shape, to the letter, of one that waits for its time.
	d := list.Items[0]
	want := fmt.Sprintf(`{"id":%q,"webhook_id":1,"session_id":%q,"kind":"complete","status":"scheduled","created_at":%q,"due_at":%q,"as_of":null,"next_attempt_at":%q,`+
		`"frozen_at":null,"finished_at":null,"attempts_made":0,"last_status":null,"last_error":null,"build_error":null,"late_events":0,"superseded_by":null`, id, sessionA, *d.CreatedAt, *d.DueAt, *d.DueAt)
	if got := f.want(200, "GET", target, ""); got != want+`,"payload":null,"shaped":false,"content_type":null,"url_values":{},"attempts":[]}`+"\n" {
		t.Errorf("got  %swant %s", got, want)
	}
	if got := f.want(200, "GET", "/v1/deliveries", ""); got != `{"items":[`+want+`}],"next_cursor":null}`+"\n" {
		t.Errorf("got  %swant %s", got, want)
	}

	f.wantJSON(&d, 200, "POST", target+"/cancel", "")
	if d.ID != id || d.Status != "cancelled" || d.NextAttemptAt != nil || d.FinishedAt == nil {
		t.Errorf("cancelled: %+v", d)
	}
	p := wantProblem(t, f.do("POST", target+"/cancel", ""), http.StatusConflict)
	if p.Detail != "it is cancelled; only a scheduled or pending delivery can be cancelled" {
		t.Errorf("detail %q", p.Detail)
	}
	f.wantJSON(&d, 202, "POST", target+"/retry", "")
	if d.ID != id || d.Status != "scheduled" || d.NextAttemptAt == nil || d.FinishedAt != nil {
		t.Errorf("retried: %+v", d)
	}
	f.want(200, "PATCH", "/v1/webhooks/1", `{"active":false}`)
	wantProblem(t, f.do("POST", target+"/retry", ""), http.StatusConflict)

	for _, path := range []string{"", "/retry", "/cancel"} {
		method := map[bool]string{true: "GET", false: "POST"}[path == ""]
		wantProblem(t, f.do(method, "/v1/deliveries/"+nobodys+path, ""), http.StatusNotFound)
		for _, bad := range []string{"1", "x", id[:35], strings.ReplaceAll(id, "-", "")} {
			wantInputProblem(t, f.do(method, "/v1/deliveries/"+bad+path, ""), 0, "id", "must be a UUID")
		}
	}
}

func TestTestDelivery(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","active":false,"paused":true}`)
	var d shownDelivery
	f.wantJSON(&d, 202, "POST", "/v1/webhooks/1/test", "")
	if d.Kind != "test" || d.Status != "pending" || d.SessionID != nil || d.FrozenAt == nil {
		t.Errorf("%+v", d)
	}
	var got shownDetail
	f.wantJSON(&got, 200, "GET", "/v1/deliveries/"+d.ID, "")
	if payload, ok := got.Payload.(map[string]any); !ok || payload["complete_session"] != true {
		t.Errorf("payload %v", got.Payload)
	}
}

// TestAttempts lets the engine fail twice and then deliver, in fake time, and reads what is shown of it.
func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		f := newFixtureOn(t, Config{}, func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			sent = append(sent, string(body))
			if len(sent) > 1 { // the first one is not even sent
				httptrace.ContextClientTrace(r.Context()).WroteHeaders()
			}
			time.Sleep(12345678 * time.Nanosecond)
			switch len(sent) {
			case 1:
				return nil, errors.New("the wire is cut")
			case 2:
				return &http.Response{StatusCode: 503, Proto: "HTTP/1.1", Header: http.Header{"Retry-After": {"9"}, "X-A": {"<1>", "2"}},
					Body: io.NopCloser(strings.NewReader("a\xffb <&> \x00"))}, nil
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		})
		f.run(t)
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","delay":0,"retry_schedule":["5s","5s"],"headers":{"x-api-key":"sesame"}}`)
		question := `{"type":"vote","session_id":"` + sessionA + `","question_id":1,"question":"1 < 2 && \"3\"","answer_id":2,"time":"2000-01-01T00:00:00.5Z"}`
		f.want(202, "POST", "/v1/events", start(sessionA)+question+finish(sessionA))
		time.Sleep(time.Minute)

		var list listOf[shownDelivery]
		f.wantJSON(&list, 200, "GET", "/v1/deliveries?status=delivered", "")
		if len(list.Items) != 1 || len(sent) != 3 || sent[0] != sent[2] {
			t.Fatalf("%+v\n%q", list, sent)
		}
		raw := f.want(200, "GET", "/v1/deliveries/"+list.Items[0].ID, "")
		if !strings.Contains(raw, `"payload":`+sent[0]+`,`) {
			t.Errorf("the payload is not shown as it was sent:\n%s\n%s", raw, sent[0])
		}
		var d shownDetail
		f.wantJSON(&d, 200, "GET", "/v1/deliveries/"+list.Items[0].ID, "")
		if d.Status != "delivered" || d.AttemptsMade != 3 || *d.LastStatus != 204 || d.LastError != nil || d.NextAttemptAt != nil || d.FinishedAt == nil || d.FrozenAt == nil {
			t.Errorf("%+v", d.shownDelivery)
		}
		if len(d.Attempts) != 3 {
			t.Fatalf("%d attempts", len(d.Attempts))
		}
		a := d.Attempts
		if a[0].Status != nil || a[0].Error == nil || a[0].ErrorDetail == nil || a[0].Response != "" || a[0].DurationMS != 12.345 {
			t.Errorf("first attempt %+v", a[0])
		}
		if *a[0].NextAttemptAt != "2000-01-01T00:00:05.012345Z" || *a[0].NextReason != "retry_schedule" || a[0].Address != nil || a[0].Protocol != nil {
			t.Errorf("first attempt %+v", a[0])
		}
		if *a[1].Status != 503 || *a[1].Error != "status" || a[1].Response != "a\ufffdb <&> \x00" || *a[1].Protocol != "HTTP/1.1" ||
			fmt.Sprint(a[1].ResponseHeaders) != "map[Retry-After:[9] X-A:[<1> 2]]" {
			t.Errorf("second attempt %+v", a[1])
		}
		if h := a[1].RequestHeaders; len(a[0].RequestHeaders) != 0 || len(h) != 7 || h["hookbolt-kind"][0] != "complete" || h["webhook-id"][0] != d.ID || h["webhook-timestamp"][0] != "946684805" ||
			!strings.HasPrefix(h["webhook-signature"][0], "v1,") || h["User-Agent"][0] != "hookbolt/dev" || h["X-Api-Key"][0] != "…" {
			t.Errorf("request headers %v, %v", a[0].RequestHeaders, h)
		}
		if *a[1].NextAttemptAt != "2000-01-01T00:00:05.024691Z" || *a[1].NextReason != "throttled" {
			t.Errorf("second attempt: next %s, %s", *a[1].NextAttemptAt, *a[1].NextReason)
		}
		if *a[2].Status != 204 || a[2].Error != nil || a[2].ErrorDetail != nil || a[2].Response != "" || a[2].NextAttemptAt != nil || a[2].NextReason != nil {
			t.Errorf("third attempt %+v", a[2])
		}

		var w struct {
			Deliveries struct{ Scheduled, Pending, Delivered, Failed, Cancelled, Due int64 }
		}
		raw = f.want(200, "GET", "/v1/webhooks/1", "")
		if !strings.Contains(raw, `"deliveries":{"scheduled":0,"pending":0,"delivered":1,"failed":0,"cancelled":0,"filtered":0,"due":0,"oldest_due_at":null,"with_late_events":0,"parked":0}`) {
			t.Errorf("%+v %s", w, raw)
		}
	})
}

// TestLateEvents follows a session whose events come late: its incomplete delivery is superseded by the complete one, a lead comes too late
// for that one, and once the webhook sends updates, one tells of it.
func TestLateEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuses atomic.Bool // the endpoint reads it
		refuses.Store(true)
		var mu sync.Mutex
		var sent []http.Header // guarded by mu
		f := newFixtureOn(t, Config{}, func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, r.Header)
			if refuses.Load() {
				return &http.Response{StatusCode: 500, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		})
		f.run(t)
		began := time.Now()
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","send_incomplete":true,"retry_schedule":["1m"]}`)
		later := func(wait time.Duration, event string) {
			t.Helper()
			time.Sleep(wait)
			f.want(202, "POST", "/v1/events", event)
		}
		// of is the one delivery of a kind, as the list and as its own page have it.
		of := func(kind string) shownDelivery {
			t.Helper()
			var list listOf[shownDelivery]
			f.wantJSON(&list, 200, "GET", "/v1/deliveries?session_id="+sessionA, "")
			at := slices.IndexFunc(list.Items, func(d shownDelivery) bool { return d.Kind == kind })
			if at < 0 {
				t.Fatalf("there is no %s delivery: %+v", kind, list.Items)
			}
			var d shownDetail
			f.wantJSON(&d, 200, "GET", "/v1/deliveries/"+list.Items[at].ID, "")
			if jsonOf(t, d.shownDelivery) != jsonOf(t, list.Items[at]) {
				t.Errorf("%+v, in the list %+v", d.shownDelivery, list.Items[at])
			}
			return d.shownDelivery
		}
		lead := `{"type":"lead","session_id":"` + sessionA + `","lead":{"email":"a@example.com"}}`
		first := strings.Replace(start(sessionA), `"start"`, `"lead","lead":{"name":"A"}`, 1)
		later(0, first)
		if d := of("incomplete"); *d.AsOf != began.Add(time.Minute).UTC().Format(time.RFC3339) || *d.DueAt != *d.AsOf {
			t.Errorf("after a lead: %+v", d)
		}
		later(10*time.Second, start(sessionA))
		if d := of("incomplete"); *d.AsOf != began.Add(70*time.Second).UTC().Format(time.RFC3339) || *d.DueAt != *d.AsOf {
			t.Errorf("after the start: %+v", d)
		}
		later(61*time.Second, finish(sessionA)) // the endpoint has refused the incomplete one
		refuses.Store(false)
		later(20*time.Second, lead) // the complete one was sent
		incomplete, complete := of("incomplete"), of("complete")
		if incomplete.Status != "cancelled" || incomplete.SupersededBy == nil || *incomplete.SupersededBy != complete.ID || incomplete.LateEvents != 0 {
			t.Errorf("superseded: %+v", incomplete)
		}
		if complete.Status != "delivered" || complete.SupersededBy != nil || complete.LateEvents != 1 || complete.AsOf != nil {
			t.Errorf("a lead came too late: %+v", complete)
		}
		// lacking counts those that lack events, in the list and at the webhook.
		lacking := func() [2]int64 {
			t.Helper()
			var list listOf[shownDelivery]
			f.wantJSON(&list, 200, "GET", "/v1/deliveries?late_events=true&webhook_id=1", "")
			var w struct {
				Deliveries struct {
					WithLateEvents int64 `json:"with_late_events"`
				}
			}
			f.wantJSON(&w, 200, "GET", "/v1/webhooks/1", "")
			return [2]int64{int64(len(list.Items)), w.Deliveries.WithLateEvents}
		}
		if got := lacking(); got != [2]int64{1, 1} {
			t.Errorf("%d lack events, want 1 and 1", got)
		}
		for _, line := range []string{"hookbolt_deliveries_with_late_events 1\n", "hookbolt_events_late_total 1\n"} {
			if got := f.want(200, "GET", "/metrics", ""); !strings.Contains(got, line) {
				t.Errorf("the metrics lack %s%s", line, got)
			}
		}
		f.want(400, "GET", "/v1/deliveries?late_events=yes", "")

		f.want(200, "PATCH", "/v1/webhooks/1", `{"send_updates":true}`)
		later(time.Second, lead)
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if d := of("update"); d.Status != "delivered" || d.AsOf != nil || sent[len(sent)-1].Get("hookbolt-kind") != "update" {
			t.Errorf("the update: %+v, sent with %v", d, sent[len(sent)-1])
		}
		if d := of("complete"); d.LateEvents != 0 || lacking() != [2]int64{} {
			t.Errorf("told by the update: %+v, %d lack events", d, lacking())
		}
	})
}

// TestRepeatedAttempt: an endpoint closes a kept connection as it is used. The API, the page and the metrics tell of it, the attempt has
// not failed, and the endpoint has seen as many requests as attempts and repeats.
func TestRepeatedAttempt(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var requests atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for r, kept := bufio.NewReader(conn), false; ; kept = true {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					if requests.Add(1); kept {
						return
					}
					io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			}()
		}
	}()
	f := newFixtureOn(t, Config{}, nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.engine.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	f.want(201, "POST", "/v1/webhooks", fmt.Sprintf(`{"url":"http://%s/","allow_networks":["127.0.0.1"]}`, listener.Addr()))
	for i := range 2 {
		var d shownDelivery
		f.wantJSON(&d, 202, "POST", "/v1/webhooks/1/test", "")
		var got shownDetail
		for got.Status != "delivered" { // the engine makes the attempt meanwhile
			f.wantJSON(&got, 200, "GET", "/v1/deliveries/"+d.ID, "")
		}
		repeated := "null"
		if a := got.Attempts[0]; a.Repeated != nil {
			repeated = *a.Repeated
		}
		if want := []string{"null", "closed"}[i]; len(got.Attempts) != 1 || got.Attempts[0].Reused || repeated != want {
			t.Errorf("repeated %s, want %s: %+v", repeated, want, got.Attempts)
		}
		page := f.do("GET", "/deliveries/"+d.ID, "").Body.String()
		if strings.Contains(page, "The request was sent again at once") != (i == 1) {
			t.Errorf("the page:\n%s", page)
		}
	}
	metrics := f.want(200, "GET", "/metrics", "")
	for _, line := range []string{`hookbolt_requests_repeated_total{reason="closed",to="endpoint"} 1`, `hookbolt_requests_repeated_total{reason="closed",to="token"} 0`,
		`hookbolt_attempts_total{outcome="2xx"} 2`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if requests.Load() != 3 {
		t.Errorf("%d requests", requests.Load())
	}
}

func TestListDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that the deliveries are an hour apart
		f := newFixture(t, Config{})
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/1"}`)
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/2"}`)
		session := func(i int) string { return fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012d", i) }
		var at []string // when session i came
		names := make(map[string]string)
		for i := range 4 {
			at = append(at, time.Now().UTC().Format(time.RFC3339))
			f.want(202, "POST", "/v1/events", start(session(i))+finish(session(i)))
			var list listOf[shownDelivery]
			f.wantJSON(&list, 200, "GET", "/v1/deliveries?session_id="+session(i), "")
			if len(list.Items) != 2 {
				t.Fatalf("session %d: %+v", i, list)
			}
			for _, d := range list.Items {
				names[d.ID] = fmt.Sprintf("%d/%d", i, d.WebhookID)
				if i == 1 {
					f.want(200, "POST", "/v1/deliveries/"+d.ID+"/cancel", "")
				}
			}
			time.Sleep(time.Hour)
		}
		east := strings.Replace(at[2], "Z", "+00:00", 1)
		for _, c := range []struct{ query, pages string }{
			{"", "3/2 3/1 2/2 2/1 1/2 1/1 0/2 0/1"},
			{"limit=3", "3/2 3/1 2/2|2/1 1/2 1/1|0/2 0/1"},
			{"limit=4", "3/2 3/1 2/2 2/1|1/2 1/1 0/2 0/1"},
			{"webhook_id=1", "3/1 2/1 1/1 0/1"},
			{"webhook_id=1&limit=2", "3/1 2/1|1/1 0/1"},
			{"webhook_id=3", ""},
			{"webhook_id=4294967295", ""},
			{"session_id=" + session(2), "2/2 2/1"},
			{"session_id=" + session(2) + "&webhook_id=2", "2/2"},
			{"session_id=" + nobodys, ""},
			{"status=cancelled", "1/2 1/1"},
			{"status=scheduled&webhook_id=2", "3/2 2/2 0/2"},
			{"status=scheduled&limit=4", "3/2 3/1 2/2 2/1|0/2 0/1"},
			{"status=delivered", ""},
			{"since=" + at[2], "3/2 3/1 2/2 2/1"},
			{"since=" + url.QueryEscape(east), "3/2 3/1 2/2 2/1"},
			{"until=" + at[1] + "&status=cancelled", "1/2 1/1"},
			{"until=" + at[1], "1/2 1/1 0/2 0/1"},
			{"since=" + at[1] + "&until=" + at[2] + "&webhook_id=2", "2/2 1/2"},
			{"since=" + at[1] + "&until=" + at[2] + "&limit=3", "2/2 2/1 1/2|1/1"},
			{"since=9999-12-31T23:59:59Z", ""},
			{"until=0001-01-02T00:00:00Z", ""},
			{"until=" + zeroTime, ""},
			{"since=" + zeroTime + "&until=" + zeroTime, ""},
		} {
			var pages []string
			for cursor := ""; len(pages) < 10; {
				var list listOf[shownDelivery]
				f.wantJSON(&list, 200, "GET", "/v1/deliveries?"+c.query+cursor, "")
				var page []string
				for _, d := range list.Items {
					page = append(page, names[d.ID])
				}
				pages = append(pages, strings.Join(page, " "))
				if list.NextCursor == nil {
					break
				}
				cursor = "&cursor=" + url.QueryEscape(*list.NextCursor)
			}
			if got := strings.Join(pages, "|"); got != c.pages {
				t.Errorf("%q\n got %q\nwant %q", c.query, got, c.pages)
			}
		}
	})
}

func TestBadQueries(t *testing.T) {
	f := newFixture(t, Config{})
	for _, c := range []struct{ method, target, field, detail string }{
		{"GET", "/v1/deliveries?webhook=1", "webhook", "unknown query parameter; this call takes limit, cursor, webhook_id"},
		{"GET", "/v1/deliveries?Status=failed", "Status", "unknown query parameter"},
		{"GET", "/v1/deliveries?status=failed&status=failed", "status", "stands twice"},
		{"GET", "/v1/deliveries?status", "status", "must be scheduled, pending"},
		{"GET", "/v1/deliveries?status=lost", "status", `(got "lost")`},
		{"GET", "/v1/deliveries?status=%ff", "status", "must be scheduled, pending"},
		{"GET", "/v1/deliveries?webhook_id=0", "webhook_id", "positive integer"},
		{"GET", "/v1/deliveries?webhook_id=-1", "webhook_id", "positive integer"},
		{"GET", "/v1/deliveries?webhook_id=4294967296", "webhook_id", "positive integer"},
		{"GET", "/v1/deliveries?webhook_id=", "webhook_id", "positive integer"},
		{"GET", "/v1/deliveries?session_id=7", "session_id", "must be a UUID"},
		{"GET", "/v1/deliveries?since=yesterday", "since", "RFC 3339"},
		{"GET", "/v1/deliveries?since=2024-01-23T11:59:33+02:00", "since", "%2B"},
		{"GET", "/v1/deliveries?until=1706011173", "until", "RFC 3339"},
		{"GET", "/v1/deliveries?until=2024-01-02T9:00:00Z", "until", "RFC 3339"},
		{"GET", "/v1/deliveries?since=2024-01-02T00:00:00Z&until=2024-01-01T00:00:00Z", "until", "before since"},
		{"GET", "/v1/deliveries?limit=0", "limit", "must be 1 to 200"},
		{"GET", "/v1/deliveries?limit=201", "limit", "must be 1 to 200"},
		{"GET", "/v1/deliveries?limit=-1", "limit", "must be 1 to 200"},
		{"GET", "/v1/deliveries?limit=99999999999999999999", "limit", "must be 1 to 200"},
		{"GET", "/v1/deliveries?limit=", "limit", "must be 1 to 200"},
		{"GET", "/v1/deliveries?limit=all", "limit", `(got "all")`},
		{"GET", "/v1/deliveries?limit=" + strings.Repeat("x", 5000), "limit", `…")`},
		{"GET", "/v1/deliveries?cursor=", "cursor", "next_cursor"},
		{"GET", "/v1/deliveries?cursor=null", "cursor", "next_cursor"},
		{"GET", "/v1/deliveries?cursor=!!!", "cursor", "next_cursor"},
		{"GET", "/v1/deliveries?cursor=AAAA", "cursor", "next_cursor"},
		{"GET", "/v1/deliveries?status=failed&cursor=" + strings.Repeat("A", 5000), "cursor", "next_cursor"},
		{"GET", "/v1/deliveries?%zz=1", "", "the query string is malformed"},
		{"GET", "/v1/deliveries?limit=1;status=failed", "", "the query string is malformed"},
		{"GET", "/v1/webhooks?content_id=x", "content_id", "must be a UUID"},
		{"GET", "/v1/webhooks?content_id=", "content_id", "must be a UUID"},
		{"GET", "/v1/webhooks?cursor=x", "cursor", "next_cursor"},
		{"GET", "/v1/webhooks?cursor=0", "cursor", "next_cursor"},
		{"GET", "/v1/webhooks?limit=1000", "limit", "must be 1 to 200"},
		{"GET", "/v1/webhooks?status=failed", "status", "this call takes limit, cursor, content_id"},
		{"GET", "/v1/webhooks/1?verbose=1", "verbose", "this call takes none"},
		{"GET", "/v1/webhooks/1/preview", "session_id", "is required"},
		{"GET", "/v1/webhooks/1/preview?session_id=x", "session_id", "must be a UUID"},
		{"GET", "/v1/webhooks/1/preview?session_id=" + sessionA + "&as_of=now", "as_of", "RFC 3339"},
		{"GET", "/v1/webhooks/1/preview?session=" + sessionA, "session", "this call takes session_id, as_of"},
		{"GET", "/v1/sessions/" + sessionA + "?as_of=x", "as_of", "unknown"},
		{"POST", "/v1/events?session_id=" + sessionA, "session_id", "this call takes partial"},
		{"POST", "/v1/events?partial=1", "partial", `must be true or false (got "1")`},
		{"POST", "/v1/events?partial=", "partial", "must be true or false"},
		{"POST", "/v1/events?partial=true&partial=true", "partial", "stands twice"},
		{"POST", "/v1/webhooks?url=https://example.com", "url", "this call takes none"},
		{"DELETE", "/v1/webhooks/1?force=true", "force", "this call takes none"},
		{"GET", "/v1/deliveries?" + strings.Repeat("x", 5000) + "=1", strings.Repeat("x", 40) + "…", "unknown"},
	} {
		wantInputProblem(t, f.do(c.method, c.target, start(sessionA)), 0, c.field, c.detail)
	}
	// All that is wrong is told at once, in bounds.
	p := wantProblem(t, f.do("GET", "/v1/deliveries?limit=0&status=x&since=x", ""), http.StatusBadRequest)
	if len(p.Errors) != 3 {
		t.Errorf("%+v", p.Errors)
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "x%d=1&", i)
	}
	if p := wantProblem(t, f.do("GET", "/v1/deliveries?"+many.String(), ""), http.StatusBadRequest); len(p.Errors) != maxQueryErrors {
		t.Errorf("%d errors", len(p.Errors))
	}
	nothingStored(t, f)
}

// TestClientGone shows that a request whose client has left is neither an error of ours nor a line in the log.
func TestClientGone(t *testing.T) {
	f := newFixture(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, target := range []string{"/v1/deliveries", "/v1/sessions/" + sessionA} {
		if rec := f.serve(f.request("GET", target, "").WithContext(ctx)); rec.Code != statusClientGone {
			t.Errorf("%s: got %d", target, rec.Code)
		}
	}
	if got := f.log.String(); got != "" {
		t.Errorf("logged: %s", got)
	}
}
