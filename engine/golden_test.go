package engine

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var updateGoldens = flag.Bool("update", false, "rewrite the golden payloads in testdata/sessions")

const sessionsDir = "../testdata/sessions"

// goldenVariant is a webhook under which the sessions are played. Its goldens are NAME.KIND.json, or NAME.KIND.VARIANT.json.
type goldenVariant struct {
	name string
	hook Webhook
	only []string // the sessions that it is played for; nil means all
}

func goldenVariants() []goldenVariant {
	full := Webhook{ID: 1, Active: true, Delay: 10, IncompleteDelay: 60, SendAnswers: true, SendLeads: true, SendIncomplete: true}
	bare := full
	bare.SendAnswers, bare.SendLeads = false, false
	return []goldenVariant{
		{hook: full},
		{name: "no-answers-no-leads", hook: bare, only: []string{"leads-inside-delay", "incomplete-then-complete"}},
	}
}

// seedPreparedAt is the seed's own event_time. It is years before the example's session, so no play can lead to it: the
// payload is built by a direct call.
var seedPreparedAt = time.Unix(1568624875, 0)

// TestGoldenPayloads plays each session of testdata, one event after the other, and holds what it leads to against the
// goldens beside it. A golden that is not there means that there must be no such delivery.
func TestGoldenPayloads(t *testing.T) {
	wanted := make(map[string]bool) // golden files that have a payload
	for name, body := range readSessions(t) {
		for _, v := range goldenVariants() {
			if v.only != nil && !slices.Contains(v.only, name) {
				continue
			}
			payloads := playSession(t, body, &v.hook)
			if name == "seed-example" {
				payloads = map[Kind][]byte{KindComplete: renderForTest(t, Fold(parseSession(t, body), time.Time{}), &v.hook, KindComplete, seedPreparedAt)}
			}
			for _, kind := range []Kind{KindComplete, KindIncomplete} {
				file := name + "." + kind.String() + ".json"
				if v.name != "" {
					file = name + "." + kind.String() + "." + v.name + ".json"
				}
				if payloads[kind] != nil {
					wanted[file] = true
				}
				compareGolden(t, filepath.Join(sessionsDir, file), payloads[kind])
			}
		}
	}
	goldens, err := filepath.Glob(sessionsDir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range goldens {
		if file := filepath.Base(path); !wanted[file] && filepath.Ext(file) != ".ndjson" {
			t.Errorf("%s belongs to no delivery of any session", file)
		}
	}
}

// compareGolden holds a payload, nil for none, against its golden file.
func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *updateGoldens {
		if got == nil {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			return
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, got, "", "  "); err != nil {
			t.Fatal(err)
		}
		pretty.WriteByte('\n')
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err) && got == nil:
		return
	case os.IsNotExist(err):
		t.Errorf("there is a payload but no %s:\n%s", path, got)
		return
	case err != nil:
		t.Fatal(err)
	case got == nil:
		t.Errorf("there is a golden %s but no such payload", path)
		return
	}
	var want bytes.Buffer
	if err := json.Compact(&want, golden); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s\n got %s\nwant %s", path, got, want.Bytes())
	}
}

// playSession plays a session's events against one webhook and returns the payloads of the deliveries that it leads to.
//
// An event arrives at the latest time of it and all before it: in order as it happens, out of order at once. A payload is
// built when its trigger is due, from the events that have arrived by then.
func playSession(t testing.TB, body []byte, hook *Webhook) map[Kind][]byte {
	t.Helper()
	events := parseSession(t, body)
	hooks := NewWebhookSet([]*Webhook{hook}, nil)
	var (
		head     SessionHead
		triggers []Trigger
		arrival  = make([]time.Time, len(events))
		latest   time.Time
	)
	for i := range events {
		if latest.Before(events[i].Time) {
			latest = events[i].Time
		}
		arrival[i] = latest
		a := NewAppend(events[i:i+1], latest)
		d, err := a.Admit(0, head, nil, hooks, MaxTriggers)
		if err != nil {
			t.Fatal(err)
		}
		head = d.Head
		for _, trigger := range d.Triggers {
			head.Deliveries = append(head.Deliveries, DeliveryRef{ID: uuid.New(), WebhookID: trigger.WebhookID, Kind: trigger.Kind})
			triggers = append(triggers, trigger)
		}
	}

	payloads := make(map[Kind][]byte)
	for _, trigger := range triggers {
		arrived := events[:0:0]
		for i := range events {
			if !arrival[i].After(trigger.DueAt) {
				arrived = append(arrived, events[i])
			}
		}
		if payloads[trigger.Kind] != nil {
			t.Fatalf("a second %s trigger", trigger.Kind)
		}
		switch trigger.Kind {
		case KindComplete:
			s := Fold(arrived, time.Time{})
			// A session whose finishes arrive out of order would have two answers to when it is due; testdata has none.
			if want := s.FinishedAt.Add(seconds(hook.Delay)); !trigger.DueAt.Equal(want) {
				t.Fatalf("the complete trigger is due at %s, want finish + delay: %s", trigger.DueAt, want)
			}
			payloads[KindComplete] = renderForTest(t, s, hook, KindComplete, trigger.DueAt)
		case KindIncomplete:
			// Due times do not move, so a start that arrives late is too late for the incomplete webhook.
			s := Fold(arrived, trigger.DueAt)
			if s.FinishedAt.IsZero() {
				payloads[KindIncomplete] = renderForTest(t, s, hook, KindIncomplete, trigger.DueAt)
				// Built late, it must be the same: testdata has no event that arrives after the instant and happened before it.
				late := renderForTest(t, Fold(events, trigger.DueAt), hook, KindIncomplete, trigger.DueAt)
				if !bytes.Equal(late, payloads[KindIncomplete]) {
					t.Fatalf("an incomplete payload that is built late differs:\n got %s\nwant %s", late, payloads[KindIncomplete])
				}
			}
		default:
			t.Fatalf("unexpected trigger %v", trigger)
		}
	}
	return payloads
}

func renderForTest(t testing.TB, s Session, hook *Webhook, kind Kind, preparedAt time.Time) []byte {
	t.Helper()
	payload, err := Render(s, hook, kind, preparedAt)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// parseSession reads a session's events as a Store would keep them: without those whose id it has already.
func parseSession(t testing.TB, body []byte) []Event {
	t.Helper()
	events, err := ParseEvents(body, time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return withoutRepeats(events)
}

// withoutRepeats leaves out events whose id came before.
func withoutRepeats(events []Event) []Event {
	seen := make(map[string]bool)
	return slices.DeleteFunc(events, func(ev Event) bool {
		repeated := ev.ID != "" && seen[ev.ID]
		seen[ev.ID] = true
		return repeated
	})
}

// readSessions reads testdata's sessions: name to NDJSON.
func readSessions(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(sessionsDir + "/*.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(map[string][]byte)
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sessions[strings.TrimSuffix(filepath.Base(path), ".ndjson")] = body
	}
	if len(sessions) < 16 {
		t.Fatalf("%s has %d sessions, want at least 16", sessionsDir, len(sessions))
	}
	return sessions
}

// TestSessionFiles holds what the demo relies on: one event for each line, one session for each file, ids that no other file
// has, and no session that takes longer than anybody would watch.
func TestSessionFiles(t *testing.T) {
	sessions, contents := make(map[uuid.UUID]string), make(map[uuid.UUID]string)
	types := make(map[ContentType]bool)
	for _, name := range slices.Sorted(maps.Keys(readSessions(t))) {
		body := readSessions(t)[name]
		events, err := ParseEvents(body, time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if lines := bytes.Count(body, []byte("\n")); lines != len(events) {
			t.Errorf("%s: %d lines for %d events", name, lines, len(events))
		}
		first, earliest, latest := events[0], events[0].Time, events[0].Time
		for _, ev := range events {
			if ev.SessionID != first.SessionID {
				t.Errorf("%s: event %d is of another session", name, ev.Index)
			}
			if y := ev.Time.Year(); y < 2024 || y > 2026 {
				t.Errorf("%s: event %d is of the year %d", name, ev.Index, y)
			}
			if ev.Time.Before(earliest) {
				earliest = ev.Time
			}
			if ev.Time.After(latest) {
				latest = ev.Time
			}
		}
		if span := latest.Sub(earliest); span > 3*time.Minute {
			t.Errorf("%s takes %s", name, span)
		}
		if other := sessions[first.SessionID]; other != "" {
			t.Errorf("%s and %s have the same session id", name, other)
		}
		if other := contents[first.Identity.ContentID]; other != "" {
			t.Errorf("%s and %s have the same content id", name, other)
		}
		sessions[first.SessionID], contents[first.Identity.ContentID] = name, name
		types[first.Identity.ContentType] = true
	}
	for _, want := range ContentTypes {
		if !types[want] {
			t.Errorf("no session of content type %s", want)
		}
	}
}
