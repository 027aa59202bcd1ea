package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
	"hookbolt/httpapi/audit"
)

func (p *Pages) webhookFormRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/new-webhook", Handle: p.newWebhook},
		{Method: "POST", Path: "/new-webhook", Handle: p.previewNew, ChangesNone: true},
		{Method: "POST", Path: "/webhooks", Handle: p.createWebhook},
		{Method: "GET", Path: "/webhooks/:id/edit", Handle: p.editWebhook},
		{Method: "POST", Path: "/webhooks/:id/edit", Handle: p.previewEdit, ChangesNone: true},
		{Method: "POST", Path: "/webhooks/:id", Handle: p.saveWebhook},
		{Method: "GET", Path: "/webhooks/:id/secret", Handle: p.secretPage},
		{Method: "POST", Path: "/webhooks/:id/secret", Handle: p.showSecret},
	}
}

// webhookForm is the form that creates or edits a webhook. Its inputs go into the engine as one JSON object, so that the page has no
// rules of its own.
type webhookForm struct {
	// ID is that of the webhook; 0 for a new one. Revision is the one that it was opened at.
	ID       uint32
	Revision uint64
	Main     []group
	Shape    []group
	More     []group
	// Recipe is the recipe that the form was begun with; nil without one.
	Recipe *Recipe
	// Preview is beside the form. Previewed tells that it was asked for.
	Preview   formPreview
	Previewed bool
	// Top is what was wrong with no input in particular. Conflict tells that the webhook was changed meanwhile.
	Top      []string
	Conflict bool

	present *engine.Webhook
	values  url.Values // what was sent; nil when the form is opened
	// moved tells that the URL that was sent is on another host: what is set of credentials is not for it.
	moved bool
}

// newForm makes the form with what a webhook is set to.
func (p *Pages) newForm(w *engine.Webhook) *webhookForm {
	c := p.engine.Config()
	f := &webhookForm{ID: w.ID, Revision: w.Revision, Main: groups(w, c, mainPart), Shape: groups(w, c, shapePart), More: groups(w, c, morePart), present: w}
	f.Preview.Action = "/new-webhook"
	if w.ID != 0 {
		f.Preview.Action = fmt.Sprintf("/webhooks/%d/edit", w.ID)
	}
	return f
}

// inputs are those of all groups.
func (f *webhookForm) inputs(do func(*input)) {
	for _, part := range [][]group{f.Main, f.Shape, f.More} {
		for g := range part {
			for i := range part[g].Inputs {
				do(&part[g].Inputs[i])
			}
		}
	}
}

// fill puts in what was sent.
func (f *webhookForm) fill(values url.Values) {
	f.values = values
	f.setRecipe(recipeNamed(values.Get("recipe")))
	f.Preview.session = f.trimmed(previewName)
	f.moved = f.ID != 0 && !engine.SameHost(f.present.URL, f.trimmed("url"))
	if allow := values.Get("allow"); allow != "" { // ticked beside an address that was refused
		values.Set("allow_networks", strings.TrimSpace(values.Get("allow_networks")+"\n"+allow))
		values.Del("allow")
	}
	f.inputs(func(i *input) {
		value := values.Get(i.Name)
		switch {
		case !utf8.ValidString(value):
			i.Error = "is not valid UTF-8"
		case i.Kind == checkInput:
			i.Checked = values.Has(i.Name)
		case !i.Hidden:
			i.Value = value
		}
	})
}

// fail notes what is wrong beside the input of that path, or of what it is a part of.
func (f *webhookForm) fail(path, detail string) {
	at := f.input(path)
	name := path
	for at == nil && name != "" {
		name = name[:max(strings.LastIndexAny(name, ".["), 0)]
		at = f.input(name)
	}
	if at == nil {
		if path != "" {
			detail = path + ": " + detail
		}
		f.Top = append(f.Top, detail)
		return
	}
	switch rest := path[len(name):]; {
	case strings.HasPrefix(rest, "["):
		if n, err := strconv.Atoi(strings.Trim(rest, "[]")); err == nil {
			detail = "entry " + strconv.Itoa(n+1) + ": " + detail
		}
	case strings.HasPrefix(rest, "."):
		detail = rest[1:] + ": " + detail
	}
	if at.Error == "" {
		at.Error = detail
	}
}

// input returns the input of that name; nil if there is none. A setting that has inputs for its parts only is named by the first of them.
func (f *webhookForm) input(name string) *input {
	var found, part *input
	f.inputs(func(i *input) {
		if i.Name == name {
			found = i
		}
		if part == nil && strings.HasPrefix(i.Name, name+".") {
			part = i
		}
	})
	if found == nil {
		return part
	}
	return found
}

// errRefused is returned for a form whose inputs have their errors noted beside them.
var errRefused = errors.New("the form was refused")

// refuse notes the errors of an InputErrors.
func (f *webhookForm) refuse(bad engine.InputErrors) {
	for _, e := range bad {
		detail := e.Detail
		if e.Line > 0 {
			detail = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, detail)
		}
		f.fail(e.Field, detail)
		i := f.input(e.Field)
		if i == nil || i.Error != detail {
			continue
		}
		i.Caret = caret(i.Value, e.Line, e.Column)
		if e.Allow.IsValid() {
			i.Allow = e.Allow.String()
		}
	}
}

// Bad lists the inputs that have to be looked at, in their order.
func (f *webhookForm) Bad() (bad []input) {
	f.inputs(func(i *input) {
		if i.Error != "" {
			bad = append(bad, *i)
		}
	})
	return bad
}

// MoreOpen tells whether the settings that most do without are to be seen at once: something in them is wrong, may have to be changed,
// or is set.
func (f *webhookForm) MoreOpen() bool {
	open := isUsed(f.More)
	f.inputs(func(i *input) { open = open || i.Allow != "" })
	return open
}

// ShapeOpen is MoreOpen for the settings that shape what is sent.
func (f *webhookForm) ShapeOpen() bool { return isUsed(f.Shape) }

// isUsed tells whether some input of the groups has a value, or something wrong.
func isUsed(groups []group) bool {
	return slices.ContainsFunc(groups, func(g group) bool {
		return slices.ContainsFunc(g.Inputs, func(i input) bool { return i.Error != "" || i.Value != "" || i.Set })
	})
}

// newWebhook shows the form for a new webhook, as a recipe has it if one is asked for.
func (p *Pages) newWebhook(r *http.Request, _ httprouter.Params) (*Answer, error) {
	f, err := p.beginForm(r.URL.Query().Get("recipe"))
	if err != nil {
		return nil, err
	}
	f.open(r)
	return p.showForm(r.Context(), f, http.StatusOK)
}

// createWebhook answers it.
func (p *Pages) createWebhook(r *http.Request, _ httprouter.Params) (*Answer, error) {
	f, patch, err := p.readForm(r, new(engine.DefaultWebhook()))
	if err != nil {
		return p.refuseForm(r.Context(), f, err)
	}
	return p.once(r, f.values, onceForm{
		do: func(o *engine.Once) (*Answer, error) {
			w, err := p.engine.CreateWebhook(r.Context(), patch.Once(o))
			if err != nil {
				return p.refuseForm(r.Context(), f, err)
			}
			audit.Record(r.Context(), w.ID, patch.Changes(new(engine.DefaultWebhook())))
			return toSecret(w.ID, "created"), nil
		},
		again: func(done *engine.Done) *Answer { return toSecret(done.WebhookID, "created") },
	})
}

// editWebhook shows the form with what a webhook is set to.
func (p *Pages) editWebhook(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	f := p.newForm(&w)
	f.open(r)
	return p.showForm(r.Context(), f, http.StatusOK)
}

// open chooses the session of the preview that a link names.
func (f *webhookForm) open(r *http.Request) {
	f.Preview.session = strings.TrimSpace(r.URL.Query().Get("session_id"))
}

// saveWebhook answers it. What is not typed again is taken from the webhook as it is now, so it must not have changed since the form was
// opened.
func (p *Pages) saveWebhook(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	f, patch, err := p.readForm(r, &w)
	if err != nil {
		return p.refuseForm(r.Context(), f, err)
	}
	audit.Record(r.Context(), w.ID, patch.Changes(&w))
	if _, err = p.engine.UpdateWebhook(r.Context(), w.ID, patch.IfRevision(f.Revision)); errors.Is(err, engine.ErrConflict) {
		return p.showConflict(r.Context(), f)
	}
	if err != nil {
		return p.refuseForm(r.Context(), f, err)
	}
	what := "saved"
	if f.moved && (len(w.Headers) > 0 || w.BasicAuth != nil || w.OAuth2 != nil || w.TLS != nil) {
		what = "moved"
	}
	return redirect("/webhooks/%d?done=%s", w.ID, what), nil
}

// readForm reads the form that was sent for a webhook, which is the default one where it is to be created. The form is nil if nothing
// could be read.
func (p *Pages) readForm(r *http.Request, w *engine.Webhook) (*webhookForm, engine.WebhookPatch, error) {
	f, err := p.fillForm(r, w)
	if err != nil {
		return nil, engine.WebhookPatch{}, err
	}
	patch, err := f.patch()
	return f, patch, err
}

// fillForm fills the form for a webhook with what was sent.
func (p *Pages) fillForm(r *http.Request, w *engine.Webhook) (*webhookForm, error) {
	values, err := p.form(r)
	if err != nil {
		return nil, err
	}
	f := p.newForm(w)
	f.fill(values)
	if w.ID != 0 {
		// What is no number is no webhook's revision, as 0 is none.
		f.Revision, _ = strconv.ParseUint(values.Get("revision"), 10, 64)
	}
	return f, nil
}

// refuseForm shows the form again, with what was wrong; other errors are for httpapi.
func (p *Pages) refuseForm(ctx context.Context, f *webhookForm, err error) (*Answer, error) {
	bad, ok := errors.AsType[engine.InputErrors](err)
	if f == nil || !ok && err != errRefused {
		return nil, err
	}
	f.refuse(bad)
	return p.showForm(ctx, f, http.StatusBadRequest)
}

// showConflict shows the form again for the webhook as it is by now: saving once more is meant to be.
func (p *Pages) showConflict(ctx context.Context, f *webhookForm) (*Answer, error) {
	w, err := p.engine.Webhook(f.ID)
	if err != nil {
		return nil, err
	}
	fresh := p.newForm(&w)
	fresh.fill(f.values)
	fresh.Conflict = true
	fresh.Top = []string{"The webhook was changed since you opened this form: by somebody else, in another tab, or by hookbolt, which may have paused it. " +
		"Nothing was saved. What stands below is what you have typed; save again to put it in the place of the other change, or open the form anew to see that first."}
	return p.showForm(ctx, fresh, http.StatusConflict)
}

// showForm shows the form.
func (p *Pages) showForm(ctx context.Context, f *webhookForm, status int) (*Answer, error) {
	var err error
	if f.Preview.Choices, err = p.choices(ctx, f); err != nil {
		return nil, err
	}
	if f.values != nil {
		f.inputs(func(i *input) {
			if i.Hidden && i.Error == "" && f.values.Get(i.Name) != "" {
				i.Error = "has to be typed again: hookbolt shows no credential, not even one that was just typed"
			}
		})
	}
	title := "Create webhook"
	if f.ID != 0 {
		title = "Edit " + nameOf(f.present)
	}
	return p.show(view{Template: "webhookform", Title: title, Nav: "/webhooks", Status: status, Data: f})
}
