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
	}
	return routes
}

// platformHook is a webhook as the platform shows it. What asks for a token stays hidden: use_oauth says that it is set.
type platformHook struct {
	ID                  uint32     `json:"id"`
	URL                 string     `json:"url"`
	PublicID            *uuid.UUID `json:"public_id"`
	Name                string     `json:"name"`
	IsActive            bool       `json:"is_active"`
	Delay               int64      `json:"delay"`
	SendLeads           bool       `json:"send_leads"`
	SendAnswers         bool       `json:"send_answers"`
	AccountWide         bool       `json:"account_wide"`
	IncompleteSend      bool       `json:"incomplete_send"`
	IncompleteDelay     int64      `json:"incomplete_delay"`
	UseOAuth            bool       `json:"use_oauth"`
	OAuthLoginEndpoint  *string    `json:"oauth_login_endpoint"`
	OAuthRequestBody    any        `json:"oauth_request_body"`
	OAuthRequestHeaders any        `json:"oauth_request_headers"`
	CreatedAt           string     `json:"created_at"`
	UpdatedAt           string     `json:"updated_at"`
}

func showPlatformHook(w *engine.Webhook) platformHook {
	return platformHook{
		ID: w.ID, URL: w.URL, PublicID: w.ContentID, Name: w.Name, IsActive: w.Active, Delay: w.Delay, SendLeads: w.SendLeads, SendAnswers: w.SendAnswers,
		AccountWide: w.ContentID == nil, IncompleteSend: w.SendIncomplete, IncompleteDelay: w.IncompleteDelay, UseOAuth: w.OAuth2 != nil,
		CreatedAt: engine.FormatTime(w.CreatedAt), UpdatedAt: engine.FormatTime(w.UpdatedAt),
	}
}

// platformCreated is a new webhook, with what signs its deliveries: the one thing that the platform does not have.
type platformCreated struct {
	platformHook
	Secret string `json:"secret"`
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
	return platformCreated{showPlatformHook(&w), string(w.Secret)}, nil
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
	// Part of what was read is part of what is written: of two at once the second is told so.
	w, err := a.engine.UpdateWebhook(r.Context(), present.ID, patch.IfRevision(present.Revision))
	if err != nil {
		return nil, platformErrors(err)
	}
	return showPlatformHook(&w), nil
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
		log.CompleteSession = new(d.Kind == engine.KindComplete)
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
	return slowResponse(func() (any, error) {
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
	}), nil
}

// platformFields are the settings that are there under another name, or the same, by the platform's names.
var platformFields = map[string]string{
	"url": "url", "public_id": "content_id", "name": "name", "is_active": "active", "delay": "delay", "send_leads": "send_leads", "send_answers": "send_answers",
	"incomplete_send": "send_incomplete", "incomplete_delay": "incomplete_delay",
	"oauth_login_endpoint": "oauth2.token_url", "oauth_request_body": "oauth2.body", "oauth_request_headers": "oauth2.headers",
}

// platformFlags are those that may be 0 and 1, as numbers or as text.
var platformFlags = []string{"is_active", "send_leads", "send_answers", "account_wide", "incomplete_send", "use_oauth"}

// readPlatformHook reads the body of a creation, or of a change of a webhook. Fields that the platform has and hookbolt has not are passed
// over, as the platform passes over what it does not know: tools may send more than they need.
func (a *API) readPlatformHook(r *http.Request, present *engine.Webhook) (engine.WebhookPatch, error) {
	body, err := a.readBody(r)
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(body, &given); err != nil || given == nil {
		return engine.WebhookPatch{}, engine.InputErrors{{Detail: "the body must be a JSON object"}}
	}
	// A null says nothing: it must not switch a webhook on, or send leads, because that is the default.
	maps.DeleteFunc(given, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	settings, err := platformSettings(given, present)
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	text, _, err := encode(settings)
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	patch, err := engine.ParseWebhookPatch(text)
	return patch, platformErrors(err)
}

// platformSettings turns what was given into the settings of /v1.
func platformSettings(given map[string]json.RawMessage, present *engine.Webhook) (map[string]json.RawMessage, error) {
	settings := make(map[string]json.RawMessage)
	flags := make(map[string]bool) // those that are there
	for _, name := range platformFlags {
		value, ok := given[name]
		if !ok {
			continue
		}
		switch string(bytes.Trim(value, `"`)) {
		case "true", "1":
			flags[name] = true
		case "false", "0":
			flags[name] = false
		default:
			return nil, engine.InputErrors{{Field: name, Detail: fmt.Sprintf("must be true or false, 1 or 0 (got %s)", engine.Excerpt(string(value)))}}
		}
	}
	for name, setting := range platformFields {
		value, ok := given[name]
		if flag, isFlag := flags[name]; isFlag {
			value = json.RawMessage(strconv.FormatBool(flag))
		}
		if ok && !strings.Contains(setting, ".") {
			settings[setting] = wholeNumber(name, value)
		}
	}

	wide, said := flags["account_wide"]
	_, named := settings["content_id"]
	switch {
	case said && wide:
		settings["content_id"] = json.RawMessage("null")
	case said && !named && (present == nil || present.ContentID == nil):
		return nil, engine.InputErrors{{Field: "public_id", Detail: "is required where account_wide is false: the content that the webhook is for"}}
	}

	oauth, err := platformOAuth(given, flags, present)
	if oauth != nil {
		settings["oauth2"] = oauth
	}
	return settings, err
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
	for name, key := range map[string]string{"oauth_login_endpoint": "token_url", "oauth_request_body": "body", "oauth_request_headers": "headers"} {
		value, ok := given[name]
		if !ok || string(value) == `""` {
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

// wholeNumber lets a span come as text, as forms send it.
func wholeNumber(name string, value json.RawMessage) json.RawMessage {
	if digits := bytes.Trim(value, `"`); strings.HasSuffix(name, "delay") && len(digits) > 0 && !bytes.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
		return append(bytes.TrimLeft(digits[:len(digits)-1], "0"), digits[len(digits)-1]) // JSON has no leading zeros
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
		for _, name := range slices.Sorted(maps.Keys(platformFields)) {
			setting := platformFields[name]
			if named[i].Field == setting || strings.HasPrefix(named[i].Field, setting+".") {
				named[i].Field = name + strings.TrimPrefix(named[i].Field, setting)
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
