package ui

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

func (p *Pages) webhookRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/webhooks", Handle: p.webhooks},
		{Method: "GET", Path: "/webhooks/:id", Handle: p.oneWebhook},
		{Method: "POST", Path: "/webhooks/:id/test", Handle: p.test},
		{Method: "POST", Path: "/webhooks/:id/pause", Handle: p.pause},
		{Method: "POST", Path: "/webhooks/:id/resume", Handle: p.resume},
		{Method: "POST", Path: "/webhooks/:id/activate", Handle: p.activate},
		{Method: "GET", Path: "/webhooks/:id/deactivate", Handle: p.confirmDeactivate},
		{Method: "POST", Path: "/webhooks/:id/deactivate", Handle: p.deactivate},
		{Method: "GET", Path: "/webhooks/:id/delete", Handle: p.confirmDelete},
		{Method: "POST", Path: "/webhooks/:id/delete", Handle: p.deleteWebhook},
	}
}

const (
	// webhooksShown is how many webhooks a page of the list has, latestShown how many deliveries the page of one.
	webhooksShown = 50
	latestShown   = 20
	// maxLookBack is how many of a webhook's deliveries are looked through for the last one that was attempted.
	maxLookBack = 20
)

// webhookRow is a webhook in a list.
type webhookRow struct {
	*engine.Webhook
	Title, Endpoint, State string
	Health                 engine.Health
	Stats                  engine.WebhookStats
	Waiting, Failures      int64
	// Success is the share of the kept deliveries that were delivered, of those that got through or failed; "" without any.
	Success string
	Last    lastDelivery
	Lag     string
}

// lastDelivery is the delivery that was attempted last; its At is zero if nobody knows of one.
type lastDelivery struct {
	ID      uuid.UUID
	At      time.Time
	Outcome string
	OK      bool
}

// row prepares a webhook for a list.
func (p *Pages) row(ctx context.Context, w *engine.Webhook, s engine.WebhookStats) (webhookRow, error) {
	h := p.engine.Health(w.ID)
	row := webhookRow{Webhook: w, Title: nameOf(w), Endpoint: endpointOf(w), State: stateOf(w, h), Health: h, Stats: s, Waiting: s.Scheduled + s.Pending, Failures: int64(h.Failures)}
	if ended := s.Delivered + s.Failed; ended > 0 {
		row.Success = percent(s.Delivered, ended)
	}
	recent := p.engine.Recent(w.ID)
	if !recent.LagAt.IsZero() {
		row.Lag = roughly(recent.Lag)
	}
	if !recent.AttemptedAt.IsZero() {
		row.Last = lastDelivery{recent.DeliveryID, recent.AttemptedAt, outcome(recent.Status, recent.Error), recent.Error == ""}
		return row, nil
	}
	// Since hookbolt has started nothing was attempted.
	page, err := p.engine.Deliveries(ctx, engine.DeliveryQuery{WebhookID: w.ID, Limit: maxLookBack})
	if err != nil {
		return row, err
	}
	i := slices.IndexFunc(page.Items, func(d engine.Delivery) bool { return d.Attempts > 0 })
	if i >= 0 {
		d := &page.Items[i]
		row.Last = lastDelivery{d.ID, later(d.FrozenAt, d.FinishedAt), outcome(d.LastStatus, d.LastError), d.LastError == ""}
	}
	return row, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// percent writes a share; 100 % is all, and 0 % none.
func percent(part, whole int64) string {
	tenths := part * 1000 / whole
	if part > 0 && tenths == 0 {
		return "<0.1 %"
	}
	return strings.TrimSuffix(fmt.Sprintf("%d.%d", tenths/10, tenths%10), ".0") + " %"
}

// webhooks lists all webhooks, by id.
func (p *Pages) webhooks(r *http.Request, _ httprouter.Params) (*Answer, error) {
	after, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 32) // a link of this page, or the beginning
	all := p.engine.Webhooks()
	start, _ := slices.BinarySearchFunc(all, after+1, func(w *engine.Webhook, id uint64) int { return int(int64(w.ID) - int64(id)) })
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	d := struct {
		Rows        []webhookRow
		Total       int64
		First, Next string
	}{Total: int64(len(all))}
	end := min(start+webhooksShown, len(all))
	for _, w := range all[start:end] {
		row, err := p.row(r.Context(), w, o.PerWebhook[w.ID])
		if err != nil {
			return nil, err
		}
		d.Rows = append(d.Rows, row)
	}
	if end < len(all) {
		d.Next = fmt.Sprintf("/webhooks?after=%d", all[end-1].ID)
	}
	if start > 0 {
		d.First = "/webhooks"
	}
	return p.show(view{Template: "webhooks", Title: "Webhooks", Nav: "/webhooks", Live: true, Data: d,
		Done: done(r, map[string]string{"deleted": "The webhook was deleted. Its deliveries stay to be looked at."})})
}

// webhookData is what the page of a webhook shows.
type webhookData struct {
	webhookRow
	Settings []setting
	// Overlapping are the secrets that still sign beside the present one.
	Overlapping []engine.PreviousSecret
	Replays     []engine.Replay
	Latest      []deliveryRow
	OldestDue   time.Duration
}

// setting is a line of a webhook's settings. Default tells that it is the default's value.
type setting struct {
	Name, Value string
	Default     bool
}

var webhookDone = map[string]string{
	"saved": "The settings were saved.", "paused": "It is paused: everything waits in its queue.", "resumed": "It is resumed: what is due goes out, oldest first.",
	"activated": "It is switched on.", "deactivated": "It is switched off: it gets nothing new, and what waited for it is cancelled.",
	"replayed": "The replay was begun. Its deliveries go out in their turn.",
}

// oneWebhook shows a webhook.
func (p *Pages) oneWebhook(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	row, err := p.row(r.Context(), &w, o.PerWebhook[w.ID])
	if err != nil {
		return nil, err
	}
	page, err := p.engine.Deliveries(r.Context(), engine.DeliveryQuery{WebhookID: w.ID, Limit: latestShown})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	d := webhookData{webhookRow: row, Settings: settingsOf(&w), Overlapping: w.Overlapping(now), Latest: p.rows(page.Items)}
	for _, replay := range o.Replays {
		if replay.WebhookID == w.ID {
			d.Replays = append(d.Replays, replay)
		}
	}
	if at := row.Stats.OldestDueAt; !at.IsZero() {
		d.OldestDue = now.Sub(at)
	}
	return p.show(view{Template: "webhook", Title: row.Title, Nav: "/webhooks", Live: true, Done: done(r, webhookDone), Data: d})
}

// settingsOf lists a webhook's settings. Of credentials it tells that they are set.
func settingsOf(w *engine.Webhook) []setting {
	yes := map[bool]string{true: "yes", false: "no"}
	d := engine.DefaultWebhook()
	content := "every content"
	if w.ContentID != nil {
		content = w.ContentID.String()
	}
	list := []setting{
		{"Endpoint", w.URL, false},
		{"Content", content, w.ContentID == nil},
		{"Delay", seconds(w.Delay) + " after the finish", w.Delay == d.Delay},
		{"Incomplete sessions", "not sent", true},
		{"Answers", yes[w.SendAnswers], w.SendAnswers},
		{"Leads", yes[w.SendLeads], w.SendLeads},
	}
	if w.SendIncomplete {
		list[3] = setting{"Incomplete sessions", "sent " + seconds(w.IncompleteDelay) + " after the start", false}
	}
	set := func(name, value string) {
		if value != "" {
			list = append(list, setting{name, value, false})
		}
	}
	set("Timeout", optional(w.Timeout))
	set("Attempts at once", optional(w.MaxInFlight))
	if w.RateLimit != nil {
		set("Rate limit", optional(w.RateLimit)+" a second")
	}
	set("Retry schedule", scheduleText(w.RetrySchedule))
	set("Allowed networks", strings.ReplaceAll(networkLines(w), "\n", ", "))
	set("Headers sent along", strings.Join(slices.Sorted(maps.Keys(w.Headers)), ", "))
	if w.BasicAuth != nil {
		set("Basic authentication", "set")
	}
	if w.OAuth2 != nil {
		set("OAuth 2.0", "set")
	}
	return list
}

func seconds(n int64) string {
	if n < 60 {
		return strconv.FormatInt(n, 10) + " s"
	}
	return roughly(time.Duration(n) * time.Second)
}

// test queues a sample and leads to it: its page shows what comes of it.
func (p *Pages) test(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	d, err := p.engine.TestWebhook(r.Context(), w.ID)
	if err != nil {
		return nil, err
	}
	return redirect("/deliveries/%s?done=tested", d.ID), nil
}

func (p *Pages) pause(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"paused": true}`, "paused")
}

func (p *Pages) resume(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"paused": false}`, "resumed")
}

func (p *Pages) activate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"active": true}`, "activated")
}

func (p *Pages) deactivate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.change(r, ps, `{"active": false}`, "deactivated")
}

// change changes a setting, as the API does, and leads back to the webhook.
func (p *Pages) change(r *http.Request, ps httprouter.Params, settings, what string) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	patch, err := engine.ParseWebhookPatch([]byte(settings))
	if err != nil {
		return nil, err
	}
	if _, err := p.engine.UpdateWebhook(r.Context(), w.ID, patch); err != nil {
		return nil, err
	}
	return redirect("/webhooks/%d?done=%s", w.ID, what), nil
}

// confirmation is a question before something that cannot be taken back.
type confirmation struct {
	ID      uint32
	Waiting int64
	// Says tells what happens. Button does it.
	Says, Action, Button string
}

func (p *Pages) confirmDeactivate(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.confirm(r, ps, "Switch off %s?", confirmation{Action: "deactivate", Button: "Switch it off",
		Says: "It gets nothing new until it is switched on again. To hold everything back and lose nothing, pause it instead."})
}

func (p *Pages) confirmDelete(r *http.Request, ps httprouter.Params) (*Answer, error) {
	return p.confirm(r, ps, "Delete %s?", confirmation{Action: "delete", Button: "Delete it",
		Says: "It gets nothing more, and its secret and settings are gone for good. Its deliveries stay to be looked at until their retention ends."})
}

func (p *Pages) confirm(r *http.Request, ps httprouter.Params, question string, c confirmation) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	s := o.PerWebhook[w.ID]
	c.ID, c.Waiting = w.ID, s.Scheduled+s.Pending
	return p.show(view{Template: "confirm", Title: fmt.Sprintf(question, nameOf(&w)), Nav: "/webhooks", Data: c})
}

// deleteWebhook removes a webhook.
func (p *Pages) deleteWebhook(r *http.Request, ps httprouter.Params) (*Answer, error) {
	w, err := p.webhook(ps)
	if err != nil {
		return nil, err
	}
	if err := p.engine.DeleteWebhook(r.Context(), w.ID); err != nil {
		return nil, err
	}
	return redirect("/webhooks?done=deleted"), nil
}
