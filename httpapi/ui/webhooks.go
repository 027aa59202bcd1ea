package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
		{Method: "GET", Path: "/webhooks", Handle: p.webhooks, Read: true},
		{Method: "GET", Path: "/webhooks/:id", Handle: p.oneWebhook, Read: true},
	}
}

const (
	// webhooksShown is how many webhooks a page of the list has, latestShown how many deliveries the page of one.
	webhooksShown = 50
	latestShown   = 20
	// maxLookBack is among how many of a webhook's newest deliveries one that was attempted is looked for, if none was since hookbolt
	// started.
	maxLookBack = 20
)

// webhookRow is a webhook with what a glance at it should tell.
type webhookRow struct {
	*engine.Webhook
	Title, Endpoint, State string
	Health                 engine.Health
	Stats                  engine.WebhookStats
	Waiting, Failures      int64
	// OldestDue is how long the oldest one that is due has been; 0 if none is. Late tells that this is longer than it should be.
	OldestDue time.Duration
	Late      bool
	// Success is the share of the kept deliveries that were delivered, of those and the failed ones; "" without any.
	Success string
	Last    lastDelivery
	// Lag is that of the last first attempt that is known, DeliveredAt when the last one was delivered; "" and zero if there was
	// none.
	Lag         string
	DeliveredAt time.Time
}

// lastDelivery is the delivery that was attempted last; its At is zero if nobody knows of one.
type lastDelivery struct {
	ID      uuid.UUID
	At      time.Time
	Outcome string
	OK      bool
}

// HeldUntil is when a throttled endpoint has asked to be sent to again; zero if that is past.
func (r webhookRow) HeldUntil() time.Time {
	if at := r.Health.Throttle.HeldUntil; at.After(time.Now()) {
		return at
	}
	return time.Time{}
}

// SlowedTo writes the rate to which a throttled endpoint has slowed its webhook down; "" for no rate.
func (r webhookRow) SlowedTo() string {
	rate, _ := r.Health.Throttled(time.Now())
	switch {
	case rate == 0:
		return ""
	case rate < 1:
		return fmt.Sprintf("%.0f a minute", rate*60)
	case rate < 10:
		return fmt.Sprintf("%.1f a second", rate)
	}
	return fmt.Sprintf("%.0f a second", rate)
}

// ParkedScope is the choice of a replay that sends those again that no program could build.
func (webhookRow) ParkedScope() string { return parkedScope }

// ByMail tells that it goes to a mail server, where nothing is signed.
func (r webhookRow) ByMail() bool { return engine.IsMailURL(r.URL) }

// Later is how many wait for their time.
func (r webhookRow) Later() int64 { return max(0, r.Waiting-r.Stats.Due) }

// Mark is the class of a row that needs attention: bad or warn; "" for none.
func (r webhookRow) Mark() string {
	switch {
	case r.State == "failing":
		return "bad"
	case r.State == "paused" || r.State == "throttled" || r.Late:
		return "warn"
	}
	return ""
}

// rowsOf looks at webhooks.
func (p *Pages) rowsOf(ctx context.Context, webhooks []*engine.Webhook, o *engine.Overview, now time.Time) (rows []webhookRow, err error) {
	ids := engine.WebhookIDs(webhooks)
	health, err := p.engine.Health(ctx, ids...)
	if err != nil {
		return nil, err
	}
	recent, err := p.engine.Recent(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for _, w := range webhooks {
		row, err := p.row(ctx, w, o.PerWebhook[w.ID], health[w.ID], recent[w.ID], now)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// row looks at a webhook.
func (p *Pages) row(ctx context.Context, w *engine.Webhook, s engine.WebhookStats, h engine.Health, recent engine.Recent, now time.Time) (webhookRow, error) {
	row := webhookRow{Webhook: w, Title: nameOf(w), Endpoint: endpointOf(w), State: stateOf(w, h), Health: h, Stats: s,
		Waiting: s.Scheduled + s.Pending, Failures: int64(h.Failures), DeliveredAt: recent.DeliveredAt}
	if !s.OldestDueAt.IsZero() {
		row.OldestDue = now.Sub(s.OldestDueAt)
		row.Late = row.State != "paused" && row.State != "inactive" && row.OldestDue >= lateAfter
	}
	if ended := s.Delivered + s.Failed; ended > 0 {
		row.Success = percent(s.Delivered, ended)
	}
	if !recent.LagAt.IsZero() {
		row.Lag = roughly(recent.Lag)
	}
	var err error
	if !recent.AttemptedAt.IsZero() {
		row.Last = lastDelivery{recent.DeliveryID, recent.AttemptedAt, outcome(recent.Status, recent.Error), recent.Error == ""}
	} else if s != (engine.WebhookStats{}) {
		row.Last, err = p.storedLast(ctx, w.ID)
	}
	return row, err
}

// storedLast finds the last attempt of a webhook's newest delivery that has one. Where a queue has grown long before its endpoint was
// tried, that is none of the newest: then those that wait for another try, and those that have failed, are looked at.
func (p *Pages) storedLast(ctx context.Context, id uint32) (lastDelivery, error) {
	for _, status := range []engine.Status{0, engine.StatusPending, engine.StatusFailed} {
		page, err := p.engine.Deliveries(ctx, engine.DeliveryQuery{WebhookID: id, Status: status, Limit: maxLookBack})
		if err != nil {
			return lastDelivery{}, err
		}
		i := slices.IndexFunc(page.Items, func(d engine.Delivery) bool { return d.Attempts > 0 })
		if i < 0 {
			continue
		}
		d, _, attempts, err := p.engine.Delivery(ctx, page.Items[i].ID)
		if errors.Is(err, engine.ErrNotFound) || err == nil && len(attempts) == 0 { // it has just been erased
			continue
		}
		if err != nil {
			return lastDelivery{}, err
		}
		a := &attempts[len(attempts)-1]
		return lastDelivery{d.ID, a.StartedAt.Add(a.Duration), outcome(a.Status, a.Error), a.Delivered()}, nil
	}
	return lastDelivery{}, nil
}

// percent writes a share, rounded down: 100 % is all of it. whole is not 0.
func percent(part, whole int64) string {
	tenths := part * 1000 / whole
	if part > 0 && tenths == 0 {
		return "<0.1 %"
	}
	return strings.TrimSuffix(fmt.Sprintf("%d.%d", tenths/10, tenths%10), ".0") + " %"
}

// webhookList is what the list shows.
type webhookList struct {
	Rows []webhookRow
	// Total is how many webhooks there are, on all pages.
	Total int64
	// First and Next are links; "" for none.
	First, Next string
}

// webhooks lists all webhooks, by id.
func (p *Pages) webhooks(r *http.Request, _ httprouter.Params) (*Answer, error) {
	// Anything else than a link of this page begins at the beginning.
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 32)
	if err != nil {
		after = 0 // out of range it would be the largest number
	}
	all := p.engine.Webhooks()
	start, _ := slices.BinarySearchFunc(all, after+1, func(w *engine.Webhook, id uint64) int { return cmp.Compare(uint64(w.ID), id) })
	end := min(start+webhooksShown, len(all))
	o, err := p.engine.Overview(r.Context())
	if err != nil {
		return nil, err
	}
	d := webhookList{Total: int64(len(all))}
	if d.Rows, err = p.rowsOf(r.Context(), all[start:end], &o, time.Now()); err != nil {
		return nil, err
	}
	if start > 0 {
		d.First = "/webhooks"
	}
	if end < len(all) {
		d.Next = fmt.Sprintf("/webhooks?after=%d", all[end-1].ID)
	}
	return p.show(view{Template: "webhooks", Title: "Webhooks", Nav: "/webhooks", Live: true, Data: d,
		Done: done(r, map[string]string{"deleted": "The webhook was deleted. Its deliveries stay to be looked at."})})
}

// webhookData is what the page of a webhook shows.
type webhookData struct {
	webhookRow
	// PausesAt is when an endpoint that fails until then is paused; zero if it does not fail.
	PausesAt time.Time
	// Certificate says how long the client certificate is good; "" if there is none.
	Certificate string
	Settings    []setting
	// Overlapping are the secrets that still sign beside the present ones.
	Overlapping []engine.EarlierSecret
	Replays     []engine.Replay
	Latest      []deliveryRow
	// Owner names the member that makes its deliveries; "" where there are no members.
	Owner string
}

var webhookDone = map[string]string{
	"saved":       "The settings were saved.",
	"moved":       "The settings were saved. The webhook is on another host now: headers, basic authentication, OAuth and the client certificate that were not typed again were removed.",
	"paused":      "It is paused: everything waits in its queue.",
	"resumed":     "It is resumed: what is due goes out, oldest first.",
	"activated":   "It is switched on.",
	"deactivated": "It is switched off: it gets nothing new, and what waited for it is cancelled.",
	"replayed":    "The replay has begun. Its deliveries go out in their turn.",
	"nothing":     "There was nothing left to send again.",
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
	now := time.Now()
	rows, err := p.rowsOf(r.Context(), []*engine.Webhook{&w}, &o, now)
	if err != nil {
		return nil, err
	}
	row := rows[0]
	page, err := p.engine.Deliveries(r.Context(), engine.DeliveryQuery{WebhookID: w.ID, Limit: latestShown})
	if err != nil {
		return nil, err
	}
	fleet, err := p.engine.Fleet(r.Context())
	if err != nil {
		return nil, err
	}
	d := webhookData{Owner: ownerOf(fleet, w.ID), webhookRow: row, Certificate: p.certificate(&w, now), Settings: facts(&w, p.engine.Config()), Overlapping: w.EarlierSecrets(now), Replays: replaysOf(&o, w.ID), Latest: p.rows(page.Items)}
	if row.State == "failing" {
		d.PausesAt = row.Health.FirstFailedAt.Add(p.engine.Config().PauseAfter)
	}
	return p.show(view{Template: "webhook", Title: row.Title, Nav: "/webhooks", Live: true, Done: done(r, webhookDone), Data: d})
}

// certificate says how long a webhook's client certificate is good, and what is wrong with its files.
func (p *Pages) certificate(w *engine.Webhook, now time.Time) string {
	c, err := p.engine.ClientCertificate(w)
	text := ""
	switch {
	case c == nil && err == nil:
		return ""
	case c != nil && now.After(c.ExpiresAt):
		text = fmt.Sprintf("%s by %s has expired at %s: renew it.", c.Subject, c.Issuer, engine.FormatTime(c.ExpiresAt))
	case c != nil && c.Expiring(now):
		text = fmt.Sprintf("%s by %s expires soon, at %s: renew it.", c.Subject, c.Issuer, engine.FormatTime(c.ExpiresAt))
	case c != nil:
		text = fmt.Sprintf("%s by %s, until %s.", c.Subject, c.Issuer, engine.FormatTime(c.ExpiresAt))
	}
	if err != nil {
		text = strings.TrimSpace(text + " " + sentence(err.Error()))
	}
	return text
}

// replaysOf are a webhook's replays that are on their way.
func replaysOf(o *engine.Overview, id uint32) (list []engine.Replay) {
	for _, r := range o.Replays {
		if r.WebhookID == id {
			list = append(list, r)
		}
	}
	return list
}
