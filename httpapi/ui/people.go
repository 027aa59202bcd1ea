package ui

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// sessionsShown is how many sessions a page of the list has.
const sessionsShown = 50

// sessionList is what the page of sessions shows.
type sessionList struct {
	Input                 *input // a session's id
	Email, Phone, Visitor *input
	States                []statusLink
	State                 engine.SessionState
	Rows                  []engine.SessionHead
	Filtered, First       bool
	Unfinished            bool   // the search ended before the page was full
	Refused               bool   // a filter is wrong
	Older, Newest         string // links; "" for none
	Erase                 string // the link to erase the person of the filters; "" if there is none, or more than one
}

// sessions looks up a session by its id, or lists sessions: the newest, or those of a person.
func (p *Pages) sessions(r *http.Request, _ httprouter.Params) (*Answer, error) {
	query := r.URL.Query()
	d := sessionList{Input: lookUp(strings.TrimSpace(query.Get("id")))}
	v := view{Template: "sessions", Title: "Sessions", Nav: "/sessions", Done: erasedText(query)}
	switch {
	case !query.Has("id"):
		d.Input.Error = ""
	case d.Input.Error == "":
		return redirect("/sessions/%s", strings.ToLower(d.Input.Value)), nil
	default:
		v.Status = http.StatusBadRequest
	}
	ask := engine.SessionQuery{Limit: sessionsShown, Cursor: query.Get("cursor")}
	ok := d.readPerson(query, &ask)
	if s := query.Get("state"); s != "" {
		var err error
		if ask.State, err = engine.ParseSessionState(s); err != nil {
			v.Bad, ok = "state "+err.Error(), false
		}
	}
	d.State = ask.State
	filters := url.Values{"email": query["email"], "phone": query["phone"], "poltio_user_id": query["poltio_user_id"]}
	for _, state := range []engine.SessionState{"", engine.SessionComplete, engine.SessionIncomplete} {
		text := string(state)
		if state == "" {
			text = "all"
		}
		d.States = append(d.States, statusLink{Text: text, Link: "/sessions?" + with(filters, "state", string(state)), Current: ask.State == state})
	}
	if !ok {
		v.Status, d.Refused = http.StatusBadRequest, true
	} else if err := p.listSessions(r.Context(), &d, ask, query); err != nil {
		return nil, err
	}
	v.Live = d.First && !d.Filtered // a search costs more than a list
	if ok && len(ask.Persons()) == 1 && d.First {
		d.Erase = "/erase?" + with(filters, "state", "")
	}
	v.Data = d
	return p.show(v)
}

// readPerson reads the filters by person. It reports whether they are valid.
func (d *sessionList) readPerson(query url.Values, ask *engine.SessionQuery) bool {
	typed := func(name, label, placeholder string) *input {
		return &input{Name: name, Label: label, Kind: textInput, Value: strings.TrimSpace(query.Get(name)), Placeholder: placeholder}
	}
	d.Email, d.Phone = typed("email", "E-mail", "jane@example.com"), typed("phone", "Phone", "+90 532 123 45 67")
	d.Visitor = typed("poltio_user_id", "Visitor", "4711")
	ok := true
	refuse := func(in *input, why string) { in.Error, ok = why, false }
	if d.Email.Value != "" {
		if ask.Email = engine.FoldEmail(d.Email.Value); ask.Email == "" {
			refuse(d.Email, "must have a visible character")
		}
	}
	if d.Phone.Value != "" {
		if ask.Phone = engine.FoldPhone(d.Phone.Value); ask.Phone == "" {
			refuse(d.Phone, "must have a digit")
		}
	}
	if d.Visitor.Value != "" {
		id, err := strconv.ParseInt(d.Visitor.Value, 10, 64)
		if ask.Visitor = &id; err != nil {
			refuse(d.Visitor, "must be an integer of 64 bits: the poltio_user_id")
		}
	}
	d.Filtered = d.Email.Value+d.Phone.Value+d.Visitor.Value != ""
	return ok
}

// listSessions fills in a page of sessions.
func (p *Pages) listSessions(ctx context.Context, d *sessionList, ask engine.SessionQuery, query url.Values) error {
	d.First = ask.Cursor == ""
	for looks := 1; ; looks++ {
		page, err := p.engine.Sessions(ctx, ask)
		if err != nil {
			return err
		}
		d.Rows = append(d.Rows, page.Items...)
		ask.Cursor, ask.Limit = page.NextCursor, sessionsShown-len(d.Rows)
		if page.NextCursor == "" || ask.Limit == 0 {
			break
		}
		if looks == maxLooks {
			d.Unfinished = true
			break
		}
	}
	if ask.Cursor != "" {
		d.Older = "/sessions?" + with(query, "cursor", ask.Cursor)
	}
	if !d.First {
		d.Newest = "/sessions?" + with(query, "cursor", "")
	}
	return nil
}

// erasedText says what was erased, from the query of a redirect; "" if nothing was.
func erasedText(query url.Values) string {
	if query.Get("done") != "erased" {
		return ""
	}
	events, deliveries := counted(number(query, "events"), "event", "events"), counted(number(query, "deliveries"), "delivery", "deliveries")
	text := fmt.Sprintf("The session was erased: %s and %s. Nothing more is sent for it.", events, deliveries)
	if query.Has("sessions") {
		text = fmt.Sprintf("Erased: %s with %s, and %s. Nothing more is sent for them.", counted(number(query, "sessions"), "session", "sessions"), events, deliveries)
	}
	if n := number(query, "damaged"); n > 0 {
		text += fmt.Sprintf(" The database is damaged: %s could not be read and may be left. The log names what is damaged.", counted(n, "record", "records"))
	}
	return text
}

// personData is what the page shows before a person is erased.
type personData struct {
	// Name and Value are the field of the form by which he is erased, Text says it to people.
	Name, Value, Text string
	Counted           engine.Erased
	Back              string
}

// readErased reads whom to erase: exactly one of the fields that a person is searched by.
func readErased(values url.Values) (what engine.Erasure, d personData, err error) {
	var list sessionList
	var ask engine.SessionQuery
	ok := list.readPerson(values, &ask)
	for _, in := range []*input{list.Email, list.Phone, list.Visitor} {
		if in.Value != "" {
			d.Name, d.Value, d.Text = in.Name, in.Value, strings.ToLower(in.Label[:1])+in.Label[1:]
		}
		if in.Error != "" {
			return what, d, engine.InputErrors{{Field: in.Name, Detail: in.Error}}
		}
	}
	if !ok || len(ask.Persons()) != 1 {
		return what, d, engine.InputErrors{{Detail: "exactly one of email, phone and poltio_user_id must be given"}}
	}
	d.Back = "/sessions?" + with(url.Values{d.Name: {d.Value}}, "state", "")
	return engine.Erasure{Visitor: ask.Visitor, Email: ask.Email, Phone: ask.Phone}, d, nil
}

// confirmErasePerson counts what is stored of a person, and asks for a confirmation before he is erased.
func (p *Pages) confirmErasePerson(r *http.Request, _ httprouter.Params) (*Answer, error) {
	what, d, err := readErased(r.URL.Query())
	if err != nil {
		return nil, err
	}
	what.DryRun = true
	if d.Counted, err = p.engine.Erase(r.Context(), what); err != nil {
		return nil, err
	}
	return p.show(view{Template: "eraseperson", Title: "Erase this person?", Nav: "/sessions", Data: d})
}

// erasePerson erases a person.
func (p *Pages) erasePerson(r *http.Request, _ httprouter.Params) (*Answer, error) {
	values, err := p.form(r)
	if err != nil {
		return nil, err
	}
	what, _, err := readErased(values)
	if err != nil {
		return nil, err
	}
	gone, err := p.engine.Erase(r.Context(), what)
	if err != nil {
		return nil, err
	}
	return redirect("%s", erasedLink(gone)+fmt.Sprintf("&sessions=%d", gone.Sessions)), nil
}

// erasedLink leads to the page that says what was erased.
func erasedLink(gone engine.Erased) string {
	to := fmt.Sprintf("/sessions?done=erased&events=%d&deliveries=%d", gone.Events, gone.Deliveries)
	if gone.Damaged > 0 {
		to += fmt.Sprintf("&damaged=%d", gone.Damaged)
	}
	return to
}
