package engine

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var (
	// eventNow is the server's clock in the tests of this file.
	eventNow = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	eventSID = "22ffdf18-1035-4e56-baa2-8327e3af5242"
)

// evJSON makes an event of a type, with more fields.
func evJSON(eventType, fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return fmt.Sprintf(`{"type":%q,"session_id":%q%s}`, eventType, eventSID, fields)
}

func TestParseEventsRefuses(t *testing.T) {
	ok := evJSON("start", "")
	tests := []struct {
		name   string
		body   string
		index  int
		field  string
		detail string // a piece of it
	}{
		// The body as a whole.
		{"empty", "", 0, "", "body is empty"},
		{"white space", " \r\n\t", 0, "", "body is empty"},
		{"not JSON", "hello", 0, "", "malformed JSON at byte 1 (line 1, column 1): unexpected 'h'"},
		{"form data", "type=start&session_id=1", 0, "", "malformed JSON at byte 1"},
		{"nothing but a byte order mark", "\ufeff \n", 0, "", "body is empty"},
		{"byte order mark between events", ok + "\n\ufeff" + ok, 1, "", "unexpected '\\ufeff'"},
		{"NUL", "\x00", 0, "", `unexpected '\x00'`},
		{"NUL after an event", ok + "\x00", 1, "", `unexpected '\x00'`},
		{"trailing garbage", ok + " x", 1, "", "unexpected 'x'"},
		{"trailing brace", ok + "}", 1, "", "unexpected '}'"},
		{"comma between events", ok + "," + ok, 1, "", "unexpected ','"},
		{"comma at the end of a list", "[" + ok + ",]", 1, "", "unexpected ']'"},
		{"no comma in a list", "[" + ok + ok + "]", 1, "", "a comma or a closing bracket expected"},
		{"open list", "[" + ok, 1, "", "ends too early"},
		{"open object", ok[:len(ok)-1], 0, "", "ends too early"},
		{"comma at the end of an object", `{"type":"start",}`, 0, "", "a key in double quotes expected"},
		{"comment", ok + "// more", 1, "", "unexpected '/'"},
		{"the place is told by line and column", ok + "\n" + `{"type": ü}`, 1, "", "(line 2, column 10)"},

		{"invalid UTF-8", "{\"type\":\"start\xff\"}", 0, "", "malformed JSON at byte 15 (line 1, column 15): the text is not valid UTF-8"},

		// Nesting.
		{"a list of lists", "[[" + ok + "]]", 0, "", "must be an event, which is an object (got a list)"},
		{"a list in the middle", "[" + ok + ",[" + ok + "]]", 1, "", "must be an event"},
		{"deep lists", strings.Repeat("[", 100_000), 0, "", "nested deeper than 32 levels"},

		// Things that are no events.
		{"a string", `"start"`, 0, "", "must be an event, which is an object (got a string)"},
		{"a number", `12`, 0, "", "must be an event, which is an object (got a number)"},
		{"null", `null`, 0, "", "must be an event, which is an object (got null)"},
		{"true, second in a list", "[" + ok + ",true]", 1, "", "must be an event, which is an object (got true or false)"},

		// Keys.
		{"unknown field", evJSON("start", `"session":1`), 0, "session", "unknown field"},
		{"unknown field with null", evJSON("start", `"sesion_id":null`), 0, "sesion_id", "unknown field"},
		{"unknown field with a deep value", evJSON("start", `"x":[{"y":[1,"z",null,true,false,-1.5e+3]}]`), 0, "x", "unknown field"},
		{"another case", `{"Type":"start"}`, 0, "Type", "unknown field"},
		{"another case of a field given before", evJSON("start", `"SESSION_ID":"x"`), 0, "SESSION_ID", "unknown field"},
		{"the key twice", evJSON("start", `"custom_id":"a","custom_id":"a"`), 0, "custom_id", "stands twice"},
		{"the key twice, nested", evJSON("lead", `"lead":{"name":"a","name":"b"}`), 0, "lead.name", "stands twice"},
		{"nested unknown field", evJSON("vote", `"question_id":1,"answers":[{"answer_id":1},{"answer_id":2,"title":"x"}]`), 0, "answers[1].title", "unknown field"},
		{"a field of the stored form", evJSON("start", `"received_at":"2025-06-01T12:00:00Z"`), 0, "received_at", "unknown field"},

		// Wrong types.
		{"type", `{"type":1}`, 0, "type", "must be a string (got a number)"},
		{"session_id", `{"type":"start","session_id":12}`, 0, "session_id", "must be a string (got a number)"},
		{"id", evJSON("start", `"id":7`), 0, "id", "must be a string (got a number)"},
		{"poltio_user_id", evJSON("start", `"poltio_user_id":"seven"`), 0, "poltio_user_id", `must be an integer, or its decimal digits as a string (got "seven")`},
		{"poltio_user_id with a leading zero", evJSON("start", `"poltio_user_id":"07"`), 0, "poltio_user_id", "must be an integer"},
		{"poltio_user_id beyond 64 bits", evJSON("start", `"poltio_user_id":"9223372036854775808"`), 0, "poltio_user_id", "must be a 64-bit integer"},
		{"custom_id", evJSON("start", `"custom_id":{"a":1}`), 0, "custom_id", "must be a string (got an object)"},
		{"publisher_uuid", evJSON("start", `"publisher_uuid":[]`), 0, "publisher_uuid", "must be a string (got a list)"},
		{"question_id", evJSON("vote", `"question_id":true,"answer_id":1`), 0, "question_id", "must be an integer (got true or false)"},
		{"answers", evJSON("vote", `"question_id":1,"answers":{"answer_id":1}`), 0, "answers", "must be a list (got an object)"},
		{"an answer", evJSON("vote", `"question_id":1,"answers":[{"answer_id":1},2]`), 0, "answers[1]", "must be an object (got a number)"},
		{"an answer's id", evJSON("vote", `"question_id":1,"answers":[{"answer_id":1},{"answer_id":2},{"answer_id":"3a"}]`), 0, "answers[2].answer_id", "must be an integer"},
		{"an answer's addon", evJSON("vote", `"question_id":1,"answer_id":1,"addon":{}`), 0, "addon", "must be a string (got an object)"},
		{"lead", evJSON("lead", `"lead":"x"`), 0, "lead", "must be an object (got a string)"},
		{"lead.tc_checked", evJSON("lead", `"lead":{"tc_checked":2}`), 0, "lead.tc_checked", `must be true or false, 1 or 0, on or off (got "2")`},
		{"lead.tc_checked as a string", evJSON("lead", `"lead":{"tc_checked":"True"}`), 0, "lead.tc_checked", `on or off (got "True")`},
		{"lead.tc_checked as a list", evJSON("lead", `"lead":{"tc_checked":["on"]}`), 0, "lead.tc_checked", "must be true or false (got a list)"},
		{"lead.name", evJSON("lead", `"lead":{"name":true}`), 0, "lead.name", "must be a string (got true or false)"},
		{"lead.addon", evJSON("lead", `"lead":{"addon":{"utm":"x"}}`), 0, "lead.addon", "must be a string (got an object)"},
		{"lead.content_id", evJSON("lead", `"lead":{"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"}`), 0, "lead.content_id", "must be an integer, or its decimal digits"},
		{"result", evJSON("result_view", `"result":[]`), 0, "result", "must be an object (got a list)"},
		{"result.calculator_result", evJSON("result_view", `"result":{"result_id":1,"calculator_result":[12]}`), 0, "result.calculator_result", "must be a string (got a list)"},
		{"result.right_answer", evJSON("result_view", `"result":{"result_id":1,"right_answer":1.5}`), 0, "result.right_answer", "must be a whole number (got 1.5)"},
		{"result.time_spent", evJSON("result_view", `"result":{"result_id":1,"time_spent":"01.5"}`), 0, "result.time_spent", "must be an integer"},
		{"result.time_spent with a unit", evJSON("result_view", `"result":{"result_id":1,"time_spent":"1.5ms"}`), 0, "result.time_spent", "must be an integer"},

		// Values.
		{"unknown type", evJSON("click", ""), 0, "type", `must be start, vote, undo, lead, result_view or finish (got "click")`},
		{"type in another case", evJSON("Start", ""), 0, "type", `(got "Start")`},
		{"empty type", evJSON("", ""), 0, "type", `(got "")`},
		{"content_type", evJSON("start", `"content_type":"poll"`), 0, "content_type", `must be set, quiz, test, survey or content (got "poll")`},
		{"UUID in braces", `{"type":"start","session_id":"{22ffdf18-1035-4e56-baa2-8327e3af5242}"}`, 0, "session_id", "UUID of 36 characters"},
		{"empty UUID", evJSON("start", `"content_id":""`), 0, "content_id", "UUID of 36 characters"},
		{"fraction", evJSON("start", `"poltio_user_id":1.5`), 0, "poltio_user_id", "must be a whole number (got 1.5)"},
		{"empty id", evJSON("start", `"id":""`), 0, "id", "must have 1 to 128 bytes (got 0)"},
		{"id too long", evJSON("start", `"id":"`+strings.Repeat("x", 129)+`"`), 0, "id", "must have 1 to 128 bytes (got 129)"},
		{"id too long in bytes", evJSON("start", `"id":"`+strings.Repeat("ü", 65)+`"`), 0, "id", "must have 1 to 128 bytes (got 130)"},

		// Times.
		{"a date", evJSON("start", `"time":"2025-06-01"`), 0, "time", "must be an RFC 3339 time"},
		{"ahead of the clock", evJSON("start", `"time":"2025-06-01T12:05:00.000000001Z"`), 0, "time", "more than 5 minutes ahead"},
		{"ahead of the clock, in another zone", evJSON("start", `"time":"2025-06-01T15:05:01+03:00"`), 0, "time", "more than 5 minutes ahead"},
		{"before 2000", evJSON("start", `"time":"1999-12-31T23:59:59.999999999Z"`), 0, "time", "must not be before 2000-01-01"},
		{"before 2000 in UTC only", evJSON("start", `"time":"2000-01-01T00:30:00+01:00"`), 0, "time", "must not be before 2000-01-01"},

		// What a type needs.
		{"no type", `{"session_id":"22ffdf18-1035-4e56-baa2-8327e3af5242"}`, 0, "type", "is required"},
		{"null type", `{"type":null}`, 0, "type", "is required"},
		{"an empty object", `{}`, 0, "type", "is required"},
		{"no session_id", `{"type":"start"}`, 0, "session_id", "is required"},
		{"null session_id", `{"type":"start","session_id":null}`, 0, "session_id", "is required"},
		{"vote without question_id", evJSON("vote", `"answer_id":1`), 0, "question_id", "is required in a vote"},
		{"vote without answer", evJSON("vote", `"question_id":1`), 0, "answer_id", "is required in a vote"},
		{"vote with answer, without its id", evJSON("vote", `"question_id":1,"answer":"Yes"`), 0, "answer_id", "is required in a vote"},
		{"vote with no answers", evJSON("vote", `"question_id":1,"answers":[]`), 0, "answers", "at least one"},
		{"an answer without its id", evJSON("vote", `"question_id":1,"answers":[{"answer":"a"}]`), 0, "answers[0].answer_id", "is required in an answer"},
		{"an answer with a null id", evJSON("vote", `"question_id":1,"answers":[{"answer_id":1},{"answer_id":null}]`), 0, "answers[1].answer_id", "is required in an answer"},
		{"a null answer", evJSON("vote", `"question_id":1,"answers":[null]`), 0, "answers[0]", "must be an object (got null)"},
		{"answers beside answer_id", evJSON("vote", `"question_id":1,"answer_id":1,"answers":[{"answer_id":2}]`), 0, "answers", "must not be combined with"},
		{"answers beside addon", evJSON("vote", `"question_id":1,"addon":"x","answers":[{"answer_id":2}]`), 0, "answers", "must not be combined with"},
		{"undo without question_id", evJSON("undo", `"answer_id":1`), 0, "question_id", "is required in an undo"},
		{"lead without lead", evJSON("lead", ""), 0, "lead", "is required in a lead"},
		{"empty lead", evJSON("lead", `"lead":{}`), 0, "lead", "at least one of"},
		{"lead of nulls", evJSON("lead", `"lead":{"name":null,"tc_checked":null}`), 0, "lead", "at least one of"},
		{"result_view without result", evJSON("result_view", ""), 0, "result", "is required in a result_view"},
		{"result without result_id", evJSON("result_view", `"result":{"result_title":"x"}`), 0, "result.result_id", "is required in a result"},

		// What a type must not have.
		{"vote's field in a start", evJSON("start", `"question_id":1`), 0, "question_id", "does not belong to an event of type start"},
		{"question in an undo", evJSON("undo", `"question_id":1,"question":"x"`), 0, "question", "does not belong to an event of type undo"},
		{"answers in an undo", evJSON("undo", `"question_id":1,"answers":[{"answer_id":1}]`), 0, "answers", "does not belong to an event of type undo"},
		{"addon in an undo", evJSON("undo", `"question_id":1,"addon":"x"`), 0, "addon", "does not belong to an event of type undo"},
		{"lead in a vote", evJSON("vote", `"question_id":1,"answer_id":1,"lead":{"name":"x"}`), 0, "lead", "does not belong to an event of type vote"},
		{"result in a finish", evJSON("finish", `"result":{"result_id":1}`), 0, "result", "does not belong to an event of type finish"},
		{"a lead's field outside of it", evJSON("lead", `"email":"a@example.com","lead":{"name":"x"}`), 0, "email", "unknown field"},

		// Which event it is.
		{"second of NDJSON", ok + "\n" + evJSON("click", ""), 1, "type", "must be"},
		{"third, after a list of two", "[" + ok + "," + ok + "]" + evJSON("start", `"x":1`), 2, "x", "unknown field"},
		{"path after a list", "[" + ok + "]" + evJSON("lead", `"lead":{"x":1}`), 1, "lead.x", "unknown field"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events, err := ParseEvents([]byte(tt.body), eventNow)
			errs, ok := errors.AsType[InputErrors](err)
			if !ok || len(errs) == 0 {
				t.Fatalf("ParseEvents(%.200s) = %v, %v; want InputErrors", tt.body, events, err)
			}
			if events != nil {
				t.Errorf("events beside an error: %v", events)
			}
			got := errs[0]
			if got.Index != tt.index || got.Field != tt.field || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("ParseEvents(%.200s)\n got %d, %q, %q\nwant %d, %q, …%s…", tt.body, got.Index, got.Field, got.Detail, tt.index, tt.field, tt.detail)
			}
			if len(errs) > 1 {
				t.Errorf("more than one error for one bad event: %v", errs)
			}
			if len(got.Detail) > 400 {
				t.Errorf("the detail repeats too much of the input: %d bytes", len(got.Detail))
			}
		})
	}
}

// TestParseEventsNamesEachBadEvent: one entry for each bad event, in order, and then that of the malformed rest.
func TestParseEventsNamesEachBadEvent(t *testing.T) {
	body := strings.Join([]string{
		evJSON("start", ""),
		evJSON("vote", `"question_id":"1x","answer_id":"2x","x":3`), // three faults, one entry
		`[` + evJSON("click", "") + `,` + evJSON("finish", "") + `,7]`,
		evJSON("start", `"time":"soon"`),
		`{"type" "start"}`,
		evJSON("click", ""), // beyond the syntax error: not looked at
	}, "\n")
	_, err := ParseEvents([]byte(body), eventNow)
	errs, _ := errors.AsType[InputErrors](err)
	var got []string
	for _, e := range errs {
		got = append(got, fmt.Sprintf("%d %s", e.Index, e.Field))
	}
	if want := []string{"1 question_id", "2 type", "4 ", "5 time", "6 "}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestParseEventsBoundsItsAnswer: a large body in which all is wrong leads to a short list.
func TestParseEventsBoundsItsAnswer(t *testing.T) {
	_, err := ParseEvents([]byte(strings.Repeat("{}", 50_000)), eventNow)
	if errs, _ := errors.AsType[InputErrors](err); len(errs) != maxInputErrors {
		t.Errorf("got %d entries, want %d", len(errs), maxInputErrors)
	}
}

func TestParseEventsForms(t *testing.T) {
	a, b, c := evJSON("start", ""), evJSON("vote", `"question_id":1,"answer_id":2`), evJSON("finish", "")
	tests := []struct {
		name, body string
		want       []string // each event's own JSON
	}{
		{"one object", a, []string{a}},
		{"byte order mark", "\ufeff" + a, []string{a}},
		{"byte order mark before a list", "\ufeff\n[" + a + "]", []string{a}},
		{"white space around", "\r\n\t " + a + " \n", []string{a}},
		{"a list", "[" + a + ",\n" + b + "]", []string{a, b}},
		{"an empty list", "[]", nil},
		{"NDJSON", a + "\n" + b + "\n" + c + "\n", []string{a, b, c}},
		{"NDJSON with CRLF and empty lines", a + "\r\n\r\n" + b, []string{a, b}},
		{"concatenated", a + b + c, []string{a, b, c}},
		{"concatenated lists", "[" + a + "][][" + b + "," + c + "]", []string{a, b, c}},
		{"a mixture", a + "[" + b + "]\n" + c, []string{a, b, c}},
		// curl -d strips the newlines of the file that it sends.
		{"newlines stripped from pretty JSON", strings.ReplaceAll("[\n  "+a+",\n  "+b+"\n]\n", "\n", ""), []string{a, b}},
		{"newlines stripped from NDJSON", strings.ReplaceAll(a+"\n"+b+"\n", "\n", ""), []string{a, b}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events, err := ParseEvents([]byte(tt.body), eventNow)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, ev := range events {
				got = append(got, string(ev.JSON))
				if ev.Index != i {
					t.Errorf("event %d has index %d", i, ev.Index)
				}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestParseEventsValues(t *testing.T) {
	sid := uuid.MustParse(eventSID)
	base := Event{SessionID: sid, Time: eventNow, ReceivedAt: eventNow}
	with := func(change func(*Event)) Event {
		ev := base
		change(&ev)
		return ev
	}
	tests := []struct {
		name, json string
		want       Event
	}{
		{"start", evJSON("start", ""), with(func(ev *Event) { ev.Type = EventStart })},
		{"finish with all that any event may have", evJSON("finish", `"id":"k","time":"2024-01-23T14:59:33.123456789+03:00",
			"content_id":"6CAAA000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"survey","poltio_user_id":-9223372036854775808,
			"publisher_uuid":" a ","custom_id":""`), with(func(ev *Event) {
			ev.Type, ev.ID = EventFinish, "k"
			ev.Time = time.Date(2024, 1, 23, 11, 59, 33, 123456789, time.UTC)
			ev.Identity = Identity{
				ContentID: uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"), ContentType: "survey",
				PoltioUserID: new(int64(-9223372036854775808)), PublisherUUID: new(" a "), CustomID: new(""),
			}
		})},
		{"the latest time that is taken", evJSON("start", `"time":"2025-06-01T12:05:00Z"`), with(func(ev *Event) {
			ev.Type, ev.Time = EventStart, eventNow.Add(5*time.Minute)
		})},
		{"a fraction that begins as a zone of 24 hours would", evJSON("start", `"time":"2025-05-31T12:00:00.2412Z"`), with(func(ev *Event) {
			ev.Type, ev.Time = EventStart, time.Date(2025, 5, 31, 12, 0, 0, 241_200_000, time.UTC)
		})},
		{"the widest zone", evJSON("start", `"time":"2025-05-31T12:00:00-23:59"`), with(func(ev *Event) {
			ev.Type, ev.Time = EventStart, time.Date(2025, 6, 1, 11, 59, 0, 0, time.UTC)
		})},
		{"the earliest time that is taken", evJSON("start", `"time":"2000-01-01T00:00:00Z"`), with(func(ev *Event) {
			ev.Type, ev.Time = EventStart, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		})},
		{"the longest id", evJSON("start", `"id":"`+strings.Repeat("ü", 64)+`"`), with(func(ev *Event) {
			ev.Type, ev.ID = EventStart, strings.Repeat("ü", 64)
		})},
		{"nulls count as absent", evJSON("start", `"id":null,"time":null,"custom_id":null,"question_id":null,"answers":null,"lead":null,"result":null`),
			with(func(ev *Event) { ev.Type = EventStart })},
		{"vote", evJSON("vote", `"question_id":9007199254740993,"question":"Q","answer_id":0,"answer":"A","parent":"P","addon":""`), with(func(ev *Event) {
			ev.Type, ev.QuestionID, ev.Question = EventVote, 9007199254740993, new("Q")
			ev.Answers = []Answer{{ID: 0, Answer: new("A"), Parent: new("P"), Addon: new("")}}
		})},
		{"vote with answers", evJSON("vote", `"question_id":0,"answers":[{"answer_id":-1},{"answer_id":2,"answer":null,"addon":"x"}]`), with(func(ev *Event) {
			ev.Type = EventVote
			ev.Answers = []Answer{{ID: -1}, {ID: 2, Addon: new("x")}}
		})},
		{"undo of all", evJSON("undo", `"question_id":1`), with(func(ev *Event) { ev.Type, ev.QuestionID = EventUndo, 1 })},
		{"undo of one", evJSON("undo", `"question_id":1,"answer_id":0`), with(func(ev *Event) {
			ev.Type, ev.QuestionID, ev.AnswerID = EventUndo, 1, new(int64(0))
		})},
		{"lead", evJSON("lead", `"lead":{"user_id":1,"phone":"p","email":"e","name":"n","comment":"c","created_at":"any text","tc_checked":false,"content_type":"free","content_id":2,"addon":"a"}`), with(func(ev *Event) {
			ev.Type = EventLead
			ev.Lead = &Lead{new(int64(1)), new("p"), new("e"), new("n"), new("c"), new("any text"), new(false), new("free"), new(int64(2)), new("a")}
		})},
		{"a lead of an addon", evJSON("lead", `"lead":{"addon":""}`), with(func(ev *Event) { ev.Type, ev.Lead = EventLead, &Lead{Addon: new("")} })},
		{"the least lead", evJSON("lead", `"lead":{"comment":""}`), with(func(ev *Event) { ev.Type, ev.Lead = EventLead, &Lead{Comment: new("")} })},
		{"result", evJSON("result_view", `"result":{"result_id":1,"result_title":"t","result_image":"i","result_desc":"d","time_spent":3,"right_answer":4,"calculator_result":"5"}`), with(func(ev *Event) {
			ev.Type = EventResultView
			ev.Result = &Result{1, new("t"), new("i"), new("d"), new(int64(3)), new(int64(4)), new("5")}
		})},
		{"identity with digits", evJSON("start", `"poltio_user_id":"9007199254740993"`), with(func(ev *Event) {
			ev.Type, ev.Identity.PoltioUserID = EventStart, new(int64(9007199254740993))
		})},
		{"vote with digits", evJSON("vote", `"question_id":"9007199254740993","answer_id":"-1"`), with(func(ev *Event) {
			ev.Type, ev.QuestionID, ev.Answers = EventVote, 9007199254740993, []Answer{{ID: -1}}
		})},
		{"vote with answers with digits", evJSON("vote", `"question_id":1e3,"answers":[{"answer_id":"2"},{"answer_id":3.0}]`), with(func(ev *Event) {
			ev.Type, ev.QuestionID, ev.Answers = EventVote, 1000, []Answer{{ID: 2}, {ID: 3}}
		})},
		{"lead with digits", evJSON("lead", `"lead":{"user_id":"1","content_id":"2"}`), with(func(ev *Event) {
			ev.Type, ev.Lead = EventLead, &Lead{UserID: new(int64(1)), ContentID: new(int64(2))}
		})},
		{"result as pages have it", evJSON("result_view", `"result":{"result_id":"1","time_spent":16789.5,"right_answer":"4","calculator_result":12.50}`), with(func(ev *Event) {
			ev.Type = EventResultView
			ev.Result = &Result{ID: 1, TimeSpent: new(int64(16790)), RightAnswer: new(int64(4)), CalculatorResult: new("12.50")}
		})},
		{"time spent as a text with a fraction", evJSON("result_view", `"result":{"result_id":1,"time_spent":"16789.5"}`), with(func(ev *Event) {
			ev.Type, ev.Result = EventResultView, &Result{ID: 1, TimeSpent: new(int64(16790))}
		})},
		{"numbers as texts", evJSON("vote", `"publisher_uuid":1,"custom_id":-0,"question_id":1,"question":2.50,"answer_id":2,"answer":42,"parent":1e3,"addon":0`), with(func(ev *Event) {
			ev.Type, ev.QuestionID, ev.Question = EventVote, 1, new("2.50")
			ev.Answers = []Answer{{ID: 2, Answer: new("42"), Parent: new("1e3"), Addon: new("0")}}
			ev.Identity.PublisherUUID, ev.Identity.CustomID = new("1"), new("-0")
		})},
		{"numbers as texts of an answer", evJSON("vote", `"question_id":1,"answers":[{"answer_id":2,"answer":42,"parent":1e3,"addon":0}]`), with(func(ev *Event) {
			ev.Type, ev.QuestionID, ev.Answers = EventVote, 1, []Answer{{ID: 2, Answer: new("42"), Parent: new("1e3"), Addon: new("0")}}
		})},
		{"numbers as texts of a lead", evJSON("lead", `"lead":{"phone":491700000000,"email":1,"name":2,"comment":3.0,"created_at":1706011173,"content_type":5,"addon":6}`), with(func(ev *Event) {
			ev.Type, ev.Lead = EventLead, &Lead{Phone: new("491700000000"), Email: new("1"), Name: new("2"), Comment: new("3.0"), CreatedAt: new("1706011173"),
				ContentType: new("5"), Addon: new("6")}
		})},
		{"numbers as texts of a result", evJSON("result_view", `"result":{"result_id":1,"result_title":2,"result_image":3,"result_desc":4}`), with(func(ev *Event) {
			ev.Type, ev.Result = EventResultView, &Result{ID: 1, Title: new("2"), Image: new("3"), Desc: new("4")}
		})},
		{"a checked checkbox", evJSON("lead", `"lead":{"tc_checked":"on"}`), with(func(ev *Event) { ev.Type, ev.Lead = EventLead, &Lead{TCChecked: new(true)} })},
		{"0 for false", evJSON("lead", `"lead":{"tc_checked":0}`), with(func(ev *Event) { ev.Type, ev.Lead = EventLead, &Lead{TCChecked: new(false)} })},
		{"time spent with digits", evJSON("result_view", `"result":{"result_id":1,"time_spent":"16789"}`), with(func(ev *Event) {
			ev.Type, ev.Result = EventResultView, &Result{ID: 1, TimeSpent: new(int64(16789))}
		})},
		{"a text that was cut", evJSON("lead", `"lead":{"name":"Ada \ud83d","comment":"\udd8a."}`), with(func(ev *Event) {
			ev.Type, ev.Lead = EventLead, &Lead{Name: new("Ada \ufffd"), Comment: new("\ufffd.")}
		})},
		{"an id that was cut", evJSON("start", `"id":"\ud83d"`), with(func(ev *Event) { ev.Type, ev.ID = EventStart, "\ufffd" })},
		{"a time in lower case, with a leap second", evJSON("start", `"time":"2016-12-31t23:59:60.5z"`), with(func(ev *Event) {
			ev.Type, ev.Time = EventStart, time.Date(2017, 1, 1, 0, 0, 0, 500_000_000, time.UTC)
		})},
		{"escapes", evJSON("start", `"custom_id":"\"\\\/\b\f\n\r\t\u0000\u00e9\ud83e\udd8a\ufffd<&>"`), with(func(ev *Event) {
			ev.Type, ev.Identity.CustomID = EventStart, new("\"\\/\b\f\n\r\t\x00é🦊\ufffd<&>")
		})},
		{"escaped key", `{"t\u0079pe":"start","session_id":"` + eventSID + `"}`, with(func(ev *Event) { ev.Type = EventStart })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events, err := ParseEvents([]byte(tt.json), eventNow)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.JSON = []byte(tt.json)
			if !reflect.DeepEqual(events, []Event{tt.want}) {
				t.Errorf("\n got %+v\nwant %+v", events, tt.want)
			}
		})
	}
}

// TestDecodeEventsAsksNoClock: what was accepted once is read again whatever the time is.
func TestDecodeEventsAsksNoClock(t *testing.T) {
	list := "[" + evJSON("start", `"time":"2025-06-01T12:05:00Z"`) + "," + evJSON("finish", "") + "]"
	receivedAt := eventNow.Add(-24 * time.Hour)
	if _, err := ParseEvents([]byte(list), receivedAt); err == nil {
		t.Fatal("ParseEvents takes a time that lies ahead")
	}
	events, err := DecodeEvents([]byte(list), receivedAt)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || !events[0].Time.Equal(eventNow.Add(5*time.Minute)) || !events[1].Time.Equal(receivedAt) {
		t.Errorf("got %+v", events)
	}
	if _, err := DecodeEvents([]byte(`[{"type":"start"}]`), receivedAt); err == nil {
		t.Error("DecodeEvents takes an event without session_id")
	}
}

func TestInputErrorsError(t *testing.T) {
	_, err := ParseEvents([]byte(evJSON("start", "")+evJSON("lead", `"lead":{"x":1}`)+"7"), eventNow)
	if want := "event 1: lead.x: unknown field (and 1 more)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
