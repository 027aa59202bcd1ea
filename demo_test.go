package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// testPace is that of the demo in a hurry.
var testPace = demoPace{factor: 60, between: 20 * time.Millisecond, ahead: 200 * time.Millisecond, patience: testPatience}

func TestDemo(t *testing.T) {
	out, log := newOutput(), newOutput()
	if err := runDemo(t.Context(), testPace, false, out, log); err != nil {
		t.Fatalf("%v\n%s%s", err, out, log)
	}
	for _, want := range []string{
		`seed-example complete for "everything"`,
		`incomplete-then-complete incomplete for "everything"`,
		`incomplete-then-complete complete for "everything"`,
		`quiz-istanbul complete for "a quiz, no answers"`,
		"attempt 1  signature ok  answered 500",
		"attempt 2  signature ok  answered 200",
		"Every signature was good, nothing was missing, nothing came twice.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not show %s", want)
		}
	}
	if log.String() != "" {
		t.Errorf("on stderr: %s", log)
	}
}

func TestDemoVerdict(t *testing.T) {
	hook := &demoHook{Name: "h", SendIncomplete: true, IncompleteDelay: 6}
	began := time.Now()
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	// A session that starts at 0 and finishes, with the finish acknowledged at some time.
	session := func(finish, accepted float64) *demoSession {
		return &demoSession{name: "s", id: "id", events: []*demoEvent{
			{at: at(0), acceptedAt: at(0)}, {finishes: true, at: at(finish), acceptedAt: at(accepted)},
		}}
	}
	open := &demoSession{name: "s", id: "id", events: []*demoEvent{{at: at(0), acceptedAt: at(0)}}}
	complete := []byte(`{"session_id": "id", "complete_session": true}`)
	incomplete := []byte(`{"session_id": "id", "complete_session": false}`)
	good := func(id string, body []byte) receipt { return receipt{ID: id, Body: body, Status: 200} }
	for _, tc := range []struct {
		name    string
		session *demoSession
		got     []receipt
		want    string
	}{
		{"finished early", session(3, 3), []receipt{good("1", complete)}, ""},
		{"finished late", session(9, 9), []receipt{good("1", incomplete), good("2", complete)}, ""},
		{"not finished", open, []receipt{good("1", incomplete)}, ""},
		{"finished at the instant", session(6, 5.9), []receipt{good("1", complete)}, ""},
		{"finish acknowledged too late", session(6, 6.1), []receipt{good("1", complete)}, ""},
		{"finish acknowledged too late, and sent", session(6, 6.1), []receipt{good("1", incomplete), good("2", complete)}, ""},
		{"a retry", session(3, 3), []receipt{{ID: "1", Body: complete, Status: 500}, good("1", complete)}, ""},

		{"nothing", session(9, 9), nil, `s complete for "h" did not arrive; s incomplete for "h" did not arrive`},
		{"never delivered", session(3, 3), []receipt{{ID: "1", Body: complete, Status: 500}}, `s complete for "h" did not arrive`},
		{"sent although finished", session(3, 3), []receipt{good("1", incomplete), good("2", complete)}, `s incomplete for "h" was not expected`},
		{"sent although finished at the instant", session(6, 5.9), []receipt{good("1", incomplete), good("2", complete)}, `s incomplete for "h" was not expected`},
		{"twice", session(3, 3), []receipt{good("1", complete), good("1", complete)}, `s complete for "h" came twice`},
		{"two ids", session(3, 3), []receipt{{ID: "1", Body: complete, Status: 500}, good("2", complete)}, `s complete for "h" was not the same in each attempt`},
		{"other bytes", session(3, 3), []receipt{{ID: "1", Body: append(complete, ' '), Status: 500}, good("1", complete)}, `s complete for "h" was not the same in each attempt`},
		{"wrong signature", session(3, 3), []receipt{{ID: "1", Body: complete, Status: 200, Verdict: errors.New("no")}}, `s complete for "h" had a wrong signature`},
		{"something else", open, []receipt{good("1", incomplete), good("2", []byte("hello"))}, `unknown incomplete for "h" was not expected`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &demonstration{sessions: []*demoSession{tc.session}, hooks: []*demoHook{hook}, arrived: make(map[arrival]*tally)}
			for _, got := range tc.got {
				d.record(hook, got)
			}
			if got := strings.Join(d.verdict(), "; "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestDemoKeepsRunning(t *testing.T) {
	needs(t, "sh", "curl")
	ctx, stop := context.WithCancelCause(t.Context())
	out, ended := newOutput(), make(chan error, 1)
	go func() { ended <- runDemo(ctx, testPace, true, out, out) }()
	shell := newPageRun(t, t.TempDir())
	shell.api, shell.endpoint = "127.0.0.1:8080", "127.0.0.1:9000" // as the demo says them
	if err := shell.script("-eu", out.find(t, `(?s)try in another terminal:\n(.*limit=3')\n`)); err != nil {
		t.Error(err)
	}
	out.find(t, `POST /mine  \S+  attempt 1  signature ok  answered 200`)
	stop(errors.New("signal: of the test"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDemoEndsWhenToldTo(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	out := newOutput()
	ended := make(chan error, 1)
	go func() { ended <- runDemo(ctx, defaultPace, false, out, out) }()
	out.find(t, "answered 200")
	stop(errors.New("signal: of the test"))
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it says that all went well")
		}
	case <-time.After(testPatience):
		t.Fatal("it goes on")
	}
}
