package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/internal/hookbolttest"
)

// endpoint is a receiver that remembers what it got, and fails the first attempt of some deliveries.
type endpoint struct {
	mu       sync.Mutex
	requests int
	byID     map[string][32]byte // webhook-id to the hash of the bytes that came under it
	arrived  map[string]bool     // webhook and session of what was answered with 200
	failed   map[string]bool     // webhook-ids whose first attempt was failed
	trouble  []string
	changed  chan struct{} // capacity 1
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed in the middle
	}
	var payload struct {
		SessionID string `json:"session_id"`
	}
	bad := json.Unmarshal(body, &payload)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests++
	id, hash := r.Header.Get("webhook-id"), sha256.Sum256(body)
	if bad != nil {
		e.trouble = append(e.trouble, fmt.Sprintf("%s: %v", id, bad))
	}
	if before, ok := e.byID[id]; ok && before != hash {
		e.trouble = append(e.trouble, id+": came again with other bytes")
	}
	e.byID[id] = hash
	if hash[0]%8 == 0 && !e.failed[id] {
		e.failed[id] = true
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	e.arrived[r.URL.Path+payload.SessionID] = true
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *endpoint) has(key string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.arrived[key]
}

// await waits until all keys have arrived.
func (e *endpoint) await(t *testing.T, keys []string) {
	t.Helper()
	deadline := time.After(2 * hookbolttest.Timeout)
	for _, key := range keys {
		for !e.has(key) {
			select {
			case <-e.changed:
			case <-deadline:
				t.Fatalf("%s was acknowledged and has not arrived", key)
			}
		}
	}
}

// The promise that the product is trusted for: kill -9 at any moment, and nothing acknowledged is lost, what was due is delivered
// after the restart, the same bytes under the same webhook-id, and nothing whose success was recorded comes again.
func TestKilledServer(t *testing.T) {
	e := &endpoint{byID: make(map[string][32]byte), arrived: make(map[string]bool), failed: make(map[string]bool), changed: make(chan struct{}, 1)}
	receiver := httptest.NewServer(e)
	defer receiver.Close()
	config := hookbolttest.WriteConfig(t, t.TempDir(), "", `
allow_networks = ["127.0.0.0/8"]
retry_schedule = ["1s", "1s", "1s", "1s", "1s", "1s"]`)

	var mu sync.Mutex
	var acknowledged []string // what must arrive
	post := func(api string) error {
		id := uuid.New()
		body := fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":1}
			{"type":"vote","session_id":%[1]q,"question_id":1,"answer_id":2}{"type":"finish","session_id":%[1]q}`, id)
		resp, err := http.Post(api+"/v1/events", "application/json", bytes.NewReader([]byte(body)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		mu.Lock()
		defer mu.Unlock()
		acknowledged = append(acknowledged, "/now"+id.String(), "/later"+id.String())
		return nil
	}

	const rounds = 5
	for round := range rounds {
		child := hookbolttest.Spawn(t, config)
		if round == 0 {
			for path, delay := range map[string]int{"/now": 0, "/later": 2} {
				status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", fmt.Sprintf(`{"url":%q,"delay":%d}`, receiver.URL+path, delay))
				hookbolttest.WantStatus(t, http.StatusCreated, status, answer)
			}
		}
		var posted sync.WaitGroup
		enough := make(chan struct{})
		kill := sync.OnceFunc(func() { close(enough); child.Process.Kill() })
		var count int
		for range 8 {
			posted.Go(func() {
				for {
					if err := post(child.URL); err != nil {
						select {
						case <-enough: // killed in the middle of it
						default:
							t.Errorf("round %d: %v", round, err)
							kill()
						}
						return
					}
					mu.Lock()
					if count++; count > 60+round*97 {
						kill()
					}
					mu.Unlock()
				}
			})
		}
		posted.Wait()
		if err := child.Wait(); err == nil {
			t.Errorf("round %d: the process ended by itself", round)
		}
	}

	child := hookbolttest.Spawn(t, config)
	e.await(t, acknowledged)
	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("SIGTERM: %v, want exit code 0", err)
	}

	// All is recorded now: a further start sends nothing but what is new.
	e.mu.Lock()
	before := e.requests
	for _, line := range e.trouble {
		t.Error(line)
	}
	e.mu.Unlock()
	last := hookbolttest.Spawn(t, config)
	if err := post(last.URL); err != nil {
		t.Fatal(err)
	}
	e.await(t, acknowledged[len(acknowledged)-2:])
	last.Process.Signal(syscall.SIGTERM)
	if err := last.Wait(); err != nil {
		t.Error(errors.Join(errors.New("the last end"), err))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if more := e.requests - before; more < 2 || more > 4 { // each of the two may have its first attempt failed
		t.Errorf("%d requests after a clean restart, want those of the two new deliveries", more)
	}
	if len(acknowledged) < rounds*60 {
		t.Errorf("only %d deliveries were acknowledged: the test saw too little", len(acknowledged))
	}
	t.Logf("%d deliveries acknowledged, %d requests, %d of them repeated", len(acknowledged), e.requests, e.requests-len(e.byID))
}
