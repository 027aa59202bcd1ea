package ui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
	"hookbolt/httpapi/jsonobject"
)

// The form of a webhook has a preview beside it: what its settings would send, before they are saved. The button "Preview" sends the form, and
// the answer is the form with its preview. The script sends it while somebody types, and takes over from the answer what has data-preview.

// formPreview is the preview beside the form of a webhook.
type formPreview struct {
	// Action is where the form is sent to for it.
	Action string
	// Choices are the sessions to choose from, the samples first.
	Choices []previewChoice
	// Sent is nil before the form was sent.
	Sent *sentView
	// session is the chosen one; see previewName.
	session string
	// Error says why there is nothing to show; "" if there is.
	Error string
}

// previewChoice is a session, or a sample.
type previewChoice struct {
	ID, Value, Text string
	Selected        bool
}

const (
	// previewName is the name of the input with the session.
	previewName = "preview_session"
	// incompleteSample is its value for the sample of an incomplete session; "" is that of a complete one.
	incompleteSample = "incomplete"
	// recentSessions is how many sessions there are to choose from.
	recentSessions = 10
)

// previewNew shows the form for a new webhook again, with its preview.
func (p *Pages) previewNew(r *http.Request, _ httprouter.Params) (*Answer, error) {
	return p.previewForm(r, new(engine.DefaultWebhook()))
}

// previewEdit is previewNew for a webhook that exists.
func (p *Pages) previewEdit(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	return p.previewForm(r, &w)
}

func (p *Pages) previewForm(r *http.Request, w *engine.Webhook) (*Answer, error) {
	f, err := p.fillForm(r, w)
	if err != nil {
		return nil, err
	}
	f.Previewed = true
	if f.Preview.Sent, err = p.previewSent(r.Context(), f); err != nil {
		return nil, err
	}
	return p.showForm(r.Context(), f, http.StatusOK)
}

// previewed reads the settings of the form as far as they are right, and notes beside the inputs what is wrong. ok tells that this has no effect on
// the body: then a URL, or the like, is left out.
func (f *webhookForm) previewed() (settings jsonobject.Object, patch engine.WebhookPatch, ok bool) {
	if settings = f.settings(); f.trimmed("url") == "" {
		settings = without(settings, "url")
	}
	patch, bad := parseSettings(settings)
	f.refuse(bad)
	ok = true
	for _, e := range bad {
		name := e.Field
		if end := strings.IndexAny(name, ".["); end >= 0 {
			name = name[:end]
		}
		row := engine.SettingNamed(name)
		ok = ok && row != nil && row.Effect != engine.EffectPayload
		settings = without(settings, name)
	}
	if bad != nil {
		patch, bad = parseSettings(settings)
		ok = ok && bad == nil
	}
	return settings, patch, ok
}

// payloadOnly returns those of the settings that shape the payload, and takes those back that shape a body of it.
func payloadOnly(settings jsonobject.Object) engine.WebhookPatch {
	var o jsonobject.Object
	for _, m := range settings {
		if slices.Contains([]string{"content_id", "send_answers", "send_leads"}, m.Name) {
			o = append(o, m)
		}
	}
	for _, name := range []string{"filter", "transform", "url_values", "content_type"} {
		o.Add(name, nil)
	}
	patch, _ := parseSettings(o) // what was wrong is not among them
	return patch
}

func without(o jsonobject.Object, name string) jsonobject.Object {
	return slices.DeleteFunc(slices.Clone(o), func(m jsonobject.Member) bool { return m.Name == name })
}

// parseSettings has the engine read settings.
func parseSettings(o jsonobject.Object) (engine.WebhookPatch, engine.InputErrors) {
	body, err := o.MarshalJSON()
	if err != nil {
		return engine.WebhookPatch{}, engine.InputErrors{{Detail: err.Error()}}
	}
	patch, err := engine.ParseWebhookPatch(body)
	bad, _ := errors.AsType[engine.InputErrors](err)
	return patch, bad
}

// previewSent asks the engine. It returns nil if there is nothing to show, and the reason is noted.
func (p *Pages) previewSent(ctx context.Context, f *webhookForm) (*sentView, error) {
	ask := engine.PreviewRequest{WebhookID: f.ID, Incomplete: f.Preview.session == incompleteSample}
	if !ask.Incomplete && f.Preview.session != "" {
		var err error
		if ask.SessionID, err = engine.ParseUUID(f.Preview.session); err != nil {
			f.Preview.Error = "The session " + err.Error() + "."
			return nil, nil
		}
	}
	settings, patch, ok := f.previewed()
	var built engine.Preview
	var err error
	if ask.Settings = patch; ok {
		built, err = p.engine.Preview(ctx, ask)
	}
	if bad, isInput := errors.AsType[engine.InputErrors](err); isInput {
		for i := range bad {
			bad[i].Field = strings.TrimPrefix(strings.TrimPrefix(bad[i].Field, "settings"), ".")
		}
		f.refuse(bad)
		ok = false
	}
	if !ok {
		ask.Settings = payloadOnly(settings)
		built, err = p.engine.Preview(ctx, ask)
	}
	switch {
	case errors.Is(err, engine.ErrConflict):
		f.Preview.Error = conflictReason(err)
		return nil, nil
	case errors.Is(err, engine.ErrNotFound) && ask.SessionID != uuid.Nil:
		f.Preview.Error = "There is no such session any more. Choose another one."
		return nil, nil
	case err != nil:
		return nil, err
	case built.Error != nil:
		f.refuse(engine.InputErrors{*built.Error})
	}
	return f.viewSent(&built, ok), nil
}

// viewSent is viewSent with what the form knows. ok tells that all settings that shape a body are right.
func (f *webhookForm) viewSent(built *engine.Preview, ok bool) *sentView {
	if !ok {
		wrong := f.Top
		for _, i := range f.Bad() {
			wrong = append(wrong, i.Label+" "+i.Error)
		}
		built.Passes = false
		v := viewSent(built)
		v.Class, v.Status = "bad", "Nothing would be sent: "+sentenceEnd(strings.Join(wrong, "; "))
		return v
	}
	v := viewSent(built)
	switch in := f.input("url"); { // of a webhook that exists, it would be the one that is stored
	case in == nil:
	case in.Error != "":
		v.URL = "(the URL " + in.Error + ")"
	case strings.TrimSpace(in.Value) == "":
		v.URL = ""
	}
	return v
}

// choices lists the sessions that the form's webhook would get: the newest ones, and the chosen one.
func (p *Pages) choices(ctx context.Context, f *webhookForm) ([]previewChoice, error) {
	chosen := f.Preview.session
	list := []previewChoice{{ID: "sample", Text: "A sample: complete session"}, {ID: "sample-incomplete", Value: incompleteSample, Text: "A sample: not finished"}}
	ask := engine.SessionQuery{Limit: recentSessions}
	switch content := f.input("content_id"); {
	case f.present.Operations:
		list = []previewChoice{{ID: "sample", Text: "A sample: a test event"}}
		ask.Limit = 0
	case content != nil && strings.TrimSpace(content.Value) != "":
		ask.ContentID, _ = engine.ParseUUID(strings.TrimSpace(content.Value)) // of a wrong one the form says so
	}
	if ask.Limit > 0 {
		page, err := p.engine.Sessions(ctx, ask)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Items {
			state := "complete"
			if s.FinishedAt.IsZero() {
				state = "not finished"
			}
			id := s.ID.String()
			list = append(list, previewChoice{ID: "session-" + id, Value: id, Text: s.FirstReceivedAt.UTC().Format("2006-01-02 15:04:05") + ", " + state + ", " + id[:8] + "…"})
		}
	}
	i := slices.IndexFunc(list, func(c previewChoice) bool { return c.Value == chosen })
	if i < 0 {
		list = append(list, previewChoice{ID: "session-chosen", Value: chosen, Text: chosen})
		i = len(list) - 1
	}
	list[i].Selected = true
	return list, nil
}
