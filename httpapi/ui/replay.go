package ui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) replayRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/webhooks/:id/replay", Handle: p.countReplay},
		{Method: "POST", Path: "/webhooks/:id/replay", Handle: p.replay},
	}
}

// parkedScope is the choice of failed deliveries that no program could build: the scope and the error.
const parkedScope = string(engine.ReplayFailed) + "-" + string(engine.ErrorTransform)

// scopes are the scopes of a replay.
var scopes = []choice{
	{string(engine.ReplayFailed), "deliveries that were created in that time and have failed"},
	{parkedScope, "of these, those that a program of the webhook could not build: they are built anew"},
	{string(engine.ReplayFiltered), "deliveries that were created in that time and were filtered: the filter is asked again"},
	{string(engine.ReplayAny), "all deliveries that were created in that time and have reached a final state"},
	{string(engine.ReplayMissing), "sessions that finished in that time and that the webhook never got, or whose delivery was cancelled"},
}

// replayData is the form of a replay.
type replayData struct {
	ID           uint32
	Inactive     bool
	Scopes       []choice
	Chosen       string
	Since, Until *input
	// Error says what is wrong with the chosen scope.
	Error string
	// Counted is a dry run of the replay; nil before the form was sent.
	Counted *engine.Replay
	// Replays are the replays in progress.
	Replays []engine.Replay
}

// readReplay reads the form of a replay. ok reports whether it is valid.
func readReplay(values url.Values, w *engine.Webhook) (r engine.Replay, d *replayData, ok bool) {
	in := func(name, label, placeholder string) *input {
		return &input{Name: name, Label: label, Kind: textInput, Value: strings.TrimSpace(values.Get(name)), Placeholder: placeholder}
	}
	d = &replayData{ID: w.ID, Inactive: !w.Active, Scopes: scopes, Chosen: values.Get("status"),
		Since: in("since", "Since (UTC)", "the beginning"), Until: in("until", "Until (UTC)", "now")}
	r, ok = engine.Replay{WebhookID: w.ID, Scope: engine.ReplayScope(d.Chosen)}, true
	if d.Chosen == parkedScope {
		r.Scope, r.Error = engine.ReplayFailed, engine.ErrorTransform
	}
	if !slices.ContainsFunc(scopes, func(c choice) bool { return c.Value == d.Chosen }) {
		d.Error, ok = fmt.Sprintf("must be failed, %s, filtered, any or missing (got %q)", parkedScope, engine.Excerpt(d.Chosen)), false
	}
	for _, f := range []struct {
		in *input
		to *time.Time
	}{{d.Since, &r.Since}, {d.Until, &r.Until}} {
		if f.in.Value == "" {
			continue
		}
		var err error
		if *f.to, err = parseTime(f.in.Value); err != nil {
			f.in.Error, ok = err.Error(), false
		}
	}
	return r, d, ok
}

// countReplay shows the form. If the form was sent, it also shows how many deliveries the replay would send. It changes nothing.
func (p *Pages) countReplay(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	asked := query.Has("status")
	if !asked {
		query.Set("status", string(engine.ReplayFailed))
	}
	ask, d, ok := readReplay(query, &w)
	if asked && ok {
		ask.DryRun = true
		var counted engine.Replay
		if counted, err = p.engine.Replay(r.Context(), ask); err == nil {
			d.Counted = &counted
		}
	}
	return p.showReplay(r, &w, d, err)
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
	ask, d, ok := readReplay(values, &w)
	if !ok {
		return p.showReplay(r, &w, d, nil)
	}
	begun := func(r *engine.Replay) *Answer {
		what := "replayed"
		if r.Count == 0 {
			what = "nothing"
		}
		return redirect("/webhooks/%d?done=%s", w.ID, what)
	}
	return p.once(r, values, onceForm{
		do: func(o *engine.Once) (*Answer, error) {
			ask.Once = o
			replay, err := p.engine.Replay(r.Context(), ask)
			if errors.Is(err, engine.ErrRepeated) {
				return nil, err
			}
			if err != nil {
				return p.showReplay(r, &w, d, err)
			}
			return begun(&replay), nil
		},
		again: func(done *engine.Done) *Answer { return begun(done.Replay) },
	})
}

// showReplay shows the form. err is why the request was refused.
func (p *Pages) showReplay(r *http.Request, w *engine.Webhook, d *replayData, err error) (*Answer, error) {
	v := view{Template: "replay", Title: "Replay deliveries of " + nameOf(w), Nav: "/webhooks", Data: d}
	bad, isInput := errors.AsType[engine.InputErrors](err)
	switch {
	case isInput:
		d.Until.Error = bad[0].Detail // the only error that is left at this point
	case errors.Is(err, engine.ErrConflict):
		d.Inactive, v.Status = true, http.StatusConflict
	case err != nil:
		return nil, err
	}
	if d.Error != "" || d.Since.Error != "" || d.Until.Error != "" {
		v.Status = http.StatusBadRequest
	}
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	d.Replays = replaysOf(&o, w.ID)
	return p.show(v)
}
