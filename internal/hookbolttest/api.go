package hookbolttest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Session has the events of a session that starts and finishes.
const Session = `
	{"type": "start", "session_id": "11111111-2222-4333-8444-555555555555", "content_id": "66666666-7777-4888-8999-aaaaaaaaaaaa", "content_type": "quiz", "poltio_user_id": 1}
	{"type": "finish", "session_id": "11111111-2222-4333-8444-555555555555"}`

// NewSession is Session under an id of its own.
func NewSession() string {
	return strings.ReplaceAll(Session, "11111111-2222-4333-8444-555555555555", uuid.NewString())
}

// Secret is a webhook's secret.
const Secret = "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="

// Call calls the API and returns the response.
func Call(t *testing.T, method, url, body string) (status int, answer string) {
	t.Helper()
	return CallAs(t, "", method, url, body)
}

// CallAs calls the API with a bearer token; "" means none.
func CallAs(t *testing.T, token, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// WantStatus fails the test unless a response has the status want.
func WantStatus(t *testing.T, want, got int, answer string) {
	t.Helper()
	if got != want {
		t.Fatalf("status %d, want %d: %s", got, want, answer)
	}
}

// SignedRequest returns the request of a webhook, signed with Secret.
func SignedRequest(ctx context.Context, id, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "POST", "/hook", strings.NewReader(body))
	at := strconv.FormatInt(time.Now().Unix(), 10)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(Secret, "whsec_"))
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
