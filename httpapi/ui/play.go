package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) playRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/play", Handle: p.play},
		{Method: "POST", Path: "/play", Handle: p.finishPlay},
	}
}

// quizContent is the quiz's content id if some webhook accepts every content, or if there are no webhooks.
const quizContent = "9a7c5e31-2b64-4d18-8f0a-c61e57b3d924"

// quiz has the questions of the page.
var quiz = []quizQuestion{
	{1, "Salt & pepper?", []quizAnswer{{11, "Only salt"}, {12, "Only pepper"}, {13, "Both"}}},
	{2, "Where do you have breakfast?", []quizAnswer{{21, "At home"}, {22, "On the way"}, {23, "What is breakfast?"}}},
}

type quizQuestion struct {
	ID      int64
	Title   string
	Answers []quizAnswer
}

type quizAnswer struct {
	ID   int64
	Text string
}

// playData is what the page shows.
type playData struct {
	Quiz         []quizQuestion
	Picked       map[int64]int64 // answers by question
	Session      string          // the session that is about to be played
	Contents     []string        // content ids of webhooks
	Content      *input
	Visitor      *input
	LeadName     *input
	Email        *input
	Unfinished   bool
	Raw          *input
	RawErrors    []eventError
	NoWebhook    bool
	NoneActive   bool // all webhooks are switched off
	ContentTypes []engine.ContentType
	ContentType  string
}

// contentsShown is how many content ids of webhooks the page lists.
const contentsShown = 20

// eventError is an error in an event. N counts from 1.
type eventError struct {
	N             int
	Field, Detail string
}

// likelyContent returns a content id whose sessions some webhook gets, if there is one.
func (p *Pages) likelyContent() string {
	content := quizContent
	for _, w := range slices.Backward(p.engine.Webhooks()) {
		switch {
		case !w.Active:
		case w.ContentID == nil:
			return quizContent
		default:
			content = w.ContentID.String() // in the end the oldest webhook's
		}
	}
	return content
}

// play shows a small quiz to answer as a visitor.
func (p *Pages) play(r *http.Request, _ httprouter.Params) (*Answer, error) {
	values := p.freshPlay()
	if id := r.URL.Query().Get("content_id"); id != "" {
		values.Set("content_id", id)
	}
	return p.showPlay(values, nil)
}

// freshPlay is the form of a new session.
func (p *Pages) freshPlay() url.Values {
	return url.Values{"session_id": {uuid.NewString()}, "content_id": {p.likelyContent()}, "content_type": {"quiz"}, "poltio_user_id": {"4711"},
		"name": {"Ada"}, "email": {"ada@example.com"}, "q1": {"11"}, "q2": {"22"}}
}

// finishPlay accepts a session from the quiz, or events that were typed in.
func (p *Pages) finishPlay(r *http.Request, _ httprouter.Params) (*Answer, error) {
	values, err := p.form(r)
	if err != nil {
		return nil, err
	}
	body := []byte(values.Get("events"))
	if !values.Has("events") {
		if body, err = quizEvents(values, time.Now()); err != nil {
			return p.refusedPlay(values, err)
		}
	}
	ingested, err := p.engine.Ingest(r.Context(), body)
	if err != nil {
		return p.refusedPlay(values, err)
	}
	if ingested.Accepted == 0 {
		return p.refusedPlay(values, engine.InputErrors{{Detail: "there is no event"}})
	}
	events, err := engine.ParseEvents(body, time.Now()) // for the session's id; the events were valid a moment ago
	if err != nil {
		return nil, err
	}
	return redirect("/sessions/%s?done=played&accepted=%d", events[0].SessionID, ingested.Accepted), nil
}

// quizEvent is an event of the quiz, with its fields in reading order.
type quizEvent struct {
	Type         string         `json:"type"`
	ID           string         `json:"id"`
	SessionID    string         `json:"session_id"`
	Time         string         `json:"time"`
	ContentID    string         `json:"content_id,omitempty"`
	ContentType  string         `json:"content_type,omitempty"`
	PoltioUserID *int64         `json:"poltio_user_id,omitempty"`
	QuestionID   int64          `json:"question_id,omitempty"`
	Question     string         `json:"question,omitempty"`
	AnswerID     int64          `json:"answer_id,omitempty"`
	Answer       string         `json:"answer,omitempty"`
	Result       map[string]any `json:"result,omitempty"`
	Lead         map[string]any `json:"lead,omitempty"`
}

// quizEvents writes the events of a visitor who has just answered the quiz.
func quizEvents(values url.Values, now time.Time) ([]byte, error) {
	started := now.Add(-20 * time.Second)
	var events []quizEvent
	// With fixed ids, a form that is sent twice is one session.
	add := func(after time.Duration, id string, event quizEvent) {
		event.ID, event.SessionID, event.Time = "page-"+id, values.Get("session_id"), started.Add(after).UTC().Format("2006-01-02T15:04:05.000Z")
		events = append(events, event)
	}
	start := quizEvent{Type: "start", ContentID: strings.TrimSpace(values.Get("content_id")), ContentType: values.Get("content_type")}
	if visitor := strings.TrimSpace(values.Get("poltio_user_id")); visitor != "" {
		id, err := engine.ParseInteger(visitor)
		if err != nil {
			return nil, engine.InputErrors{{Field: "poltio_user_id", Detail: fmt.Sprintf("must be an integer (got %q)", engine.Excerpt(visitor))}}
		}
		start.PoltioUserID = &id
	}
	add(0, "start", start)
	answered := 0
	for i, q := range quiz {
		picked := values.Get("q" + strconv.FormatInt(q.ID, 10))
		n := slices.IndexFunc(q.Answers, func(a quizAnswer) bool { return strconv.FormatInt(a.ID, 10) == picked })
		if n < 0 {
			continue
		}
		answered++
		add(time.Duration(5*(i+1))*time.Second, "vote-"+strconv.FormatInt(q.ID, 10),
			quizEvent{Type: "vote", QuestionID: q.ID, Question: q.Title, AnswerID: q.Answers[n].ID, Answer: q.Answers[n].Text})
	}
	if values.Get("unfinished") == "" {
		add(15*time.Second, "result", quizEvent{Type: "result_view", Result: map[string]any{"result_id": 3, "result_title": "A connoisseur", "right_answer": answered}})
		lead := make(map[string]any)
		for _, name := range []string{"name", "email"} {
			if v := strings.TrimSpace(values.Get(name)); v != "" {
				lead[name] = v
			}
		}
		if len(lead) > 0 {
			lead["tc_checked"] = true
			add(18*time.Second, "lead", quizEvent{Type: "lead", Lead: lead})
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, event := range events {
		if err := enc.Encode(event); err != nil {
			return nil, fmt.Errorf("write down the quiz: %w", err)
		}
	}
	return b.Bytes(), nil
}

// refusedPlay shows the page again, with the input and its errors.
func (p *Pages) refusedPlay(values url.Values, err error) (*Answer, error) {
	bad, ok := errors.AsType[engine.InputErrors](err)
	if !ok {
		return nil, err
	}
	if values.Has("events") { // the quiz starts with its defaults again
		typed := values["events"]
		values = p.freshPlay()
		values["events"] = typed
	}
	return p.showPlay(values, bad)
}

func (p *Pages) showPlay(values url.Values, bad engine.InputErrors) (*Answer, error) {
	field := func(name, label string, kind inputKind, help string) *input {
		return &input{Name: name, Label: label, Kind: kind, Value: values.Get(name), Help: help}
	}
	d := playData{
		Quiz: quiz, Session: values.Get("session_id"), Unfinished: values.Get("unfinished") != "", ContentType: values.Get("content_type"),
		ContentTypes: engine.ContentTypes, Picked: make(map[int64]int64),
		Content:  field("content_id", "Content", textInput, "The id of the quiz. Webhooks for another content get nothing."),
		Visitor:  field("poltio_user_id", "Visitor", numberInput, "The poltio_user_id, an integer."),
		LeadName: field("name", "Name", textInput, ""),
		Email:    field("email", "E-mail", textInput, ""),
		Raw:      field("events", "Events", areaInput, "JSON objects or lists of them, one after another, as POST /v1/events accepts them."),
	}
	hooks := p.engine.Webhooks()
	d.NoWebhook = len(hooks) == 0
	d.NoneActive = !slices.ContainsFunc(hooks, func(w *engine.Webhook) bool { return w.Active })
	for _, w := range hooks {
		if w.ContentID != nil && len(d.Contents) < contentsShown && !slices.Contains(d.Contents, w.ContentID.String()) {
			d.Contents = append(d.Contents, w.ContentID.String())
		}
	}
	for _, q := range quiz {
		d.Picked[q.ID], _ = strconv.ParseInt(values.Get("q"+strconv.FormatInt(q.ID, 10)), 10, 64)
	}
	v := view{Template: "play", Title: "Play a session", Nav: "/sessions"}
	switch {
	case values.Has("events") && strings.TrimSpace(d.Raw.Value) == "":
		d.Raw.Error = "there is no event"
	case values.Has("events"):
		for _, e := range bad {
			d.RawErrors = append(d.RawErrors, eventError{e.Index + 1, e.Field, e.Detail})
		}
	case bad != nil:
		for _, e := range bad {
			switch in := map[string]*input{"content_id": d.Content, "poltio_user_id": d.Visitor}[e.Field]; {
			case in == nil:
				v.Bad = strings.TrimSpace(e.Field + " " + e.Detail)
			case in.Error == "":
				in.Error = e.Detail
			}
		}
	}
	if !values.Has("events") {
		sample, err := quizEvents(url.Values{"session_id": {uuid.NewString()}, "content_id": {p.likelyContent()}, "content_type": {"quiz"}, "poltio_user_id": {"4712"},
			"q1": {"12"}, "name": {"Grace"}, "email": {"grace@example.com"}}, time.Now())
		if err != nil {
			return nil, err
		}
		d.Raw.Value = string(sample)
	}
	if bad != nil {
		v.Status = http.StatusBadRequest
	}
	v.Data = d
	return p.show(v)
}
