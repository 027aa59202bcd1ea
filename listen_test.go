package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// webhookRequest makes a request as a webhook's, signed with sampleSecret.
func webhookRequest(ctx context.Context, id, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "POST", "/hook", strings.NewReader(body))
	at := strconv.FormatInt(time.Now().Unix(), 10)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sampleSecret, "whsec_"))
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", at)
	r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return r
}

func TestReceiverAnswers(t *testing.T) {
	for _, tc := range []struct {
		name         string
		status, fail int
		want         []int // for the attempts of one delivery
	}{
		{"well", 0, 0, []int{200, 200}},
		{"always 503", 503, 0, []int{503, 503, 503}},
		{"fails twice", 0, 2, []int{500, 500, 200, 200}},
		{"fails once with 429", 429, 1, []int{429, 200}},
		{"no content", 204, 0, []int{204}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := newReceiver(t.Output())
			rec.status, rec.fail = tc.status, tc.fail
			for _, id := range []string{"a", "b"} { // each delivery is counted on its own
				for i, want := range tc.want {
					w := httptest.NewRecorder()
					rec.ServeHTTP(w, webhookRequest(t.Context(), id, "{}"))
					if w.Code != want {
						t.Errorf("attempt %d of %s: answer %d, want %d", i+1, id, w.Code, want)
					}
				}
			}
		})
	}
}

func TestReceiverShows(t *testing.T) {
	const good = `{"answer":"<b> & \"ünïcode\" 🎉 שלום","id":9007199254740993}`
	for _, tc := range []struct {
		name   string
		secret engine.Secret
		change func(*http.Request)
		body   string
		want   []string
	}{
		{"good", sampleSecret, nil, good, []string{"POST /hook  msg-1  attempt 1  signature ok  answered 200\n{\n", `  "answer": "<b> & \"ünïcode\" 🎉 שלום",`, `  "id": 9007199254740993`}},
		{"unchecked", "", nil, good, []string{"signature not checked (start with -secret to check)"}},
		{"other secret", engine.Secret("whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))), nil, good, []string{"signature WRONG: no signature matches"}},
		{"unsigned", sampleSecret, func(r *http.Request) { clear(r.Header) }, good, []string{"no webhook-id  signature WRONG: webhook-id or webhook-timestamp is missing"}},
		{"old", sampleSecret, func(r *http.Request) { r.Header.Set("webhook-timestamp", "1") }, good, []string{"signature WRONG: webhook-timestamp is"}},
		{"no body", sampleSecret, nil, "", []string{"signature ok", "[no body]"}},
		{"no JSON", sampleSecret, nil, "a=1&b=2", []string{"signature ok", "\na=1&b=2\n"}},
		{"long", sampleSecret, nil, strings.Repeat("x", 5000), []string{strings.Repeat("x", 4096) + "\n[and 904 bytes more]"}},
		{"deep", sampleSecret, nil, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), []string{"\n[[[[[", "[and 5904 bytes more]"}},
		{"brackets in a text", sampleSecret, nil, `{"a":"\"` + strings.Repeat("[", 50) + `"}`, []string{"{\n  \"a\": "}},
		{"terminal", sampleSecret, func(r *http.Request) { r.URL.Path = "/\x1b[2J\n" }, "\x1b]0;gotcha\a \u009b31m \x9b31m \r\x08 {", []string{"POST /%1B%5B2J%0A  ", "\n]0;gotcha 31m \uFFFD31m  {\n"}},
		{"terminal in JSON", sampleSecret, nil, "{\"a\":\"\x7f\u009b2J\"}", []string{`"a": "2J"`}},
		{"too large", sampleSecret, nil, strings.Repeat("x", maxReceivedBody+1), []string{"signature WRONG", "answered 413", "[the body ended early: http: request body too large]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			rec := newReceiver(&out)
			rec.secret = tc.secret
			r := webhookRequest(t.Context(), "msg-1", tc.body)
			if tc.change != nil {
				tc.change(r)
			}
			rec.ServeHTTP(httptest.NewRecorder(), r)
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it shows\n%.2000s\nwhich lacks\n%.500s", out.String(), want)
				}
			}
		})
	}
}

func TestReceiverDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newReceiver(t.Output())
		rec.delay = 20 * time.Second
		began := time.Now()
		w := httptest.NewRecorder()
		rec.ServeHTTP(w, webhookRequest(t.Context(), "a", "{}"))
		if took := time.Since(began); took != rec.delay || w.Code != 200 {
			t.Errorf("answer %d after %s", w.Code, took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		began = time.Now()
		rec.ServeHTTP(httptest.NewRecorder(), webhookRequest(ctx, "b", "{}"))
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("the client had gone, but the receiver took %s", took)
		}
	})
}

func TestReceiverForgets(t *testing.T) {
	rec := newReceiver(t.Output())
	for i := range maxCounted + 1 {
		rec.count(strconv.Itoa(i))
	}
	if len(rec.attempts) != 1 || rec.count(strconv.Itoa(maxCounted)) != 2 {
		t.Errorf("it remembers %d deliveries", len(rec.attempts))
	}
}

func TestListen(t *testing.T) {
	p := start(t, "listen", "-addr", "127.0.0.1:0", "-fail", "1", "-status", "503", "-secret", sampleSecret)
	url := p.stdout.find(t, `Listening on (\S+) and answering 503 to the first 1 of each delivery's attempts, then 200; signatures are checked\.`)
	for _, want := range []int{503, 200} {
		r := webhookRequest(t.Context(), "x", "{}")
		req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = r.Header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("answer %d, want %d", resp.StatusCode, want)
		}
	}
	p.stdout.find(t, `attempt 2  signature ok  answered 200`)
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
