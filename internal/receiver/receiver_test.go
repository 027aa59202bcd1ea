package receiver_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
			rec := receiver.New(t.Output(), receiver.Options{Status: tc.status, Fail: tc.fail})
			for _, id := range []string{"a", "b"} { // each delivery is counted on its own
				for i, want := range tc.want {
					w := httptest.NewRecorder()
					rec.ServeHTTP(w, hookbolttest.SignedRequest(t.Context(), id, "{}"))
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
		secret string
		change func(*http.Request)
		body   string
		want   []string
	}{
		{"good", hookbolttest.Secret, nil, good, []string{"POST /hook  msg-1  attempt 1  signature ok  answered 200\n{\n", `  "answer": "<b> & \"ünïcode\" 🎉 שלום",`, `  "id": 9007199254740993`}},
		{"kind", hookbolttest.Secret, func(r *http.Request) { r.Header.Set("hookbolt-kind", "update") }, good, []string{"POST /hook  msg-1  update  attempt 1  signature ok"}},
		{"unchecked", "", nil, good, []string{"signature not checked (start with -secret to check)"}},
		{"other secret", ("whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))), nil, good, []string{"signature WRONG: no signature matches"}},
		{"unsigned", hookbolttest.Secret, func(r *http.Request) { clear(r.Header) }, good, []string{"no webhook-id  signature WRONG: webhook-id or webhook-timestamp is missing"}},
		{"old", hookbolttest.Secret, func(r *http.Request) { r.Header.Set("webhook-timestamp", "1") }, good, []string{"signature WRONG: webhook-timestamp is"}},
		{"no body", hookbolttest.Secret, nil, "", []string{"signature ok", "[no body]"}},
		{"no JSON", hookbolttest.Secret, nil, "a=1&b=2", []string{"signature ok", "\na=1&b=2\n"}},
		{"long", hookbolttest.Secret, nil, strings.Repeat("x", 5000), []string{strings.Repeat("x", 4096) + "\n[and 904 more bytes]"}},
		{"deep", hookbolttest.Secret, nil, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), []string{"\n[[[[[", "[and 5904 more bytes]"}},
		{"brackets in a text", hookbolttest.Secret, nil, `{"a":"\"` + strings.Repeat("[", 50) + `"}`, []string{"{\n  \"a\": "}},
		{"terminal", hookbolttest.Secret, func(r *http.Request) { r.URL.Path = "/\x1b[2J\n" }, "\x1b]0;gotcha\a \u009b31m \x9b31m \r\x08 {", []string{"POST /%1B%5B2J%0A  ", "\n]0;gotcha 31m \uFFFD31m  {\n"}},
		{"terminal in JSON", hookbolttest.Secret, nil, "{\"a\":\"\x7f\u009b2J\"}", []string{`"a": "2J"`}},
		{"too large", hookbolttest.Secret, nil, strings.Repeat("x", receiver.MaxReceivedBody+1), []string{"signature WRONG", "answered 413", "[the body ended early: http: request body too large]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			rec := receiver.New(&out, receiver.Options{Secret: tc.secret})
			r := hookbolttest.SignedRequest(t.Context(), "msg-1", tc.body)
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
		const delay = 20 * time.Second
		rec := receiver.New(t.Output(), receiver.Options{Delay: delay})
		began := time.Now()
		w := httptest.NewRecorder()
		rec.ServeHTTP(w, hookbolttest.SignedRequest(t.Context(), "a", "{}"))
		if took := time.Since(began); took != delay || w.Code != 200 {
			t.Errorf("answer %d after %s", w.Code, took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		began = time.Now()
		rec.ServeHTTP(httptest.NewRecorder(), hookbolttest.SignedRequest(ctx, "b", "{}"))
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("the client had gone, but the receiver took %s", took)
		}
	})
}

func TestReceiverForgets(t *testing.T) {
	rec := receiver.New(t.Output(), receiver.Options{})
	for i := range receiver.MaxCounted + 1 {
		rec.Count(strconv.Itoa(i))
	}
	if rec.Counted() != 1 || rec.Count(strconv.Itoa(receiver.MaxCounted)) != 2 {
		t.Errorf("it remembers %d deliveries", rec.Counted())
	}
}
