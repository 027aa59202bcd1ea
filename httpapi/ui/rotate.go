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

// overlap is a choice of how long the present secret signs on.
type overlap struct {
	Value, Text string
	Chosen      bool
}

// overlaps are the choices; the third is the default of the API.
var overlaps = []overlap{
	{"0s", "not at all: it has leaked", false}, {"1h", "for an hour", false}, {"24h", "for a day", true}, {"168h", "for a week", false}, {"720h", "for 30 days", false},
}

// askRotate asks how a webhook is to get its next secret.
func (p *Pages) askRotate(_ *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	return p.showRotate(&w, "24h", nil)
}

func (p *Pages) showRotate(w *engine.Webhook, chosen string, bad engine.InputErrors) (*Answer, error) {
	d := struct {
		ID       uint32
		Signing  []engine.PreviousSecret
		Overlaps []overlap
		Secret   *input
	}{w.ID, w.Overlapping(time.Now()), make([]overlap, len(overlaps)), &input{Name: "secret", Label: "Next secret", Kind: secretInput, Placeholder: "whsec_…",
		Help: "One of your own: whsec_ and the base64 of 24 to 64 bytes. Empty: hookbolt makes one."}}
	copy(d.Overlaps, overlaps)
	for i := range d.Overlaps {
		d.Overlaps[i].Chosen = d.Overlaps[i].Value == chosen
	}
	v := view{Template: "rotate", Title: "Rotate the secret of " + nameOf(w), Nav: "/webhooks", Data: d}
	for _, e := range bad {
		v.Status = http.StatusBadRequest
		if e.Field == "secret" {
			d.Secret.Error = e.Detail
		} else {
			v.Bad = strings.TrimSpace(e.Field + " " + e.Detail)
		}
	}
	return p.show(v)
}

// rotate gives a webhook its next secret, and leads to it.
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
}
