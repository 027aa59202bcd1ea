package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// checkPartial holds what becomes of a body in a partial request against what ParseEvents returns for it: the same requests are readable, good
// events are the same, and what is stored of others reads the same when it comes back from the store.
func checkPartial(t *testing.T, body []byte, events []Event, refused error) {
	now := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	got, unreadable := parsePartialEvents(body, now)
	if unreadable != nil {
		if refused == nil || got.valid != nil || got.refused != nil || got.leftOut != nil {
			t.Fatalf("unreadable: %v, and %v is not; %+v", unreadable, refused, got)
		}
		return
	}
	if refused == nil && (got.refused != nil || got.leftOut != nil || len(got.valid) != len(events) || len(events) > 0 && !reflect.DeepEqual(got.valid, events)) {
		t.Fatalf("accepted as a whole, but in a partial request %+v", got)
	}
	if len(got.refused) > maxInputErrors || len(got.refused) < maxInputErrors && len(got.valid)+len(got.refused) != got.seen ||
		refused != nil && got.refused == nil && got.leftOut == nil {
		t.Fatalf("of %d events: %+v", got.seen, got)
	}
	if len(got.leftOut) != min(got.fieldsLeftOut, maxInputErrors) {
		t.Fatalf("%d fields left out: %+v", got.fieldsLeftOut, got.leftOut)
	}
	partly := make(map[int]bool)
	for _, field := range got.leftOut {
		if partly[field.Index] = true; field.Detail == "" {
			t.Fatalf("left out: %+v", field)
		}
	}
	for i := range got.valid {
		ev := got.valid[i]
		again, err := DecodeEvents(slices.Concat([]byte("["), ev.JSON, []byte("]")), now)
		if err != nil || len(again) != 1 {
			t.Fatalf("%s is stored, but does not decode: %v", ev.JSON, err)
		}
		if again[0].Index = ev.Index; !reflect.DeepEqual(again[0], ev) {
			t.Fatalf("%s\ndecodes to %+v\n was %+v", ev.JSON, again[0], ev)
		}
		if _, err := ParseEvents(ev.JSON, now); got.fieldsLeftOut <= maxInputErrors && (err != nil) != partly[ev.Index] {
			t.Fatalf("%s: something was left out: %t, but strictly read it is %v", ev.JSON, partly[ev.Index], err)
		}
	}
	for _, bad := range got.refused {
		if partly[bad.Index] {
			t.Fatalf("event %d is refused, and something was left out of it: %+v", bad.Index, got)
		}
	}
}

// FuzzParseEvents: whatever comes in, there are either events or errors that name their places; what is accepted is JSON to
// everybody else as well, and reads the same when it comes back from the store.
func FuzzParseEvents(f *testing.F) {
	for _, body := range readSessions(f) {
		f.Add(body)
		f.Add(append(append([]byte("["), bytes.ReplaceAll(bytes.TrimSpace(body), []byte("\n"), []byte(","))...), ']'))
	}
	for _, body := range []string{"", "[]", "[[]]", "{}", "null", `{"type":1}`, "\x00", "[\"\\ud800\"]", `{"\u0000":1e-9}`, "\ufeff{}", `{"type":"start"`,
		"\ufeff" + evJSON("vote", `"question_id":"9007199254740993","answers":[{"answer_id":1e3},{"answer_id":"-0","addon":"\ud83d"}]`),
		evJSON("result_view", `"time":"2016-12-31t23:59:60.5z","result":{"result_id":2.0,"time_spent":-16789.5,"right_answer":"1","calculator_result":-1.50e+1}`),
		evJSON("result_view", `"result":{"result_id":1,"time_spent":"-0.5e1","result_title":1.0}`),
		evJSON("lead", `"custom_id":{},"time":7,"content_id":"x","content_type":"poll","poltio_user_id":1.5,"x":1,"lead":{"email":{},"name":"n","y":[],"tc_checked":"yes"}`),
		evJSON("vote", `"question_id":1,"answer":{},"addon":"a","question":[],"answers":[{"answer_id":1,"answer":true,"z":null}],"lead":{"name":3}`),
		evJSON("undo", `"question_id":1,"answer_id":{},"type":"start"`), evJSON("result_view", `"result":{"result_id":1,"time_spent":{},"right_answer":[]},"answers":4`),
		evJSON("lead", `"custom_id":7,"lead":{"tc_checked":"on","phone":491700000000,"content_type":-0}`), evJSON("lead", `"lead":{"tc_checked":0}`),
		evJSON("lead", `"time":"2016-12-31 15:59:60-08:00","lead":{"user_id":"7","content_id":1e2,"name":"\ud83d\ud83d\ude00\ude00"}`)} {
		f.Add([]byte(body))
	}
	now := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		events, err := ParseEvents(body, now)
		if !bytes.Equal(body, given) {
			t.Fatal("ParseEvents changed its input")
		}
		checkPartial(t, body, events, err)
		if err != nil {
			errs, ok := errors.AsType[InputErrors](err)
			if !ok || len(errs) == 0 || len(errs) > maxInputErrors || events != nil {
				t.Fatalf("events %v, error %#v", events, err)
			}
			for i, e := range errs {
				if e.Detail == "" || i > 0 && e.Index <= errs[i-1].Index {
					t.Fatalf("errors %+v", errs)
				}
			}
			return
		}

		// What is accepted is valid JSON by the standard library's reading, value after value.
		decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff"))))
		for {
			var v json.RawMessage
			if err := decoder.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("accepted, but encoding/json says: %v", err)
			}
		}

		// It reads the same when it is stored as a list and decoded.
		var list [][]byte
		for _, ev := range events {
			list = append(list, ev.JSON)
		}
		again, err := DecodeEvents(slices.Concat([]byte("["), bytes.Join(list, []byte(",")), []byte("]")), now)
		if err != nil {
			t.Fatalf("accepted events do not decode: %v", err)
		}
		if len(again) != len(events) {
			t.Fatalf("%d events decode to %d", len(events), len(again))
		}
		for i := range events {
			if !reflect.DeepEqual(again[i], events[i]) {
				t.Fatalf("event %d\ndecodes to %+v\n was %+v", i, again[i], events[i])
			}
		}

		// The standard library finds the same values: none is taken from another key, and no text or number is altered.
		for _, ev := range events {
			var std struct {
				Type       EventType `json:"type"`
				ID         string    `json:"id"`
				Time       time.Time `json:"time"`
				QuestionID int64     `json:"question_id"`
				CustomID   *string   `json:"custom_id"`
				Answers    []Answer  `json:"answers"`
				Lead       *Lead     `json:"lead"`
				Result     *Result   `json:"result"`
			}
			plain, err := plainEvent(ev.JSON)
			if err != nil {
				t.Fatalf("accepted: %s: %v", ev.JSON, err)
			}
			if err := json.Unmarshal(plain, &std); err != nil {
				t.Fatalf("encoding/json reads %s: %v", plain, err)
			}
			if std.Time.IsZero() {
				std.Time = now
			}
			if std.Type != ev.Type || std.ID != ev.ID || !std.Time.Equal(ev.Time) || std.QuestionID != ev.QuestionID ||
				!reflect.DeepEqual(std.CustomID, ev.Identity.CustomID) || std.Answers != nil && !reflect.DeepEqual(std.Answers, ev.Answers) ||
				!reflect.DeepEqual(std.Lead, ev.Lead) || !reflect.DeepEqual(std.Result, ev.Result) {
				t.Fatalf("encoding/json reads %+v, we read %+v", std, ev)
			}
		}
	})
}

// FuzzFold: the fold is deterministic, changes nothing that it is given, and does not depend on the order of arrival where
// the times differ. A session is what the text holds, with events that the script makes up in between.
func FuzzFold(f *testing.F) {
	for _, body := range readSessions(f) {
		f.Add(body, []byte("vote, undo, lead, finish"), uint64(1))
	}
	f.Add([]byte(nil), []byte{1, 1, 1, 1, 2, 2, 1, 1, 1, 3, 1, 1, 2, 4, 1, 0, 5, 5, 0, 0}, uint64(2))
	f.Fuzz(func(t *testing.T, body, script []byte, seed uint64) {
		events, err := ParseEvents(body, time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC))
		if err != nil {
			events = nil
		}
		events = append(events, scriptedEvents(events, script)...)
		if len(events) == 0 {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		asOf := events[random.IntN(len(events))].Time
		if seed%3 == 0 {
			asOf = time.Time{}
		}

		given := copyEvents(t, events)
		first := Fold(events, asOf)
		payload := foldedPayload(t, first)
		if !reflect.DeepEqual(events, given) {
			t.Fatal("Fold or Render changed the events")
		}
		if again := Fold(events, asOf); !reflect.DeepEqual(again, first) || !bytes.Equal(foldedPayload(t, again), payload) {
			t.Fatalf("two folds of the same events differ:\n%+v\n%+v", first, again)
		}
		checkSession(t, events, asOf, first)
		if described, err := DescribeSession(first); err != nil {
			t.Fatal(err)
		} else if !first.StartedAt.IsZero() {
			checkSpans(t, described)
		}

		// Events of the same time are told apart by their arrival, so only one of each time may change places.
		seen := make(map[time.Time]bool)
		events = slices.DeleteFunc(events, func(ev Event) bool {
			repeated := seen[ev.Time]
			seen[ev.Time] = true
			return repeated
		})
		ordered := Fold(events, asOf)
		random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		shuffled := Fold(events, asOf)
		shuffled.Identity, shuffled.ID = ordered.Identity, ordered.ID // these are of the first arrival
		if !reflect.DeepEqual(shuffled, ordered) {
			t.Fatalf("the order of arrival changes the session:\n%+v\n%+v", ordered, shuffled)
		}
	})
}

// checkSession holds a folded session against what spec.md says of it in other words than Fold's.
func checkSession(t *testing.T, events []Event, asOf time.Time, s Session) {
	var started, earliest, finished, viewed time.Time
	lower := func(a *time.Time, b time.Time) {
		if a.IsZero() || b.Before(*a) {
			*a = b
		}
	}
	leads := 0
	voted := make(map[int64]map[int64]bool)
	for _, ev := range events {
		if !asOf.IsZero() && ev.Time.After(asOf) {
			continue
		}
		lower(&earliest, ev.Time)
		switch ev.Type {
		case EventStart, EventVote:
			lower(&started, ev.Time)
			if ev.Type == EventVote && voted[ev.QuestionID] == nil {
				voted[ev.QuestionID] = make(map[int64]bool)
			}
			for _, a := range ev.Answers {
				voted[ev.QuestionID][a.ID] = true
			}
		case EventLead:
			leads++
		case EventResultView:
			lower(&viewed, ev.Time)
			lower(&finished, ev.Time)
		case EventFinish:
			lower(&finished, ev.Time)
		}
	}
	if started.IsZero() {
		started = earliest
	}
	ended := viewed
	if ended.IsZero() {
		ended = finished
	}
	if !s.StartedAt.Equal(started) || !s.FinishedAt.Equal(finished) || !s.EndedAt.Equal(ended) {
		t.Fatalf("start %s, finish %s, end %s; want %s, %s, %s", s.StartedAt, s.FinishedAt, s.EndedAt, started, finished, ended)
	}
	if (s.Result != nil) == viewed.IsZero() || len(s.Leads) != leads {
		t.Fatalf("result %v, %d leads; a result was seen at %s, leads %d", s.Result, len(s.Leads), viewed, leads)
	}
	questions := make(map[int64]bool)
	for _, q := range s.Questions {
		if questions[q.ID] || len(q.Answers) == 0 {
			t.Fatalf("question %d stands twice or has no answer", q.ID)
		}
		questions[q.ID] = true
		answers := make(map[int64]bool)
		for _, a := range q.Answers {
			if answers[a.ID] || !voted[q.ID][a.ID] {
				t.Fatalf("answer %d of question %d stands twice or was never voted", a.ID, q.ID)
			}
			answers[a.ID] = true
		}
	}
}

func foldedPayload(t *testing.T, s Session) []byte {
	kind := KindIncomplete
	if !s.FinishedAt.IsZero() {
		kind = KindComplete
	}
	b, err := Render(s, &Webhook{SendAnswers: true, SendLeads: true}, kind, s.StartedAt)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) || bytes.ContainsAny(b, "\n\r") {
		t.Fatalf("payload %s", b)
	}
	checkSpans(t, b)
	return b
}

// checkSpans checks that a payload has no impossible value: an end before the start, or a negative span.
func checkSpans(t *testing.T, payload []byte) {
	t.Helper()
	var p struct {
		Start    time.Time  `json:"session_start_date"`
		End      *time.Time `json:"session_end_date"`
		Complete bool       `json:"complete_session"`
		Result   *struct {
			TimeSpent *int64 `json:"time_spent"`
		} `json:"result"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	if p.Start.IsZero() || (p.End != nil) != p.Complete || p.End != nil && p.End.Before(p.Start) ||
		p.Result != nil && (!p.Complete || p.Result.TimeSpent == nil || *p.Result.TimeSpent < 0) {
		t.Fatalf("impossible: %s", payload)
	}
}

// scriptedEvents makes an event of every four bytes: its type, its second, its question, its answer. Few questions, answers
// and seconds, so that they meet.
func scriptedEvents(session []Event, script []byte) []Event {
	start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	if len(session) > 0 {
		start = session[0].Time
	}
	var events []Event
	for len(script) >= 4 && len(events) < 200 {
		b := script[:4]
		script = script[4:]
		ev := Event{SessionID: foldSID, Time: start.Add(time.Duration(int(b[1])*500-10_000) * time.Millisecond), ReceivedAt: start}
		question, answer := int64(b[2]%5), int64(b[3]%7)
		switch b[0] % 6 {
		case 0:
			ev.Type = EventStart
		case 1:
			ev.Type, ev.QuestionID = EventVote, question
			ev.Answers = []Answer{{ID: answer, Answer: new(string(rune('a' + b[3]%26)))}, {ID: int64(b[3] >> 5)}}
		case 2:
			ev.Type, ev.QuestionID = EventUndo, question
			if answer > 1 {
				ev.AnswerID = &answer
			}
		case 3:
			ev.Type, ev.Lead = EventLead, &Lead{UserID: &question}
		case 4:
			ev.Type, ev.Result = EventResultView, &Result{ID: answer}
			if b[2] > 100 {
				ev.Result.TimeSpent = new(int64(b[3]) - 128)
			}
		case 5:
			ev.Type = EventFinish
		}
		events = append(events, ev)
	}
	return events
}

// copyEvents copies events so deep that no change of theirs shows in the copy.
func copyEvents(t *testing.T, events []Event) []Event {
	copied := make([]Event, len(events))
	for i, ev := range events {
		ev.Answers = slices.Clone(ev.Answers)
		for j := range ev.Answers {
			a := &ev.Answers[j]
			a.Answer, a.Parent, a.Addon = clonePtr(a.Answer), clonePtr(a.Parent), clonePtr(a.Addon)
		}
		ev.Question, ev.AnswerID, ev.JSON = clonePtr(ev.Question), clonePtr(ev.AnswerID), bytes.Clone(ev.JSON)
		if ev.Lead = clonePtr(ev.Lead); ev.Lead != nil {
			l := ev.Lead
			l.UserID, l.CreatedAt, l.ContentType = clonePtr(l.UserID), clonePtr(l.CreatedAt), clonePtr(l.ContentType)
		}
		if ev.Result = clonePtr(ev.Result); ev.Result != nil {
			ev.Result.TimeSpent = clonePtr(ev.Result.TimeSpent)
		}
		copied[i] = ev
	}
	if !reflect.DeepEqual(copied, events) {
		t.Fatal("copyEvents does not copy")
	}
	return copied
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}
