package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/teststore"
)

// visitOf is a session with a lead.
func visitOf(session, email string) string {
	return fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":7}
{"type":"lead","session_id":%[1]q,"lead":{"email":%q}}
`, session, email)
}

// sessionNumber is the id of a session of the tests.
func sessionNumber(group, i int) string {
	return fmt.Sprintf("22ffdf18-1035-4e56-%04d-%012d", 8000+group, i)
}

// erasing is a call of POST /v1/erase with an Idempotency-Key.
func erasing(ctx context.Context, api, body string) (status int, answer, replayed string, err error) {
	r, err := http.NewRequestWithContext(ctx, "POST", api+"/v1/erase", strings.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	r.Header.Set("Idempotency-Key", "8e03978e")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), resp.Header.Get("Idempotency-Replayed"), err
}

// kill -9 in the middle of an erasure, while events come in: the next start completes it, tells who asks with the same key how much it was, and
// leaves nothing of the person in a compacted file.
func TestKilledServerCompletesErasure(t *testing.T) {
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", "")
	child := hookbolttest.Spawn(t, config)
	post := func(events string) {
		status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/events", events)
		hookbolttest.WantStatus(t, http.StatusAccepted, status, answer)
	}
	const hers, each = 8000, 1000
	for first := 0; first < hers; first += each {
		var b strings.Builder
		for i := first; i < first+each; i++ {
			b.WriteString(visitOf(sessionNumber(1, i), " Jane@Example.com"))
		}
		post(b.String())
	}
	post(visitOf(sessionNumber(2, 0), "john@example.com"))
	stored := func(i int) bool {
		status, _ := hookbolttest.Call(t, "GET", child.URL+"/v1/sessions/"+sessionNumber(1, i), "")
		return status == http.StatusOK
	}

	const body = `{"email":"jane@example.com"}`
	var work sync.WaitGroup
	work.Go(func() { // fails with the kill, unless it has ended before
		erasing(context.Background(), child.URL, body)
	})
	accepted, stop, stopped := 1, make(chan bool), make(chan bool)
	work.Go(func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			post(visitOf(sessionNumber(2, accepted), "john@example.com"))
			accepted++
		}
	})
	for stored(0) {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	<-stopped
	middle := stored(hers - 1)
	child.Process.Kill()
	child.Wait()
	work.Wait()
	if !middle || accepted < 2 {
		t.Fatalf("the erasure was over before the kill, or no events were accepted meanwhile: the test saw nothing (%d)", accepted)
	}

	child = hookbolttest.Spawn(t, config)
	child.Log.Find(t, `an interrupted erasure is complete" sessions=(\d+)`)
	status, answer, replayed, err := erasing(t.Context(), child.URL, body)
	if want := `{"dry_run":false,"sessions":8000,"events":16000,"deliveries":0,"attempts":0,"damaged":0}` + "\n"; err != nil || status != 200 || answer != want || replayed != "true" {
		t.Errorf("%d %s, replayed: %s, %v; want %s", status, answer, replayed, err, want)
	}
	var left struct{ Sessions int }
	for email, want := range map[string]int{"JANE@example.com": 0, "john@example.com": accepted} {
		_, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/erase", fmt.Sprintf(`{"email":%q,"dry_run":true}`, email))
		if err := json.Unmarshal([]byte(answer), &left); err != nil || left.Sessions != want {
			t.Errorf("of %s %d sessions are left, want %d: %v", email, left.Sessions, want, err)
		}
	}
	if log := strings.ToLower(child.Log.String()); strings.Contains(log, "jane") {
		t.Errorf("the log names the person: %s", log)
	}
	child.Process.Signal(os.Interrupt)
	child.Wait()
	if teststore.Postgres() { // there is no file
		return
	}
	out := filepath.Join(dir, "out.db")
	if code, _, stderr := hookbolttest.Run(t, "compact", filepath.Join(dir, "test.db"), out); code != 0 {
		t.Fatalf("compact: %d %s", code, stderr)
	}
	if file := bytes.ToLower([]byte(hookbolttest.Read(t, out))); bytes.Contains(file, []byte("jane")) || !bytes.Contains(file, []byte("john@example.com")) {
		t.Error("the compacted file has the address of the person, or not that of another one")
	}
}

// A client that hangs up does not stop an erasure.
func TestErasureOutlivesItsClient(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	for group := range 2 {
		var b strings.Builder
		for i := range 1500 {
			b.WriteString(visitOf(sessionNumber(group, i), "jane@example.com"))
		}
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/events", b.String())
		hookbolttest.WantStatus(t, http.StatusAccepted, status, answer)
	}
	ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer hangUp()
	erasing(ctx, api, `{"email":"jane@example.com"}`)
	for deadline := time.Now().Add(hookbolttest.Timeout); ; time.Sleep(20 * time.Millisecond) {
		status, answer, _, err := erasing(t.Context(), api, `{"email":"jane@example.com"}`)
		if err == nil && status == 200 && strings.Contains(answer, `"sessions":3000,`) {
			return
		}
		if err != nil || status != http.StatusConflict || time.Now().After(deadline) {
			t.Fatalf("%d %s: %v", status, answer, err)
		}
	}
}
