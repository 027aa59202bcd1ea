package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	// maxQueryErrors bounds how many errors of a query the response has.
	maxQueryErrors = 20
)

// checkQuery refuses unknown and repeated parameters. Otherwise a typing error in the name of a filter would list everything.
func checkQuery(raw string, known []string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return engine.InputErrors{{Detail: "the query string is malformed"}}
	}
	var bad engine.InputErrors
	for _, name := range slices.Sorted(maps.Keys(values)) {
		detail := ""
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			detail = "unknown query parameter; this call takes none"
		case !slices.Contains(known, name):
			detail = "unknown query parameter; this call takes " + strings.Join(known, ", ")
		case len(values[name]) > 1:
			detail = "the query parameter stands twice"
		default:
			continue
		}
		if bad = append(bad, engine.InputError{Field: engine.Excerpt(name), Detail: detail}); len(bad) == maxQueryErrors {
			break
		}
	}
	if bad != nil {
		return bad
	}
	return nil
}

// query reads the values of parameters that checkQuery has accepted. It collects errors; err returns all of them.
type query struct {
	values url.Values
	bad    engine.InputErrors
}

func queryOf(r *http.Request) *query { return &query{values: r.URL.Query()} }

func (q *query) err() error {
	if q.bad != nil {
		return q.bad
	}
	return nil
}

func (q *query) refuse(name, format string, args ...any) {
	q.bad = append(q.bad, engine.InputError{Field: name, Detail: fmt.Sprintf(format, args...)})
}

func (q *query) limit() int {
	if !q.values.Has("limit") {
		return defaultLimit
	}
	n, err := strconv.Atoi(q.values.Get("limit"))
	if err != nil || n < 1 || n > maxLimit {
		q.refuse("limit", "must be 1 to %d (got %q)", maxLimit, engine.Excerpt(q.values.Get("limit")))
	}
	return n
}

// flag is false where there is none.
func (q *query) flag(name string) bool {
	switch text := q.values.Get(name); {
	case text == "true":
		return true
	case text != "false" && q.values.Has(name):
		q.refuse(name, "must be true or false (got %q)", engine.Excerpt(text))
	}
	return false
}

// cursor is "" for the first page. An empty parameter is refused: a script that lost its cursor would read the first page for ever.
func (q *query) cursor() string {
	if q.values.Has("cursor") && q.values.Get("cursor") == "" {
		q.badCursor()
	}
	return q.values.Get("cursor")
}

func (q *query) badCursor() { q.refuse("cursor", "must be the next_cursor of a page of this list") }

// webhookID is 0 where there is none.
func (q *query) webhookID() uint32 {
	if !q.values.Has("webhook_id") {
		return 0
	}
	id, ok := parseWebhookID(q.values.Get("webhook_id"))
	if !ok {
		q.refuse("webhook_id", "must be a webhook's id, a positive integer (got %q)", engine.Excerpt(q.values.Get("webhook_id")))
	}
	return id
}

// uuid is uuid.Nil where there is none.
func (q *query) uuid(name string) uuid.UUID {
	if !q.values.Has(name) {
		return uuid.Nil
	}
	id, err := engine.ParseUUID(q.values.Get(name))
	if err != nil {
		q.refuse(name, "%v", err)
	}
	return id
}

// visitor is nil where there is none.
func (q *query) visitor() *int64 {
	if !q.values.Has("poltio_user_id") {
		return nil
	}
	id, ok := parseVisitor(q.values.Get("poltio_user_id"))
	if !ok {
		q.refuse("poltio_user_id", "%s", visitorDetail(q.values.Get("poltio_user_id")))
	}
	return &id
}

// parseVisitor reads a visitor's id. It accepts only the canonical form.
func parseVisitor(s string) (int64, bool) {
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil && strconv.FormatInt(id, 10) == s
}

// visitorDetail says what is wrong with a visitor's id.
func visitorDetail(s string) string {
	return fmt.Sprintf("must be an integer of 64 bits, such as 4711 (got %q)", engine.Excerpt(s))
}

// email is "" where there is none. White space inside it is refused, because that is how an unescaped plus arrives.
func (q *query) email() string {
	if !q.values.Has("email") {
		return ""
	}
	email := engine.FoldEmail(q.values.Get("email"))
	switch {
	case email == "":
		q.refuse("email", "must not be empty")
	case strings.Contains(email, " "):
		q.refuse("email", "must not have a space inside; in a URL a plus is written %%2B")
	}
	return email
}

// phone is "" where there is none.
func (q *query) phone() string {
	if !q.values.Has("phone") {
		return ""
	}
	phone := engine.FoldPhone(q.values.Get("phone"))
	if phone == "" {
		q.refuse("phone", "must have a digit")
	}
	return phone
}

// sessionState is "" where there is none.
func (q *query) sessionState() engine.SessionState {
	if !q.values.Has("state") {
		return ""
	}
	state, err := engine.ParseSessionState(q.values.Get("state"))
	if err != nil {
		q.refuse("state", "%v", err)
	}
	return state
}

// status is 0 where there is none.
func (q *query) status() engine.Status {
	if !q.values.Has("status") {
		return 0
	}
	s, err := engine.ParseStatus(q.values.Get("status"))
	if err != nil {
		q.refuse("status", "%v", err)
	}
	return s
}

// time is zero where there is none.
func (q *query) time(name string) time.Time {
	if !q.values.Has(name) {
		return time.Time{}
	}
	t, err := engine.ParseTime(q.values.Get(name))
	if err != nil {
		q.refuse(name, "%v; in a URL a plus is written %%2B", err)
	}
	return t
}

// parseWebhookID reads a webhook's id. It accepts only the canonical form.
func parseWebhookID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || s[0] == '0' {
		return 0, false
	}
	return uint32(n), true
}
