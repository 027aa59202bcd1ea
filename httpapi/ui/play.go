package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// quizContent is the content of the quiz on the page, unless a webhook's is chosen.
const quizContent = "9a7c5e31-2b64-4d18-8f0a-c61e57b3d924"

// quiz is what visitors of the page are asked.
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
	Contents     []string        // those of webhooks
	Content      *input
	Visitor      *input
	LeadName     *input
	Email        *input
	Unfinished   bool
	Raw          *input
	RawErrors    []engine.InputError
	NoWebhook    bool
	ContentTypes []engine.ContentType
	ContentType  string
}

// play shows a small quiz, to be answered as a visitor would.
func (p *Pages) play(r *http.Request, _ httprouter.Params) (*Answer, error) {
	values := url.Values{"session_id": {uuid.NewString()}, "content_id": {quizContent}, "content_type": {"quiz"}, "poltio_user_id": {"4711"},
		"name": {"Ada"}, "email": {"ada@example.com"}, "q1": {"11"}, "q2": {"22"}}
	if id := r.URL.Query().Get("content_id"); id != "" {
		values.Set("content_id", id)
	}
	return p.showPlay(values, nil)
}

// finishPlay takes a session in, from the quiz or from the events that were written down.
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
	events, err := engine.ParseEvents(body, time.Now().UTC())
	if err == nil && len(events) == 0 {
		err = engine.InputErrors{{Detail: "there is no event"}}
	}
	if err == nil {
		_, err = p.engine.Ingest(r.Context(), body)
	}
	if err != nil {
		return p.refusedPlay(values, err)
	}
	return redirect("/sessions/%s?done=played", events[0].SessionID), nil
}

// quizEvents writes down the session of a visitor who has answered the quiz until now.
func quizEvents(values url.Values, now time.Time) ([]byte, error) {
	session := values.Get("session_id")
	started := now.Add(-20 * time.Second)
	var events []map[string]any
	// The ids make a form that is sent twice one session.
	add := func(after time.Duration, kind string, fields map[string]any) {
		event := map[string]any{"type": kind, "id": "page-" + strconv.Itoa(len(events)), "session_id": session, "time": started.Add(after).UTC().Format(time.RFC3339Nano)}
		maps.Copy(event, fields)
		events = append(events, event)
	}
	first := map[string]any{"content_id": strings.TrimSpace(values.Get("content_id")), "content_type": values.Get("content_type")}
	if visitor := strings.TrimSpace(values.Get("poltio_user_id")); visitor != "" {
		id, err := strconv.ParseInt(visitor, 10, 64)
		if err != nil {
			return nil, engine.InputErrors{{Field: "poltio_user_id", Detail: fmt.Sprintf("must be an integer (got %q)", engine.Excerpt(visitor))}}
		}
		first["poltio_user_id"] = id
	}
	add(0, "start", first)
	right := 0
	for i, q := range quiz {
		picked := values.Get("q" + strconv.FormatInt(q.ID, 10))
		n := slices.IndexFunc(q.Answers, func(a quizAnswer) bool { return strconv.FormatInt(a.ID, 10) == picked })
		if n < 0 {
			continue
		}
		right++
		add(time.Duration(5*(i+1))*time.Second, "vote", map[string]any{"question_id": q.ID, "question": q.Title, "answer_id": q.Answers[n].ID, "answer": q.Answers[n].Text})
	}
	if values.Get("unfinished") == "" {
		add(15*time.Second, "result_view", map[string]any{"result": map[string]any{"result_id": 3, "result_title": "A connoisseur", "right_answer": right}})
		lead := make(map[string]any)
		for _, name := range []string{"name", "email"} {
			if v := strings.TrimSpace(values.Get(name)); v != "" {
				lead[name] = v
			}
		}
		if len(lead) > 0 {
			lead["tc_checked"] = true
			add(18*time.Second, "lead", map[string]any{"lead": lead})
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

// refusedPlay shows the page again, with what was typed and what is wrong with it.
func (p *Pages) refusedPlay(values url.Values, err error) (*Answer, error) {
	bad, ok := errors.AsType[engine.InputErrors](err)
	if !ok {
		return nil, err
	}
	return p.showPlay(values, bad)
}

func (p *Pages) showPlay(values url.Values, bad engine.InputErrors) (*Answer, error) {
	field := func(name, label string, kind inputKind, help string) *input {
		return &input{Name: name, Label: label, Kind: kind, Value: values.Get(name), Help: help}
	}
	d := playData{
		Quiz: quiz, Session: values.Get("session_id"), Unfinished: values.Get("unfinished") != "", ContentType: values.Get("content_type"),
		ContentTypes: engine.ContentTypes, NoWebhook: len(p.engine.Webhooks()) == 0, Picked: make(map[int64]int64),
		Content:  field("content_id", "Content", textInput, "The id of the quiz. Webhooks for another content get nothing of it."),
		Visitor:  field("poltio_user_id", "Visitor", numberInput, "The poltio_user_id, an integer."),
		LeadName: field("name", "Name", textInput, ""),
		Email:    field("email", "E-mail", textInput, ""),
		Raw:      field("events", "Events", areaInput, "JSON objects or lists of them, one after another, as POST /v1/events takes them."),
	}
	for _, w := range p.engine.Webhooks() {
		if w.ContentID != nil && !slices.Contains(d.Contents, w.ContentID.String()) {
			d.Contents = append(d.Contents, w.ContentID.String())
		}
	}
	for _, q := range quiz {
		d.Picked[q.ID], _ = strconv.ParseInt(values.Get("q"+strconv.FormatInt(q.ID, 10)), 10, 64)
	}
	v := view{Template: "play", Title: "Play a session", Nav: "/sessions"}
	switch {
	case values.Has("events"):
		d.RawErrors = bad
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
		sample, err := quizEvents(url.Values{"session_id": {uuid.NewString()}, "content_id": {quizContent}, "content_type": {"quiz"}, "poltio_user_id": {"4712"},
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
