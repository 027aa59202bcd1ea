package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// withID returns an event with an id.
func withID(event, id string) string { return strings.TrimSuffix(event, "}") + `,"id":"` + id + `"}` }

func TestPostEvents(t *testing.T) {
	f := newFixture(t, Config{})
	const (
		sessionC = "22ffdf18-1035-4e56-baa2-8327e3af5244"
		sessionD = "22ffdf18-1035-4e56-baa2-8327e3af5245"
		sessionE = "22ffdf18-1035-4e56-baa2-8327e3af5246"
	)
	for _, c := range []struct{ name, body, want string }{
		{"one object", start(sessionA), `{"accepted":1,"duplicates":0}`},
		{"an id twice", withID(start(sessionA), "k") + withID(start(sessionA), "k"), `{"accepted":2,"duplicates":1}`},
		{"ids that are there", withID(start(sessionA), "l") + withID(start(sessionA), "k") + withID(start(sessionA), "l"), `{"accepted":3,"duplicates":2}`},
		{"nothing but what is there", withID(finish(sessionA), "k"), `{"accepted":1,"duplicates":1}`},
		{"an id of another session", withID(start(sessionB), "k"), `{"accepted":1,"duplicates":0}`},
		{"the same again", start(sessionA), `{"accepted":1,"duplicates":0}`},
		{"a list", "[" + start(sessionB) + "," + finish(sessionB) + "]", `{"accepted":2,"duplicates":0}`},
		{"lines", finish(sessionA) + "\n" + finish(sessionA) + "\n", `{"accepted":2,"duplicates":0}`},
		{"no line ends, as curl -d sends them", finish(sessionA) + finish(sessionA), `{"accepted":2,"duplicates":0}`},
		{"an empty list", "[]", `{"accepted":0,"duplicates":0}`},
		{"the identity in the last event", strings.ReplaceAll(finish(sessionA)+start(sessionA), sessionA, sessionD), `{"accepted":2,"duplicates":0}`},
		{"what a page or a shell writes", "\ufeff" + strings.Replace(start(sessionC), ":7", `:"9007199254740993"`, 1) +
			`{"type":"vote","session_id":"` + sessionC + `","time":"2026-01-15t10:00:00z","question_id":"1","answers":[{"answer_id":"-2"},{"answer_id":3.0}]}` +
			`{"type":"lead","session_id":"` + sessionC + `","time":"2016-12-31 23:59:60.25+00:00","lead":{"name":"Ada \ud83d","user_id":"9007199254740993","content_id":1e3}}` +
			`{"type":"result_view","session_id":"` + sessionC + `","result":{"result_id":"4","time_spent":16789.5,"right_answer":"0","calculator_result":12.50}}`,
			`{"accepted":4,"duplicates":0}`},
		{"what a form of a page has", start(sessionE) +
			`{"type":"vote","session_id":"` + sessionE + `","custom_id":7,"publisher_uuid":8,"question_id":1,"question":2.50,"answer_id":2,"answer":42,"parent":1e3,"addon":0}` +
			`{"type":"vote","session_id":"` + sessionE + `","question_id":1,"answers":[{"answer_id":3,"answer":43,"parent":44,"addon":45}]}` +
			`{"type":"lead","session_id":"` + sessionE + `","lead":{"tc_checked":"on","phone":491700000000,"email":1,"name":2,"comment":3.0,"created_at":1706011173,"content_type":5,"addon":6}}` +
			`{"type":"lead","session_id":"` + sessionE + `","lead":{"tc_checked":0}}` +
			`{"type":"result_view","session_id":"` + sessionE + `","result":{"result_id":4,"time_spent":"16789.5","result_title":5,"result_image":6,"result_desc":7.0}}`,
			`{"accepted":6,"duplicates":0}`},
	} {
		rec := f.do("POST", "/v1/events", c.body)
		if got := strings.TrimSpace(rec.Body.String()); rec.Code != 202 || got != c.want {
			t.Errorf("%s: got %d %s, want 202 %s", c.name, rec.Code, got, c.want)
		}
	}
	// It is read the same when it comes back from the disk, and what is shown of it is well-formed for every reader.
	shown := f.want(200, "GET", "/v1/sessions/"+sessionC, "")
	for _, want := range []string{`{"poltio_user_id":9007199254740993,`, `"question_id":1,"question":null,"answers":[{"answer_id":-2,`, `{"answer_id":3,`,
		`"result":{"result_id":4,"result_title":null,"result_image":null,"result_desc":null,"time_spent":16790,"right_answer":0,"calculator_result":"12.50"}`,
		`{"user_id":9007199254740993,"phone":null,"email":null,"name":"Ada ` + "\ufffd" + `","comment":null,"created_at":"2017-01-01T00:00:00.250000Z"`, `"content_id":1000}`,
		`"name":"Ada \ufffd","user_id":"9007199254740993"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not in %s", want, shown)
		}
	}
	shown = f.want(200, "GET", "/v1/sessions/"+sessionE, "")
	for _, want := range []string{`"question":"2.50","answers":[{"answer_id":2,"answer":"42","parent":"1e3","addon":"0"},{"answer_id":3,"answer":"43","parent":"44","addon":"45"}]`,
		`"time_spent":16790,`, `"phone":"491700000000","email":"1","name":"2","comment":"3.0","created_at":"1706011173","tc_checked":true,`, `"tc_checked":false,`,
		`"custom_id":"7"`, `"lead":{"tc_checked":"on","phone":491700000000,`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not in %s", want, shown)
		}
	}
	r := f.request("POST", "/v1/events", start(sessionA))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Content-Encoding", "identity")
	if rec := f.serve(r); rec.Code != 202 {
		t.Errorf("a body that is called a form: %d %s", rec.Code, rec.Body)
	}
}

// TestPartial has requests of which only the good events are stored.
func TestPartial(t *testing.T) {
	f := newFixture(t, Config{})
	const bad = `{"type":"vote","session_id":"` + sessionA + `","id":"v","question_id":1,"answer_id":"x"}`
	refused := func(index, field, detail string) string {
		return `{"index":` + index + `,"field":"` + field + `","detail":"` + detail + `"}`
	}
	const stray, untidy = "c0ffee00-1111-4222-8333-444455556666", "c0ffee00-1111-4222-8333-444455556667"
	vote := refused("1", "answer_id", `must be an integer, or its decimal digits as a string (got \"x\")`)
	for _, c := range []struct{ name, target, body, want string }{
		{"none is bad", "true", start(sessionA), `{"accepted":1,"duplicates":0,"refused":[],"left_out":[]}`},
		{"not asked for", "false", start(sessionA), `{"accepted":1,"duplicates":0}`},
		{"repeats beside a bad one", "true", withID(start(sessionB), "k") + bad + withID(finish(sessionB), "k"), `{"accepted":2,"duplicates":1,"refused":[` + vote + `],"left_out":[]}`},
		{"no event", "true", `[]`, `{"accepted":0,"duplicates":0,"refused":[],"left_out":[]}`},
		{"one of three", "true", "[" + start(sessionA) + "," + bad + "," + finish(sessionA) + "]", `{"accepted":2,"duplicates":0,"refused":[` + vote + `],"left_out":[]}`},
		{"all", "true", `1 ` + bad, `{"accepted":0,"duplicates":0,"refused":[` + refused("0", "", "must be an event, which is an object (got a number)") + "," + vote + `],"left_out":[]}`},
		{"the last has the identity", "true", finish(sessionB) + bad + start(sessionB), `{"accepted":2,"duplicates":0,"refused":[` + vote + `],"left_out":[]}`},
		{"a session refuses all, another one none", "true", finish(stray) + start(sessionA) + finish(stray),
			`{"accepted":1,"duplicates":0,"refused":[` + refused("0", "content_id", "is required in the first request of a session, in any of its events") + "," +
				refused("2", "content_id", "is required in the first request of a session, in any of its events") + `],"left_out":[]}`},
		{"fields that cannot be read", "true", start(untidy) + strings.Replace(bad, sessionA, untidy, 1) +
			`{"type":"lead","session_id":"` + untidy + `","mail":"x","lead":{"email":{},"name":"Ada","tc_checked":"on"}}`,
			`{"accepted":2,"duplicates":0,"refused":[` + vote + `],"left_out":[` + refused("2", "mail", "unknown field; the field was left out, and the event was stored") + "," +
				refused("2", "lead.email", "must be a string (got an object); the field was left out, and the event was stored") + `]}`},
		{"a wrong field that its session lacks", "true", strings.Replace(start(stray), contentA, "quiz-7", 1),
			`{"accepted":0,"duplicates":0,"refused":[` + refused("0", "content_id", `must be a UUID of 36 characters, such as 22ffdf18-1035-4e56-baa2-8327e3af5242 (got \"quiz-7\")`) + `],"left_out":[]}`},
	} {
		if got := strings.TrimSpace(f.want(202, "POST", "/v1/events?partial="+c.target, c.body)); got != c.want {
			t.Errorf("%s:\ngot %s\nwant %s", c.name, got, c.want)
		}
	}
	// The event is shown as it was received, the session without what was left out.
	shown := f.want(200, "GET", "/v1/sessions/"+untidy, "")
	for _, want := range []string{`"mail":"x","lead":{"email":{},"name":"Ada","tc_checked":"on"}}`, `"email":null,"name":"Ada","comment":null,`, `"tc_checked":true,`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not in %s", want, shown)
		}
	}
	// What is refused leaves nothing behind: mended, the event is taken under its id.
	f.want(202, "POST", "/v1/events", strings.Replace(bad, `"x"`, `1`, 1))
	var s struct {
		Events []struct{ Event struct{ Type string } }
	}
	f.wantJSON(&s, 200, "GET", "/v1/sessions/"+sessionA, "")
	if len(s.Events) != 6 {
		t.Errorf("%d events, want four starts, the finish and the vote", len(s.Events))
	}
	for _, c := range []struct{ name, body, detail string }{
		{"no JSON", start(sessionA) + `{"type":`, "ends too early"},
		{"nothing", " ", "the body is empty"},
		{"too much that is bad", start(sessionA) + strings.Repeat(" 1", 1001), "more than 1000 events are wrong"},
	} {
		p := wantProblem(t, f.do("POST", "/v1/events?partial=true", c.body), http.StatusBadRequest)
		if len(p.Errors) != 1 || !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: got %q with %d errors", c.name, p.Detail, len(p.Errors))
		}
	}
}

// nothingStored checks that no call before has left anything behind.
func nothingStored(t *testing.T, f *fixture) {
	t.Helper()
	for _, id := range []string{sessionA, sessionB} {
		wantProblem(t, f.do("GET", "/v1/sessions/"+id, ""), http.StatusNotFound)
	}
	var list listOf[shownDelivery]
	f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
	if len(list.Items) != 0 {
		t.Errorf("%d deliveries", len(list.Items))
	}
}

func TestBadEvents(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","send_incomplete":true}`)
	ok := start(sessionA)
	with := func(field string) string { return strings.TrimSuffix(ok, "}") + "," + field + "}" }
	vote := func(fields string) string {
		return strings.Replace(with(`"question_id":1,`+fields), `"start"`, `"vote"`, 1)
	}
	for _, c := range []struct {
		name, body    string
		index         int
		field, detail string
	}{
		{"empty", "", 0, "", "the body is empty"},
		{"white space", " \n\t", 0, "", "the body is empty"},
		{"not JSON", "hello", 0, "", "malformed JSON at byte 1 (line 1, column 1)"},
		{"byte order mark alone", "\ufeff", 0, "", "the body is empty"},
		{"byte order mark behind", ok + "\ufeff", 1, "", "malformed JSON"},
		{"NUL", "\x00", 0, "", "malformed JSON at byte 1"},
		{"cut off", ok[:30], 0, "", "malformed JSON"},
		{"cut off after a good event", ok + "\n" + ok[:30], 1, "", "malformed JSON at byte 193 (line 2, column 31)"},
		{"trailing comma", "[" + ok + ",]", 1, "", "malformed JSON"},
		{"single quotes", `{'type':'start'}`, 0, "", "malformed JSON"},
		{"garbage after", ok + "]", 1, "", "malformed JSON"},
		{"NaN", with(`"custom_id":NaN`), 0, "", "malformed JSON"},
		{"leading zero", with(`"id":01`), 0, "", "malformed JSON"},
		{"control character", with("\"custom_id\":\"a\nb\""), 0, "", "control character"},
		{"half a surrogate pair in a key", with(`"custom_id\ud83d":"x"`), 0, "custom_id\ufffd", "unknown field"},
		{"invalid UTF-8", with("\"custom_id\":\"a\xffb\""), 0, "", "not valid UTF-8"},
		{"overlong UTF-8", with("\"custom_id\":\"\xc0\xaf\""), 0, "", "not valid UTF-8"},
		{"invalid UTF-8 in a key", with("\"\xff\":1"), 0, "", "not valid UTF-8"},
		{"a string", `"start"`, 0, "", "must be an event, which is an object (got a string)"},
		{"null", `null`, 0, "", "must be an event"},
		{"a list of lists", "[[" + ok + "]]", 0, "", "must be an event, which is an object (got a list)"},
		{"deep lists", strings.Repeat("[", 100_000), 0, "", "nested deeper"},
		{"deep objects", strings.Repeat(`{"a":`, 100_000), 0, "", "nested deeper"},
		{"deep in a field", with(`"custom_id":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)), 0, "", "nested deeper"},
		{"no type", `{"session_id":"` + sessionA + `"}`, 0, "type", "is required"},
		{"unknown type", strings.Replace(ok, "start", "strat", 1), 0, "type", `(got "strat")`},
		{"no session", `{"type":"finish"}`, 0, "session_id", "is required"},
		{"bad session", strings.Replace(ok, sessionA, "22ffdf18", 1), 0, "session_id", "must be a UUID"},
		{"session in braces", strings.Replace(ok, sessionA, "{"+sessionA+"}", 1), 0, "session_id", "must be a UUID"},
		{"session without hyphens", strings.Replace(ok, sessionA, strings.ReplaceAll(sessionA, "-", ""), 1), 0, "session_id", "must be a UUID"},
		{"session is a number", `{"type":"start","session_id":1}`, 0, "session_id", "must be a string (got a number)"},
		{"bad content", strings.Replace(ok, contentA, "quiz-7", 1), 0, "content_id", "must be a UUID"},
		{"unknown content type", strings.Replace(ok, "quiz", "poll", 1), 0, "content_type", `(got "poll")`},
		{"first event without content", finish(sessionA), 0, "content_id", "is required in the first request"},
		{"user is a text", strings.Replace(ok, ":7", `:"u7"`, 1), 0, "poltio_user_id", `must be an integer, or its decimal digits as a string (got "u7")`},
		{"user with a leading zero", strings.Replace(ok, ":7", `:"07"`, 1), 0, "poltio_user_id", "must be an integer"},
		{"user over 64 bits as a string", strings.Replace(ok, ":7", `:"9223372036854775808"`, 1), 0, "poltio_user_id", "64-bit"},
		{"user over 64 bits", strings.Replace(ok, ":7", ":9223372036854775808", 1), 0, "poltio_user_id", "64-bit"},
		{"user under 64 bits", strings.Replace(ok, ":7", ":-9223372036854775809", 1), 0, "poltio_user_id", "64-bit"},
		{"user far over 64 bits", strings.Replace(ok, ":7", ":1"+strings.Repeat("0", 10_000), 1), 0, "poltio_user_id", "64-bit"},
		{"user with a fraction", strings.Replace(ok, ":7", ":7.5", 1), 0, "poltio_user_id", "must be a whole number (got 7.5)"},
		{"user with an exponent", strings.Replace(ok, ":7", ":7e-3", 1), 0, "poltio_user_id", "must be a whole number (got 7e-3)"},
		{"unknown field", with(`"sesion":"x"`), 0, "sesion", "unknown field"},
		{"field in another case", with(`"Custom_ID":"x"`), 0, "Custom_ID", "unknown field"},
		{"key twice", with(`"type":"finish"`), 0, "type", "twice"},
		{"key twice, escaped", with(`"t\u0079pe":"finish"`), 0, "type", "twice"},
		{"long id", with(`"id":"` + strings.Repeat("x", 129) + `"`), 0, "id", "1 to 128 bytes (got 129)"},
		{"empty id", with(`"id":""`), 0, "id", "1 to 128 bytes"},
		{"time without zone", with(`"time":"2024-01-23T11:59:33"`), 0, "time", "RFC 3339"},
		{"time as a number", with(`"time":1706011173`), 0, "time", "must be a string"},
		{"time in the future", with(`"time":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`), 0, "time", "ahead"},
		{"time in the past", with(`"time":"1999-12-31T23:59:59Z"`), 0, "time", "before 2000"},
		{"vote without an answer", vote(`"question":"?"`), 0, "answer_id", "is required"},
		{"vote with no answers", vote(`"answers":[]`), 0, "answers", "at least one"},
		{"third answer is bad", vote(`"answers":[{"answer_id":1},{"answer_id":2},{"answer_id":"3a"}]`), 0, "answers[2].answer_id", "must be an integer"},
		{"unknown field in an answer", vote(`"answers":[{"answer_id":1,"answr":"x"}]`), 0, "answers[0].answr", "unknown field"},
		{"key twice in an answer", vote(`"answers":[{"answer_id":1,"answer_id":2}]`), 0, "answers[0].answer_id", "twice"},
		{"field of another type", with(`"lead":{"name":"x"}`), 0, "lead", "does not belong"},
		{"empty lead", strings.Replace(with(`"lead":{}`), `"start"`, `"lead"`, 1), 0, "lead", "at least one of"},
		{"lead over 64 bits", strings.Replace(with(`"lead":{"content_id":1e30}`), `"start"`, `"lead"`, 1), 0, "lead.content_id", "64-bit"},
		{"result without id", strings.Replace(with(`"result":{"result_title":"x"}`), `"start"`, `"result_view"`, 1), 0, "result.result_id", "is required"},
		{"second of a list", "[" + ok + "," + finish("x") + "]", 1, "session_id", "must be a UUID"},
		{"third line", ok + "\n" + finish(sessionA) + "\n" + `{"type":"start"}`, 2, "session_id", "is required"},
		{"second session without content", ok + finish(sessionB), 1, "content_id", "is required in the first request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantInputProblem(t, f.do("POST", "/v1/events", c.body), c.index, c.field, c.detail)
			nothingStored(t, f)
		})
	}
	if got := f.log.withoutAudit(); got != "" {
		t.Errorf("logged: %s", got)
	}
}

// TestBadEventsAllNamed shows that each bad event of a request has its entry.
func TestBadEventsAllNamed(t *testing.T) {
	f := newFixture(t, Config{})
	p := wantProblem(t, f.do("POST", "/v1/events", finish("x")+start(sessionA)+`{"type":7}`+`{"type":"start","nonsense":1}`), http.StatusBadRequest)
	var got []string
	for _, e := range p.Errors {
		got = append(got, string(rune('0'+*e.Index))+" "+*e.Field)
	}
	if strings.Join(got, ", ") != "0 session_id, 2 type, 3 nonsense" {
		t.Errorf("got %v", got)
	}
	if !strings.HasSuffix(p.Detail, "(and 2 more in errors)") {
		t.Errorf("detail %q", p.Detail)
	}
	nothingStored(t, f)
}

// endless is a body that never ends and counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}

func TestBodyLimits(t *testing.T) {
	f := newFixture(t, Config{MaxBodyBytes: 1000})
	padded := func(n int) string { return start(sessionA) + strings.Repeat(" ", n-len(start(sessionA))) }
	for _, target := range []string{"/v1/events", "/v1/webhooks"} {
		for _, announced := range []bool{true, false} {
			r := f.request("POST", target, padded(1001))
			if !announced { // chunked
				r.ContentLength = -1
			}
			p := wantProblem(t, f.serve(r), http.StatusRequestEntityTooLarge)
			if !strings.Contains(p.Detail, "1000 bytes") || !strings.Contains(p.Detail, "http.max_body") {
				t.Errorf("detail %q", p.Detail)
			}
		}
		body := &endless{}
		r := f.request("POST", target, "")
		r.Body, r.ContentLength = io.NopCloser(body), -1
		wantProblem(t, f.serve(r), http.StatusRequestEntityTooLarge)
		if body.read > 4096 {
			t.Errorf("%s: %d bytes read of a body that may have 1000", target, body.read)
		}
		body = &endless{}
		r = f.request("POST", target, "")
		r.Body, r.ContentLength = io.NopCloser(body), 1<<40
		wantProblem(t, f.serve(r), http.StatusRequestEntityTooLarge)
		if body.read != 0 {
			t.Errorf("%s: %d bytes read of a body that is announced as too large", target, body.read)
		}
	}
	nothingStored(t, f)
	f.want(202, "POST", "/v1/events", padded(1000))

	big := newFixture(t, Config{})
	wantProblem(t, big.do("POST", "/v1/events", strings.Repeat(" ", DefaultMaxBodyBytes+1)), http.StatusRequestEntityTooLarge)
	wantInputProblem(t, big.do("POST", "/v1/events", strings.Repeat(" ", DefaultMaxBodyBytes)), 0, "", "the body is empty")
}

func TestBodyEncodings(t *testing.T) {
	f := newFixture(t, Config{})
	for _, coding := range []string{"gzip", "identity, gzip", "br", "GZIP", ""} {
		r := f.request("POST", "/v1/events", start(sessionA))
		r.Header.Add("Content-Encoding", "identity")
		r.Header.Add("Content-Encoding", coding)
		rec := f.serve(r)
		wantProblem(t, rec, http.StatusUnsupportedMediaType)
		if rec.Header().Get("Accept-Encoding") != "identity" {
			t.Error("the answer does not say what would be right")
		}
	}
	nothingStored(t, f)
}

// TestBodyCutOff shows that a body that ends too early is never taken for a whole one.
func TestBodyCutOff(t *testing.T) {
	f := newFixture(t, Config{})
	r := f.request("POST", "/v1/events", "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(start(sessionA)), failing{io.ErrUnexpectedEOF}))
	r.ContentLength = 500
	wantProblem(t, f.serve(r), http.StatusBadRequest)
	r = f.request("POST", "/v1/events", "")
	r.Body, r.ContentLength = io.NopCloser(failing{os.ErrDeadlineExceeded}), -1
	wantProblem(t, f.serve(r), http.StatusRequestTimeout)
	nothingStored(t, f)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// shownSession is the answer of GET /v1/sessions/:id as a client reads it.
type shownSession struct {
	Session json.RawMessage `json:"session"`
	Events  []struct {
		ReceivedAt string          `json:"received_at"`
		Event      json.RawMessage `json:"event"`
	} `json:"events"`
	Deliveries []shownDelivery `json:"deliveries"`
}

// TestSessionIsItsPayload holds what is shown of a session against the goldens: all but event_time, byte for byte.
func TestSessionIsItsPayload(t *testing.T) {
	f := newFixture(t, Config{})
	eventTime := regexp.MustCompile(`"event_time":\d+,`)
	for _, name := range []string{"seed-example", "calculator-solar", "exact-text", "out-of-order", "undo", "skipped-result", "survey-coffee"} {
		lines, err := os.ReadFile("../testdata/sessions/" + name + ".ndjson")
		if err != nil {
			t.Fatal(err)
		}
		golden, err := os.ReadFile("../testdata/sessions/" + name + ".complete.json")
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, golden); err != nil {
			t.Fatal(err)
		}
		var first struct {
			SessionID string `json:"session_id"`
		}
		if err := json.NewDecoder(bytes.NewReader(lines)).Decode(&first); err != nil {
			t.Fatal(err)
		}
		f.want(202, "POST", "/v1/events", string(lines))
		var got shownSession
		f.wantJSON(&got, 200, "GET", "/v1/sessions/"+first.SessionID, "")
		if want := eventTime.ReplaceAllString(want.String(), ""); string(got.Session) != want {
			t.Errorf("%s\n got %s\nwant %s", name, got.Session, want)
		}
		var sent, kept []string
		ids := make(map[string]bool) // repeated events are not stored
		for line := range strings.Lines(string(lines)) {
			var id struct{ ID string }
			if err := json.Unmarshal([]byte(line), &id); err != nil {
				t.Fatal(err)
			}
			if id.ID != "" && ids[id.ID] {
				continue
			}
			ids[id.ID] = true
			var compact bytes.Buffer
			if err := json.Compact(&compact, []byte(line)); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, compact.String())
		}
		for _, ev := range got.Events {
			kept = append(kept, string(ev.Event))
		}
		if !slices.Equal(sent, kept) {
			t.Errorf("%s\n got %s\nsent %s", name, strings.Join(kept, "\n"), strings.Join(sent, "\n"))
		}
	}
}

func TestSession(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","send_incomplete":true}`)
	f.want(202, "POST", "/v1/events", start(sessionA))

	var s shownSession
	f.wantJSON(&s, 200, "GET", "/v1/sessions/"+strings.ToUpper(sessionA), "")
	if want := `"session_end_date":null,"publisher_uuid":null,"custom_id":null,"content_type":"quiz","content_id":"` + contentA +
		`","complete_session":false,"answers":[],"result":null,"leads":[]}`; !strings.HasSuffix(string(s.Session), want) {
		t.Errorf("got  %s\nwant …%s", s.Session, want)
	}
	if len(s.Events) != 1 || string(s.Events[0].Event) != start(sessionA) || len(s.Deliveries) != 1 || s.Deliveries[0].Kind != "incomplete" {
		t.Errorf("%+v", s)
	}
	if _, err := time.Parse(time.RFC3339, s.Events[0].ReceivedAt); err != nil {
		t.Error(err)
	}

	f.want(202, "POST", "/v1/events", finish(sessionA))
	f.wantJSON(&s, 200, "GET", "/v1/sessions/"+sessionA, "")
	if !strings.Contains(string(s.Session), `"complete_session":true`) || len(s.Events) != 2 || len(s.Deliveries) != 2 {
		t.Errorf("%+v", s)
	}
	for _, d := range s.Deliveries {
		if d.SessionID == nil || *d.SessionID != sessionA || d.WebhookID != 1 || d.Status != "scheduled" {
			t.Errorf("%+v", d)
		}
	}

	wantProblem(t, f.do("GET", "/v1/sessions/"+nobodys, ""), http.StatusNotFound)
	for _, id := range []string{"7", "x", sessionA[:35], sessionA + "0", "{" + sessionA[2:] + "}", strings.ReplaceAll(sessionA, "-", "0"), "00000000-0000-0000-0000-000000000000", "%ff"} {
		wantInputProblem(t, f.do("GET", "/v1/sessions/"+id, ""), 0, "id", "must be a UUID")
	}
	// An escaped slash is no other way to a path: a proxy in front may have rules for the one that is seen.
	for _, path := range []string{"/v1/webhooks/1%2Fsecret", "/v1%2Fwebhooks"} {
		wantProblem(t, f.do("GET", path, ""), http.StatusNotFound)
	}
}
