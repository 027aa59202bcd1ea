package engine

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"hookbolt/engine/jsonread"

	"github.com/google/uuid"
)

// ParseEvents parses the events of a request: JSON objects or arrays of them, one after another (a single object, an array, or NDJSON). now
// is the time of receipt. The error is an InputErrors with one entry for each bad event, at most 100; no events are returned then. The
// events' JSON shares memory with body.
func ParseEvents(body []byte, now time.Time) ([]Event, error) {
	events, _, err := parseEvents(body, now)
	return events, err
}

// parseEvents is ParseEvents. It also returns how many events it has read, bad ones included.
func parseEvents(body []byte, now time.Time) (events []Event, seen int, err error) {
	p := eventParser{Reader: jsonread.New(body), body: body, now: now.UTC().Round(0), checkTimes: true}
	p.run()
	if len(p.errs) > 0 {
		return nil, p.index, p.errs
	}
	return p.events, p.index, nil
}

// DecodeEvents parses events that were accepted before, at receivedAt, from an array of their JSON. It does not check their times against
// the clock again. Fields that were left out when an event of a partial request was accepted are left out again.
func DecodeEvents(list []byte, receivedAt time.Time) ([]Event, error) {
	p := eventParser{Reader: jsonread.New(list), body: list, now: receivedAt.UTC(), leaveOut: true}
	p.run()
	if len(p.errs) > 0 {
		return nil, fmt.Errorf("decode stored events: %w", p.errs)
	}
	return p.events, nil
}

// eventParser parses the events of one request.
type eventParser struct {
	jsonread.Reader
	body       []byte
	now        time.Time
	checkTimes bool // check times against the clock: this is input, not stored events
	skipBad    bool // a bad event does not refuse the others
	leaveOut   bool // an optional field that cannot be read does not refuse its event
	skipped    int
	events     []Event
	index      int
	errs       InputErrors
	unreadable InputErrors // what is wrong with the request as a whole; also in errs

	partly        bool        // the current event is read by readPartly
	leftOut       InputErrors // the fields that were left out, at most maxInputErrors
	fieldsLeftOut int         // how many were left out
}

// run parses the whole input.
func (p *eventParser) run() {
	p.Sequence(func() { p.event() })
	switch malformed := p.Malformed(); {
	case malformed != nil:
		p.refuseAll(malformed)
	case p.skipped > maxSkippedEvents: // refuse has stopped reading
		p.refuseAll(&jsonread.Error{Detail: fmt.Sprintf("more than %d events are wrong; the rest of the request was not checked", maxSkippedEvents)})
	case len(p.errs) == maxInputErrors-1 && !p.skipBad: // likewise
		p.refuseAll(&jsonread.Error{Detail: fmt.Sprintf("%d events are wrong; the rest of the request was not checked", len(p.errs))})
	case p.index == 0 && len(bytes.TrimSpace(bytes.TrimPrefix(p.body, []byte(jsonread.ByteOrderMark)))) == 0:
		p.refuseAll(&jsonread.Error{Detail: "the body is empty; send events as JSON objects or lists of them"})
	}
}

// refuseAll records what is wrong with the request as a whole.
func (p *eventParser) refuseAll(e *jsonread.Error) {
	p.unreadable = InputErrors{{Index: p.index, Field: e.Field, Detail: e.Detail}}
	p.errs = append(p.errs, p.unreadable...)
}

// refuse records what is wrong with the current event. Unless bad events are skipped, it stops reading once the request has as many errors
// as a response may have.
func (p *eventParser) refuse(e *jsonread.Error) {
	if p.skipBad {
		p.events = p.events[:len(p.events)-1]
		if len(p.errs) < maxInputErrors {
			p.errs = append(p.errs, InputError{Index: p.index, Field: e.Field, Detail: e.Detail})
		}
		if p.skipped++; p.skipped > maxSkippedEvents {
			p.Stop()
		}
		return
	}
	p.errs = append(p.errs, InputError{Index: p.index, Field: e.Field, Detail: e.Detail})
	p.events = p.events[:0] // the events are refused anyway; keep the memory
	if len(p.errs) == maxInputErrors-1 {
		p.Stop()
	}
}

// countEvents returns how many events a body has if each names its session and none quotes a key. It is no promise: it decides how much memory
// is allocated at once. A list that grows is copied several times, and the copies take as much memory as the body.
func countEvents(body []byte) int {
	return min(bytes.Count(body, sessionKey), len(body)/minEventBytes)
}

var sessionKey = []byte(`"session_id"`)

// minEventBytes is less than any valid event has.
const minEventBytes = 60

// event parses one event of the request.
func (p *eventParser) event() {
	isObject := p.Peek() == '{'
	start := p.Offset()
	if p.events == nil {
		p.events = make([]Event, 0, 1+countEvents(p.body))
	}
	p.events = append(p.events, Event{Index: p.index, ReceivedAt: p.now})
	ev := &p.events[len(p.events)-1]
	var f eventFields
	if isObject {
		p.Object(func(key []byte) bool { return p.member(ev, &f, key) })
	} else {
		p.WrongType("an event, which is an object")
	}
	if p.Ended() {
		return
	}
	ev.JSON = p.body[start:p.Offset()]
	if isObject {
		p.check(ev, &f)
	}
	wrong := p.TakeError()
	if wrong != nil && isObject && p.leaveOut {
		wrong = p.readPartly(start, ev, wrong)
	}
	if wrong != nil {
		p.refuse(wrong)
	} else if p.errs != nil && !p.skipBad {
		p.events = p.events[:0]
	}
	p.index++
}

// eventFields records which fields an event had, null counting as absent, and values that make sense only once all fields are read.
type eventFields struct {
	given    []typedField // in the order of the input
	hasTime  bool
	hasSID   bool
	question bool
	answer   Answer // of the short form: answer_id, answer, parent, addon
	answerID bool
	short    bool // any field of the short form
	list     bool // the long form: answers
}

// typedField is a field that belongs to certain event types only.
type typedField struct {
	name  string
	types []EventType
}

// typedFields are all typed fields, by name.
var typedFields = map[string]typedField{
	"question_id": {"question_id", []EventType{EventVote, EventUndo}},
	"question":    {"question", []EventType{EventVote}},
	"answer_id":   {"answer_id", []EventType{EventVote, EventUndo}},
	"answer":      {"answer", []EventType{EventVote}},
	"parent":      {"parent", []EventType{EventVote}},
	"addon":       {"addon", []EventType{EventVote}},
	"answers":     {"answers", []EventType{EventVote}},
	"lead":        {"lead", []EventType{EventLead}},
	"result":      {"result", []EventType{EventResultView}},
}

// fieldNamed reports whether an event may have a field of that name. typed says for which event types; it is zero if all may have it.
func fieldNamed(key []byte) (typed typedField, known bool) {
	switch string(key) {
	case "type", "id", "session_id", "time", "content_id", "content_type", "poltio_user_id", "publisher_uuid", "custom_id":
		return typedField{}, true
	}
	typed, known = typedFields[string(key)]
	return typed, known
}

// member parses the value of one field of an event. Numbers, true and false, and free text are read in each form that means one thing only: a
// refused event is a lost lead. What identifies something (type, id, session_id), times, UUIDs and enums have one form.
func (p *eventParser) member(ev *Event, f *eventFields, key []byte) bool {
	typed, known := fieldNamed(key)
	if !known {
		return p.unknown()
	}
	if p.skipsRest() || p.Null() || p.partly && p.misplaced(ev.Type, typed) {
		return true
	}
	if typed.types != nil {
		if f.given == nil {
			f.given = make([]typedField, 0, 4) // as many as a vote has
		}
		f.given = append(f.given, typed)
	}
	switch string(key) {
	case "type":
		ev.Type = p.eventType()
	case "id":
		if ev.ID = p.Text(); len(ev.ID) == 0 || len(ev.ID) > maxEventID {
			p.Fail("must have 1 to %d bytes (got %d)", maxEventID, len(ev.ID))
		}
	case "session_id":
		ev.SessionID, f.hasSID = p.UUID(), true
	case "time":
		ev.Time, f.hasTime = p.Time(), true
		if p.unread() {
			f.hasTime = false
		}
	case "content_id", "content_type", "poltio_user_id", "publisher_uuid", "custom_id":
		p.identityMember(&ev.Identity, key)
	case "question_id":
		ev.QuestionID, f.question = p.AnyInteger(), true
	case "question":
		ev.Question = read(p, p.TextOrNumber())
	case "answers":
		f.list = true
		p.Array(func(int) {
			if !p.skipsRest() {
				ev.Answers = append(ev.Answers, p.answer())
			}
		})
		if len(ev.Answers) == 0 {
			p.Fail("must hold at least one answer")
		}
	case "lead":
		ev.Lead = p.lead()
	case "result":
		ev.Result = p.result()
	default:
		f.short = true
		if string(key) == "answer_id" {
			f.answerID = true
		}
		p.answerMember(&f.answer, key)
	}
	return true
}

// identityMember parses the value of one of the session's own fields.
func (p *eventParser) identityMember(i *Identity, key []byte) {
	switch string(key) {
	case "content_id":
		if i.ContentID = p.UUID(); p.unread() {
			i.ContentID = uuid.Nil
		}
	case "content_type":
		if i.ContentType = p.contentType(); p.unread() {
			i.ContentType = ""
		}
	case "poltio_user_id":
		i.PoltioUserID = read(p, p.AnyInteger())
	case "publisher_uuid":
		i.PublisherUUID = read(p, p.TextOrNumber())
	case "custom_id":
		i.CustomID = read(p, p.TextOrNumber())
	}
}

// check checks an event whose fields are all read against the rules for its type.
func (p *eventParser) check(ev *Event, f *eventFields) {
	if ev.Type == "" {
		p.FailAt("type", "is required: start, vote, undo, lead, result_view or finish")
		return
	}
	if !f.hasSID {
		p.FailAt("session_id", "is required: a UUID")
	}
	for _, field := range f.given {
		if !slices.Contains(field.types, ev.Type) {
			p.FailAt(field.name, "does not belong to an event of type %s", ev.Type)
		}
	}
	if !f.hasTime {
		ev.Time = p.now
	} else if p.checkTimes && !p.Failed() {
		if ev.Time.Before(minTime) {
			p.FailAt("time", "must not be before 2000-01-01 (got %s)", ev.Time.Format(time.RFC3339))
		}
		if ev.Time.After(p.now.Add(maxAhead)) {
			p.FailAt("time", "must not be more than 5 minutes ahead of the server's clock (got %s, the server has %s)",
				ev.Time.Format(time.RFC3339), p.now.Format(time.RFC3339))
		}
	}
	p.separate(f)
	switch ev.Type {
	case EventVote:
		if !f.question {
			p.FailAt("question_id", "is required in a vote: an integer")
		}
		switch {
		case f.list && f.short:
			p.FailAt("answers", "must not be combined with answer_id, answer, parent or addon: give one answer in these fields, or several in answers")
		case !f.list && !f.answerID:
			p.FailAt("answer_id", "is required in a vote: an integer (or answers, a list)")
		case !f.list:
			ev.Answers = []Answer{f.answer}
		}
	case EventUndo:
		if !f.question {
			p.FailAt("question_id", "is required in an undo: an integer")
		}
		if f.answerID {
			ev.AnswerID = &f.answer.ID
		}
	case EventLead:
		if ev.Lead == nil {
			p.FailAt("lead", "is required in a lead: an object")
		} else if *ev.Lead == (Lead{}) {
			p.FailAt("lead", "must have at least one of user_id, phone, email, name, comment, created_at, tc_checked, content_type, content_id, addon")
		}
	case EventResultView:
		if ev.Result == nil {
			p.FailAt("result", "is required in a result_view: an object")
		}
	}
}

func (p *eventParser) eventType() EventType {
	text := p.Text()
	for _, t := range eventTypes {
		if string(t) == text {
			return t // not the text, whose memory would stay in use
		}
	}
	p.Fail("must be start, vote, undo, lead, result_view or finish (got %q)", Excerpt(text))
	return EventType(text)
}

func (p *eventParser) contentType() ContentType {
	text := p.Text()
	for _, t := range ContentTypes {
		if string(t) == text {
			return t
		}
	}
	p.Fail("must be set, quiz, test, survey or content (got %q)", Excerpt(text))
	return ContentType(text)
}

func (p *eventParser) answer() Answer {
	var a Answer
	given := false
	p.Object(func(key []byte) bool {
		switch string(key) {
		case "answer_id", "answer", "parent", "addon":
			if !p.skipsRest() && !p.Null() {
				given = given || string(key) == "answer_id"
				p.answerMember(&a, key)
			}
			return true
		}
		return p.unknown()
	})
	if !given {
		p.FailAt("answer_id", "is required in an answer: an integer")
	}
	return a
}

func (p *eventParser) answerMember(a *Answer, key []byte) {
	switch string(key) {
	case "answer_id":
		a.ID = p.AnyInteger()
	case "answer":
		a.Answer = read(p, p.TextOrNumber())
	case "parent":
		a.Parent = read(p, p.TextOrNumber())
	case "addon":
		a.Addon = read(p, p.TextOrNumber())
	}
}

func (p *eventParser) lead() *Lead {
	var l Lead
	p.Object(func(key []byte) bool {
		var s **string
		var n **int64
		switch string(key) {
		case "user_id":
			n = &l.UserID
		case "phone":
			s = &l.Phone
		case "email":
			s = &l.Email
		case "name":
			s = &l.Name
		case "comment":
			s = &l.Comment
		case "created_at":
			s = &l.CreatedAt
		case "tc_checked":
			if !p.skipsRest() && !p.Null() {
				l.TCChecked = read(p, p.AnyBool())
			}
			return true
		case "content_type":
			s = &l.ContentType
		case "content_id":
			n = &l.ContentID
		case "addon":
			s = &l.Addon
		default:
			return p.unknown()
		}
		p.optional(s, n)
		return true
	})
	return &l
}

// optional parses a text into s or an integer into n, whichever is not nil. Null leaves it nil.
func (p *eventParser) optional(s **string, n **int64) {
	switch {
	case p.skipsRest(), p.Null():
	case s != nil:
		*s = read(p, p.TextOrNumber())
	default:
		*n = read(p, p.AnyInteger())
	}
}

func (p *eventParser) result() *Result {
	var res Result
	given := false
	p.Object(func(key []byte) bool {
		var s **string
		var n **int64
		switch string(key) {
		case "result_id":
			if !p.skipsRest() && !p.Null() {
				res.ID, given = p.AnyInteger(), true
			}
			return true
		case "result_title":
			s = &res.Title
		case "result_image":
			s = &res.Image
		case "result_desc":
			s = &res.Desc
		case "time_spent": // pages measure it with performance.now(), which has fractions
			if !p.skipsRest() && !p.Null() {
				res.TimeSpent = read(p, p.RoundedInteger())
			}
			return true
		case "right_answer":
			n = &res.RightAnswer
		case "calculator_result":
			if !p.skipsRest() && !p.Null() {
				res.CalculatorResult = read(p, p.TextOrNumber())
			}
			return true
		default:
			return p.unknown()
		}
		p.optional(s, n)
		return true
	})
	if !given {
		p.FailAt("result_id", "is required in a result: an integer")
	}
	return &res
}
