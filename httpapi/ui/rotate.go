package ui

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) rotateRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/webhooks/:id/rotate", Handle: p.askRotate},
		{Method: "POST", Path: "/webhooks/:id/rotate", Handle: p.rotate},
	}
}

// choice is an option of a form.
type choice struct{ Value, Text string }

// overlaps are how long the current secret may go on signing.
var overlaps = []choice{
	{"0s", "not at all, because it has leaked"}, {"1h", "for an hour"}, {usualOverlap, "for a day"}, {"168h", "for a week"}, {"720h", "for 30 days"},
}

// usualOverlap is also the API's default.
const usualOverlap = "24h"

// rotateData is the form for a new secret.
type rotateData struct {
	ID uint32
	// Kinds are what can be rotated, if there is a choice, and Kind is what was chosen.
	Kinds []choice
	Kind  string
	// Signing are the secrets that sign beside the current ones, newest first. EndsEarly is the one that another overlap of the webhook's
	// secret would end early; nil if there is room.
	Signing   []engine.EarlierSecret
	EndsEarly *engine.PreviousSecret
	Overlaps  []choice
	Chosen    string
	Secret    *input
	// Error says what is wrong with the chosen overlap.
	Error string
}

// askRotate shows the form for a new secret.
func (p *Pages) askRotate(_ *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	return p.showRotate(&w, rotateChoice{overlap: usualOverlap, which: string(engine.SecretOfWebhook)}, nil)
}

// kinds are what can be rotated of a webhook; nil if it has one secret only.
func kinds(w *engine.Webhook) []choice {
	names := w.SecretNames()
	if len(names) == 1 {
		return nil
	}
	var list []choice
	for _, name := range names {
		switch name {
		case engine.SecretOfWebhook:
			list = append(list, choice{string(name), "the signing secret"})
		case engine.SecretOfHeader:
			list = append(list, choice{string(name), "the secret of " + w.Signature.Header})
		case engine.SecretKey:
			list = append(list, choice{string(name), "the key pair"})
		}
	}
	return append(list, choice{string(engine.AllSecrets), "all of them"})
}

// rotateChoice is what was chosen in the form.
type rotateChoice struct{ overlap, which string }

func (p *Pages) showRotate(w *engine.Webhook, chosen rotateChoice, bad engine.InputErrors) (*Answer, error) {
	now := time.Now()
	d := rotateData{ID: w.ID, Kinds: kinds(w), Kind: chosen.which, Signing: w.EarlierSecrets(now), Overlaps: overlaps, Chosen: chosen.overlap,
		Secret: &input{Name: "secret", Label: "Own secret", Kind: secretInput, Hidden: true,
			Help: "Give one only if the endpoint has it already: whsec_ and the base64 of 24 to 64 bytes. Empty: hookbolt makes one, and shows it to you next."}}
	if d.Kinds != nil {
		d.Secret.Help += " That of a header is any text; a key pair is whsk_ and base64, and never shown."
	}
	if earlier := w.Overlapping(now); len(earlier) >= engine.MaxSecrets-1 {
		d.EndsEarly = &earlier[len(earlier)-1]
	}
	v := view{Template: "rotate", Title: "Rotate the secret of " + nameOf(w), Nav: "/webhooks"}
	for _, e := range bad {
		v.Status = http.StatusBadRequest
		if e.Field == "secret" {
			d.Secret.Error = e.Detail
		} else {
			d.Error = e.Detail
		}
	}
	v.Data = d
	return p.show(v)
}

// rotate replaces a webhook's secret and redirects to the new one.
func (p *Pages) rotate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	values, err := p.form(r)
	if err != nil {
		return nil, err
	}
	which := values.Get("which")
	body, err := json.Marshal(map[string]any{"which": orNull(which), "overlap": values.Get("overlap"), "secret": orNull(strings.TrimSpace(values.Get("secret")))})
	if err != nil {
		return nil, err
	}
	rotated := func() *Answer {
		if which == string(engine.SecretKey) { // which nobody is shown
			return redirect("%s?done=keys", secretPath(w.ID))
		}
		return toSecret(w.ID, "rotated")
	}
	return p.once(r, values, onceForm{
		do: func(o *engine.Once) (*Answer, error) {
			rotation, err := engine.ParseRotation(body)
			if err == nil {
				rotation.Once = o
				_, err = p.engine.RotateSecret(r.Context(), w.ID, rotation)
			}
			if bad, ok := errors.AsType[engine.InputErrors](err); ok {
				return p.showRotate(&w, rotateChoice{values.Get("overlap"), cmp.Or(which, string(engine.SecretOfWebhook))}, bad)
			}
			if err != nil {
				return nil, err
			}
			return rotated(), nil
		},
		again: func(*engine.Done) *Answer { return rotated() },
	})
}
