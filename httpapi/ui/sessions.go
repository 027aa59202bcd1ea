package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) sessionRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/sessions", Handle: p.sessions, Read: true},
		{Method: "GET", Path: "/sessions/:id", Handle: p.orLookUp(p.session), Read: true},
		{Method: "GET", Path: "/sessions/:id/erase", Handle: p.orLookUp(p.confirmErase)},
		{Method: "POST", Path: "/sessions/:id/erase", Handle: p.orLookUp(p.erase)},
		{Method: "GET", Path: "/erase", Handle: p.confirmErasePerson},
		{Method: "POST", Path: "/erase", Handle: p.erasePerson},
	}
}

// lookUp is the field for a session id, with the error of its input.
func lookUp(typed string) *input {
	in := &input{Name: "id", Label: "Session id", Kind: textInput, Value: typed, Placeholder: "22ffdf18-1035-4e56-baa2-8327e3af5242",
		Help: "The session_id of its events, a UUID."}
	if _, err := engine.ParseUUID(typed); err != nil {
		in.Error = err.Error()
	}
	return in
}

// orLookUp shows a form to look up another session if the session in the path does not exist.
func (p *Pages) orLookUp(handle Handler) Handler {
	return func(r *http.Request, ps httprouter.Params) (*Answer, error) {
		answer, err := handle(r, ps)
		if !errors.Is(err, engine.ErrNotFound) {
			return answer, err
		}
		return p.show(view{Template: "nosession", Title: "No such session", Nav: "/sessions", Status: http.StatusNotFound, Data: lookUp(ps.ByName("id"))})
	}
}

const (
	// eventsAtEnds is how many of the first and of the last events of a long session are shown.
	eventsAtEnds = 100
	// answeredShown is how many questions and how many leads of a long session are shown.
	answeredShown = 20
)

// sessionData is what the page of a session shows.
type sessionData struct {
	engine.Session
	Received   time.Time // the last event
	First      []timelineEvent
	Skipped    int // events between First and Last
	Last       []timelineEvent
	Total      int64
	EndedLater bool // a result was seen after the finish
	// Long means that there are more events than a page shows by default. More means that there are questions or leads beyond those
	// in Session.
	Long, More bool
	JSON       string // "" if only some events are shown
	Deliveries []deliveryRow
	Preview    *preview
}

// session shows a session: its events, its folded state, and its deliveries.
func (p *Pages) session(r *http.Request, ps httprouter.Params) (*Answer, error) {
	id, err := pathUUID("session", ps)
	if err != nil {
		return nil, err
	}
	folded, record, deliveries, err := p.engine.Session(r.Context(), id)
	if err != nil {
		return nil, err
	}
	events, err := record.Events()
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	d := sessionData{Session: folded, Received: record.Head.LastReceivedAt, First: timelineEvents(events, folded.StartedAt), Total: int64(len(events)),
		Long: len(events) > 2*eventsAtEnds, EndedLater: folded.EndedAt.After(folded.FinishedAt), Deliveries: p.rows(deliveries)}
	all := query.Get("events") == "all"
	if d.Long && !all {
		d.Skipped = len(events) - 2*eventsAtEnds
		d.First, d.Last = d.First[:eventsAtEnds], d.First[len(events)-eventsAtEnds:]
		d.More = len(d.Questions) > answeredShown || len(d.Leads) > answeredShown
		d.Questions, d.Leads = d.Questions[:min(len(d.Questions), answeredShown)], d.Leads[:min(len(d.Leads), answeredShown)]
	} else {
		described, err := engine.DescribeSession(folded)
		if err != nil {
			return nil, err
		}
		d.JSON = pretty(described)
	}
	// A long session has megabytes of events, and so has its payload. Do not send them every other second.
	v := view{Template: "session", Title: "Session", Nav: "/sessions", Live: !d.Long || !all && !query.Has("webhook_id")}
	if query.Get("done") == "played" {
		v.Done = fmt.Sprintf("Every event was accepted, %d in all. Deliveries that are due are sent now.", number(query, "accepted"))
	}
	if d.Preview, err = p.preview(r, &folded); err != nil {
		return nil, err
	}
	if d.Preview.Webhook.Error != "" || d.Preview.AsOf.Error != "" {
		v.Status = http.StatusBadRequest
	}
	v.Data = d
	return p.show(v)
}

// number reads a count from the query of a redirect.
func number(query url.Values, name string) int64 {
	n, err := strconv.ParseUint(query.Get(name), 10, 32)
	if err != nil {
		return 0 // it was edited; out of range it would be the largest number
	}
	return int64(n)
}

// pretty indents JSON and keeps all of its text and numbers as they are.
func pretty(raw []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return b.String()
}

// timeForms are the accepted formats of a time beside RFC 3339, in UTC.
var timeForms = []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"}

// parseTime reads a time as the API does, or in one of timeForms. Like engine.ParseTime, it never returns the zero time without an error.
func parseTime(s string) (time.Time, error) {
	if t, err := engine.ParseTime(s); err == nil {
		return t, nil
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			if t, err = engine.ParseTime(t.Format(time.RFC3339Nano)); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("must be a time in UTC, such as 2026-01-23 11:59:33 (got %q)", engine.Excerpt(s))
}

// formTime writes a time as parseTime reads it; "" for the zero time.
func formTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// eraseData is what the page shows before a session is erased.
type eraseData struct {
	ID                          uuid.UUID
	Events, Deliveries, Waiting int64
}

// confirmErase asks for a confirmation before a session is erased.
func (p *Pages) confirmErase(r *http.Request, ps httprouter.Params) (*Answer, error) {
	id, err := pathUUID("session", ps)
	if err != nil {
		return nil, err
	}
	_, record, deliveries, err := p.engine.Session(r.Context(), id)
	if err != nil {
		return nil, err
	}
	d := eraseData{ID: id, Events: int64(record.Head.Events), Deliveries: int64(len(deliveries))}
	for i := range deliveries {
		if deliveries[i].Status.Waiting() {
			d.Waiting++
		}
	}
	return p.show(view{Template: "erase", Title: "Erase this session?", Nav: "/sessions", Data: d})
}

// erase erases a session.
func (p *Pages) erase(r *http.Request, ps httprouter.Params) (*Answer, error) {
	id, err := pathUUID("session", ps)
	if err != nil {
		return nil, err
	}
	gone, err := p.engine.Erase(r.Context(), engine.Erasure{SessionID: id})
	if err != nil {
		return nil, err
	}
	return redirect("%s", erasedLink(gone)), nil
}
