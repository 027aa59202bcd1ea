package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) deliveryRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/deliveries", Handle: p.deliveries, Read: true},
		{Method: "GET", Path: "/deliveries/:id", Handle: p.delivery, Read: true},
		{Method: "POST", Path: "/deliveries/:id/retry", Handle: p.retry},
		{Method: "POST", Path: "/deliveries/:id/cancel", Handle: p.cancel},
	}
}

const (
	// deliveriesShown is how many deliveries a page of the list has.
	deliveriesShown = 50
	// maxLooks is how often the store is called for one page. Each call looks at a bounded number of deliveries, and a filter may
	// match none of them. With a day of sessions scheduled ahead, it takes several calls to find the delivered ones.
	maxLooks = 25
	// maxChoices is the largest number of webhooks in the drop-down list. With more, the user types the id.
	maxChoices = 300
)

// deliveryList is what the page shows.
type deliveryList struct {
	Webhooks                       []webhookChoice
	TooMany                        bool // too many webhooks for a drop-down list
	Webhook, Session, Since, Until *input
	LateEvents                     *input // nil while no delivery lacks late events
	Status                         string
	Statuses                       []statusLink
	Rows                           []deliveryRow
	Filtered, First, Any           bool
	Unfinished                     bool   // the search ended before the page was full
	Refused                        bool   // a filter is wrong
	Older, Newest                  string // links; "" for none
}

type webhookChoice struct {
	ID       uint32
	Name     string
	Selected bool
}

// statusLink leads to the deliveries of a status, with the other filters as they are.
type statusLink struct {
	Text, Link string
	Count      int64
	Counted    bool
	Current    bool
}

// deliveries lists deliveries, newest first; those that wait are ordered by their next attempt.
func (p *Pages) deliveries(r *http.Request, _ httprouter.Params) (*Answer, error) {
	query := r.URL.Query()
	typed := func(name, label, help, placeholder string) *input {
		return &input{Name: name, Label: label, Kind: textInput, Value: strings.TrimSpace(query.Get(name)), Help: help, Placeholder: placeholder}
	}
	d := deliveryList{
		Webhook: typed("webhook_id", "Webhook", "", "its id"), Session: typed("session_id", "Session id", "", ""),
		Since: typed("since", "Since (UTC)", "", "2026-01-23 11:59"), Until: typed("until", "Until (UTC)", "", "now"),
	}
	ask := engine.DeliveryQuery{Limit: deliveriesShown, Cursor: query.Get("cursor"), LateEvents: query.Get("late_events") == "on"}
	d.Filtered = ask.LateEvents
	bad := false
	read := func(in *input, parse func(string) error) {
		if in.Value == "" {
			return
		}
		d.Filtered = true
		if err := parse(in.Value); err != nil {
			in.Error, bad = err.Error(), true
		}
	}
	read(d.Webhook, func(s string) error {
		id, err := strconv.ParseUint(s, 10, 32)
		if err != nil || id == 0 {
			return errors.New("must be a webhook's id, a positive integer")
		}
		ask.WebhookID = uint32(id)
		return nil
	})
	read(d.Session, func(s string) (err error) { ask.SessionID, err = engine.ParseUUID(s); return err })
	read(d.Since, func(s string) (err error) { ask.Since, err = parseTime(s); return err })
	read(d.Until, func(s string) (err error) { ask.Until, err = parseTime(s); return err })
	if !bad && !ask.Until.IsZero() && ask.Until.Before(ask.Since) {
		d.Until.Error, bad = "must not be before since", true
	}
	v := view{Template: "deliveries", Title: "Deliveries", Nav: "/deliveries", Live: ask.Cursor == ""}
	if s := query.Get("status"); s != "" {
		var err error
		if ask.Status, err = engine.ParseStatus(s); err != nil {
			v.Bad, bad = "status "+err.Error(), true
		}
	}
	if err := p.listChoices(r.Context(), &d, ask, query); err != nil {
		return nil, err
	}
	if bad {
		v.Status, d.Refused = http.StatusBadRequest, true
	} else if err := p.listRows(r.Context(), &d, ask, query); err != nil {
		return nil, err
	}
	v.Data = d
	return p.show(v)
}

// listRows fills in a page of deliveries.
func (p *Pages) listRows(ctx context.Context, d *deliveryList, ask engine.DeliveryQuery, query url.Values) error {
	d.First = ask.Cursor == ""
	var found []engine.Delivery
	for looks := 1; ; looks++ {
		page, err := p.engine.Deliveries(ctx, ask)
		if errors.Is(err, engine.ErrNotFound) { // no such session
			return nil
		}
		if err != nil {
			return err
		}
		found = append(found, page.Items...)
		ask.Cursor, ask.Limit = page.NextCursor, deliveriesShown-len(found)
		if page.NextCursor == "" || ask.Limit == 0 {
			break
		}
		if looks == maxLooks {
			d.Unfinished = true
			break
		}
	}
	d.Rows = p.rows(found)
	if ask.Cursor != "" {
		d.Older = "/deliveries?" + with(query, "cursor", ask.Cursor)
	}
	if !d.First {
		d.Newest = "/deliveries?" + with(query, "cursor", "")
	}
	return nil
}

// listChoices fills in the choices of the filters.
func (p *Pages) listChoices(ctx context.Context, d *deliveryList, ask engine.DeliveryQuery, query url.Values) error {
	hooks := p.engine.Webhooks()
	if d.TooMany = len(hooks) > maxChoices; !d.TooMany {
		known := ask.WebhookID == 0
		for _, w := range hooks {
			d.Webhooks = append(d.Webhooks, webhookChoice{w.ID, nameOf(w), w.ID == ask.WebhookID})
			known = known || w.ID == ask.WebhookID
		}
		if !known { // the webhook is deleted, but its deliveries remain
			d.Webhooks = append(d.Webhooks, webhookChoice{ask.WebhookID, p.webhookName(ask.WebhookID), true})
		}
	}
	o, err := p.engine.Overview(ctx)
	if err != nil {
		return err
	}
	if ask.LateEvents || o.WithLateEvents > 0 {
		d.LateEvents = &input{Name: "late_events", Label: "Only those that lack late events", Kind: checkInput, Checked: ask.LateEvents}
	}
	counts := make(map[engine.Status]int64)
	for id, s := range o.PerWebhook {
		if ask.WebhookID == 0 || id == ask.WebhookID {
			counts[engine.StatusScheduled] += s.Scheduled
			counts[engine.StatusPending] += s.Pending
			counts[engine.StatusDelivered] += s.Delivered
			counts[engine.StatusFailed] += s.Failed
			counts[engine.StatusCancelled] += s.Cancelled
			counts[engine.StatusFiltered] += s.Filtered
		}
	}
	// The counts cover all times and sessions.
	counted := ask.SessionID == uuid.Nil && ask.Since.IsZero() && ask.Until.IsZero() && !ask.LateEvents
	all := int64(0)
	for _, n := range counts {
		all += n
	}
	d.Any = all > 0
	query = url.Values{"webhook_id": query["webhook_id"], "session_id": query["session_id"], "since": query["since"], "until": query["until"],
		"late_events": query["late_events"]}
	d.Statuses = append(d.Statuses, statusLink{"all", "/deliveries?" + with(query, "status", ""), all, counted, ask.Status == 0})
	for _, s := range engine.Statuses {
		d.Statuses = append(d.Statuses, statusLink{s.String(), "/deliveries?" + with(query, "status", s.String()), counts[s], counted, ask.Status == s})
	}
	if ask.Status != 0 {
		d.Status = ask.Status.String()
	}
	return nil
}

// with returns a query with one parameter changed or removed, and without empty parameters.
func with(query url.Values, name, value string) string {
	changed := make(url.Values)
	for n, v := range query {
		if len(v) > 0 && v[0] != "" {
			changed.Set(n, v[0])
		}
	}
	if changed.Del(name); value != "" {
		changed.Set(name, value)
	}
	return changed.Encode()
}

// retry makes a delivery due now.
func (p *Pages) retry(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.reschedule(r, ps, "retried", p.engine.Retry)
}

// cancel cancels a delivery that waits.
func (p *Pages) cancel(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.reschedule(r, ps, "cancelled", p.engine.Cancel)
}

func (p *Pages) reschedule(r *http.Request, ps httprouter.Params, what string, how func(context.Context, uuid.UUID) (engine.Delivery, error)) (*Answer, error) {
	id, err := pathUUID("delivery", ps)
	if err != nil {
		return nil, err
	}
	switch _, err := how(r.Context(), id); {
	case errors.Is(err, engine.ErrConflict):
		return p.showDelivery(r, id, conflictReason(err))
	case err != nil:
		return nil, err
	}
	return redirect("/deliveries/%s?done=%s", id, what), nil
}

// conflictReason returns the reason of an ErrConflict as a sentence.
func conflictReason(err error) string {
	return sentence(strings.TrimPrefix(err.Error(), engine.ErrConflict.Error()+": "))
}

var deliveryDone = map[string]string{
	"retried": "It is due now.", "cancelled": "It was cancelled. Nothing more is sent.", "tested": "A sample was queued. This page shows the result when there is one.",
}
