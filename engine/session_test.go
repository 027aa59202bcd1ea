package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var (
	foldStart   = time.Date(2025, 6, 1, 10, 0, 0, 0, time.UTC)
	foldSID     = uuid.MustParse("22ffdf18-1035-4e56-baa2-8327e3af5242")
	foldContent = uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39")
)

// at makes an event that happens so many seconds after foldStart.
func at(sec float64, eventType EventType, change ...func(*Event)) Event {
	ev := Event{Type: eventType, SessionID: foldSID, Time: foldStart.Add(time.Duration(sec * float64(time.Second)))}
	ev.ReceivedAt = ev.Time
	for _, f := range change {
		f(&ev)
	}
	return ev
}

// voteAt is a vote for answers, whose texts are made of their ids; undoAt takes back the answers one by one, or all if none
// is given.
func voteAt(sec float64, question int64, answers ...int64) Event {
	return at(sec, EventVote, func(ev *Event) {
		ev.QuestionID = question
		for _, a := range answers {
			ev.Answers = append(ev.Answers, Answer{ID: a})
		}
	})
}

func undoAt(sec float64, question int64, answer ...int64) Event {
	return at(sec, EventUndo, func(ev *Event) {
		ev.QuestionID = question
		if len(answer) > 0 {
			ev.AnswerID = &answer[0]
		}
	})
}

func resultAt(sec float64, id int64) Event {
	return at(sec, EventResultView, func(ev *Event) { ev.Result = &Result{ID: id} })
}

func leadAt(sec float64, name string) Event {
	return at(sec, EventLead, func(ev *Event) { ev.Lead = &Lead{Name: &name} })
}

func identified(i Identity) func(*Event) { return func(ev *Event) { ev.Identity = i } }

// summary is a session in few words: seconds after foldStart, and questions with their answers.
func summary(s Session) string {
	sec := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprint(t.Sub(foldStart).Seconds())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "start %s finish %s end %s", sec(s.StartedAt), sec(s.FinishedAt), sec(s.EndedAt))
	for _, q := range s.Questions {
		fmt.Fprintf(&b, " %d:", q.ID)
		for i, a := range q.Answers {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(&b, a.ID)
		}
	}
	if s.Result != nil {
		fmt.Fprintf(&b, " result %d", s.Result.ID)
	}
	for _, l := range s.Leads {
		fmt.Fprintf(&b, " lead %s@%s", *l.Name, *l.CreatedAt)
	}
	return b.String()
}

func TestFold(t *testing.T) {
	tests := []struct {
		name   string
		events []Event
		asOf   float64 // seconds after foldStart; 0 means all
		want   string
	}{
		{"start only", []Event{at(0, EventStart)}, 0, "start 0 finish - end -"},
		{"vote first", []Event{voteAt(2, 1, 11), at(5, EventStart)}, 0, "start 2 finish - end - 1:11"},
		{"neither start nor vote", []Event{leadAt(3, "x"), undoAt(2, 1), at(9, EventFinish)}, 0, "start 2 finish 9 end 9 lead x@2025-06-01T10:00:03.000000Z"},
		{"a lead before the start", []Event{leadAt(1, "x"), at(2, EventStart)}, 0, "start 2 finish - end - lead x@2025-06-01T10:00:01.000000Z"},
		{"the earliest start", []Event{at(4, EventStart), at(1, EventStart)}, 0, "start 1 finish - end -"},

		{"finish", []Event{at(0, EventStart), at(5, EventFinish)}, 0, "start 0 finish 5 end 5"},
		{"result_view finishes", []Event{at(0, EventStart), resultAt(5, 7)}, 0, "start 0 finish 5 end 5 result 7"},
		{"the result is seen after the finish", []Event{at(0, EventStart), at(5, EventFinish), resultAt(8, 7)}, 0, "start 0 finish 5 end 8 result 7"},
		{"the result is seen before the finish", []Event{at(0, EventStart), resultAt(5, 7), at(8, EventFinish)}, 0, "start 0 finish 5 end 5 result 7"},
		{"the first result by time", []Event{resultAt(9, 1), resultAt(5, 2), resultAt(7, 3)}, 0, "start 5 finish 5 end 5 result 2"},
		{"the first result by arrival", []Event{resultAt(5, 1), resultAt(5, 2)}, 0, "start 5 finish 5 end 5 result 1"},

		{"the result is seen before the start", []Event{resultAt(5, 7), at(8, EventStart)}, 0, "start 8 finish 5 end 5 result 7"},

		{"answers add up", []Event{voteAt(1, 1, 11), voteAt(2, 2, 21), voteAt(3, 1, 12)}, 0, "start 1 finish - end - 1:11,12 2:21"},
		{"an answer twice", []Event{voteAt(1, 1, 11, 12, 11), voteAt(3, 1, 12)}, 0, "start 1 finish - end - 1:11,12"},
		{"the same answer to two questions", []Event{voteAt(1, 1, 11), voteAt(2, 2, 11)}, 0, "start 1 finish - end - 1:11 2:11"},
		{"by time, not by arrival", []Event{voteAt(3, 3, 31), voteAt(1, 1, 12), voteAt(2, 2, 21), voteAt(0.5, 1, 11)}, 0, "start 0.5 finish - end - 1:11,12 2:21 3:31"},
		{"by arrival at the same time", []Event{voteAt(1, 3, 31), voteAt(1, 1, 12), voteAt(1, 1, 11)}, 0, "start 1 finish - end - 3:31 1:12,11"},

		{"undo of one", []Event{voteAt(1, 1, 11, 12, 13), undoAt(2, 1, 12)}, 0, "start 1 finish - end - 1:11,13"},
		{"undo of all", []Event{voteAt(1, 1, 11, 12), voteAt(2, 2, 21), undoAt(3, 1)}, 0, "start 1 finish - end - 2:21"},
		{"undo of the only one", []Event{voteAt(1, 1, 11), undoAt(2, 1, 11)}, 0, "start 1 finish - end -"},
		{"a question keeps its place", []Event{voteAt(1, 1, 11), voteAt(2, 2, 21), undoAt(3, 1), voteAt(4, 1, 12)}, 0, "start 1 finish - end - 1:12 2:21"},
		{"an answer that is voted again comes last", []Event{voteAt(1, 1, 11, 12), undoAt(2, 1, 11), voteAt(3, 1, 11)}, 0, "start 1 finish - end - 1:12,11"},
		{"undo of what was not voted", []Event{voteAt(1, 1, 11), undoAt(2, 1, 99), undoAt(3, 2)}, 0, "start 1 finish - end - 1:11"},
		{"an undo touches no other question", []Event{voteAt(1, 1, 11), voteAt(2, 2, 11), undoAt(3, 2, 11)}, 0, "start 1 finish - end - 1:11"},
		{"an undo that happened before its vote", []Event{voteAt(2, 1, 11), undoAt(1, 1, 11)}, 0, "start 2 finish - end - 1:11"},
		{"an undo that arrives before its vote", []Event{undoAt(2, 1, 11), voteAt(1, 1, 11)}, 0, "start 1 finish - end -"},

		{"leads in the order of time", []Event{leadAt(2, "b"), leadAt(1, "a")}, 0, "start 1 finish - end - lead a@2025-06-01T10:00:01.000000Z lead b@2025-06-01T10:00:02.000000Z"},

		{"as of, inclusive", []Event{at(0, EventStart), voteAt(5, 1, 11), voteAt(5.000001, 1, 12), undoAt(6, 1), resultAt(7, 1)}, 5, "start 0 finish - end - 1:11"},
		{"as of, a late arrival", []Event{at(0, EventStart), resultAt(9, 1), voteAt(4, 1, 11), leadAt(6, "x")}, 5, "start 0 finish - end - 1:11"},
		{"as of, the finish is seen", []Event{at(0, EventStart), at(5, EventFinish), resultAt(8, 7)}, 5, "start 0 finish 5 end 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asOf := time.Time{}
			if tt.asOf != 0 {
				asOf = foldStart.Add(time.Duration(tt.asOf * float64(time.Second)))
			}
			if got := summary(Fold(tt.events, asOf)); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestFoldKeepsArrivalAtTheSameTime with more events than a sort keeps in order by chance.
func TestFoldKeepsArrivalAtTheSameTime(t *testing.T) {
	var events []Event
	var want []int64
	for i := range int64(500) {
		events = append(events, voteAt(float64(i%2), 1+i%2, i))
		if i%2 == 0 {
			want = append(want, i)
		}
	}
	var got []int64
	for _, a := range Fold(events, time.Time{}).Questions[0].Answers {
		got = append(got, a.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// Requests of a session come to processes whose clocks differ. What has no time of its own stays in the order in which it came.
func TestEventsOfClocksThatDiffer(t *testing.T) {
	received := func(sec float64, event string) EventBatch {
		return EventBatch{ReceivedAt: foldStart.Add(time.Duration(sec * float64(time.Second))), JSON: fmt.Appendf(nil, `[{"session_id":"%s","content_id":"%s",%s}]`, foldSID, foldContent, event)}
	}
	stored := SessionRecord{Batches: []EventBatch{
		received(20, `"type":"vote","question_id":1,"answer_id":7`), // a clock that is fast
		received(1, `"type":"undo","question_id":1,"answer_id":7`),
		received(2, `"type":"vote","question_id":2,"answer_id":8`),
		received(3, `"type":"vote","question_id":3,"answer_id":9,"time":"2025-06-01T10:00:00.5Z"`), // the client's own time holds
	}}
	events, err := stored.Events()
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, q := range Fold(events, time.Time{}).Questions {
		if len(q.Answers) > 0 {
			got = append(got, q.ID)
		}
	}
	if want := []int64{3, 2}; !slices.Equal(got, want) {
		t.Errorf("the questions with answers are %v, want %v", got, want)
	}
	for i, sec := range []time.Duration{20, 1, 2, 3} {
		if want := foldStart.Add(sec * time.Second); !events[i].ReceivedAt.Equal(want) {
			t.Errorf("event %d was received at %v, want %v", i, events[i].ReceivedAt, want)
		}
	}
}

// TestFoldTexts: of what repeats, the first text stands; a question's title may come with a later vote.
func TestFoldTexts(t *testing.T) {
	titled := func(ev Event, title, answer *string) Event {
		ev.Question, ev.Answers[0].Answer = title, answer
		return ev
	}
	s := Fold([]Event{
		titled(voteAt(1, 1, 11), nil, new("first")),
		titled(voteAt(2, 1, 11), new("title"), new("second")),
		titled(voteAt(3, 1, 12), new("other title"), nil),
	}, time.Time{})
	want := []Question{{ID: 1, Title: new("title"), Answers: []Answer{{ID: 11, Answer: new("first")}, {ID: 12}}}}
	if !reflect.DeepEqual(s.Questions, want) {
		t.Errorf("got %+v", s.Questions)
	}
}

// TestFoldLeadKeepsItsDate: a lead that brings a date keeps it, even if it is none.
func TestFoldLeadKeepsItsDate(t *testing.T) {
	s := Fold([]Event{at(0, EventLead, func(ev *Event) { ev.Lead = &Lead{CreatedAt: new("last Tuesday")} })}, time.Time{})
	if got := *s.Leads[0].CreatedAt; got != "last Tuesday" {
		t.Errorf("created_at = %q", got)
	}
}

// TestFoldIdentity: the first value by arrival stands for each field by itself, whatever the times and as-of.
func TestFoldIdentity(t *testing.T) {
	other := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	events := []Event{
		at(50, EventStart, identified(Identity{ContentID: foldContent, ContentType: "quiz", PoltioUserID: new(int64(1))})),
		at(1, EventStart, identified(Identity{ContentID: other, ContentType: "set", PoltioUserID: new(int64(2)), CustomID: new("c1")})),
		at(70, EventFinish, identified(Identity{PublisherUUID: new(""), CustomID: new("c2")})),
		at(2, EventStart, identified(Identity{PublisherUUID: new("p2")})),
	}
	want := Identity{ContentID: foldContent, ContentType: "quiz", PoltioUserID: new(int64(1)), PublisherUUID: new(""), CustomID: new("c1")}
	for _, asOf := range []time.Time{{}, foldStart.Add(10 * time.Second)} {
		if got := Fold(events, asOf).Identity; !reflect.DeepEqual(got, want) {
			t.Errorf("as of %v: got %+v, want %+v", asOf, got, want)
		}
	}
}

// TestRenderCompleteness holds what differs between the two kinds and between the webhooks' settings.
func TestRenderCompleteness(t *testing.T) {
	s := Fold([]Event{
		at(0, EventStart, identified(Identity{ContentID: foldContent, ContentType: "quiz", PoltioUserID: new(int64(1))})),
		voteAt(1, 1, 11), resultAt(2.0019, 7), leadAt(3, "x"),
	}, time.Time{})
	fields := func(complete, answers, leads bool) map[string]any {
		kind := KindIncomplete
		if complete {
			kind = KindComplete
		}
		b, err := Render(s, &Webhook{SendAnswers: answers, SendLeads: leads}, kind, foldStart.Add(12999*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	full := fields(true, true, true)
	if full["session_end_date"] != "2025-06-01T10:00:02.001900Z" || full["complete_session"] != true || full["event_time"] != float64(foldStart.Unix()+12) {
		t.Errorf("complete: %v", full)
	}
	if got := full["result"].(map[string]any)["time_spent"]; got != float64(2001) {
		t.Errorf("time_spent = %v, want 2001", got)
	}
	if got := full["leads"].([]any)[0].(map[string]any); got["user_id"] != float64(1) || got["content_type"] != "quiz" || got["phone"] != nil {
		t.Errorf("lead = %v", got)
	}
	part := fields(false, true, true)
	end, hasEnd := part["session_end_date"]
	result, hasResult := part["result"]
	if !hasEnd || end != nil || !hasResult || result != nil || part["complete_session"] != false {
		t.Errorf("incomplete: %v", part)
	}
	for _, answers := range []bool{true, false} {
		for _, leads := range []bool{true, false} {
			m := fields(true, answers, leads)
			_, hasAnswers := m["answers"]
			_, hasLeads := m["leads"]
			if hasAnswers != answers || hasLeads != leads {
				t.Errorf("send_answers %t, send_leads %t: answers %t, leads %t", answers, leads, hasAnswers, hasLeads)
			}
		}
	}
	if s.Result.TimeSpent != nil || s.Leads[0].UserID != nil {
		t.Error("Render changed the session")
	}
}

const hookAll, hookOne, hookOther, hookOff = 1, 2, 3, 4

// admitHooks: one for all contents, one for foldContent with incomplete sessions, one for another content, one that is off.
func admitHooks() *WebhookSet {
	other := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	return NewWebhookSet([]*Webhook{
		{ID: hookOff, Active: false, Delay: 1, SendIncomplete: true},
		{ID: hookOther, Active: true, ContentID: &other, Delay: 2, IncompleteDelay: 5, SendIncomplete: true},
		{ID: hookAll, Active: true, Delay: 10, IncompleteDelay: 60},
		{ID: hookOne, Active: true, Paused: true, ContentID: &foldContent, Delay: 0, IncompleteDelay: 60, SendIncomplete: true},
	}, nil)
}

// firstEvent gives an event what a session's first one must carry.
func firstEvent(ev Event) Event {
	ev.Identity = Identity{ContentID: foldContent, ContentType: "quiz", PoltioUserID: new(int64(1))}
	return ev
}

func TestAdmitTriggers(t *testing.T) {
	type calls [][]Event // one element for each call of Admit
	tests := []struct {
		name  string
		calls calls
		want  [][]string // of each call: webhook, kind, seconds after foldStart
	}{
		{"a start", calls{{firstEvent(at(3, EventStart))}}, [][]string{{"2 incomplete 63"}}},
		{"a vote", calls{{firstEvent(voteAt(4, 1, 11))}}, [][]string{{"2 incomplete 64"}}},
		{"neither", calls{{firstEvent(leadAt(5, "x"))}}, [][]string{{"2 incomplete 65"}}},
		{"the earliest start of the first request", calls{{firstEvent(leadAt(0, "x")), at(9, EventStart), voteAt(8, 1, 11)}}, [][]string{{"2 incomplete 68"}}},
		{"the due time does not move", calls{{firstEvent(at(3, EventStart))}, {at(1, EventStart)}}, [][]string{{"2 incomplete 63"}, nil}},

		{"then a finish", calls{{firstEvent(at(0, EventStart))}, {voteAt(1, 1, 11)}, {at(20, EventFinish)}},
			[][]string{{"2 incomplete 60"}, nil, {"1 complete 30", "2 complete 20"}}},
		{"then a result_view", calls{{firstEvent(at(0, EventStart))}, {resultAt(20, 1)}}, [][]string{{"2 incomplete 60"}, {"1 complete 30", "2 complete 20"}}},
		{"finished only once", calls{{firstEvent(at(0, EventStart))}, {at(20, EventFinish)}, {resultAt(21, 1)}, {at(5, EventFinish)}},
			[][]string{{"2 incomplete 60"}, {"1 complete 30", "2 complete 20"}, nil, nil}},
		{"finished twice in a request", calls{{firstEvent(at(0, EventStart))}, {resultAt(22, 1), at(20, EventFinish)}},
			[][]string{{"2 incomplete 60"}, {"1 complete 30", "2 complete 20"}}},

		{"whole, finished inside the instant", calls{{firstEvent(at(0, EventStart)), at(20, EventFinish)}}, [][]string{{"1 complete 30", "2 complete 20"}}},
		{"whole, finished at the instant", calls{{firstEvent(at(0, EventStart)), at(60, EventFinish)}}, [][]string{{"1 complete 70", "2 complete 60"}}},
		{"whole, finished beyond the instant", calls{{firstEvent(at(0, EventStart)), at(60.000001, EventFinish)}},
			[][]string{{"1 complete 70.000001", "2 complete 60.000001", "2 incomplete 60"}}},
		{"whole, the finish first", calls{{firstEvent(at(90, EventFinish)), at(0, EventStart)}}, [][]string{{"1 complete 100", "2 complete 90", "2 incomplete 60"}}},
		{"nothing but a finish", calls{{firstEvent(at(20, EventFinish))}}, [][]string{{"1 complete 30", "2 complete 20"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var head SessionHead
			for i, fresh := range tt.calls {
				d, err := admit(head, fresh, admitHooks())
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, trigger := range d.Triggers {
					got = append(got, fmt.Sprintf("%d %s %v", trigger.WebhookID, trigger.Kind, trigger.DueAt.Sub(foldStart).Seconds()))
					d.Head.Deliveries = append(slices.Clone(d.Head.Deliveries), DeliveryRef{ID: uuid.New(), WebhookID: trigger.WebhookID, Kind: trigger.Kind})
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want[i]) {
					t.Errorf("request %d: got %q, want %q", i, got, tt.want[i])
				}
				head = d.Head
			}
		})
	}
}

// admit decides about a request of one session.
func admit(head SessionHead, events []Event, hooks *WebhookSet) (Decision, error) {
	a := NewAppend(events, foldStart)
	return a.Admit(0, head, nil, hooks, MaxTriggers)
}

// TestAdmitDeliveriesAreProof: a delivery stops a second complete delivery even for a session whose finish is not known, as after an
// event was lost; and Led tells kinds and webhooks apart.
func TestAdmitDeliveriesAreProof(t *testing.T) {
	d, err := admit(SessionHead{}, []Event{firstEvent(at(0, EventStart))}, admitHooks())
	if err != nil {
		t.Fatal(err)
	}
	head := d.Head
	head.Deliveries = []DeliveryRef{{ID: uuid.New(), WebhookID: hookAll, Kind: KindComplete}, {ID: uuid.New(), WebhookID: hookOne, Kind: KindIncomplete}}
	d, err = admit(head, []Event{at(9, EventFinish)}, admitHooks())
	if err != nil {
		t.Fatal(err)
	}
	want := []Trigger{{WebhookID: hookOne, Kind: KindComplete, DueAt: foldStart.Add(9 * time.Second)}}
	if !reflect.DeepEqual(d.Triggers, want) {
		t.Errorf("got %v, want %v", d.Triggers, want)
	}
}

func TestAdmitMatchesByContent(t *testing.T) {
	other := uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tests := []struct {
		content uuid.UUID
		want    []uint32
	}{
		{foldContent, []uint32{hookAll, hookOne}},
		{other, []uint32{hookAll, hookOther}},
		{foldSID, []uint32{hookAll}},
	}
	for _, tt := range tests {
		first := firstEvent(at(0, EventFinish))
		first.Identity.ContentID = tt.content
		// The session's content is that of its first event; what comes later with another one changes nothing.
		later := at(1, EventStart, identified(Identity{ContentID: other}))
		d, err := admit(SessionHead{}, []Event{first, later}, admitHooks())
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for _, trigger := range d.Triggers {
			if trigger.Kind == KindComplete {
				got = append(got, trigger.WebhookID)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("content %s: got webhooks %v, want %v", tt.content, got, tt.want)
		}
		if d.Head.Identity.ContentID != tt.content {
			t.Errorf("the session's content is %s, want %s", d.Head.Identity.ContentID, tt.content)
		}
	}
}

// inParts returns three events, at these seconds, that have a part of the identity each.
func inParts(seconds ...float64) []Event {
	whole := firstEvent(at(0, EventStart)).Identity
	return []Event{
		at(seconds[0], EventStart, identified(Identity{PoltioUserID: whole.PoltioUserID})),
		at(seconds[1], EventStart, identified(Identity{ContentType: whole.ContentType, PublisherUUID: new("p")})),
		at(seconds[2], EventFinish, identified(Identity{ContentID: whole.ContentID, ContentType: "survey", PublisherUUID: new("later")})),
	}
}

// TestAdmitIdentity: the first request of a session has its identity in any of its events, and the first value of each field stands.
func TestAdmitIdentity(t *testing.T) {
	whole := firstEvent(at(0, EventStart)).Identity
	whole.PublisherUUID = new("p")
	for _, partial := range []bool{false, true} {
		a := NewAppend(inParts(9, 5, 7), foldStart)
		a.Partial = partial
		d, err := a.Admit(0, SessionHead{}, nil, admitHooks(), MaxTriggers)
		if err != nil || len(d.Fresh) != 3 || d.Refused != nil || !reflect.DeepEqual(d.Head.Identity, whole) || !reflect.DeepEqual(Fold(d.Fresh, time.Time{}).Identity, whole) {
			t.Errorf("partial %t: %+v, %v; want the identity %+v", partial, d, err, whole)
		}
	}
}

// TestAdmitPartialIdentity: in a partial request, the identity is that of accepted events. An event that is left out lends none.
func TestAdmitPartialIdentity(t *testing.T) {
	named := func(id string, ev Event) Event {
		ev.ID = id
		return ev
	}
	huge := firstEvent(at(0, EventStart))
	huge.JSON = make([]byte, MaxSessionBytes+1)
	for _, tt := range []struct {
		name    string
		events  []Event
		fresh   []int // indexes
		refused string
	}{
		{"the last has it", []Event{at(0, EventStart), leadAt(1, "x"), firstEvent(at(2, EventFinish))}, []int{0, 1, 2}, ""},
		{"the first has it", []Event{firstEvent(at(0, EventStart)), leadAt(1, "x")}, []int{0, 1}, ""},
		{"none has it", []Event{at(0, EventStart), at(1, EventFinish)}, nil, "0 content_id, 1 content_id"},
		{"none has all of it", inParts(0, 1, 2)[:2], nil, "0 content_id, 1 content_id"},
		{"a refused one has it", []Event{at(0, EventStart), huge}, nil, "0 content_id, 1 session_id"},
		{"one beside the refused one has it", []Event{at(0, EventStart), huge, firstEvent(at(2, EventFinish))}, []int{0, 2}, "1 session_id"},
		{"a repeat of a refused one has it", []Event{named("a", at(0, EventStart)), named("a", firstEvent(at(1, EventStart))), at(2, EventFinish)}, []int{1, 2}, "0 content_id"},
		{"a repeat of an accepted one", []Event{named("a", at(0, EventStart)), named("a", at(1, EventStart)), firstEvent(at(2, EventFinish))}, []int{0, 2}, ""},
	} {
		for i := range tt.events {
			tt.events[i].Index = i
		}
		a := NewAppend(tt.events, foldStart)
		a.Partial = true
		d, err := a.Admit(0, SessionHead{}, nil, admitHooks(), MaxTriggers)
		var fresh []int
		for _, ev := range d.Fresh {
			fresh = append(fresh, ev.Index)
		}
		var refused []string
		for _, e := range d.Refused {
			refused = append(refused, fmt.Sprint(e.Index, " ", e.Field))
		}
		if got := strings.Join(refused, ", "); err != nil || !slices.Equal(fresh, tt.fresh) || got != tt.refused {
			t.Errorf("%s: stored %v, refused %q, %v; want %v, %q", tt.name, fresh, got, err, tt.fresh, tt.refused)
		}
	}
}

func TestAdmitHead(t *testing.T) {
	received := func(ev Event, sec int) Event {
		ev.ReceivedAt = foldStart.Add(time.Duration(sec) * time.Second)
		return ev
	}
	first := []Event{received(firstEvent(at(30, EventStart)), 100), received(at(29, EventStart), 100)}
	d, err := admit(SessionHead{}, first, admitHooks())
	if err != nil {
		t.Fatal(err)
	}
	want := SessionHead{ID: foldSID, Identity: first[0].Identity, Events: 2, FirstReceivedAt: foldStart.Add(100 * time.Second), LastReceivedAt: foldStart.Add(100 * time.Second),
		StartedAt: foldStart.Add(29 * time.Second)}
	if !reflect.DeepEqual(d.Head, want) {
		t.Errorf("first request:\n got %+v\nwant %+v", d.Head, want)
	}
	before := d.Head
	// A clock that was set back does not bring the last receipt forward.
	d, err = admit(before, []Event{received(at(50, EventFinish, identified(Identity{CustomID: new("c"), ContentType: "set"})), 90), received(resultAt(45, 1), 90)}, admitHooks())
	if err != nil {
		t.Fatal(err)
	}
	want.Events, want.Identity.CustomID, want.FinishedAt = 4, new("c"), foldStart.Add(45*time.Second)
	if !reflect.DeepEqual(d.Head, want) {
		t.Errorf("second request:\n got %+v\nwant %+v", d.Head, want)
	}
	if before.Events != 2 || before.Identity.CustomID != nil {
		t.Errorf("Admit changed the head that it was given: %+v", before)
	}
}

func TestAdmitRefuses(t *testing.T) {
	without := func(change func(*Identity)) []Event {
		first, second := firstEvent(at(0, EventStart)), firstEvent(at(1, EventStart))
		first.Index, second.Index = 3, 4
		change(&first.Identity)
		change(&second.Identity)
		return []Event{first, second}
	}
	many := func(n int) []Event {
		events := slices.Repeat([]Event{firstEvent(at(0, EventStart))}, n)
		for i := range events {
			events[i].Index = i
		}
		return events
	}
	sized := func(sizes ...int) []Event {
		events := many(len(sizes))
		for i, n := range sizes {
			events[i].JSON = make([]byte, n)
		}
		return events
	}
	tests := []struct {
		name   string
		head   SessionHead
		fresh  []Event
		index  int
		field  string
		detail string
	}{
		{"no content_id", SessionHead{}, without(func(i *Identity) { i.ContentID = uuid.Nil }), 3, "content_id", "required in the first request"},
		{"no content_type", SessionHead{}, without(func(i *Identity) { i.ContentType = "" }), 3, "content_type", "required in the first request"},
		{"no poltio_user_id", SessionHead{}, without(func(i *Identity) { i.PoltioUserID = nil }), 3, "poltio_user_id", "required in the first request"},
		{"too many at once", SessionHead{}, many(10_001), 10_000, "session_id", "10000 events"},
		{"too many together", SessionHead{ID: foldSID, Events: 9_998}, many(3), 2, "session_id", "10000 events"},
		{"one too many", SessionHead{ID: foldSID, Events: 10_000}, many(1), 0, "session_id", "10000 events"},
		{"too large together", SessionHead{ID: foldSID, Events: 1, Bytes: 16<<20 - 20}, sized(10, 10, 1), 2, "session_id", "16 MiB"},
		{"too large at once", SessionHead{}, sized(16<<20 + 1), 0, "session_id", "16 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := admit(tt.head, tt.fresh, admitHooks())
			errs, ok := errors.AsType[InputErrors](err)
			if !ok || len(errs) != 1 {
				t.Fatalf("got %v, %v; want one InputError", d, err)
			}
			if errs[0].Index != tt.index || errs[0].Field != tt.field || !strings.Contains(errs[0].Detail, tt.detail) {
				t.Errorf("got %+v, want %d, %s, …%s…", errs[0], tt.index, tt.field, tt.detail)
			}
			if !reflect.DeepEqual(d, Decision{}) {
				t.Errorf("a decision beside the error: %+v", d)
			}
		})
	}
	for name, tt := range map[string]struct {
		head  SessionHead
		fresh []Event
	}{
		"the most at once":          {SessionHead{}, many(10_000)},
		"the last that fits":        {SessionHead{ID: foldSID, Events: 9_999}, many(1)},
		"the largest":               {SessionHead{ID: foldSID, Events: 1, Bytes: 16<<20 - 20}, sized(10, 10)},
		"a later event needs none":  {SessionHead{ID: foldSID, Events: 1}, []Event{at(1, EventFinish)}},
		"the last event has it":     {SessionHead{}, []Event{at(0, EventStart), leadAt(1, "x"), firstEvent(at(2, EventFinish))}},
		"each event has a part":     {SessionHead{}, inParts(0, 1, 2)},
		"an absent optional string": {SessionHead{}, many(1)},
	} {
		if _, err := admit(tt.head, tt.fresh, admitHooks()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
