package ui

import (
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
	// Signing are the secrets that sign beside the current one, newest first. EndsEarly is the one that another overlap would end
	// early; nil if there is room.
	Signing   []engine.PreviousSecret
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
	return p.showRotate(&w, usualOverlap, nil)
}

func (p *Pages) showRotate(w *engine.Webhook, chosen string, bad engine.InputErrors) (*Answer, error) {
	d := rotateData{ID: w.ID, Signing: w.Overlapping(time.Now()), Overlaps: overlaps, Chosen: chosen,
		Secret: &input{Name: "secret", Label: "Own secret", Kind: secretInput, Hidden: true,
			Help: "Give one only if the endpoint has it already: whsec_ and the base64 of 24 to 64 bytes. Empty: hookbolt makes one, and shows it to you next."}}
	if len(d.Signing) >= engine.MaxSecrets-1 {
		d.EndsEarly = &d.Signing[len(d.Signing)-1]
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
	body, err := json.Marshal(map[string]any{"overlap": values.Get("overlap"), "secret": orNull(strings.TrimSpace(values.Get("secret")))})
	if err != nil {
		return nil, err
	}
	return p.forms.once(r, values, func() (*Answer, error) {
		rotation, err := engine.ParseRotation(body)
		if err == nil {
			_, err = p.engine.RotateSecret(r.Context(), w.ID, rotation)
		}
		if bad, ok := errors.AsType[engine.InputErrors](err); ok {
			return p.showRotate(&w, values.Get("overlap"), bad)
		}
		if err != nil {
			return nil, err
		}
		return toSecret(w.ID, "rotated"), nil
	})
}
