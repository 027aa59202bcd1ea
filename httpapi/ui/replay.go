package ui

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) replayRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/webhooks/:id/replay", Handle: p.countReplay, Lengthy: true},
		{Method: "POST", Path: "/webhooks/:id/replay", Handle: p.replay, Lengthy: true},
	}
}

// scopeChoice is what a replay may be about.
type scopeChoice struct {
	Value  engine.ReplayScope
	Text   string
	Chosen bool
}

// replayData is the form of a replay.
type replayData struct {
	ID           uint32
	Scopes       []scopeChoice
	Since, Until *input
	// Counted is the replay whose count is known; nil before. From and To are its times as the form has them.
	Counted *engine.Replay
}

// readReplay reads the form of a replay. Without an until it is about what there is now.
func readReplay(values url.Values, id uint32) (engine.Replay, *replayData, bool) {
	scope := engine.ReplayScope(values.Get("status"))
	if scope == "" {
		scope = engine.ReplayFailed
	}
	in := func(name, label, placeholder string) *input {
		return &input{Name: name, Label: label, Kind: textInput, Value: strings.TrimSpace(values.Get(name)), Placeholder: placeholder}
	}
	d := &replayData{ID: id, Since: in("since", "Since (UTC)", "the beginning"), Until: in("until", "Until (UTC)", "now"), Scopes: []scopeChoice{
		{engine.ReplayFailed, "What has failed in that time, under its ids and with its bytes", false},
		{engine.ReplayAny, "Whatever has come to an end in that time, delivered or not", false},
		{engine.ReplayMissing, "What it never got of the sessions that finished in that time, or that was cancelled of them", false},
	}}
	known := false
	for i := range d.Scopes {
		d.Scopes[i].Chosen = d.Scopes[i].Value == scope
		known = known || d.Scopes[i].Chosen
	}
	if !known {
		scope = engine.ReplayFailed
		d.Scopes[0].Chosen = true
	}
	r := engine.Replay{WebhookID: id, Scope: scope}
	ok := true
	for _, f := range []struct {
		in *input
		to *time.Time
	}{{d.Since, &r.Since}, {d.Until, &r.Until}} {
		if f.in.Value != "" {
			var err error
			if *f.to, err = parseTime(f.in.Value); err != nil {
				f.in.Error, ok = err.Error(), false
			}
		}
	}
	return r, d, ok
}

// countReplay shows the form, and how many deliveries a replay would be about once that was asked for.
func (p *Pages) countReplay(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	ask, d, ok := readReplay(r.URL.Query(), w.ID)
	if !ok || !r.URL.Query().Has("status") {
		return p.showReplay(&w, d, nil, !ok)
	}
	ask.DryRun = true
	counted, err := p.engine.Replay(r.Context(), ask)
	if err == nil {
		d.Counted = &counted
	}
	return p.showReplay(&w, d, err, false)
}

// replay begins a replay.
func (p *Pages) replay(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	values, err := p.form(r)
	if err != nil {
		return nil, err
	}
	ask, d, ok := readReplay(values, w.ID)
	if ok {
		if _, err = p.engine.Replay(r.Context(), ask); err == nil {
			return redirect("/webhooks/%d?done=replayed", w.ID), nil
		}
	}
	return p.showReplay(&w, d, err, !ok)
}

// showReplay shows the form. err is why it cannot be done, refused tells that a field is wrong.
func (p *Pages) showReplay(w *engine.Webhook, d *replayData, err error, refused bool) (*Answer, error) {
	v := view{Template: "replay", Title: "Replay deliveries of " + nameOf(w), Nav: "/webhooks", Data: d}
	bad, isInput := errors.AsType[engine.InputErrors](err)
	switch {
	case isInput:
		d.Until.Error, refused = bad[0].Detail, true
	case errors.Is(err, engine.ErrConflict):
		v.Bad, v.Status = conflictReason(err), http.StatusConflict
	case err != nil:
		return nil, err
	}
	if refused {
		v.Status = http.StatusBadRequest
	}
	return p.show(v)
}
