package engine

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// What an event is without its wrong fields, as JSON that is right.
func TestPartialLeavesOut(t *testing.T) {
	vote, lead, result := `"question_id":1,"answer_id":2`, `"lead":{"name":"Ada"}`, `"result":{"result_id":1}`
	for _, tt := range []struct {
		eventType, given, left string
		fields                 []string // with the beginning of what is wrong
	}{
		// Each optional field.
		{"finish", `"time":1706011173`, ``, []string{"time: must be a string (got a number)"}},
		{"finish", `"time":"soon"`, ``, []string{"time: must be an RFC 3339 time"}},
		{"finish", `"content_id":"quiz-7"`, ``, []string{"content_id: must be a UUID"}},
		{"finish", `"content_type":"poll"`, ``, []string{"content_type: must be set, quiz"}},
		{"finish", `"poltio_user_id":"u7"`, ``, []string{"poltio_user_id: must be an integer"}},
		{"finish", `"publisher_uuid":[1]`, ``, []string{"publisher_uuid: must be a string (got a list)"}},
		{"finish", `"custom_id":true`, ``, []string{"custom_id: must be a string (got true or false)"}},
		{"vote", vote + `,"question":{}`, vote, []string{"question: must be a string (got an object)"}},
		{"vote", vote + `,"answer":{},"parent":[],"addon":false`, vote, []string{"answer: must be", "parent: must be", "addon: must be"}},
		{"vote", `"question_id":1,"answers":[{"answer_id":2,"answer":{},"addon":"a"},{"answer_id":3,"parent":[],"x":1}]`,
			`"question_id":1,"answers":[{"answer_id":2,"addon":"a"},{"answer_id":3}]`, []string{"answers[0].answer: must be", "answers[1].parent: must be", "answers[1].x: unknown field"}},
		{"lead", `"lead":{"name":"Ada","user_id":{},"phone":{},"email":{},"comment":[],"created_at":false,"tc_checked":"yes","content_type":{},"content_id":1.5,"addon":{}}`, lead,
			[]string{"lead.user_id: must be", "lead.phone: must be", "lead.email: must be a string (got an object)", "lead.comment: must be", "lead.created_at: must be",
				"lead.tc_checked: must be true or false", "lead.content_type: must be", "lead.content_id: must be a whole number", "lead.addon: must be"}},
		{"result_view", `"result":{"result_title":{},"result_image":{},"result_desc":{},"time_spent":"long","right_answer":true,"calculator_result":[],"result_id":1}`, result,
			[]string{"result.result_title: must", "result.result_image: must", "result.result_desc: must", "result.time_spent: must", "result.right_answer: must",
				"result.calculator_result: must"}},
		// What no event has, and what another type has.
		{"lead", `"mail":"a@example.com","lead":{"Email":"a@example.com","name":"Ada"}`, lead, []string{"mail: unknown field", "lead.Email: unknown field"}},
		{"start", `"sesion_id":null,"":{"a":[{}]}`, ``, []string{"sesion_id: unknown field", ": unknown field"}},
		{"start", `"lead":"x","question_id":{},"answers":3,"result":{}`, ``, []string{"lead: does not belong to an event of type start", "question_id: does not belong",
			"answers: does not belong", "result: does not belong"}},
		{"undo", `"question_id":1,"parent":"https://example.com/"`, `"question_id":1`, []string{"parent: does not belong to an event of type undo"}},
		{"vote", `"question_id":1,"answer":"a","parent":{},"answers":[{"answer_id":2}],"addon":"b"`, `"question_id":1,"answers":[{"answer_id":2}]`,
			[]string{"parent: must be", "answer: belongs to a single answer", "addon: belongs to a single answer"}},
	} {
		body := evJSON(tt.eventType, tt.given)
		// The type may be the last field, too.
		last := strings.Replace(body, `"type":"`+tt.eventType+`",`, "", 1)
		last = last[:len(last)-1] + `,"type":"` + tt.eventType + `"}`
		for _, body := range []string{body, last} {
			got, err := parsePartialEvents([]byte(evJSON("start", "")+body+evJSON("start", "")), eventNow)
			if err != nil || len(got.valid) != 3 || got.refused != nil || got.fieldsLeftOut != len(tt.fields) {
				t.Errorf("%s: %+v, %v", body, got, err)
				continue
			}
			var said []string
			for i, field := range got.leftOut {
				said = append(said, field.Field+": "+field.Detail)
				if field.Index != 1 || i >= len(tt.fields) || !strings.HasPrefix(said[i], tt.fields[i]) {
					t.Errorf("%s: event %d, %q, want %q", body, field.Index, said, tt.fields)
				}
			}
			want, err := ParseEvents([]byte(evJSON("start", "")+evJSON(tt.eventType, tt.left)), eventNow)
			if err != nil {
				t.Fatal(err)
			}
			want[1].JSON = []byte(body) // as it was received
			if !reflect.DeepEqual(got.valid[:2], want) {
				t.Errorf("%s\n got %+v\nwant %+v", body, got.valid[1], want[1])
			}
			if stored, err := DecodeEvents([]byte("["+evJSON("start", "")+","+body+"]"), eventNow); err != nil || !reflect.DeepEqual(stored, want) {
				t.Errorf("%s, stored: %v\n got %+v\nwant %+v", body, err, stored, want)
			}
			if events, err := ParseEvents([]byte(body), eventNow); err == nil {
				t.Errorf("%s: a request that is not partial is accepted: %+v", body, events)
			}
		}
	}
}

// What an event must have, what would mean something else without a field, and what is ambiguous is refused. A refused event has one entry, and no
// field is said to be left out of it.
func TestPartialRefuses(t *testing.T) {
	for _, tt := range []struct{ body, field, detail string }{
		{`{"type":"click","session_id":"` + eventSID + `","x":1}`, "type", "must be start"},
		{`{"type":7,"session_id":"` + eventSID + `"}`, "type", "must be a string"},
		{`{"session_id":"` + eventSID + `","custom_id":{}}`, "custom_id", "must be a string"}, // it has no type either
		{`{"type":"start","custom_id":{},"session_id":7}`, "session_id", "must be a string"},
		{`{"type":"start","x":1}`, "session_id", "is required"},
		{evJSON("start", `"custom_id":{},"id":7`), "id", "must be a string (got a number)"}, // stored without it, it would be stored again
		{evJSON("start", `"custom_id":{},"time":"2025-06-01T12:06:00Z"`), "time", "more than 5 minutes ahead"},
		{evJSON("start", `"x":1,"custom_id":"a","custom_id":{}`), "custom_id", "stands twice"},
		{evJSON("start", `"type":"finish","x":1`), "type", "stands twice"},
		{evJSON("vote", `"question":{},"question_id":"1x","answer_id":{}`), "question_id", "must be an integer"},
		{evJSON("vote", `"question":{},"question_id":1,"answer_id":{}`), "answer_id", "must be an integer"},
		{evJSON("vote", `"question":{},"question_id":1,"answer":{}`), "answer_id", "is required in a vote"},
		{evJSON("vote", `"question":{},"question_id":1,"answer_id":1,"answers":[{"answer_id":2}]`), "answers", "must not be combined"},
		{evJSON("vote", `"question_id":1,"answers":[{"answer_id":2,"answer":{}},7,{"answer":{}}]`), "answers[1]", "must be an object"},
		{evJSON("vote", `"question_id":1,"answers":[{"answer":{}}]`), "answers[0].answer_id", "is required in an answer"},
		{evJSON("undo", `"x":1,"question_id":1,"answer_id":{}`), "answer_id", "must be an integer"}, // without it, all answers would be taken back
		{evJSON("lead", `"x":1,"lead":"Ada"`), "lead", "must be an object"},
		{evJSON("lead", `"x":1`), "lead", "is required in a lead"},
		{evJSON("lead", `"x":1,"lead":{}`), "lead", "at least one of"},
		{evJSON("lead", `"x":1,"lead":{"mail":"a@example.com","name":[]}`), "lead.mail", "unknown field; nothing else is in the lead"},
		{evJSON("result_view", `"x":1,"result":{"result_title":{},"result_id":{}}`), "result.result_id", "must be an integer"},
		{evJSON("result_view", `"x":1,"result":{"result_title":{}}`), "result.result_id", "is required in a result"},
	} {
		got, err := parsePartialEvents([]byte(evJSON("lead", `"lead":{"name":"n","email":{}}`)+tt.body), eventNow)
		if err != nil || len(got.valid) != 1 || len(got.refused) != 1 || got.refused[0].Index != 1 || got.refused[0].Field != tt.field ||
			!strings.Contains(got.refused[0].Detail, tt.detail) || len(got.leftOut) != 1 || got.fieldsLeftOut != 1 {
			t.Errorf("%s: %+v, %v; want %s, %s", tt.body, got, err, tt.field, tt.detail)
		}
		if _, err := DecodeEvents([]byte("["+tt.body+"]"), eventNow); err == nil && tt.field != "time" {
			t.Errorf("%s decodes", tt.body)
		}
	}
}

// However many fields are left out, what is said of them is bounded, and so is what they cost beyond reading.
func TestPartialIsBounded(t *testing.T) {
	var unknown, answers strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&unknown, `"%d":1,`, i)
	}
	for range 30_000 {
		answers.WriteString(`{"answer_id":1,"answer":{}},`)
	}
	right := evJSON("start", "")
	for name, body := range map[string]string{
		"fields":  evJSON("lead", unknown.String()+`"lead":{"name":"Ada"}`),
		"answers": evJSON("vote", `"question_id":1,"answers":[`+strings.TrimSuffix(answers.String(), ",")+`]`),
		"events":  strings.Repeat(evJSON("start", `"custom_id":{}`), 8000),
	} {
		text := []byte(body + right)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		got, err := parsePartialEvents(text, eventNow)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if err != nil || len(got.leftOut) != maxInputErrors || got.fieldsLeftOut < 8000 || got.refused != nil || got.valid[len(got.valid)-1].Type != EventStart {
			t.Errorf("%s: %d events, %d of %d fields named, %v, %v", name, len(got.valid), len(got.leftOut), got.fieldsLeftOut, got.refused, err)
		}
		factor := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(text))
		t.Logf("%s: %.1f times the size of the body, %s a MiB", name, factor, took*(1<<20)/time.Duration(len(text)))
		if factor > 30 {
			t.Errorf("%s: allocates %.1f times the size of the body", name, factor)
		}
	}
}

// A session that refuses an event says why; if it lacks what was left out, what is wrong with that.
func TestPartialSettlesRefused(t *testing.T) {
	e := partialEvents{leftOut: InputErrors{{Index: 0, Field: "content_id", Detail: "must be a UUID"}, {Index: 0, Field: "custom_id", Detail: "must be a string"}, {Index: 2, Field: "custom_id", Detail: "must be a string"}},
		refused: InputErrors{{Index: 1, Field: "type", Detail: "is required"}}, fieldsLeftOut: 3}
	e.settleRefused(InputErrors{{Index: 0, Field: "content_id", Detail: "is required in the first request"}, {Index: 3, Field: "session_id", Detail: "is full"}})
	want := InputErrors{{Index: 0, Field: "content_id", Detail: "must be a UUID"}, {Index: 1, Field: "type", Detail: "is required"}, {Index: 3, Field: "session_id", Detail: "is full"}}
	if got := slices.Clone(e.refused).Sorted(); !reflect.DeepEqual(got, want) {
		t.Errorf("refused %+v, want %+v", got, want)
	}
	if got := e.describe(); len(got) != 1 || got[0].Index != 2 || !strings.HasSuffix(got[0].Detail, "must be a string; the field was left out, and the event was stored") || e.fieldsLeftOut != 1 {
		t.Errorf("%d left out: %+v", e.fieldsLeftOut, got)
	}
}
