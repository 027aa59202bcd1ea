package receiver_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/receiver"
)

// FuzzReceiver: whatever listen gets, what it prints steers no terminal and is no longer than what came, and it answers.
func FuzzReceiver(f *testing.F) {
	f.Add("POST", "/hook?a=b", "msg_1", "v1,abc", []byte(`{"a":[1,"\u001b[31m",{"b":null}]}`))
	f.Add("GET", "/\x1b[2J", "\x1b]0;title\x07", "", []byte("\x9b31m\xff"))
	f.Add("PUT", "*", "", "v1,", []byte(strings.Repeat(`[`, 100)))
	f.Add("POST", "/", "a", "v1", []byte(`{"a":"`+strings.Repeat("\u0085\u200b", 3000)+`"}`))
	f.Fuzz(func(t *testing.T, method, path, id, signature string, body []byte) {
		var printed bytes.Buffer
		rec := receiver.New(&printed, receiver.Options{Secret: hookbolttest.Secret})
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Method, r.URL.Path = method, path
		r.Header = http.Header{}
		r.Header.Set("webhook-id", id)
		r.Header.Set("webhook-timestamp", strconv.FormatInt(time.Now().Unix(), 10))
		r.Header.Set("webhook-signature", signature)
		w := httptest.NewRecorder()
		rec.ServeHTTP(w, r)
		if w.Code != 200 || !strings.Contains(printed.String(), "signature WRONG") {
			t.Fatalf("answered %d: %q", w.Code, printed.String())
		}
		for _, c := range printed.String() {
			if unicode.IsControl(c) && c != '\n' && c != '\t' {
				t.Fatalf("%q is printed: %q", c, printed.String())
			}
		}
		if !utf8.Valid(printed.Bytes()) || printed.Len() > 1000+3*(len(method)+3*len(path)+len(id))+(3+4*receiver.MaxIndented)*len(body) {
			t.Fatalf("%d bytes are printed of %d: %q", printed.Len(), len(body), printed.String())
		}
		// The right signature passes.
		printed.Reset()
		rec.ServeHTTP(httptest.NewRecorder(), hookbolttest.SignedRequest(t.Context(), id, string(body)))
		if id != "" && !strings.Contains(printed.String(), "signature ok") {
			t.Fatalf("a right signature does not pass: %q", printed.String())
		}
	})
}
