package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// kill -9 at any moment: whoever sends a creation again with the same key, because there was no response, has one webhook in the end.
func TestKilledServerCreatesOnce(t *testing.T) {
	config := hookbolttest.WriteConfig(t, t.TempDir(), "", "")
	create := func(api, key string) (status int, answer string, err error) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", api+"/v1/webhooks", strings.NewReader(fmt.Sprintf(`{"url":"https://example.com/","name":%q}`, key)))
		if err != nil {
			return 0, "", err
		}
		r.Header.Set("Idempotency-Key", key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	const rounds, callers = 4, 8
	var mu sync.Mutex
	made := make(map[string]bool) // by key: whether there was a response; guarded by mu
	for round := range rounds {
		child := hookbolttest.Spawn(t, config)
		kill := sync.OnceFunc(func() { child.Process.Kill() })
		var posted sync.WaitGroup
		for caller := range callers {
			posted.Go(func() {
				for n := 0; ; n++ {
					key := fmt.Sprintf("%d-%d-%d", round, caller, n)
					mu.Lock()
					made[key] = false
					if len(made) > (round+1)*60 {
						kill()
					}
					mu.Unlock()
					status, answer, err := create(child.URL, key)
					if err != nil {
						return // killed in the middle of it
					}
					if status != http.StatusCreated {
						t.Errorf("%s: %d %s", key, status, answer)
						kill()
						return
					}
					mu.Lock()
					made[key] = true
					mu.Unlock()
				}
			})
		}
		posted.Wait()
		child.Wait()
	}
	child := hookbolttest.Spawn(t, config)
	unanswered := 0
	for key, answered := range made {
		if !answered {
			unanswered++
		}
		if status, answer, err := create(child.URL, key); err != nil || status != http.StatusCreated {
			t.Fatalf("%s, sent again: %d %s, %v", key, status, answer, err)
		}
	}
	if unanswered == 0 {
		t.Error("every request has had a response: the test saw too little")
	}
	count := make(map[string]int)
	for cursor := ""; ; {
		_, answer := hookbolttest.Call(t, "GET", child.URL+"/v1/webhooks?limit=200"+cursor, "")
		var page struct {
			Items      []struct{ Name string }
			NextCursor *string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil {
			t.Fatal(err)
		}
		for _, w := range page.Items {
			count[w.Name]++
		}
		if page.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *page.NextCursor
	}
	for key := range made {
		if count[key] != 1 {
			t.Errorf("there are %d webhooks of the request %s", count[key], key)
		}
	}
	child.Process.Kill()
	child.Wait()
}
