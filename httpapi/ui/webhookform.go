package ui

import (
	"errors"
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
		{Method: "POST", Path: "/webhooks", Handle: p.createWebhook},
		{Method: "GET", Path: "/webhooks/:id/edit", Handle: p.editWebhook},
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
	More     []group
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
	return &webhookForm{ID: w.ID, Revision: w.Revision, Main: groups(w, c, false), More: groups(w, c, true), present: w}
}

// inputs are those of all groups.
func (f *webhookForm) inputs(do func(*input)) {
	for _, part := range [][]group{f.Main, f.More} {
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
		f.fail(e.Field, e.Detail)
		if i := f.input(e.Field); i != nil && e.Allow.IsValid() {
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
	open := false
	f.inputs(func(i *input) { open = open || i.Allow != "" })
	for _, g := range f.More {
		open = open || slices.ContainsFunc(g.Inputs, func(i input) bool { return i.Error != "" || i.Value != "" || i.Set })
	}
	return open
}

// newWebhook shows the form for a new webhook.
func (p *Pages) newWebhook(*http.Request, httprouter.Params) (*Answer, error) {
	return p.showForm(p.newForm(new(engine.DefaultWebhook())), http.StatusOK)
}

// createWebhook answers it.
func (p *Pages) createWebhook(r *http.Request, _ httprouter.Params) (*Answer, error) {
	f, patch, err := p.readForm(r, new(engine.DefaultWebhook()))
	if err != nil {
		return p.refuseForm(f, err)
	}
	return p.forms.once(r, f.values, func() (*Answer, error) {
		w, err := p.engine.CreateWebhook(r.Context(), patch)
		if err != nil {
			return p.refuseForm(f, err)
		}
		audit.Record(r.Context(), w.ID, patch.Changes(new(engine.DefaultWebhook())))
		return toSecret(w.ID, "created"), nil
	})
}

// editWebhook shows the form with what a webhook is set to.
func (p *Pages) editWebhook(_ *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	return p.showForm(p.newForm(&w), http.StatusOK)
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
		return p.refuseForm(f, err)
	}
	audit.Record(r.Context(), w.ID, patch.Changes(&w))
	if _, err = p.engine.UpdateWebhook(r.Context(), w.ID, patch.IfRevision(f.Revision)); errors.Is(err, engine.ErrConflict) {
		return p.showConflict(f)
	}
	if err != nil {
		return p.refuseForm(f, err)
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
	values, err := p.form(r)
	if err != nil {
		return nil, engine.WebhookPatch{}, err
	}
	f := p.newForm(w)
	f.fill(values)
	if w.ID != 0 {
		// What is no number is no webhook's revision, as 0 is none.
		f.Revision, _ = strconv.ParseUint(values.Get("revision"), 10, 64)
	}
	patch, err := f.patch()
	return f, patch, err
}

// refuseForm shows the form again, with what was wrong; other errors are for httpapi.
func (p *Pages) refuseForm(f *webhookForm, err error) (*Answer, error) {
	bad, ok := errors.AsType[engine.InputErrors](err)
	if f == nil || !ok && err != errRefused {
		return nil, err
	}
	f.refuse(bad)
	return p.showForm(f, http.StatusBadRequest)
}

// showConflict shows the form again for the webhook as it is by now: saving once more is meant to be.
func (p *Pages) showConflict(f *webhookForm) (*Answer, error) {
	w, err := p.engine.Webhook(f.ID)
	if err != nil {
		return nil, err
	}
	fresh := p.newForm(&w)
	fresh.fill(f.values)
	fresh.Conflict = true
	fresh.Top = []string{"The webhook was changed since you opened this form: by somebody else, in another tab, or by hookbolt, which may have paused it. " +
		"Nothing was saved. What stands below is what you have typed; save again to put it in the place of the other change, or open the form anew to see that first."}
	return p.showForm(fresh, http.StatusConflict)
}

// showForm shows the form.
func (p *Pages) showForm(f *webhookForm, status int) (*Answer, error) {
	if status != http.StatusOK {
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
