package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// refused in place of how often it delivers has a fakeServer refuse the request.
const refused = -1

// fakeServer has as much of the server's API as a run uses. It delivers at once, but as often as times says.
type fakeServer struct {
	t     *testing.T
	times func(number int64) int

	mu       sync.Mutex
	webhooks map[string]string // URL by content_id; guarded by mu
	nonce    string            // of the last run; guarded by mu
	deleted  int               // guarded by mu
	scrapes  int               // guarded by mu
	client   http.Client
}

const testToken = "a token for the test"

func newFakeServer(t *testing.T, times func(int64) int) (*fakeServer, string) {
	f := &fakeServer{t: t, times: times, webhooks: make(map[string]string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.scrapes++
		fmt.Fprintf(w, "# TYPE go_goroutines gauge\nhookbolt_queue_deliveries{state=\"due\"} 3\nprocess_cpu_seconds_total %g\n", 1e-2*float64(f.scrapes))
		fmt.Fprintf(w, "hookbolt_storage_commit_operations_sum %d\nhookbolt_storage_commit_operations_count %d\n", 100+40*f.scrapes, 10*f.scrapes)
	})
	mux.HandleFunc("POST /v1/webhooks", f.subscribe)
	mux.HandleFunc("DELETE /v1/webhooks/{id}", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.deleted++
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /v1/events", f.accept)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" && r.Header.Get("Authorization") != "Bearer "+testToken {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		f.client.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
	})
	return f, server.URL
}

func (f *fakeServer) subscribe(w http.ResponseWriter, r *http.Request) {
	var hook struct {
		URL       string
		ContentID string `json:"content_id"`
		Name      string
	}
	if err := json.NewDecoder(r.Body).Decode(&hook); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.webhooks[hook.ContentID] = hook.URL
	_, f.nonce, _ = strings.Cut(hook.Name, " ")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"id": %d}`, len(f.webhooks))
}

func (f *fakeServer) accept(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(r.Body)
	for {
		var ev struct {
			Type      string
			Time      string
			ContentID string `json:"content_id"`
			CustomID  string `json:"custom_id"`
		}
		if decoder.Decode(&ev) != nil {
			break
		}
		if ev.Type != "start" {
			continue
		}
		f.mu.Lock()
		url, nonce := f.webhooks[ev.ContentID], f.nonce
		f.mu.Unlock()
		_, number, ok := parseCustomID([]byte(ev.CustomID), nonce)
		if !ok {
			f.t.Errorf("custom_id %q", ev.CustomID)
		}
		payload := fmt.Sprintf(`{"session_end_date":%q,"custom_id":%q}`, ev.Time, ev.CustomID)
		times := f.times(number)
		if times == refused {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		for range times {
			resp, err := f.client.Post(url, "application/json", strings.NewReader(payload))
			if err != nil {
				f.t.Error(err)
				continue
			}
			resp.Body.Close()
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// measureFake runs bench at a fake server and returns the report.
func measureFake(t *testing.T, times func(int64) int, change func(*Options)) (*Report, *fakeServer, error) {
	t.Helper()
	f, url := newFakeServer(t, times)
	o := testOptions()
	o.URL, o.Token, o.JSON = url, testToken, true
	change(&o)
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	report, err := reportOf(t, &o, 50*time.Millisecond)
	return report, f, err
}

// reportOf runs bench and returns the report, for which the options ask as JSON.
func reportOf(t *testing.T, o *Options, quietTimeout time.Duration) (*Report, error) {
	t.Helper()
	var out, log bytes.Buffer
	r := newRun(o, &out, &log)
	r.quietTimeout = quietTimeout
	err := r.run(t.Context())
	var report Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if strings.Contains(out.String()+log.String(), testToken) {
		t.Error("the token is shown")
	}
	return &report, err
}

func TestRun(t *testing.T) {
	report, f, err := measureFake(t, func(int64) int { return 1 }, func(o *Options) { o.Batch, o.Duration = 3, 150*time.Millisecond })
	if err != nil {
		t.Fatal(err)
	}
	for stage, m := range map[string]*Measured{"full speed": report.FullSpeed, "half": report.Steady} {
		if m.Missing == nil || *m.Missing != 0 || m.Repeated != 0 || m.RefusedRequests != 0 || m.AcceptedSessions == 0 || m.Deliveries == 0 || m.Sustained == 0 {
			t.Errorf("%s: %+v", stage, m)
		}
		if math.Abs(m.AcceptedEvents/m.AcceptedSessions-eventsPerSession) > .001 || m.Acknowledgement == nil || m.Lag == nil || m.Batch != 3 || m.Webhooks != 4 {
			t.Errorf("%s: %+v", stage, m)
		}
		// Between the two scrapes are 10 ms of CPU, 10 commits and 40 operations.
		if cpu := *m.CPU * m.Deliveries * m.Seconds / 1000; math.Abs(cpu-.01) > 1e-6 || *m.OperationsPerCommit != 4 || math.Abs(*m.Commits*m.Seconds-10) > 1e-6 {
			t.Errorf("%s: %g s of CPU, %g commits a second with %g operations", stage, cpu, *m.Commits, *m.OperationsPerCommit)
		}
		if m.PeakMemory != nil || m.Written != nil || m.ShareOfRelay != nil { // of a process that is not ours, and a relay that did not run
			t.Errorf("%s knows what it cannot: %+v", stage, m)
		}
	}
	if report.FullSpeed.Rate != nil || report.Steady.Rate == nil || *report.Steady.Rate > report.FullSpeed.AcceptedSessions*.51 {
		t.Errorf("rates %v and %v, after %g", report.FullSpeed.Rate, report.Steady.Rate, report.FullSpeed.AcceptedSessions)
	}
	if len(f.webhooks) != 4 || f.deleted != 4 {
		t.Errorf("%d webhooks made, %d deleted", len(f.webhooks), f.deleted)
	}
	if report.Relay != nil || report.Scheduled != nil || report.Idle != nil || report.Outage != nil || report.Interrupted || len(report.Problems) != 0 {
		t.Errorf("the report has more: %+v", report)
	}
}

// What a server loses, sends again, or does not take is told, and fails the run.
func TestRunFindsMistakes(t *testing.T) {
	const quiet = -1
	for _, tc := range []struct {
		name              string
		lost, again       int64 // numbers of sessions
		refuses           bool
		missing, repeated int64
		want              string
	}{
		{"lost", 3, quiet, false, 1, 0, "steady rate: 1 deliveries missing, 0 repeated"},
		{"again", quiet, 7, false, 0, 2, "steady rate: 0 deliveries missing, 2 repeated"},
		{"both", 3, 7, false, 1, 2, "steady rate: 1 deliveries missing, 2 repeated"},
		{"refused", quiet, quiet, true, 0, 0, "steady rate: nothing was accepted: POST /v1/events: 503 Service Unavailable: full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			report, _, err := measureFake(t, func(number int64) int {
				switch {
				case tc.refuses:
					return refused
				case number == tc.lost:
					return 0
				case number == tc.again:
					return 3
				}
				return 1
			}, func(o *Options) { o.Rate, o.Warmup, o.Duration = 500, 0, 40*time.Millisecond })
			if err == nil || err.Error() != tc.want {
				t.Errorf("the error is %v", err)
			}
			if m := report.Steady; *m.Missing != tc.missing || m.Repeated != tc.repeated || len(report.Problems) != 1 || m.RefusedRequests > 0 != tc.refuses {
				t.Errorf("missing %d, repeated %d, problems %v", *m.Missing, m.Repeated, report.Problems)
			}
		})
	}
}

// Deliveries to failing endpoints are not missing; their attempts are counted.
func TestRunWithFailingAndSlowEndpoints(t *testing.T) {
	report, _, err := measureFake(t, func(int64) int { return 1 }, func(o *Options) {
		o.Rate, o.Failing, o.Slow, o.SlowBy = 400, .5, .25, 5*time.Millisecond
	})
	if err != nil {
		t.Fatal(err)
	}
	if m := report.Steady; *m.Missing != 0 || m.FailedAttempts == 0 || m.Acknowledgement.Max < 5 {
		t.Errorf("missing %d, failed attempts %d, acknowledgement %+v; want the slow endpoint in it", *m.Missing, m.FailedAttempts, m.Acknowledgement)
	}
}

func TestRunRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"token", func(o *Options) { o.Token = "another" }, "POST /v1/webhooks: 401 Unauthorized: who are you?"},
		{"nobody there", func(o *Options) { o.URL = "http://127.0.0.1:1" }, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, err := measureFake(t, func(int64) int { return 1 }, tc.change); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v, want %s", err, tc.want)
			}
		})
	}
}

// The names of the report are for programs of other people: none goes away.
func TestReportShape(t *testing.T) {
	text, err := json.Marshal(Report{Relay: &Measured{Samples: []Sample{{}}, Check: Check{FirstRefusal: "x"}, Lag: &Percentiles{}}, Scheduled: &Scheduled{}, Idle: &Idle{}, Outage: &Outage{}})
	if err != nil {
		t.Fatal(err)
	}
	var shape map[string]any
	if err := json.Unmarshal(text, &shape); err != nil {
		t.Fatal(err)
	}
	keysOf := func(v any) []string {
		var keys []string
		for key := range v.(map[string]any) {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		return keys
	}
	relay := shape["bare_relay"].(map[string]any)
	for _, tc := range []struct {
		name string
		of   any
		want string
	}{
		{"report", shape, "bare_relay command full_speed idle interrupted machine outage problems scheduled started_at steady_rate tuned_relay"},
		{"machine", shape["machine"], "cores cpu file_system fsync go hookbolt kernel memory_bytes system"},
		{"load", relay, "accepted_events_per_second accepted_sessions_per_second acknowledgement_milliseconds backlog_sessions commits_per_second connections " +
			"cpu_seconds_per_1000_deliveries deliveries_per_second failed_attempts file_bytes first_refusal heap_bytes lag_milliseconds missing operations_per_commit " +
			"peak_memory_bytes rate_sessions_per_second refused_requests repeated rss_anon_bytes samples seconds sessions_per_request share_of_bare_relay_percent share_of_tuned_relay_percent " +
			"sustained_deliveries_per_second unsent_requests webhooks written_bytes_per_delivery"},
		{"percentiles", relay["lag_milliseconds"], "max p50 p99 p99_9"},
		{"sample", relay["samples"].([]any)[0], "accepted_sessions_per_second acknowledgement_milliseconds deliveries_per_second file_bytes goroutines heap_bytes " +
			"lag_milliseconds open_files rss_anon_bytes seconds"},
		{"scheduled", shape["scheduled"], "after_kill file_bytes fill_seconds fill_sessions_per_second heap_bytes missing refused_requests repeated rss_anon_bytes " +
			"sessions start_to_ready_seconds webhooks"},
		{"idle", shape["idle"], "cpu_percent_of_a_core heap_bytes rss_anon_bytes seconds"},
		{"outage", shape["outage"], "cpu_seconds_per_1000_deliveries deliveries_per_second deliveries_per_second_to_99_percent drain_seconds file_bytes fill_seconds " +
			"heap_bytes missing other_lanes_lag_milliseconds other_lanes_sessions peak_memory_bytes refused_requests repeated sessions webhooks"},
	} {
		if got := strings.Join(keysOf(tc.of), " "); got != tc.want {
			t.Errorf("%s: the keys are\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}
