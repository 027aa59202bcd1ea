package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
	"hookbolt/httpapi/jsonobject"
)

// The hosted platform, whose webhooks hookbolt speaks, manages them at /platform/hooks/web. What follows are its names for what /v1 does,
// so that tools that were written for it work here: its fields become the settings of /v1 and back, and nothing is kept beside them.
// Lists and errors have the shapes of Laravel, which it is made with.

const platformPath = "/platform/"

func (a *API) platformRoutes() []route {
	routes := []route{
		{method: "GET", path: "/platform/account/profile", status: http.StatusOK, handle: a.platformProfile},
		{method: "GET", path: "/platform/hooks/web", status: http.StatusOK, handle: a.platformList, params: []string{"page", "per_page", "public_id"}},
		{method: "POST", path: "/platform/hooks/web", status: http.StatusCreated, handle: a.platformCreate},
		{method: "GET", path: "/platform/hooks/web/:id", status: http.StatusOK, handle: a.platformGet},
		{method: "PUT", path: "/platform/hooks/web/:id", status: http.StatusOK, handle: a.platformUpdate},
		{method: "DELETE", path: "/platform/hooks/web/:id", status: http.StatusOK, handle: a.platformDelete},
		{method: "GET", path: "/platform/hooks/web/:id/logs", status: http.StatusOK, handle: a.platformLogs, params: []string{"page", "per_page"}},
	}
	for i := range routes {
		routes[i].allowedRoles = adminToken
		if routes[i].method == http.MethodGet {
			routes[i].allowedRoles = readToken
		}
	}
	return routes
}

// platformField is a field of a webhook there, and what it stands for here.
type platformField struct {
	// name is the platform's.
	name string
	// setting is the name of the setting of /v1, or of a part of one. "" means that the field is none by itself.
	setting string
	// show returns its value in answers. Nil means that of the setting.
	show func(*engine.Webhook) any
}

// platformFields are the fields that a caller can give, in the order of answers. What asks for a token stays hidden: use_oauth says that it
// is set.
var platformFields = []platformField{
	{name: "url", setting: "url"},
	{name: "public_id", setting: "content_id"},
	{name: "name", setting: "name"},
	{name: "is_active", setting: "active"},
	{name: "delay", setting: "delay"},
	{name: "send_leads", setting: "send_leads"},
	{name: "send_answers", setting: "send_answers"},
	{name: "account_wide", show: func(w *engine.Webhook) any { return w.ContentID == nil }},
	{name: "incomplete_send", setting: "send_incomplete"},
	{name: "incomplete_delay", setting: "incomplete_delay"},
	{name: "use_oauth", show: func(w *engine.Webhook) any { return w.OAuth2 != nil }},
	{name: "oauth_login_endpoint", setting: "oauth2.token_url", show: showNull},
	{name: "oauth_request_body", setting: "oauth2.body", show: showNull},
	{name: "oauth_request_headers", setting: "oauth2.headers", show: showNull},
}

func showNull(*engine.Webhook) any { return nil }

// value returns what answers show.
func (f *platformField) value(w *engine.Webhook) any {
	if f.show != nil {
		return f.show(w)
	}
	return engine.SettingNamed(f.setting).Get(w)
}

// isFlag tells whether the field is true or false, in any form in which events may have it.
func (f *platformField) isFlag() bool {
	_, ok := f.value(&engine.Webhook{}).(bool)
	return ok
}

// isWhole tells whether the field is a whole number.
func (f *platformField) isWhole() bool {
	_, ok := f.value(&engine.Webhook{}).(int64)
	return ok
}

// platformHook is a webhook as the platform shows it.
type platformHook = jsonobject.Object

func showPlatformHook(w *engine.Webhook) platformHook {
	var shown platformHook
	shown.Add("id", w.ID)
	for i := range platformFields {
		shown.Add(platformFields[i].name, platformFields[i].value(w))
	}
	shown.Add("created_at", engine.FormatTime(w.CreatedAt))
	shown.Add("updated_at", engine.FormatTime(w.UpdatedAt))
	return shown
}

// showPlatformCreated shows a new webhook, with what signs its deliveries: the one thing that the platform does not have.
func showPlatformCreated(w *engine.Webhook) platformHook {
	shown := showPlatformHook(w)
	shown.Add("secret", string(w.Secret))
	return shown
}

// platformPage is a page as Laravel's paginator shows it.
type platformPage[T any] struct {
	Data        []T   `json:"data"`
	CurrentPage int   `json:"current_page"`
	PerPage     int   `json:"per_page"`
	LastPage    int   `json:"last_page"`
	Total       int64 `json:"total"`
}

const (
	platformPerPage    = 15 // Laravel's default
	platformMaxPerPage = 100
	platformMaxPage    = 1 << 24 // times the most entries it fits in 32 bits
)

// paging reads page and per_page.
func (q *query) paging() (page, perPage int) {
	number := func(name string, otherwise, most int) int {
		if q.values.Get(name) == "" {
			return otherwise
		}
		n, err := strconv.Atoi(q.values.Get(name))
		if err != nil || n < 1 || n > most {
			q.refuse(name, "must be 1 to %d (got %q)", most, engine.Excerpt(q.values.Get(name)))
		}
		return n
	}
	return number("page", 1, platformMaxPage), number("per_page", platformPerPage, platformMaxPerPage)
}

func newPlatformPage[T any](page, perPage int, total int64) platformPage[T] {
	last := max(1, (total+int64(perPage)-1)/int64(perPage))
	return platformPage[T]{Data: []T{}, CurrentPage: page, PerPage: perPage, LastPage: int(last), Total: total}
}

// platformProfile names the one organization that there is: tools ask for its id and send it along.
func (a *API) platformProfile(*http.Request, httprouter.Params) (any, error) {
	type organization struct {
		ID   int    `json:"id"`
		Name string `json:"name"`
	}
	return struct {
		ID            int            `json:"id"`
		Name          string         `json:"name"`
		Organizations []organization `json:"organizations"`
	}{1, "hookbolt", []organization{{1, "hookbolt"}}}, nil
}

func (a *API) platformList(r *http.Request, _ httprouter.Params) (any, error) {
	q := queryOf(r)
	page, perPage := q.paging()
	var contentID uuid.UUID
	if q.values.Get("public_id") != "" {
		contentID = q.uuid("public_id")
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	var chosen []*engine.Webhook
	for _, w := range a.engine.Webhooks() {
		if !w.Operations && (contentID == uuid.Nil || w.ContentID != nil && *w.ContentID == contentID) {
			chosen = append(chosen, w)
		}
	}
	answer := newPlatformPage[platformHook](page, perPage, int64(len(chosen)))
	from := min((page-1)*perPage, len(chosen))
	for _, w := range chosen[from:min(from+perPage, len(chosen))] {
		answer.Data = append(answer.Data, showPlatformHook(w))
	}
	return answer, nil
}

// platformWebhook finds the webhook that the path names. That of operational events is none of the platform's.
func (a *API) platformWebhook(ps httprouter.Params) (engine.Webhook, error) {
	id, err := webhookID(ps)
	if err != nil {
		return engine.Webhook{}, err
	}
	w, err := a.engine.Webhook(id)
	if err == nil && w.Operations {
		err = fmt.Errorf("webhook %d: %w", id, engine.ErrNotFound)
	}
	return w, err
}

func (a *API) platformGet(_ *http.Request, ps httprouter.Params) (any, error) {
	w, err := a.platformWebhook(ps)
	if err != nil {
		return nil, err
	}
	return showPlatformHook(&w), nil
}

func (a *API) platformCreate(r *http.Request, _ httprouter.Params) (any, error) {
	patch, err := a.readPlatformHook(r, nil)
	if err != nil {
		return nil, err
	}
	w, err := a.engine.CreateWebhook(r.Context(), patch)
	if err != nil {
		return nil, platformErrors(err)
	}
	audit.Record(r.Context(), w.ID, patch.Changes(new(engine.DefaultWebhook())))
	return showPlatformCreated(&w), nil
}

// platformUpdate changes what the body has, and nothing else.
func (a *API) platformUpdate(r *http.Request, ps httprouter.Params) (any, error) {
	present, err := a.platformWebhook(ps)
	if err != nil {
		return nil, err
	}
	patch, err := a.readPlatformHook(r, &present)
	if err != nil {
		return nil, err
	}
	audit.Record(r.Context(), present.ID, patch.Changes(&present))
	// Part of what was read is part of what is written: of two at once the second is told so.
	w, err := a.engine.UpdateWebhook(r.Context(), present.ID, patch.IfRevision(present.Revision))
	if err != nil {
		return nil, platformErrors(err)
	}
	shown := showPlatformHook(&w.Webhook)
	if len(w.Dropped) > 0 { // a field that the platform does not have
		shown.Add("dropped", platformPaths(w.Dropped))
	}
	return shown, nil
}

// platformPaths names what was dropped as the platform does, as far as it knows it.
func platformPaths(dropped []string) []string {
	named := append([]string{}, dropped...)
	for i := range named {
		if named[i] == "oauth2" {
			named[i] = "use_oauth"
		}
	}
	return named
}

func (a *API) platformDelete(r *http.Request, ps httprouter.Params) (any, error) {
	w, err := a.platformWebhook(ps)
	if err != nil {
		return nil, err
	}
	if err := a.engine.DeleteWebhook(r.Context(), w.ID); err != nil {
		return nil, err
	}
	return struct {
		Message string `json:"message"`
	}{"deleted"}, nil
}

// platformLog is a delivery as an entry of a webhook's log.
type platformLog struct {
	ID              uuid.UUID          `json:"id"`
	HookID          uint32             `json:"hook_id"`
	SessionID       *uuid.UUID         `json:"session_id"`       // null for a test
	CompleteSession *bool              `json:"complete_session"` // null for a test
	Status          engine.Status      `json:"status"`
	StatusCode      *int               `json:"status_code"` // of the last answer
	Error           *engine.ErrorClass `json:"error"`
	Attempts        int                `json:"attempts"`
	CreatedAt       string             `json:"created_at"`
	FinishedAt      *string            `json:"finished_at"`
}

func showPlatformLog(d *engine.Delivery) platformLog {
	log := platformLog{ID: d.ID, HookID: d.WebhookID, SessionID: orNull(d.SessionID), Status: d.Status, StatusCode: orNull(d.LastStatus),
		Error: orNull(d.LastError), Attempts: d.Attempts, CreatedAt: engine.FormatTime(d.CreatedAt)}
	if d.Kind.OfSession() {
		log.CompleteSession = new(d.Kind != engine.KindIncomplete)
	}
	if !d.FinishedAt.IsZero() {
		log.FinishedAt = new(engine.FormatTime(d.FinishedAt))
	}
	return log
}

// platformLogs lists a webhook's deliveries, newest first. The list has cursors and no page numbers, so a page deep in it takes a walk.
func (a *API) platformLogs(r *http.Request, ps httprouter.Params) (any, error) {
	w, err := a.platformWebhook(ps)
	if err != nil {
		return nil, err
	}
	q := queryOf(r)
	page, perPage := q.paging()
	if err := q.err(); err != nil {
		return nil, err
	}
	overview, err := a.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	s := overview.PerWebhook[w.ID]
	answer := newPlatformPage[platformLog](page, perPage, s.Scheduled+s.Pending+s.Delivered+s.Failed+s.Cancelled)
	ask := engine.DeliveryQuery{WebhookID: w.ID, Limit: maxLimit}
	for skip := (page - 1) * perPage; page <= answer.LastPage; {
		found, err := a.engine.Deliveries(r.Context(), ask)
		if err != nil {
			return nil, err
		}
		for i := range found.Items {
			if skip--; skip < 0 && len(answer.Data) < perPage {
				answer.Data = append(answer.Data, showPlatformLog(&found.Items[i]))
			}
		}
		if ask.Cursor = found.NextCursor; ask.Cursor == "" || len(answer.Data) == perPage {
			break
		}
	}
	return answer, nil
}

// readPlatformHook reads the body of a creation, or of a change of a webhook. Fields that the platform has and hookbolt has not are passed
// over, as the platform passes over what it does not know: tools may send more than they need.
func (a *API) readPlatformHook(r *http.Request, present *engine.Webhook) (engine.WebhookPatch, error) {
	body, err := a.readBody(r, maxSettings)
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &given); err != nil || given == nil {
		return engine.WebhookPatch{}, engine.InputErrors{{Detail: "the body must be a JSON object"}}
	}
	// A null says nothing: it must not switch a webhook on, or send leads, because that is the default. An empty text is a null, too: Laravel
	// turns it into one before the platform sees it.
	maps.DeleteFunc(given, func(_ string, value json.RawMessage) bool {
		var text *string // nil for a null
		return json.Unmarshal(value, &text) == nil && (text == nil || *text == "")
	})
	settings, bad, err := platformSettings(given, present)
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	text, _, err := encode(settings)
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	patch, err := engine.ParseWebhookPatch(text)
	more, ok := errors.AsType[engine.InputErrors](err)
	if err != nil && !ok {
		return engine.WebhookPatch{}, err
	}
	if bad = append(bad, more...); len(bad) > 0 {
		return engine.WebhookPatch{}, platformErrors(bad)
	}
	return patch, nil
}

// platformSettings turns what was given into the settings of /v1, as far as it is not bad.
func platformSettings(given map[string]json.RawMessage, present *engine.Webhook) (settings map[string]json.RawMessage, bad engine.InputErrors, err error) {
	settings = make(map[string]json.RawMessage)
	flags := make(map[string]bool) // those that are there
	for i := range platformFields {
		f := &platformFields[i]
		value, ok := given[f.name]
		if !ok {
			continue
		}
		if f.isFlag() {
			flag, ok := engine.ReadBool(value)
			if !ok {
				bad = append(bad, engine.InputError{Field: f.name, Detail: fmt.Sprintf("must be true or false, 1 or 0, on or off (got %s)", engine.Excerpt(string(value)))})
				continue
			}
			flags[f.name], value = flag, json.RawMessage(strconv.FormatBool(flag))
		}
		if f.isWhole() {
			value = wholeNumber(value)
		}
		if f.setting != "" && !strings.Contains(f.setting, ".") {
			settings[f.setting] = value
		}
	}

	// False says nothing by itself: it is the platform's default, and tools send all fields. Whether a webhook is for one content is said by
	// public_id.
	if flags["account_wide"] {
		settings["content_id"] = json.RawMessage("null")
	}

	if lacking := lackingOAuth(given, present); len(lacking) > 0 {
		return settings, append(bad, lacking...), nil
	}
	oauth, err := platformOAuth(given, flags, present)
	if oauth != nil {
		settings["oauth2"] = oauth
	}
	return settings, bad, err
}

// oauthParts are the fields of OAuth, and the parts of the setting oauth2 that they stand for.
var oauthParts = []struct{ field, part string }{
	{"oauth_login_endpoint", "token_url"}, {"oauth_request_body", "body"}, {"oauth_request_headers", "headers"},
}

// lackingOAuth refuses a change that would send credentials to another host than they were given for. What is not given stays as it is,
// but not where the webhook or its token endpoint moves: then all parts that are set have to be given again, if any is.
func lackingOAuth(given map[string]json.RawMessage, present *engine.Webhook) (bad engine.InputErrors) {
	if present == nil || present.OAuth2 == nil {
		return nil
	}
	moves := func(field, before string) bool {
		var after string
		return given[field] != nil && json.Unmarshal(given[field], &after) == nil && !engine.SameHost(before, after)
	}
	if !moves("url", present.URL) && !moves("oauth_login_endpoint", string(present.OAuth2.TokenURL)) {
		return nil
	}
	isSet := map[string]bool{"token_url": true, "body": true, "headers": len(present.OAuth2.Headers) > 0}
	anyGiven := false
	for _, p := range oauthParts {
		if given[p.field] != nil {
			anyGiven = true
		} else if isSet[p.part] {
			bad = append(bad, engine.InputError{Field: p.field, Detail: "must be given again: what is set is for another host"})
		}
	}
	if !anyGiven {
		return nil // the engine removes all of it, and says so
	}
	return bad
}

// platformOAuth returns the setting oauth2, nil for no change. What is not given stays as it is.
func platformOAuth(given map[string]json.RawMessage, flags map[string]bool, present *engine.Webhook) (json.RawMessage, error) {
	use, said := flags["use_oauth"]
	if said && !use {
		return json.RawMessage("null"), nil
	}
	oauth := make(map[string]json.RawMessage)
	if present != nil && present.OAuth2 != nil {
		oauth = engine.OAuth2Setting(present.OAuth2)
	}
	changed := said && use && len(oauth) == 0
	for _, p := range oauthParts {
		key := p.part
		value, ok := given[p.field]
		if !ok {
			continue
		}
		if value[0] == '[' && string(bytes.Join(bytes.Fields(value), nil)) == "[]" {
			value = json.RawMessage("{}") // PHP's empty object
		}
		oauth[key], changed = value, true
		if key == "body" { // in place of the standard form
			delete(oauth, "client_id")
			delete(oauth, "client_secret")
			delete(oauth, "scopes")
			delete(oauth, "auth_style")
		}
	}
	if !changed || !said && (present == nil || present.OAuth2 == nil) {
		return nil, nil // what is given for later use is not kept
	}
	if oauth["body"] == nil && oauth["client_id"] == nil {
		oauth["body"] = json.RawMessage(`{"grant_type":"client_credentials"}`)
	}
	text, _, err := encode(oauth)
	return text, err
}

// wholeNumber lets a number come in any form in which events may have it, such as text. Text may begin with zeros, as some forms write numbers:
// here it is no id.
func wholeNumber(value json.RawMessage) json.RawMessage {
	given := value
	if zeros := bytes.TrimLeft(value[1:], "0"); value[0] == '"' && len(zeros) < len(value)-1 {
		if zeros[0] < '0' || zeros[0] > '9' { // nothing but zeros
			zeros = append([]byte("0"), zeros...)
		}
		given = append([]byte(`"`), zeros...)
	}
	if n, ok := engine.ReadInteger(given); ok {
		return strconv.AppendInt(nil, n, 10)
	}
	return value
}

// platformErrors names fields as the platform does.
func platformErrors(err error) error {
	bad, ok := errors.AsType[engine.InputErrors](err)
	if !ok {
		return err
	}
	named := slices.Clone(bad)
	for i := range named {
		for _, f := range platformFields {
			if f.setting != "" && (named[i].Field == f.setting || strings.HasPrefix(named[i].Field, f.setting+".")) {
				named[i].Field = f.name + strings.TrimPrefix(named[i].Field, f.setting)
				break
			}
		}
	}
	return named
}

// platformProblem is an error as Laravel answers it.
type platformProblem struct {
	Message string              `json:"message"`
	Errors  map[string][]string `json:"errors,omitempty"`
}

// showPlatformProblem returns an error's body and status: bad input is 422 there.
func showPlatformProblem(p *problem) (platformProblem, int) {
	shown, status := platformProblem{Message: p.Detail}, p.Status
	for _, e := range p.Errors {
		if shown.Errors == nil {
			shown.Errors = make(map[string][]string)
		}
		shown.Errors[e.Field] = append(shown.Errors[e.Field], e.Detail)
	}
	if shown.Errors != nil && status == http.StatusBadRequest {
		status = http.StatusUnprocessableEntity
	}
	return shown, status
}
