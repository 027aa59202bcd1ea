package torture

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// hostilePrograms take what they can get: time, steps, memory, and regular expressions that never end. They let the sample pass. The first ones
// give a result in the end, so that their webhooks are never paused.
var hostilePrograms = []string{
	"reduce range(400000) as $i (0; . + $i) | {n: .}",
	"[limit(150000; repeat(1))] | {n: length}",
	"last(range(1e12))",
	"[range(1e12)]",
	"def f: . + .; \"x\" | until(false; f)",
	"def f: [f]; f",
	`("a" * 60) + "!" | test("^(a+)+$")`,
	`"^" * 78888880 | test("x")`,
	"[range(100000)] | tojson | [limit(300; repeat(.))] | tojson",
	"until(false; .)",
}

// longProgram takes most of the second that it may, and gives a result.
const longProgram = `("a" * 45000) | test("(a?){500}(a?){500}b") | {n: .}`

// slackProgram is the Slack recipe in short.
const slackProgram = `def esc: tostring | gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;");
(.leads[-1] // {}) as $lead | ($lead.name // $lead.email // "A visitor") as $who
| {text: "\($who | esc): \(.result.result_title // "no result" | esc) \(.session_id)", blocks: [
  {type: "section", text: {type: "mrkdwn", text: "*\($who | esc)*"}},
  ([.answers[]? | "*\(.question // "Question" | esc)*\n\([.answers[].answer // "?"] | join(", ") | esc)"] | {type: "section", text: {type: "mrkdwn", text: join("\n")}})]}`

// lagMeter measures how long after its request was answered a session arrives.
type lagMeter struct {
	mu     sync.Mutex
	sent   map[string]time.Time // when the request with a session was about to leave
	lags   map[string][]time.Duration
	hogged int // requests of webhooks with hostile programs
}

func (m *lagMeter) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.URL.Path == "/hog" {
		m.hogged++
		return
	}
	for at := 0; at+36 <= len(body); at++ {
		if body[at+8] != '-' || body[at+13] != '-' {
			continue
		}
		if sent, ok := m.sent[string(body[at:at+36])]; ok {
			m.lags[r.URL.Path] = append(m.lags[r.URL.Path], time.Since(sent))
			return
		}
	}
}

func (m *lagMeter) reset() map[string][]time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	lags := m.lags
	m.lags = make(map[string][]time.Duration)
	return lags
}

// The lag of an ordinary webhook and of one with the Slack recipe: alone, and with 30 webhooks beside them without programs, with hostile ones,
// and with ones that take long. It prints figures and holds none, so it runs only on request: see docs/performance.md.
func TestProgramLag(t *testing.T) {
	if !*lagFigures {
		return
	}
	m := &lagMeter{sent: make(map[string]time.Time), lags: make(map[string][]time.Duration)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	receiver := &http.Server{Handler: m}
	go receiver.Serve(listener)
	t.Cleanup(func() { receiver.Close() })
	url := "http://" + listener.Addr().String()
	g := newRig(t, rigOptions{binary: build(t), hooks: []hook{}})
	s := g.launch()
	if _, err := s.awaitReady(startPatience); err != nil {
		t.Fatal(err)
	}
	contents := [2]string{contentID, "7caaa000-2bd8-4b28-8b9b-bfe1fca94f39"} // of those that are measured, of the hogs
	create := func(path, content string, settings map[string]any) uint32 {
		in := map[string]any{"url": url + path, "content_id": content, "delay": 0}
		maps.Copy(in, settings)
		var made struct{ ID uint32 }
		if err := call(t.Context(), "POST", s.url()+"/v1/webhooks", in, &made); err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	create("/plain", contents[0], nil)
	create("/slack", contents[0], map[string]any{"transform": slackProgram})
	span := scale(8*time.Second, time.Minute)
	m.load(t, s, span/4, contents[:1]) // until its workers run
	for _, c := range []struct {
		name     string
		programs []string // of the 30 webhooks beside
	}{
		{"alone", nil},
		{"beside 30 without programs", []string{""}},
		{"beside 30 with hostile programs", hostilePrograms},
		{"beside 30 whose programs take long", []string{longProgram}},
	} {
		var others []uint32
		for i := range 30 {
			if c.programs == nil {
				break
			}
			var settings map[string]any
			if program := c.programs[i%len(c.programs)]; program != "" {
				settings = map[string]any{"transform": fmt.Sprintf(`if .session_id == "22ffdf18-1035-4e56-baa2-8327e3af5242" then . else (%s) end`, program)}
			}
			others = append(others, create("/hog", contents[1], settings))
		}
		stop := make(chan struct{})
		var resumes sync.WaitGroup
		resumes.Go(func() { // whose webhooks are paused after five failures
			for pass(2*time.Second, stop); !isClosed(stop); pass(2*time.Second, stop) {
				for _, id := range others {
					call(t.Context(), "PATCH", fmt.Sprintf("%s/v1/webhooks/%d", s.url(), id), map[string]any{"paused": false}, nil)
				}
			}
		})
		m.reset()
		m.load(t, s, span, contents[:])
		close(stop)
		resumes.Wait()
		for path, lags := range m.reset() {
			if path != "/hog" {
				summarize(t, "%s, %s: p50 %v, p99 %v of %d; memory %d MiB", path, c.name, percentile(lags, 0.5).Round(100*time.Microsecond),
					percentile(lags, 0.99).Round(100*time.Microsecond), len(lags), s.memory()>>20)
			}
		}
		for _, id := range others {
			if err := call(t.Context(), "DELETE", fmt.Sprintf("%s/v1/webhooks/%d", s.url(), id), nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.kill()
}

// load posts a session of each content every 50 ms, whole, for a span.
func (m *lagMeter) load(t *testing.T, s *server, span time.Duration, contents []string) {
	client := newClient()
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for end := time.Now().Add(span); time.Now().Before(end); <-tick.C {
		var events []string
		var first string
		for i, content := range contents {
			id := uuid.NewString()
			if i == 0 {
				first = id
			}
			text, err := json.Marshal(strings.Repeat("much & <more> ", 10))
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, fmt.Sprintf(`{"type":"start","session_id":%[1]q,"content_id":%[2]q,"content_type":"quiz","poltio_user_id":1}`+
				`{"type":"vote","session_id":%[1]q,"question_id":1,"question":%[3]s,"answer_id":2,"answer":%[3]s}`+
				`{"type":"lead","session_id":%[1]q,"lead":{"email":"a@example.com","name":"A & B"}}{"type":"finish","session_id":%[1]q}`, id, content, text))
		}
		sent++
		m.mu.Lock()
		m.sent[first] = time.Now()
		m.mu.Unlock()
		if status, err := post(client, s.url()+"/v1/events", strings.Join(events, "\n"), 4*len(contents)); err != nil || status != http.StatusAccepted {
			t.Errorf("POST /v1/events: %d, %v", status, err)
			return
		}
	}
	await(time.Minute, func() bool { // what comes last counts most
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.lags["/plain"]) >= sent && len(m.lags["/slack"]) >= sent
	})
}
