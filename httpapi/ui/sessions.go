package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) sessionRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/sessions", Handle: p.sessions},
		{Method: "GET", Path: "/sessions/:id", Handle: p.session},
		{Method: "GET", Path: "/sessions/:id/erase", Handle: p.confirmErase},
		{Method: "POST", Path: "/sessions/:id/erase", Handle: p.erase, Lengthy: true},
	}
}

// latestSessions is from how many of the newest deliveries the look-up takes sessions to begin with.
const latestSessions = 20

// sessions looks a session up by its id.
func (p *Pages) sessions(r *http.Request, _ httprouter.Params) (*Answer, error) {
	query := r.URL.Query()
	typed := strings.TrimSpace(query.Get("id"))
	in := &input{Name: "id", Label: "Session id", Kind: textInput, Value: typed, Placeholder: "22ffdf18-1035-4e56-baa2-8327e3af5242",
		Help: "The session_id of its events, a UUID."}
	v := view{Template: "sessions", Title: "Sessions", Nav: "/sessions"}
	if query.Has("id") {
		id, err := engine.ParseUUID(typed)
		if err == nil {
			return redirect("/sessions/%s", id), nil
		}
		in.Error, v.Status = err.Error(), http.StatusBadRequest
	}
	if query.Get("done") == "erased" {
		v.Done = "The session was erased: its events, its deliveries, and what waited to be sent."
	}
	page, err := p.engine.Deliveries(r.Context(), engine.DeliveryQuery{Limit: latestSessions})
	if err != nil {
		return nil, err
	}
	var latest []deliveryRow
	for _, row := range p.rows(page.Items) {
		if row.Session != uuid.Nil && !slices.ContainsFunc(latest, func(r deliveryRow) bool { return r.Session == row.Session }) {
			latest = append(latest, row)
		}
	}
	v.Data = struct {
		Input  *input
		Latest []deliveryRow
	}{in, latest}
	return p.show(v)
}

// eventsAtEnds is how many events of a long session are shown from its beginning, and as many from its end.
const eventsAtEnds = 100

// sessionData is what the page of a session shows.
type sessionData struct {
	engine.Session
	Received   time.Time // the last event
	First      []happening
	Skipped    int // events between First and Last
	Last       []happening
	Total      int64
	EndedLater bool // than it finished
	JSON       string
	Deliveries []deliveryRow
	Preview    *preview
}

// preview is the form for a payload that could be sent, and that payload.
type preview struct {
	Webhooks []previewChoice
	AsOf     *input
	// Error says why there is no payload; Payload is it.
	Error, Payload string
}

type previewChoice struct {
	ID             uint32
	Name           string
	Fits, Selected bool
}

// session shows a session: its events, what they come to, and what was sent of it.
func (p *Pages) session(r *http.Request, ps httprouter.Params) (*Answer, error) {
	id, err := pathUUID("session", ps)
	if err != nil {
		return nil, err
	}
	folded, record, deliveries, err := p.engine.Session(r.Context(), id)
	if errors.Is(err, engine.ErrNotFound) {
		return p.show(view{Template: "nosession", Title: "No such session", Nav: "/sessions", Status: http.StatusNotFound, Data: id})
	}
	if err != nil {
		return nil, err
	}
	events, err := record.Events()
	if err != nil {
		return nil, err
	}
	described, err := engine.DescribeSession(folded)
	if err != nil {
		return nil, err
	}
	d := sessionData{Session: folded, Received: record.Head.LastReceivedAt, First: happenings(events, folded.StartedAt), Total: int64(len(events)), EndedLater: folded.EndedAt.After(folded.FinishedAt),
		JSON: pretty(described), Deliveries: p.rows(deliveries)}
	if r.URL.Query().Get("events") != "all" && len(events) > 2*eventsAtEnds {
		d.Skipped = len(events) - 2*eventsAtEnds
		d.First, d.Last = d.First[:eventsAtEnds], d.First[len(events)-eventsAtEnds:]
	}
	v := view{Template: "session", Title: "Session", Nav: "/sessions", Live: true,
		Done: done(r, map[string]string{"played": "Every event was accepted: what is due is on its way."})}
	if d.Preview = p.preview(r, &folded); d.Preview.Error != "" || d.Preview.AsOf.Error != "" {
		v.Status = http.StatusBadRequest
	}
	v.Data = d
	return p.show(v)
}

// preview builds the payload that was asked for, if one was.
func (p *Pages) preview(r *http.Request, s *engine.Session) *preview {
	query := r.URL.Query()
	asked, asOf := query.Get("webhook_id"), strings.TrimSpace(query.Get("as_of"))
	pre := &preview{AsOf: &input{Name: "as_of", Label: "As of (UTC)", Kind: textInput, Value: asOf, Placeholder: "now",
		Help: "With what had happened by then, such as " + s.StartedAt.UTC().Format("2006-01-02 15:04:05") + ". Empty: now."}}
	var chosen *engine.Webhook
	for _, w := range p.engine.Webhooks() {
		c := previewChoice{ID: w.ID, Name: nameOf(w), Fits: w.ContentID == nil || *w.ContentID == s.Identity.ContentID, Selected: fmt.Sprint(w.ID) == asked}
		if c.Selected {
			chosen = w
		}
		pre.Webhooks = append(pre.Webhooks, c)
	}
	if asked == "" {
		return pre
	}
	var at time.Time
	if asOf != "" {
		var err error
		if at, err = parseTime(asOf); err != nil {
			pre.AsOf.Error = err.Error()
			return pre
		}
	}
	if chosen == nil {
		pre.Error = "There is no such webhook."
		return pre
	}
	payload, err := p.engine.Preview(r.Context(), chosen.ID, s.ID, at)
	bad, isInput := errors.AsType[engine.InputErrors](err)
	switch {
	case err == nil:
		pre.Payload = pretty(payload)
	case isInput:
		pre.AsOf.Error = bad[0].Detail
	case errors.Is(err, engine.ErrConflict):
		pre.Error = "The webhook is for another content: the session is not sent there."
	default:
		pre.Error = err.Error()
	}
	return pre
}

// pretty indents JSON and keeps all of its text and numbers as they are.
func pretty(raw []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return b.String()
}

// timeForms are the ways to write a time in a form, in UTC unless it says otherwise.
var timeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"}

// parseTime reads a time as a person or a browser's input writes it.
func parseTime(s string) (time.Time, error) {
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), nil
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

// eraseData is what is asked before a session is erased.
type eraseData struct {
	ID                          uuid.UUID
	Events, Deliveries, Waiting int64
}

// confirmErase asks whether a session is to be erased.
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
	if _, err := p.engine.Erase(r.Context(), engine.Erasure{SessionID: id}); err != nil {
		return nil, err
	}
	return redirect("/sessions?done=erased"), nil
}
